// SPDX-License-Identifier: Apache-2.0
//! Other numbers of workers take over from each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::num::NonZeroU64;
use std::path::Path;

use common::{Running, progress_when, report_when, start_master, start_worker, worker_config};
use holdfast_factoriser::Solution;
use holdfast_factoriser::blocks::BlockSet;
use holdfast_factoriser::report::{Phase, Progress, Report};
use holdfast_factoriser::space::Space;
use holdfast_factoriser::state::StateDir;

/// A prime, so that all of the space is searched.
const PRIME: u64 = 1_000_003;

async fn start_workers(number: u64, workers: u32, dir: &Path, rate: u64) -> Vec<Running<Report>> {
    let mut all = Vec::new();
    for index in 0..workers {
        let mut config = worker_config(number, index, workers, &dir.join(index.to_string()), true);
        config.rate = NonZeroU64::new(rate);
        all.push(start_worker(config).await);
    }
    all
}

/// Runs so many workers and a master until the progress is as wished; the workers are stopped first.
async fn run(
    number: u64,
    workers: u32,
    dir: &Path,
    rate: u64,
    memory: Option<&Path>,
    wish: impl Fn(&Progress) -> bool,
) -> (Progress, Vec<Report>) {
    let workers = start_workers(number, workers, dir, rate).await;
    let master = start_master(number, workers.iter().map(|worker| worker.url.clone()).collect(), memory).await;
    progress_when(&master.url, wish).await;
    let mut reports = Vec::new();
    for worker in workers {
        reports.push(worker.stop().await);
    }
    (master.stop().await, reports)
}

/// What each state directory says its worker has searched.
fn owned(dir: &Path, space: Space, workers: u32) -> Vec<BlockSet> {
    (0..workers).map(|index| StateDir::open(&dir.join(index.to_string()), space).unwrap().1.own).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_then_five_then_two_search_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let memory = dir.path().join("master");
    let space = Space::new(PRIME).unwrap();

    let (first, reports) = run(PRIME, 3, dir.path(), 100_000, Some(&memory), |p| p.progress_done > 200_000).await;
    assert!(first.progress_done < first.progress_all);
    assert_eq!(first.progress_done, reports.iter().map(|report| report.searched).sum::<u64>());

    let (second, _) = run(PRIME, 5, dir.path(), 100_000, Some(&memory), |p| p.progress_done > 400_000).await;
    assert!(second.progress_done < second.progress_all);

    let (third, reports) = run(PRIME, 2, dir.path(), 0, Some(&memory), |p| p.solution.is_some()).await;
    assert_eq!((third.progress_done, third.prime), (space.candidates(), Some(true)));
    assert_eq!((third.solution, third.retired.as_slice()), (Some(Solution::prime(PRIME)), [2, 3, 4].as_slice()));
    assert!(reports.iter().all(|report| report.done == report.all));

    // everything was searched, and nothing twice
    let owned = owned(dir.path(), space, 5);
    assert_eq!(owned.iter().map(|own| space.size_of(own)).sum::<u64>(), space.candidates());
    assert_eq!(owned.iter().fold(BlockSet::new(), |all, own| all.union(own)), space.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_forgetful_master_forgets_is_searched_again() {
    let dir = tempfile::tempdir().unwrap();
    let space = Space::new(PRIME).unwrap();
    run(PRIME, 3, dir.path(), 300_000, None, |p| p.progress_done > 200_000).await;
    let before = owned(dir.path(), space, 3);
    let (last, _) = run(PRIME, 1, dir.path(), 0, None, |p| p.prime == Some(true)).await;
    assert_eq!(last.progress_done, space.candidates());
    let after = owned(dir.path(), space, 3);
    assert_eq!(after[0], space.all(), "nobody could tell worker 0 of the others' work");
    assert_eq!(after[1..], before[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_joins_without_searching_again_what_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let space = Space::new(PRIME).unwrap();
    run(PRIME, 1, dir.path(), 0, None, |p| p.prime == Some(true)).await;
    let workers = start_workers(PRIME, 2, dir.path(), 0).await;
    // it waits for the master as long as there might be one
    assert_eq!(report_when(&workers[1].url, |_| true).await.phase, Phase::Waiting);
    let master = start_master(PRIME, workers.iter().map(|worker| worker.url.clone()).collect(), None).await;
    let report = report_when(&workers[1].url, |report| report.phase == Phase::Finished).await;
    assert_eq!((report.searched, report.done), (0, report.all));
    assert_eq!(report.told, space.share_set(1, 2));
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(master.stop().await.progress_done, space.candidates());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_numbers_are_factorised_by_any_number_of_workers() {
    for number in 2..=30 {
        for workers in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            let (last, reports) = run(number, workers, dir.path(), 0, None, |p| p.solution.is_some()).await;
            let factor = (2..number).find(|factor| number % factor == 0);
            assert_eq!(last.prime, Some(factor.is_none()), "{number}");
            match factor.and_then(|factor| Solution::new(number, factor)) {
                None => assert_eq!((last.progress_done, last.solution), (number - 1, Some(Solution::prime(number)))),
                Some(_) => assert!(last.solution.unwrap().solves(number), "{number}: {:?}", last.solution),
            }
            assert_eq!(reports.iter().map(|report| report.all).sum::<u64>(), number - 1);
        }
    }
}
