// SPDX-License-Identifier: Apache-2.0
//! `holdfast run --freeze --every-checkpoint`: each checkpoint is one moment of a program that never stops writing.

use crate::kit::Kit;
use std::process::Stdio;
use std::time::{Duration, Instant};

const CLEAN: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);
/// As long as the file `go` is there, and so not beyond this test, each number goes to one file, then to the other.
const WRITER: &str = "i=0; while [ -e ../go ]; do i=$((i+1)); echo $i >> first; echo $i >> second; sleep 0.001; done";

fn clean(kit: &Kit) -> Vec<u64> {
    let ran = kit.json(&["timeline", "writer"]);
    if ran.code != 0 {
        return Vec::new(); // it has not begun yet
    }
    let told = ran.json();
    let all = told["checkpoints"].as_array().expect("a list").iter();
    all.filter(|one| one["quality"] == "clean").map(|one| one["checkpoint"].as_u64().expect("a number")).collect()
}

#[test]
fn every_checkpoint_is_one_moment() {
    let kit = Kit::new();
    let state = kit.path("state");
    std::fs::create_dir_all(&state).expect("a directory");
    std::fs::write(kit.path("go"), "").expect("a file");
    let (protects, within) = (format!("data={}", state.display()), state.to_str().expect("text"));
    let options = ["run", "--lineage", "writer", "--state", &protects, "--freeze", "--every-checkpoint", "--every", "0.5"];
    let writer = format!("cd {within}; {WRITER}");
    let mut command = kit.command(&[&options[..], &["--", "sh", "-c", &writer]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program");
    let began = Instant::now();
    // the last is of a program that has ended
    while clean(&kit).len() < CLEAN && began.elapsed() < PATIENCE {}
    let found = clean(&kit);
    std::fs::remove_file(kit.path("go")).expect("a file");
    assert!(child.wait().expect("it ends").success());

    assert!(found.len() >= CLEAN, "clean are only {found:?}");
    for checkpoint in found {
        let lines = |name: &str| {
            let number = checkpoint.to_string();
            kit.run(&["cat", &format!("writer:{name}"), "--checkpoint", &number]).text().lines().count()
        };
        let (first, second) = (lines("data/first"), lines("data/second"));
        assert!(first == second || first == second + 1, "checkpoint {checkpoint}: {first} and {second}");
    }
}
