// SPDX-License-Identifier: Apache-2.0
//! Restores: whole, in part, over what is there, and what is refused.

use crate::kit::{Kit, noise, read, redact, write};
use std::fs;
use std::path::Path;

#[test]
fn a_whole_state_comes_back_with_a_receipt() {
    let kit = Kit::seeded();
    let to = kit.path("to");
    let first = format!("{}", kit.checkpoints("web")[0]);
    let dry = kit.json(&["restore", "--dry-run", "--checkpoint", &first, to.to_str().expect("text")]).json();
    assert_eq!((dry["dry_run"].as_bool(), dry["occupied"].as_bool()), (Some(true), Some(false)));
    assert!(!to.exists(), "a dry run changes nothing");
    let ran = kit.run(&["restore", "--checkpoint", &first, to.to_str().expect("text")]);
    let receipt = redact(&ran.text()).replace(to.to_str().expect("text"), "<to>");
    for line in
        ["restored web #2 as of <time>", "into <to>", "root asked <id>", "root found <id>, equal", "in place 4 entries, 97.6 KiB"]
    {
        assert!(receipt.contains(line), "{line:?} is not in {receipt}");
    }
    assert!(redact(&ran.err).contains("restore web #2, clean"), "{}", ran.err);
    assert_eq!(read(&to.join("old")), "old\n");
    assert_eq!(read(&to.join("changed")), "before\n");
    assert_eq!(read(&to.join("journal/0001")).len(), 100_000);
    assert!(!to.join("new").exists());
}

#[test]
fn a_target_that_holds_something_is_refused_until_it_is_said_what_becomes_of_it() {
    let kit = Kit::seeded();
    let to = kit.path("to");
    let target = to.to_str().expect("text");
    let first = format!("{}", kit.checkpoints("web")[0]);
    kit.run(&["restore", target]).text();
    write(&to.join("mine"), b"mine\n");
    let refused = kit.run(&["restore", "--checkpoint", &first, target]);
    refused.refused(3, "is not empty: --keep-extra");
    assert_eq!(read(&to.join("changed")), "after, longer\n", "nothing was touched");

    let kept = kit.json(&["restore", "--checkpoint", &first, "--keep-extra", target]);
    let receipt = kept.json();
    assert_eq!((kept.code, receipt["proven_by"].as_str(), receipt["proven"].as_bool()), (0, Some("files"), Some(true)));
    assert!(receipt["kept_files"].as_u64() >= Some(1), "{receipt}");
    assert_eq!((read(&to.join("mine")), read(&to.join("changed"))), ("mine\n".to_owned(), "before\n".to_owned()));
    assert!(to.join("new").exists());

    let removed = kit.json(&["restore", "--checkpoint", &first, "--remove-extra", target]);
    let receipt = removed.json();
    assert_eq!((removed.code, receipt["proven_by"].as_str()), (0, Some("root")));
    assert_eq!(receipt["root_asked"], receipt["root_found"]);
    assert!(!to.join("mine").exists() && !to.join("new").exists());
}

#[test]
fn a_dry_run_over_something_says_what_would_become_of_it() {
    let kit = Kit::seeded();
    let to = kit.path("to");
    let target = to.to_str().expect("text");
    let first = format!("{}", kit.checkpoints("web")[0]);
    kit.run(&["restore", target]).text();
    fs::create_dir_all(to.join("mine/deep")).expect("a directory");
    write(&to.join("mine/deep/file"), b"mine\n");
    fs::remove_dir_all(to.join("journal")).expect("removed");
    let would = |args: &[&str]| {
        let document = kit.json(&[&["restore", "--dry-run", "--checkpoint", &first], args].concat()).json();
        let number = |what: &str| document["would"][what].as_u64().expect("a number");
        (number("make"), number("change"), number("remove"), document["would"]["remove_paths"].clone())
    };
    // made: old, journal and what is in it; changed: changed; removed: new, mine and what is in it
    let listed = serde_json::json!(["data/mine/", "data/new"]);
    assert_eq!(would(&["--remove-extra", target]), (3, 1, 4, listed));
    let nothing = serde_json::json!([]);
    assert_eq!(would(&["--keep-extra", target]), (3, 1, 0, nothing.clone()));
    assert_eq!(would(&["--remove-extra", target, "data/journal"]), (2, 0, 0, nothing));
    let text = kit.run(&["restore", "--dry-run", "--checkpoint", &first, "--remove-extra", target]).text();
    assert!(text.contains("would remove  4 entries") && text.contains("  would remove data/new\n"), "{text}");
    assert!(to.join("mine/deep/file").exists() && to.join("new").exists() && !to.join("journal").exists(), "it was a dry run");
    let done = kit.json(&["restore", "--checkpoint", &first, "--remove-extra", target]).json();
    assert_eq!(done["removed"].as_u64(), Some(4), "{done}");
}

#[test]
fn chosen_paths_come_alone() {
    let kit = Kit::seeded();
    let to = kit.path("to");
    let target = to.to_str().expect("text");
    let receipt = kit.json(&["restore", target, "data/journal/0001"]);
    assert_eq!((receipt.code, receipt.json()["proven_by"].as_str()), (0, Some("files")));
    assert_eq!(read(&to.join("journal/0001")).len(), 100_000);
    assert!(!to.join("changed").exists());
    kit.run(&["restore", "--keep-extra", target, "data/nothing"]).refused(8, "nothing");
    kit.run(&["restore", "--keep-extra", target, "journal/0001"]).refused(8, "paths begin with a label (data)");
    kit.run(&["restore", "--keep-extra", target, "data/../x"]).refused(2, "'..'");
}

#[test]
fn several_state_paths_have_places_of_their_own() {
    let kit = Kit::new();
    let (one, two) = (kit.path("one"), kit.path("two"));
    for directory in [&one, &two] {
        fs::create_dir(directory).expect("a directory");
        write(&directory.join("file"), directory.as_os_str().as_encoded_bytes());
    }
    let states = [format!("one={}", one.display()), format!("two={}", two.display())];
    kit.run(&["run", "--lineage", "pair", "--state", &states[0], "--state", &states[1], "--", "true"]).text();
    let to = kit.path("to");
    kit.run(&["restore", to.to_str().expect("text")]).text();
    assert_eq!((read(&to.join("one/file")), read(&to.join("two/file"))), (one.display().to_string(), two.display().to_string()));
    let apart = [kit.path("a"), kit.path("b")];
    let places = [format!("one={}", apart[0].display()), format!("two={}", apart[1].display())];
    kit.run(&["restore", "--to", &places[0]]).refused(2, "add --to two=DIR");
    kit.run(&["restore", "--to", &places[0], "--to", &places[0]]).refused(2, "given twice");
    kit.run(&["restore", "--to", "three=/tmp/x"]).refused(2, "no state path \"three\"");
    kit.run(&["restore", "--to", &places[0], "--to", &places[1]]).text();
    assert_eq!(read(&apart[1].join("file")), two.display().to_string());
}

#[test]
fn what_is_lost_in_the_store_is_told_and_nothing_looks_whole() {
    let kit = Kit::seeded();
    for object in kit.objects("/packs/") {
        fs::remove_file(object).expect("a file");
    }
    kit.script.always(http::Method::GET, "state/domains/", holdfast_s3_server::Fault::FlipByte { at: 200 });
    let to = kit.path("to");
    let ran = kit.run(&["restore", to.to_str().expect("text")]);
    assert_eq!((ran.code, ran.any_text().as_str()), (6, ""), "{}", ran.err);
    assert!(ran.err.contains("damaged"), "{}", ran.err);
}

#[test]
fn what_a_restore_left_unfinished_is_taken_for_no_state() {
    let kit = Kit::seeded();
    let to = kit.path("web");
    write(&to.join("noise"), &noise(400_000));
    kit.protect("web", &to);
    let with_noise = kit.checkpoints("web").pop().expect("a checkpoint");
    fs::remove_file(to.join("noise")).expect("a file");
    write(&to.join("changed"), b"meanwhile\n");
    kit.protect("web", &to);
    let (wanted, target) = (with_noise.to_string(), to.to_str().expect("text"));
    let state = format!("data={target}");
    let run = ["run", "--lineage", "web", "--state", &state, "--", "true"];
    let back = ["restore", "--lineage", "web", "--checkpoint", &wanted, "--remove-extra", target];
    // what must be fetched comes damaged; the rest is done already
    kit.script.always(http::Method::GET, "state/domains/", holdfast_s3_server::Fault::FlipByte { at: 150_000 });
    assert_eq!(kit.run(&back).code, 6);
    kit.script.clear();
    kit.run(&run).refused(3, "unfinished restore of checkpoint");
    kit.run(&["restore", "--lineage", "web", target]).refused(3, "--remove-extra goes on with it");
    kit.run(&back).text();
    assert_eq!(read(&to.join("changed")), "after, longer\n");
    kit.run(&run).text();
    let again = kit.path("again");
    kit.run(&["restore", "--lineage", "web", again.to_str().expect("text")]).text();
    assert_eq!(
        (read(&again.join("changed")), fs::read(again.join("noise")).ok()),
        ("after, longer\n".to_owned(), Some(noise(400_000)))
    );
    let marked = format!("data={}", again.display());
    kit.run(&["run", "--lineage", "web", "--state", &marked, "--", "true"]).refused(3, "never protected");
}

#[test]
fn scratch_inside_the_state_is_refused() {
    let kit = Kit::new();
    let state = format!("data={}", kit.directory.path().display());
    kit.run(&["run", "--lineage", "home", "--state", &state, "--", "true"]).refused(3, "lies inside the state path");
}

#[test]
fn going_back_in_place_is_gone_on_from() {
    let kit = Kit::seeded();
    let state = kit.path("web");
    let first = format!("{}", kit.checkpoints("web")[0]);
    kit.run(&["restore", "--checkpoint", &first, "--remove-extra", state.to_str().expect("text")]).text();
    write(&state.join("since"), b"since\n");
    kit.protect("web", &state);
    assert_eq!(read(&state.join("changed")), "before\n", "the newer state does not come back by itself");
    let newest = kit.run(&["ls", "web:data"]).text();
    assert!(newest.contains("since") && !newest.contains("new"), "{newest}");
    assert_eq!(kit.run(&["cat", "web:data/changed"]).text(), "before\n");
}

#[test]
fn a_mistyped_path_starts_nothing_and_does_not_become_the_history() {
    let kit = Kit::seeded();
    let (wrong, ran) = (kit.path("webb"), kit.path("ran"));
    let before = kit.checkpoints("web");
    let line = |state: &Path, more: &[&str]| {
        let state = state.to_str().expect("text").to_owned();
        let mut line: Vec<String> = ["run", "--lineage", "web", "--state", &state].map(str::to_owned).to_vec();
        line.extend(more.iter().map(|word| (*word).to_owned()));
        line.extend(["--", "touch", ran.to_str().expect("text")].map(str::to_owned));
        kit.run(&line)
    };
    line(&wrong, &[]).refused(3, "what is named here is webb");
    assert!(!ran.exists() && kit.checkpoints("web") == before);
    line(&wrong, &["--adopt-disk"]).text();
    assert!(ran.exists(), "who says so begins anew");
}
