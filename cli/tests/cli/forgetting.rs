// SPDX-License-Identifier: Apache-2.0
//! Forgetting checkpoints, and collecting what nothing reaches.

use crate::kit::{Kit, noise, write};
use holdfast_s3_server::Fault;
use http::{Method, StatusCode};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn what_is_forgotten_goes_and_the_newest_stays() {
    let kit = Kit::seeded();
    let before = kit.checkpoints("web");
    assert!(before.len() >= 2, "{before:?}");
    kit.run(&["forget", "web"]).refused(2, "say what is to remain");
    kit.run(&["forget", "--keep-daily", "1"]).refused(2, "LINEAGES");
    kit.run(&["forget", "web", "--keep-within", "soon"]).refused(2, "is not an age");
    kit.run(&["forget", "nobody", "--keep-daily", "1"]).refused(8, "there is no lineage \"nobody\"");
    let planned = kit.json(&["forget", "web", "--keep-within", "0", "--dry-run"]).json();
    assert_eq!(planned["ended"], "planned");
    assert!(planned["lineages"][0]["gone"]["thinned"]["objects"].as_u64() > Some(0), "{planned}");
    assert_eq!(kit.checkpoints("web"), before, "a plan deletes nothing");
    let foreign = kit.json(&["forget", "--all", "--keep-within", "0", "--owner", "somebody else"]).json();
    assert!(foreign["lineages"][0]["left_alone"].as_str().is_some_and(|why| why.starts_with("it belongs to")), "{foreign}");
    assert_eq!(kit.checkpoints("web"), before);
    let done = kit.json(&["forget", "web", "--keep-within", "0"]).json();
    assert_eq!((done["ended"].as_str(), done["problems"].as_array().map(Vec::len)), (Some("done"), Some(0)), "{done}");
    assert_eq!(kit.checkpoints("web"), before[before.len() - 1..]);
    let target = kit.path("target");
    kit.run(&["restore", "--lineage", "web", target.to_str().expect("text")]).text();
    assert_eq!(std::fs::read(target.join("new")).expect("a file"), b"new\n");
    kit.run(&["check", "--all", "--read-data"]).text();
    // and the program goes on
    write(&kit.path("web").join("new"), b"newer\n");
    kit.protect("web", &kit.path("web"));
    assert_eq!(kit.checkpoints("web").len(), 2);
    kit.run(&["repo", "collect"]).text();
    kit.run(&["check", "--all", "--read-data"]).text();
}

#[test]
fn a_policy_says_what_remains_and_a_snapshot_holds_its_own() {
    let kit = Kit::seeded();
    let before = kit.checkpoints("web");
    kit.run(&["snapshot", "create", "first"]).text();
    write(&kit.path("web").join("new"), b"newer\n");
    kit.protect("web", &kit.path("web"));
    let policy = kit.path("policy.yaml");
    let text = "apiVersion: holdfast.dev/v1alpha1\nkind: StatePolicy\nmetadata:\n  name: web\nspec:\n  paths:\n    - label: data\n      path: /data\n  retention:\n    keepAll: 1h\n";
    write(&policy, text.as_bytes());
    let policy = policy.to_str().expect("text");
    kit.run(&["forget", "web", "--policy", policy, "--keep-daily", "1"]).refused(2, "cannot be used with");
    kit.run(&["forget", "web", "--policy", policy]).text();
    assert_eq!(kit.checkpoints("web").len(), before.len() + 1, "all are younger than an hour");
    kit.run(&["forget", "web", "--keep-within", "0"]).text();
    let left = kit.checkpoints("web");
    assert_eq!(left.len(), 2, "the newest, and the snapshot's");
    let target = kit.path("target");
    kit.run(&["restore", "--lineage", "web", "--snapshot", "first", target.to_str().expect("text")]).text();
    assert_eq!(std::fs::read(target.join("new")).expect("a file"), b"new\n");
    kit.run(&["snapshot", "delete", "first"]).text();
    kit.run(&["forget", "web", "--keep-within", "0"]).text();
    assert_eq!(kit.checkpoints("web"), left[1..]);
}

#[test]
fn what_may_not_be_deleted_stays_and_is_said() {
    let kit = Kit::seeded();
    kit.script.always(Method::DELETE, "", Fault::Answer(StatusCode::FORBIDDEN));
    let refused = kit.run(&["forget", "web", "--keep-within", "0"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("AccessDenied"), "{}", refused.err);
    kit.run(&["check", "--all"]).text();
    kit.script.clear();
    kit.run(&["forget", "web", "--keep-within", "0"]).text();
    kit.run(&["check", "--all", "--read-data"]).text();
    let records = kit.json(&["forget", "web", "--keep-within", "0"]).json();
    assert_eq!(records["lineages"][0]["gone"].as_object().map(serde_json::Map::len), Some(0), "{records}");
}

/// One of the states that a program goes through: most of it is overwritten, some of it never is.
fn state_of(round: u8) -> Vec<(&'static str, Vec<u8>)> {
    let changing = noise(2 << 20).into_iter().map(|byte| byte ^ round.wrapping_mul(37)).collect();
    vec![("changing", changing), ("round", vec![round; 100]), ("steady", noise(300_000))]
}

#[test]
fn a_program_that_overwrites_its_state_costs_what_is_kept() {
    const ROUNDS: u8 = 6;
    let kit = Kit::new();
    let (state, deadline) = (kit.path("web"), Instant::now() + Duration::from_secs(120));
    std::fs::create_dir(&state).expect("a directory");
    let given = format!("data={}", state.display());
    let mut command = kit.command(&["run", "--lineage", "web", "--state", &given, "--every", "0.2", "--", "cat"]);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the program");
    let restored = |args: &[&str], name: &str| {
        let target = kit.path(name);
        kit.run(&[&["restore", "--lineage", "web", target.to_str().expect("text")], args].concat()).text();
        let read = |(name, _)| (name, std::fs::read(target.join(name)).expect("a file"));
        state_of(0).into_iter().map(read).collect::<Vec<_>>()
    };
    let has = |round| state_of(round).iter().all(|(name, bytes)| kit.run(&["cat", &format!("web:data/{name}")]).out == *bytes);
    for round in 1..=ROUNDS {
        for (name, bytes) in state_of(round) {
            write(&state.join(name), &bytes);
        }
        while !has(round) {
            assert!(Instant::now() < deadline, "round {round} was not captured");
            std::thread::yield_now();
        }
        if round == 2 || round == 4 {
            kit.run(&["snapshot", "create", &format!("after-{round}")]).text();
        }
    }
    let before = kit.bytes();
    let forget = ["forget", "web", "--keep-within", "0"];
    kit.run(&forget).text();
    let beside = kit.bytes();
    // the program goes on meanwhile, and ends in good order
    assert!(running.try_wait().expect("it runs").is_none());
    drop(running.stdin.take());
    assert!(running.wait().expect("it ends").success());
    kit.run(&["snapshot", "delete", "after-2"]).text();
    kit.run(&forget).text();
    let forgotten = kit.bytes();
    kit.run(&["repo", "collect"]).text();
    let collected = kit.bytes();
    eprintln!("bytes in the store: {before}, beside the program {beside}, without a snapshot {forgotten}, collected {collected}");
    assert!(before > 12 << 20, "six states of 2 MiB: {before}");
    assert!(beside < 8 << 20, "three states remain: {beside}");
    assert!(forgotten.max(collected) < 6 << 20, "two states remain: {forgotten}, {collected}");
    kit.run(&["check", "--all", "--read-data"]).text();
    assert_eq!(restored(&[], "newest"), state_of(ROUNDS));
    assert_eq!(restored(&["--snapshot", "after-4"], "fourth"), state_of(4));
    kit.run(&["restore", "--lineage", "web", "--snapshot", "after-2", "nowhere"]).refused(8, "after-2");
}
