// SPDX-License-Identifier: Apache-2.0
//! Workers killed at random moments: nothing but the block in hand is lost, and nothing counts twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use common::{report, report_when, start_process, start_worker, until, worker_config};
use holdfast_factoriser::Error;
use holdfast_factoriser::blocks::BlockSet;
use holdfast_factoriser::report::Phase;
use holdfast_factoriser::space::Space;
use holdfast_factoriser::state::{JOURNAL_FILE, PROGRESS_FILE, SavedProgress, journal_line};
use rustix::process::Signal;

const PRIME: u64 = 1_000_003;

fn random(below: u64) -> u64 {
    getrandom::u64().unwrap() % below
}

/// The blocks of the journal's lines, in order; each line must be whole.
fn journal(dir: &Path, space: Space) -> Vec<u32> {
    let text = fs::read_to_string(dir.join(JOURNAL_FILE)).unwrap_or_default();
    let block = |line: &str| {
        let block = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(format!("{line}\n"), journal_line(&space, block));
        block
    };
    text.lines().map(block).collect()
}

fn saved(dir: &Path) -> Option<SavedProgress> {
    // a kill never leaves half a file
    fs::read(dir.join(PROGRESS_FILE)).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// Kills the worker once the journal has grown by a random number of bytes, which is anywhere in a block's search, the
/// writing of its line, or of `progress.json`.
async fn killed_at_random_moments(rate: &str, per_life: u64, least_lives: u32) {
    let dir = tempfile::tempdir().unwrap();
    let space = Space::new(PRIME).unwrap();
    let number = PRIME.to_string();
    let path = dir.path().display().to_string();
    let args = ["worker", "--number", &number, "--index", "0", "--workers", "1", "--state", &path, "--listen", "127.0.0.1:0"];
    let args = [&args[..], &["--wait-ms", "0", "--rate", rate]].concat();
    let size = || fs::metadata(dir.path().join(JOURNAL_FILE)).map_or(0, |metadata| metadata.len());
    let mut lives = 0;
    loop {
        let before = journal(dir.path(), space);
        let target = size() + random(per_life);
        let mut process = start_process(&args).await;
        // what was finished before the kill is what it resumes with, no less and no more
        let first = report(&process.url).await;
        let known: BlockSet = before.iter().copied().collect();
        assert_eq!(first.started_from.searched, space.size_of(&known));
        assert!(first.started_from.problems.is_empty(), "{first:?}");
        let ended = until("the moment to kill", || async {
            if size() >= target {
                return Some(false);
            }
            (report(&process.url).await.phase == Phase::Finished).then_some(true)
        });
        let ended = ended.await;
        process.signal(Signal::KILL);
        process.child.wait().await.unwrap();
        lives += 1;

        let after = journal(dir.path(), space);
        let finished: BlockSet = after.iter().copied().collect();
        assert_eq!(after.len(), finished.len() as usize, "a block was searched and finished twice");
        assert!(finished.iter().eq(0..finished.len()), "a lone worker leaves no block out");
        assert!(saved(dir.path()).is_none_or(|saved| saved.own.without(&finished).is_empty()), "finished without being searched");
        if ended {
            assert_eq!(finished, space.all());
            break;
        }
    }
    assert!(lives >= least_lives, "{lives} lives were enough");
}

#[tokio::test]
async fn a_fast_worker_killed_at_random_moments() {
    killed_at_random_moments("0", 150_000, 1).await;
}

#[tokio::test]
async fn a_paced_worker_killed_at_random_moments() {
    killed_at_random_moments("500000", 60_000, 3).await;
}

#[tokio::test]
async fn a_worker_that_cant_write_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = worker_config(PRIME, 0, 1, &dir.path().join("state"), false);
    config.rate = NonZeroU64::new(10_000);
    let mut worker = start_worker(config).await;
    report_when(&worker.url, |report| report.searched > 0).await;
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    assert!(matches!(worker.ended().await, Err(Error::File { action: "write", .. })));
}

#[tokio::test]
async fn a_worker_without_listeners_works_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let args = ["worker", "--number", "91", "--index", "0", "--workers", "1", "--state", &path, "--listen", "127.0.0.1:0"];
    let mut command = common::program(&args);
    // whoever started it goes away at once: what it says meets a closed pipe
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    until("the solution", || async { dir.path().join("solution.json").exists().then_some(()) }).await;
    let mut process = common::Process { child, url: String::new() };
    process.signal(Signal::TERM);
    assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn signals_end_a_worker_properly() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let number = PRIME.to_string();
        let args = ["worker", "--number", &number, "--index", "1", "--workers", "2", "--state", &path, "--listen", "127.0.0.1:0"];
        let args = [&args[..], &["--wait-ms", "0", "--rate", "100000"]].concat();
        let mut process = start_process(&args).await;
        report_when(&process.url, |report| report.searched > 0).await;
        process.signal(signal);
        assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
        // the last progress is written: both files say the same
        let finished: BlockSet = journal(dir.path(), Space::new(PRIME).unwrap()).into_iter().collect();
        let saved = saved(dir.path()).unwrap();
        assert_eq!((saved.own, saved.index, saved.workers), (finished, 1, 2));
        assert!(!dir.path().join("progress.json.tmp").exists());
    }
}

#[tokio::test]
async fn signals_end_a_master_properly() {
    for signal in [Signal::TERM, Signal::INT] {
        // nobody listens on the discard port of the loopback
        let args = ["master", "--number", "91", "--worker", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--poll-ms", "10"];
        let mut process = start_process(&args).await;
        common::progress_when(&process.url, |progress| progress.workers[0].problem.is_some()).await;
        process.signal(signal);
        assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
    }
}
