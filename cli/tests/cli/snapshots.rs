// SPDX-License-Identifier: Apache-2.0
//! Snapshots.

use crate::kit::{Kit, redact, write};

#[test]
fn snapshots_are_made_listed_restored_and_deleted() {
    let kit = Kit::seeded();
    let made = kit.json(&["snapshot", "create", "before", "--label", "release=7"]);
    assert!(
        made.err.contains("no coordinator was asked"),
        "whoever runs a program must not take it for its state of now: {}",
        made.err
    );
    let made = made.json();
    assert_eq!((made["name"].as_str(), made["labels"]["release"].as_str()), (Some("before"), Some("7")));
    let member = &made["members"][0];
    assert_eq!((member["lineage"].as_str(), member["flushed"].as_bool()), (Some("web"), Some(false)), "no agent is there");
    let id = made["id"].as_str().expect("an id");

    write(&kit.path("web/new"), b"newer\n");
    kit.protect("web", &kit.path("web"));
    assert_eq!(kit.run(&["cat", "web:data/new"]).text(), "newer\n");
    assert_eq!(kit.run(&["cat", "--snapshot", "before", "web:data/new"]).text(), "new\n");
    assert_eq!(kit.run(&["cat", "--snapshot", &id[..8], "web:data/new"]).text(), "new\n");
    assert_eq!(redact(&kit.run(&["diff", "web", "before", "newest"]).text()), "~ data/new 4 B -> 6 B");

    kit.run(&["snapshot", "create", "before"]).refused(1, "before");
    kit.run(&["snapshot", "create", " "]).refused(2, "empty");
    kit.run(&["snapshot", "create", "x", "--label", "novalue"]).refused(2, "KEY=VALUE");
    let listed = redact(&kit.run(&["snapshot", "list", "--label", "release=7"]).text());
    assert_eq!(listed, format!("NAME CREATED MEMBERS CONSISTENCY ID LABELS\nbefore <time> 1 crash <id> release=7"));
    let none = kit.json(&["snapshot", "list", "--label", "release=8"]).json();
    assert_eq!(none["snapshots"].as_array().map(Vec::len), Some(0));
    let shown = redact(&kit.run(&["snapshot", "show", &id[..8]]).text());
    assert!(shown.contains("members 1 lineage, less than a millisecond apart"), "{shown}");

    assert_eq!(kit.json(&["snapshot", "delete", "before"]).json()["deleted"].as_str(), Some("before"));
    kit.run(&["snapshot", "show", "before"]).refused(8, "before");
    kit.run(&["restore", "--snapshot", "before", kit.path("to").to_str().expect("text")]).refused(8, "before");
}

#[test]
fn whoever_watches_is_told_what_exists_first() {
    use std::io::{BufRead, BufReader};
    let kit = Kit::seeded();
    kit.run(&["snapshot", "create", "one"]).text();
    let mut command = kit.command(&["-o", "json", "snapshot", "watch"]);
    let mut watching = command.stdout(std::process::Stdio::piped()).spawn().expect("the program");
    let lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    let events: Vec<serde_json::Value> =
        lines.take(2).map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON")).collect();
    watching.kill().expect("it runs");
    watching.wait().expect("it has ended");
    assert_eq!((events[0]["event"].as_str(), events[0]["snapshot"]["name"].as_str()), (Some("exists"), Some("one")));
    assert_eq!(events[1]["event"].as_str(), Some("synced"));
}
