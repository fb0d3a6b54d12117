// SPDX-License-Identifier: Apache-2.0
//! Lineages, timelines, files, differences; names that try to steer a terminal; command lines that make no sense.

use crate::kit::{Kit, Ran, redact, write};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

#[test]
fn what_is_protected_is_listed() {
    let kit = Kit::seeded();
    let (first, last) = (kit.checkpoints("web")[0], *kit.checkpoints("web").last().expect("some"));
    let table = redact(&kit.run(&["lineages"]).text());
    let expected = format!("LINEAGE DOMAIN NEWEST QUALITY CHECKPOINT STATE HOLDER\nweb default <time> clean #{last} closed");
    assert!(table.starts_with(&expected), "{table}");
    let json = kit.json(&["lineages"]).json();
    let lineage = &json["lineages"][0];
    assert_eq!((lineage["lineage"].as_str(), lineage["sealed"].as_bool()), (Some("web"), Some(true)));
    assert_eq!((lineage["newest"]["checkpoint"].as_u64(), lineage["live"].is_null()), (Some(last), true));

    let timeline = redact(&kit.run(&["timeline"]).text());
    assert!(timeline.starts_with(&format!("CHECKPOINT TIME QUALITY\n#{last} <time> clean\n")), "{timeline}");
    assert!(timeline.ends_with(&format!("\n#{first} <time> clean")), "{timeline}");
    let one = kit.json(&["timeline", "web", "--limit", "1", "--full"]).json();
    assert_eq!((one["more"].as_bool(), one["checkpoints"].as_array().map(Vec::len)), (Some(true), Some(1)));
    assert_eq!(one["checkpoints"][0]["totals"]["files"].as_u64(), Some(3));
    assert_eq!(one["checkpoints"][0]["paths"][0]["label"].as_str(), Some("data"));
    let none = kit.json(&["timeline", "--until", "yesterday"]).json();
    assert_eq!(none["checkpoints"].as_array().map(Vec::len), Some(0));
}

#[test]
fn files_of_any_point_are_shown() {
    let kit = Kit::seeded();
    let first = format!("#{}", kit.checkpoints("web")[0]);
    assert_eq!(kit.run(&["ls"]).text(), "data/\n");
    assert_eq!(kit.run(&["ls", "web:data"]).text(), "changed\njournal/\nnew\n");
    assert_eq!(
        kit.run(&["ls", "-R", ":data", "--checkpoint", &first]).text(),
        "data/changed\ndata/journal/\ndata/journal/0001\ndata/old\n"
    );
    let long = redact(&kit.run(&["ls", "-l", ":data/journal"]).text());
    assert!(long.starts_with("-rw-") && long.ends_with(" 97.6 KiB <time> 0001"), "{long}");
    let json = kit.json(&["ls", "web:data/journal"]).json();
    let file = &json["files"][0];
    assert_eq!(
        (file["path"].as_str(), file["kind"].as_str(), file["size"].as_u64()),
        (Some("data/journal/0001"), Some("file"), Some(100_000))
    );

    assert_eq!(kit.run(&["cat", "web:data/changed"]).text(), "after, longer\n");
    assert_eq!(kit.run(&["cat", "--checkpoint", &first, "data/changed"]).text(), "before\n");
    assert_eq!(kit.run(&["cat", "--offset", "7", "--length", "3", ":data/changed"]).text(), "lon");
    let lines = kit.json(&["cat", ":data/new"]).lines();
    assert_eq!(lines[0]["file"]["file"]["path"].as_str(), Some("data/new"));
    assert_eq!(lines[1]["hex"].as_str(), Some("6e65770a"));

    let diff = redact(&kit.run(&["diff", "web", &first, "newest"]).text());
    let files: Vec<_> = diff.lines().filter(|line| !line.ends_with("metadata")).collect();
    assert_eq!(files, ["~ data/changed 7 B -> 14 B", "+ data/new 4 B", "- data/old 4 B"]);
    let lines = kit.json(&["diff", "web", &first, "now", "data/old"]).lines();
    assert_eq!((lines.len(), lines[0]["change"].as_str(), lines[0]["two"].is_null()), (1, Some("removed"), true));
}

#[test]
fn what_is_not_there_is_told_with_a_code() {
    let kit = Kit::seeded();
    kit.run(&["ls", "nobody"]).refused(8, "nobody");
    kit.run(&["timeline", "nobody"]).refused(8, "nobody");
    kit.run(&["cat", "web:data/none"]).refused(8, "data/none");
    kit.run(&["ls", "--checkpoint", "99"]).refused(8, "99");
    kit.run(&["ls", "--snapshot", "none"]).refused(8, "none");
    kit.run(&["ls", "--at", "2001-01-01T00:00:00Z"])
        .refused(8, "no checkpoint at or before 2001-01-01T00:00:00Z; its first is of 20");
    kit.run(&["timeline", "--since", "now", "--until", "yesterday"]).refused(2, "is later than --until (");
    kit.run(&["cat", "web:data/journal"]).refused(2, "");
    kit.run(&["ls", "--at", "soon"]).refused(2, "\"soon\" is not a time; write for example '10 minutes ago'");
    kit.run(&["ls", "--at", "now", "--checkpoint", "2"]).refused(2, "cannot be used with");
    kit.run(&["ls", "--checkpoint", "zero"]).refused(2, "checkpoints have numbers from 1");
    kit.run(&["diff", "web", "12", "newest"]).refused(2, "for the checkpoint write '#12'");
    kit.run(&["cat", "web:"]).refused(2, "which file?");
    kit.run(&["cat", "web:data/../../etc/passwd"]).refused(2, "'..'");
    let other = kit.path("other");
    std::fs::create_dir(&other).expect("a directory");
    kit.protect("other", &other);
    kit.run(&["ls"]).refused(2, "which lineage? There are several");
}

#[test]
fn names_cant_steer_a_terminal() {
    let kit = Kit::new();
    let state = kit.path("state");
    std::fs::create_dir(&state).expect("a directory");
    let names: [&[u8]; 5] = [b"a\x1b[31mred", b"b\nline", b"c\xff", "d\u{202e}x".as_bytes(), b"e\\"];
    for name in names {
        write(&state.join(OsStr::from_bytes(name)), b"x");
    }
    kit.protect("names", &state);
    let listed = kit.run(&["ls", ":data"]).text();
    assert_eq!(listed, "a\\u{1b}[31mred\nb\\nline\nc\\xff\nd\\u{202e}x\ne\\\\\n");
    let json = kit.json(&["ls", ":data"]).json();
    assert_eq!(json["files"][2]["path"]["bytes"].as_str(), Some("646174612f63ff"));
    assert_eq!(json["files"][1]["path"].as_str(), Some("data/b\nline"));
    let cat = kit.run(&[OsStr::new("cat"), OsStr::from_bytes(b":data/c\xff")]);
    assert_eq!(cat.text(), "x", "a name that is no text can be asked for");
    let missing = kit.run(&["cat", ":data/\u{1b}[31m"]);
    assert_eq!(missing.code, 8);
    assert!(!missing.err.contains('\u{1b}'), "{:?}", missing.err);

    // whoever writes a repository names its lineages
    let evil = kit.path("evil");
    std::fs::create_dir(&evil).expect("a directory");
    kit.protect("\u{1b}[2Jevil", &evil);
    let lineages = kit.run(&["lineages"]).text();
    assert!(lineages.contains("\\u{1b}[2Jevil") && !lineages.contains('\u{1b}'), "{lineages}");
}

#[test]
fn command_lines_that_make_no_sense_are_answered() {
    let kit = Kit::new();
    let bare = |args: &[&str]| -> Ran { kit.bare().args(args).output().expect("the program").into() };
    bare(&["lineages"]).refused(2, "where is the state? Give --repo");
    let info: Ran = kit.bare().args(["repo", "info"]).env("HOLDFAST_COORDINATOR", "http://x:1").output().expect("it").into();
    info.refused(2, "this works on the repository itself");
    bare(&["lineages", "--repo", "/tmp/x"]).refused(2, "is not a repository");
    bare(&["lineages", "--repo", "s3://bucket/x"]).refused(2, "no passphrase");
    bare(&["lineages", "--repo", "s3://bucket/x", "--coordinator", "http://x:1"]).refused(2, "name one");
    bare(&["lineages", "--coordinator", "https://x:1"]).refused(2, "whom may it trust?");
    bare(&["lineages", "--coordinator", "x:1"]).refused(2, "is not a coordinator");
    bare(&["lineages", "--coordinator", "http://127.0.0.1:1"]).refused(4, "can't reach the coordinator");
    bare(&["restore"]).refused(2, "where to?");
    bare(&["lineages", "--passphrase-file", "/nonexistent", "--repo", "s3://bucket/x"])
        .refused(2, "can't read the passphrase from");
    assert!(bare(&["--help"]).text().contains("6  damaged or missing data"));
    assert!(bare(&["completions", "bash"]).text().contains("_holdfast"));
    assert!(bare(&["man"]).text().contains(".TH holdfast 1"));
    assert!(bare(&["man", "snapshot", "create"]).text().contains(".TH holdfast-snapshot-create 1"));
    bare(&["man", "snapshots"]).refused(2, "there is no command \"snapshots\"");
}

#[test]
fn a_reader_that_goes_early_is_no_error() {
    let kit = Kit::seeded();
    let state = kit.path("web");
    write(&state.join("huge"), &vec![b'y'; 4 << 20]);
    kit.protect("web", &state);
    let mut child =
        kit.command(&["cat", ":data/huge"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    drop(child.stdout.take());
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}
