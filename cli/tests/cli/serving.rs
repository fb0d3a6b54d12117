// SPDX-License-Identifier: Apache-2.0
//! `holdfast coordinator`, and the other commands through it: without credentials of the store, without the passphrase.

use crate::coordinator::Serving;
use crate::kit::{Kit, Ran};

#[test]
fn everything_works_through_a_coordinator() {
    let kit = Kit::seeded();
    let mut serving = Serving::start(&kit);
    let run = |args: &[&str]| serving.run(&kit, args);
    assert!(run(&["lineages"]).text().contains("web"));
    assert_eq!(run(&["cat", "data/changed"]).text(), "after, longer\n");
    run(&["snapshot", "create", "there"]).text();
    assert_eq!(kit.json(&["snapshot", "list"]).json()["snapshots"][0]["name"].as_str(), Some("there"));
    let to = kit.path("to");
    run(&["restore", "--snapshot", "there", to.to_str().expect("text")]).text();
    assert_eq!(std::fs::read(to.join("new")).expect("a file"), b"new\n");
    assert!(run(&["check", "--read-data"]).text().starts_with("web: sound"));

    let wrong: Ran = kit
        .bare()
        .env("HOLDFAST_TOKEN", "another token")
        .args(["lineages", "--coordinator", &serving.url])
        .output()
        .expect("it")
        .into();
    wrong.refused(5, "token");
    let none: Ran = kit.bare().args(["lineages", "--coordinator", &serving.url]).output().expect("it").into();
    none.refused(5, "token");

    let pid = rustix::process::Pid::from_child(&serving.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(serving.child.wait().expect("it ends").success(), "a good end");
    serving.run(&kit, &["lineages"]).refused(4, "can't reach the coordinator at http://127.0.0.1:");
}

#[test]
fn nothing_is_served_in_plain_text_beyond_this_machine() {
    let kit = Kit::new();
    let token = kit.path("token");
    kit.run(&["coordinator", "--listen", "0.0.0.0:0", "--token-file", token.to_str().expect("text")])
        .refused(2, "--plaintext-is-fine");
    assert!(!token.exists());
}
