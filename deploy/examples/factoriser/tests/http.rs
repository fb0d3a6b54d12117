// SPDX-License-Identifier: Apache-2.0
//! What workers and master answer, and do when they are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::num::NonZeroU64;

use common::{progress, progress_when, report, report_when, start_master, start_worker, worker_config};
use holdfast_factoriser::client::{Client, ClientError};
use holdfast_factoriser::report::{Known, Phase, Stop};
use holdfast_factoriser::space::Space;
use holdfast_factoriser::state::{SOLUTION_FILE, SavedSolution};
use holdfast_factoriser::worker::Worker;
use holdfast_factoriser::{Error, Solution};
use serde_json::{Value, json};

const PRIME: u64 = 1_000_003;
const SEMIPRIME: u64 = 1_022_117; // 1009 * 1013, found by the worker that owns the block of 1013

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_tells_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let worker = start_worker(worker_config(PRIME, 0, 1, dir.path(), false)).await;
    let last = report_when(&worker.url, |report| report.phase == Phase::Finished).await;
    assert_eq!((last.done, last.all, last.searched), (PRIME - 1, PRIME - 1, PRIME - 1));
    let json: Value = Client::new().get(&format!("{}/progress", worker.url)).await.unwrap();
    let expected = json!({
        "number": PRIME, "index": 0, "workers": 1, "phase": "finished", "done": PRIME - 1, "all": PRIME - 1,
        "searched": PRIME - 1, "position": null, "solution": null,
        "started_from": {"files": [], "searched": 0, "problems": []}, "own": "0-15625", "told": "",
    });
    assert_eq!(json, expected);
    worker.stop().await;

    let worker = start_worker(worker_config(PRIME, 0, 1, dir.path(), false)).await;
    let again = report(&worker.url).await.started_from;
    assert_eq!(
        (again.searched, again.files.as_slice()),
        (PRIME - 1, ["progress.json".to_owned(), "journal.log".to_owned()].as_slice())
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_searches_tells_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = worker_config(PRIME, 0, 1, dir.path(), false);
    config.rate = NonZeroU64::new(1);
    let worker = start_worker(config).await;
    let report = report_when(&worker.url, |report| report.position.is_some()).await;
    assert_eq!((report.phase, report.done), (Phase::Searching, 0), "a block that isn't finished doesn't count");
    assert!(report.position.is_some_and(|position| position <= PRIME && position > PRIME - 64));
    // a worker at one candidate per second stops at once all the same
    assert_eq!(worker.stop().await.searched, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_refuses_nonsense() {
    let dir = tempfile::tempdir().unwrap();
    let worker = start_worker(worker_config(SEMIPRIME, 0, 1, dir.path(), true)).await;
    let client = Client::new();
    let bodies = [
        ("stop", json!({"solution": [1, SEMIPRIME]})),
        ("stop", json!({"solution": [2, 3]})),
        ("stop", json!({"solution": "x"})),
        ("stop", json!({})),
        ("known", json!({"known": "16383"})),
        ("known", json!({"known": "5-1"})),
        ("known", json!(null)),
        ("progress", json!({})),
        ("nothing", json!({})),
    ];
    for (path, body) in bodies {
        let answer = client.post(&format!("{}/{path}", worker.url), &body).await;
        assert!(matches!(answer, Err(ClientError::Refused(status, _)) if status.is_client_error()), "{path} {body}: {answer:?}");
    }
    let report = report(&worker.url).await;
    assert_eq!((report.phase, report.solution, report.done), (Phase::Waiting, None, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_the_solution_stops_searching() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = worker_config(SEMIPRIME, 0, 1, dir.path(), false);
    config.rate = NonZeroU64::new(100);
    let worker = start_worker(config.clone()).await;
    report_when(&worker.url, |report| report.phase == Phase::Searching).await;
    let solution = Solution::new(SEMIPRIME, 1009).unwrap();
    Client::new().post(&format!("{}/stop", worker.url), &Stop { solution }).await.unwrap();
    assert_eq!(report(&worker.url).await.phase, Phase::Solved);
    assert_eq!(worker.stop().await.solution, Some(solution));
    let saved: SavedSolution = serde_json::from_slice(&std::fs::read(dir.path().join(SOLUTION_FILE)).unwrap()).unwrap();
    assert_eq!(saved, SavedSolution { number: SEMIPRIME, solution, found_by: None });
    // and it searches no more when it starts again
    let worker = start_worker(config).await;
    assert_eq!(report(&worker.url).await.phase, Phase::Solved);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_blocks_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = worker_config(PRIME, 0, 1, dir.path(), true);
    let worker = start_worker(config.clone()).await;
    let known = Known { known: "5-10".parse().unwrap(), begin: false };
    Client::new().post(&format!("{}/known", worker.url), &known).await.unwrap();
    assert_eq!(report(&worker.url).await.told, known.known);
    worker.stop().await;
    let worker = start_worker(config).await;
    let report = report(&worker.url).await;
    assert_eq!((report.told, report.searched, report.done), (known.known, 0, 6 * 64));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_solution_ends_the_search_of_all_and_stays() {
    let space = Space::new(SEMIPRIME).unwrap();
    let finder = (0..space.blocks()).find(|block| space.range(*block).contains(&1013)).unwrap() % 3;
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut workers = Vec::new();
    for (index, dir) in (0..).zip(&dirs) {
        let mut config = worker_config(SEMIPRIME, index, 3, dir.path(), true);
        // the others would take years
        config.rate = NonZeroU64::new(if index == finder { 0 } else { 1 });
        workers.push(start_worker(config).await);
    }
    let urls: Vec<String> = workers.iter().map(|worker| worker.url.clone()).collect();
    let memory = tempfile::tempdir().unwrap();
    let master = start_master(SEMIPRIME, urls.clone(), Some(memory.path())).await;
    let all_solved = |p: &holdfast_factoriser::report::Progress| p.workers.iter().all(|w| w.phase == Some(Phase::Solved));
    let progress = progress_when(&master.url, all_solved).await;
    let solution = Solution::new(SEMIPRIME, 1013).unwrap();
    assert_eq!((progress.solution, progress.prime), (Some(solution), Some(false)));
    assert!(progress.progress_done < progress.progress_all);
    for (index, worker) in (0_u32..).zip(workers) {
        let report = worker.stop().await;
        assert_eq!(report.solution, Some(solution), "worker {index}");
    }
    let last = progress_when(&master.url, |progress| progress.workers.iter().all(|worker| !worker.alive)).await;
    assert_eq!(last.solution, Some(solution));
    master.stop().await;
    let master = start_master(SEMIPRIME, urls, Some(memory.path())).await;
    assert_eq!(master.stop().await.solution, Some(solution));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_worker_counts_with_its_last_known_progress() {
    let dir = tempfile::tempdir().unwrap();
    let worker = start_worker(worker_config(PRIME, 0, 2, dir.path(), false)).await;
    let other = tempfile::tempdir().unwrap();
    let mut config = worker_config(PRIME, 1, 2, other.path(), false);
    config.rate = NonZeroU64::new(1);
    let slow = start_worker(config).await;
    let master = start_master(PRIME, vec![worker.url.clone(), slow.url.clone()], None).await;
    let alive = progress_when(&master.url, |p| p.workers[0].done == p.workers[0].all && p.workers[1].alive).await;
    assert!(alive.workers.iter().all(|worker| worker.alive && worker.problem.is_none()));
    worker.stop().await;
    let dead = progress_when(&master.url, |p| !p.workers[0].alive).await;
    assert_eq!((dead.progress_done, dead.progress_all, dead.solution), (alive.workers[0].all, PRIME - 1, None));
    assert!(dead.workers[0].problem.is_some() && dead.workers[1].alive);

    let json: Value = Client::new().get(&format!("{}/progress", master.url)).await.unwrap();
    assert_eq!((&json["solution"], &json["prime"], &json["workers"][0]["alive"]), (&Value::Null, &Value::Null, &json!(false)));
    assert_eq!(json["progress_done"], json!(dead.progress_done));
    slow.stop().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_on_something_else_dont_count() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let other_number = start_worker(worker_config(91, 0, 2, dirs[0].path(), false)).await;
    let other_index = start_worker(worker_config(PRIME, 0, 2, dirs[1].path(), false)).await;
    let master = start_master(PRIME, vec![other_number.url.clone(), other_index.url.clone()], None).await;
    let seen = progress_when(&master.url, |p| p.workers.iter().all(|w| w.problem.as_deref() != Some("not asked yet"))).await;
    let problems: Vec<_> = seen.workers.iter().map(|worker| worker.problem.clone().unwrap_or_default()).collect();
    assert_eq!(problems, ["it searches factors of 91", "it is worker 0"]);
    assert_eq!(seen.progress_done, 0);
    master.stop().await;
    // no master asks any more, but one has just asked: it is not waited for longer than the worker lingers
    drop((other_number, other_index));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_say_that_they_are_healthy() {
    let dir = tempfile::tempdir().unwrap();
    let worker = start_worker(worker_config(PRIME, 0, 1, dir.path(), true)).await;
    let master = start_master(PRIME, vec![worker.url.clone()], None).await;
    for url in [&worker.url, &master.url] {
        let answer = Client::new().get::<Value>(&format!("{url}/healthz")).await;
        assert!(matches!(answer, Err(ClientError::Unintelligible(_))), "ok is no JSON, and no refusal: {answer:?}");
    }
    worker.stop().await;
    let last = progress(&master.url).await;
    assert_eq!(last.progress_all, PRIME - 1);
    master.stop().await;
}

#[tokio::test]
async fn addresses_and_directories_have_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let first = Worker::bind(worker_config(PRIME, 0, 1, dir.path(), true)).await.unwrap();
    let same_dir = Worker::bind(worker_config(PRIME, 0, 1, dir.path(), true)).await;
    assert!(matches!(same_dir, Err(Error::InUse(_))));
    let other = tempfile::tempdir().unwrap();
    let mut config = worker_config(PRIME, 0, 1, other.path(), true);
    config.listen = first.address();
    assert!(matches!(Worker::bind(config).await, Err(Error::Listen { .. })));
}
