// SPDX-License-Identifier: Apache-2.0
//! The demo, played fast: it proves what it says, and leaves nothing behind.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A machine that builds something else at the same time needs longer than one that doesn't.
const PATIENCE: Duration = Duration::from_secs(180);
/// What is waited for is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn demo(base: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(["demo", "-o", "json", "--workers", "2", "--directory"]).arg(base).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
}

/// Processes that have a word of this in their command lines, this one and the demo itself left out.
fn processes(base: &Path) -> usize {
    let base = base.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(&format!("{base}/"))).count()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what} never came to be");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_proves_what_it_says_and_cleans_up() {
    let base = tempfile::tempdir().expect("a directory");
    let output = demo(base.path(), &["--number", "1000003", "--rate", "20000"]).wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", text(&output));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(figures["solution"], serde_json::json!([1, 1_000_003]), "it is prime");
    for name in ["protected_bytes", "stored_objects", "checkpoints", "earlier_checkpoint", "s3_requests"] {
        assert!(figures[name].as_u64().is_some_and(|value| value > 0), "{name} in {figures}");
    }
    for step in ["Ground", "Program", "Protection", "Disaster", "Recovery", "Snapshot", "Timeline", "Time travel", "Solution"] {
        assert!(text(&output).contains(step), "{step} is told: {}", text(&output));
    }
    assert_eq!(std::fs::read_dir(base.path()).expect("a directory").count(), 0, "nothing is left on disk");
    assert_eq!(processes(base.path()), 0, "and no process");
}

#[test]
fn what_cannot_be_shown_is_a_failure_that_says_why() {
    let base = tempfile::tempdir().expect("a directory");
    let output = demo(base.path(), &["--number", "1009", "--rate", "1000000000"]).wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("choose a lower --rate"), "{}", text(&output));
    assert_eq!(processes(base.path()), 0);
}

#[test]
fn nothing_outlives_it_however_it_ends() {
    for signal in [Signal::INT, Signal::KILL] {
        let base = tempfile::tempdir().expect("a directory");
        let demo = demo(base.path(), &["--number", "100000007", "--rate", "1000"]);
        // two workers with an agent each, and a master
        until("the whole crew", || processes(base.path()) == 5);
        kill_process(Pid::from_raw(i32::try_from(demo.id()).expect("an id")).expect("an id"), signal).expect("told");
        let ended = demo.wait_with_output().expect("ended");
        assert_eq!(ended.status.code(), (signal == Signal::INT).then_some(130));
        assert_eq!(text(&ended).contains("are being ended"), signal == Signal::INT, "{}", text(&ended));
        until("the end of the crew", || processes(base.path()) == 0);
    }
}
