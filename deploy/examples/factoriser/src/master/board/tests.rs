// SPDX-License-Identifier: Apache-2.0
//! The board, told reports.

use super::*;
use crate::report::StartedFrom;

const NUMBER: u64 = 90_003;
const PATIENCE: Duration = Duration::from_secs(10);

fn space() -> Space {
    Space::new(NUMBER).unwrap()
}

fn set(blocks: impl IntoIterator<Item = u32>) -> BlockSet {
    blocks.into_iter().collect()
}

fn board(workers: u32, ledger: Ledger) -> Board {
    Board::new(space(), (0..workers).map(|index| format!("http://w{index}")).collect(), ledger, PATIENCE)
}

fn report(index: u32, workers: u32, phase: Phase, own: BlockSet) -> Report {
    Report {
        number: NUMBER,
        index,
        workers,
        phase,
        done: 0,
        all: 0,
        searched: space().size_of(&own),
        position: None,
        solution: None,
        started_from: StartedFrom::default(),
        own,
        told: BlockSet::new(),
    }
}

fn know(index: u32, known: BlockSet, begin: bool) -> (String, Order) {
    (format!("http://w{index}"), Order::Know(Known { known, begin }))
}

#[test]
fn workers_begin_when_all_have_been_met() {
    let (mut board, now) = (board(2, Ledger::new(NUMBER)), Instant::now());
    board.take(0, Ok(report(0, 2, Phase::Waiting, set([]))), now);
    board.take(1, Err("no answer".into()), now);
    assert_eq!(board.orders(now), []);
    board.take(1, Ok(report(1, 3, Phase::Searching, set([1, 4]))), now);
    assert_eq!(board.orders(now), [know(0, set([4]), false)], "worker 1 still works as one of three, on worker 0's share too");
    board.take(1, Ok(report(1, 2, Phase::Waiting, set([1, 4, 7]))), now);
    assert_eq!(board.orders(now), [know(0, set([4]), true), know(1, set([]), true)]);
    board.take(0, Ok(report(0, 2, Phase::Searching, set([0]))), now);
    board.take(1, Err("no answer".into()), now);
    assert_eq!(board.orders(now), [know(0, set([4]), false)], "until it says that it knows");
}

#[test]
fn patience_with_a_missing_worker_ends() {
    let (mut board, now) = (board(2, Ledger::new(NUMBER)), Instant::now());
    for passed in [Duration::ZERO, PATIENCE / 2, PATIENCE - Duration::from_millis(1)] {
        board.take(0, Ok(report(0, 2, Phase::Waiting, set([]))), now + passed);
        assert_eq!(board.orders(now + passed), []);
    }
    assert_eq!(board.orders(now + PATIENCE), [know(0, set([]), true)]);
}

#[test]
fn the_dead_and_the_retired_count() {
    let (mut first, now) = (board(3, Ledger::new(NUMBER)), Instant::now());
    for index in 0..3 {
        first.take(index as usize, Ok(report(index, 3, Phase::Searching, set([index, index + 3]))), now);
    }
    first.take(1, Err("no answer".into()), now);
    let progress = first.progress();
    assert_eq!(progress.progress_done, space().size_of(&set(0..6)));
    assert_eq!(progress.workers.iter().map(|worker| worker.alive).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(progress.workers[1].done, space().size_of(&set([1, 4])));
    assert_eq!(progress.workers[1].problem.as_deref(), Some("no answer"));

    let mut second = board(1, first.ledger());
    assert_eq!(second.progress().progress_done, progress.progress_done);
    assert_eq!(second.progress().retired, [1, 2]);
    second.take(0, Ok(report(0, 1, Phase::Waiting, set([0, 3]))), now);
    assert_eq!(second.orders(now), [know(0, set([1, 2, 4, 5]), true)]);
}

#[test]
fn what_a_worker_has_lost_doesnt_count() {
    let (mut board, now) = (board(2, Ledger::new(NUMBER)), Instant::now());
    board.take(0, Ok(report(0, 2, Phase::Searching, set([0, 2, 4]))), now);
    board.take(1, Ok(report(1, 2, Phase::Searching, set([1, 3]))), now);
    board.take(0, Ok(report(0, 2, Phase::Searching, set([0]))), now);
    assert_eq!(board.progress().progress_done, space().size_of(&set([0, 1, 3])));
    assert_eq!(board.orders(now), []);
}

#[test]
fn a_solution_stays_and_is_told() {
    let (mut board, now) = (board(2, Ledger::new(NUMBER)), Instant::now());
    let solution = space().search(2..=NUMBER).unwrap();
    let solved = Report { solution: Some(solution), ..report(0, 2, Phase::Solved, set([0])) };
    board.take(0, Ok(solved), now);
    board.take(1, Ok(report(1, 2, Phase::Searching, set([1]))), now);
    assert_eq!(board.orders(now), [("http://w1".to_owned(), Order::Stop(Stop { solution }))]);
    board.take(0, Ok(report(0, 2, Phase::Searching, set([]))), now);
    assert_eq!((board.progress().solution, board.progress().prime), (Some(solution), Some(false)));
    let again = self::board(2, board.ledger());
    assert_eq!(again.progress().solution, Some(solution));
}

#[test]
fn a_number_is_prime_when_nothing_is_left() {
    // the board takes its workers' word for it that 90003 is prime
    let (mut board, now) = (board(2, Ledger::new(NUMBER)), Instant::now());
    board.take(0, Ok(report(0, 2, Phase::Finished, space().share_set(0, 2))), now);
    assert_eq!((board.progress().solution, board.progress().prime), (None, None));
    board.take(1, Ok(report(1, 2, Phase::Finished, space().share_set(1, 2))), now);
    assert_eq!((board.progress().solution, board.progress().prime), (Some(Solution::prime(NUMBER)), Some(true)));
    assert_eq!(board.progress().progress_done, board.progress().progress_all);
}

#[test]
fn reports_that_make_no_sense_dont_count() {
    let (mut board, now) = (board(1, Ledger::new(NUMBER)), Instant::now());
    let good = report(0, 1, Phase::Searching, set([0]));
    let bad = [
        Report { number: 91, ..good.clone() },
        Report { index: 1, ..good.clone() },
        Report { own: set([space().blocks()]), ..good.clone() },
        Report { solution: Some(Solution::prime(NUMBER)), ..good.clone() },
    ];
    for report in bad {
        board.take(0, Ok(report), now);
        assert!(!board.progress().workers[0].alive && board.progress().progress_done == 0);
    }
    board.take(7, Ok(good), now);
    assert_eq!(board.progress().progress_done, 0);
}
