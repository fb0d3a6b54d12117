// SPDX-License-Identifier: Apache-2.0
//! The command line: exit codes, and one clear sentence for what can't be done.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::net::TcpListener;

use common::{program, report, start_process};
use rustix::process::Signal;

/// Runs the program to its end; its exit code and what it says on standard error.
async fn fails(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = program(args).envs(env.iter().copied()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.is_empty() && !said.contains("panicked"), "{args:?}: {said}");
    (output.status.code(), said)
}

#[tokio::test]
async fn unusable_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().display().to_string();
    let bad: [&[&str]; 13] = [
        &["--number", "1"],
        &["--number", "-5"],
        &["--number", "1e9"],
        &["--number", "1099511627777"],
        &["--number", "999999999999999999999999"],
        &["--workers", "0"],
        &["--workers", "1025"],
        &["--index", "3", "--workers", "3"],
        &["--index", "x"],
        &["--listen", "nowhere"],
        &["--rate", "-1"],
        &["--rate", "fast"],
        &["--wait-ms", "99999999999"],
    ];
    for options in bad {
        let mut args = vec!["worker", "--state", &state];
        args.extend(if options[0] == "--index" { [].as_slice() } else { ["--index", "0"].as_slice() });
        args.extend(options);
        assert_eq!(fails(&args, &[]).await.0, Some(2), "{options:?}");
    }
    assert_eq!(fails(&["worker", "--index", "0"], &[]).await.0, Some(2), "no state directory");
    assert_eq!(fails(&[], &[]).await.0, Some(2));
    for options in [&[] as &[&str], &["--worker", "https://a"], &["--worker", "a:1"], &["--worker", "http://a-{index}"]] {
        assert_eq!(fails(&[&["master"], options].concat(), &[]).await.0, Some(2), "{options:?}");
    }
    assert_eq!(fails(&["master", "--worker", "http://a,http://b", "--workers", "3"], &[]).await.0, Some(2));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was written");
}

#[tokio::test]
async fn a_directory_that_cant_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let worker = |state: &str, number: &str| {
        [
            "worker",
            "--index",
            "0",
            "--workers",
            "1",
            "--wait-ms",
            "0",
            "--listen",
            "127.0.0.1:0",
            "--state",
            state,
            "--number",
            number,
        ]
        .map(str::to_owned)
    };
    let run = async |args: [String; 13]| fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
    let (code, said) = run(worker(file.to_str().unwrap(), "91")).await;
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");

    let state = dir.path().join("state").display().to_string();
    let args = worker(&state, "1000003");
    let mut process = start_process(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (code, said) = run(worker(&state, "1000003")).await;
    assert_eq!((code, said), (Some(3), format!("factoriser: another process is using the state directory {state}\n")));
    common::report_when(&process.url, |report| report.searched > 0).await;
    process.signal(Signal::TERM);
    process.child.wait().await.unwrap();
    let (code, said) = run(worker(&state, "91")).await;
    assert_eq!((code, said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.contains("1000003, not on 91"), "{said}");
}

#[tokio::test]
async fn an_address_that_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let state = dir.path().display().to_string();
    let (code, said) = fails(&["worker", "--index", "0", "--state", &state, "--listen", &address], &[]).await;
    assert_eq!(code, Some(4));
    assert!(said.starts_with(&format!("factoriser: can't listen on {address}: ")) && said.lines().count() == 1, "{said}");
    assert_eq!(fails(&["master", "--worker", "http://127.0.0.1:9", "--listen", &address], &[]).await.0, Some(4));
}

#[tokio::test]
async fn the_environment_configures_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(&["worker", "--listen", "127.0.0.1:0"]);
    let env = [("NUMBER", "91"), ("INDEX", "2"), ("WORKERS", "4"), ("RATE", "1"), ("WAIT_MS", "0")];
    command.envs(env.map(|(name, value)| (format!("FACTORISER_{name}"), value))).env("FACTORISER_STATE", dir.path());
    let mut process = common::start(command).await;
    let report = report(&process.url).await;
    assert_eq!((report.number, report.index, report.workers), (91, 2, 4));
    process.signal(Signal::TERM);
    assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
    assert!(dir.path().join("progress.json").exists());

    let (code, said) = fails(&["worker", "--state", "x", "--index", "0"], &[("FACTORISER_NUMBER", "none")]).await;
    assert_eq!(code, Some(2));
    assert!(said.contains("none"), "{said}");
}
