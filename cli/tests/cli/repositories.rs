// SPDX-License-Identifier: Apache-2.0
//! Repositories: creating, probing, passphrases, and what is refused.

use crate::kit::{Kit, PASSPHRASE, Ran, redact};
use holdfast_s3_server::Fault;
use http::{Method, StatusCode};
use std::time::{Duration, Instant};

#[test]
fn a_repository_is_created_once_after_a_probe() {
    let kit = Kit::empty();
    kit.run(&["lineages"]).refused(4, "there is no Holdfast repository at");
    let created = kit.json(&["repo", "init"]).json();
    assert_eq!(created["created"].as_bool(), Some(true));
    assert!(kit.objects("state/probes/").is_empty(), "what was tried is deleted");
    let again = kit.json(&["repo", "init"]).json();
    assert_eq!((again["created"].as_bool(), &again["repository"]), (Some(false), &created["repository"]));
    let text = redact(&kit.run(&["repo", "info"]).text());
    assert!(text.starts_with("repository <id>\nlocation s3://bucket/state at http://"), "{text}");
    assert!(text.contains("\nformat 1\ncreated <time>\npassphrase slot 0, opens the repository"), "{text}");
    assert_eq!(redact(&kit.run(&["lineages"]).text()), "LINEAGE DOMAIN NEWEST QUALITY CHECKPOINT STATE HOLDER");
    kit.run(&["ls"]).refused(8, "no lineage is there yet");
}

/// Whoever mistypes waits for seconds, not for half a minute, and is told what to look at.
#[test]
fn what_cannot_heal_is_told_soon() {
    let kit = Kit::new();
    let began = Instant::now();
    let with =
        |set: &[(&str, &str)], args: &[&str]| -> Ran { kit.command(args).envs(set.iter().copied()).output().expect("it").into() };
    for command in [&["lineages"][..], &["repo", "init"], &["repo", "info"]] {
        with(&[("HOLDFAST_ENDPOINT", "http://127.0.0.1:1")], command).refused(4, "127.0.0.1:1");
        with(&[("HOLDFAST_REPO", "s3://missing/state")], command).refused(4, "there is no such bucket: create it");
    }
    let without = kit.command(&["lineages"]).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").output();
    Ran::from(without.expect("it")).refused(4, "no AWS credentials were found: set AWS_ACCESS_KEY_ID");
    with(&[("AWS_SECRET_ACCESS_KEY", "another")], &["lineages"]).refused(4, "403");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?} for eight of them", began.elapsed());
}

#[test]
fn empty_variables_say_nothing_and_missing_files_are_named() {
    let kit = Kit::new();
    let with =
        |set: &[(&str, &str)]| -> Ran { kit.command(&["lineages"]).envs(set.iter().copied()).output().expect("it").into() };
    with(&[("HOLDFAST_PASSPHRASE_FILE", ""), ("HOLDFAST_COORDINATOR", ""), ("HOLDFAST_TOKEN_FILE", "")]).text();
    with(&[("HOLDFAST_PASSPHRASE_FILE", "/nowhere/at-all")]).refused(2, "/nowhere/at-all");
    let repo = ["lineages", "--repo", "s3://bucket/state"];
    let both: Ran = kit.command(&repo).env("HOLDFAST_COORDINATOR", "http://127.0.0.1:1").output().expect("it").into();
    both.text(); // the environment names the same repository, and the line says which is meant
}

#[test]
fn a_store_that_does_not_fence_is_refused_in_one_sentence() {
    let kit = Kit::empty();
    let good = kit.json(&["repo", "probe"]).json();
    assert_eq!((good["fences"].as_bool(), good["races"].as_u64()), (Some(true), Some(12)));
    kit.script.always(Method::PUT, "", Fault::IgnoreCondition);
    for command in ["probe", "init"] {
        let ran = kit.run(&["repo", command]);
        ran.refused(4, "can't hold a repository: it replaced an object that existed");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    assert!(kit.objects("state/").is_empty(), "nothing is left, and no repository was made");
}

#[test]
fn nothing_is_protected_on_a_store_that_does_not_fence() {
    let kit = Kit::empty();
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path().to_str().expect("text");
    kit.script.always(Method::PUT, "", Fault::IgnoreCondition);
    let ran = kit.run(&["run", "--state", state, "--", "true"]);
    ran.refused(4, "can't hold a repository: it replaced an object that existed");
    assert!(kit.objects("state/").is_empty(), "nothing is left, and no repository was made");
}

#[test]
fn a_store_that_refuses_is_no_broken_promise() {
    let kit = Kit::empty();
    kit.script.always(Method::PUT, "", Fault::Answer(StatusCode::FORBIDDEN));
    kit.run(&["repo", "probe"]).refused(4, "AccessDenied");
}

#[test]
fn passphrases_come_and_go() {
    let kit = Kit::empty();
    kit.run(&["repo", "init"]).text();
    let with = |passphrase: &str, args: &[&str]| -> Ran {
        kit.command(args)
            .env("HOLDFAST_PASSPHRASE", passphrase)
            .env("HOLDFAST_NEW_PASSPHRASE", "second")
            .output()
            .expect("it")
            .into()
    };
    with("wrong", &["lineages"]).refused(5, "wrong passphrase");
    with("", &["lineages"]).refused(2, "the passphrase is empty");
    with(PASSPHRASE, &["repo", "passphrase", "revoke", "0"]).refused(2, "it is the only passphrase");
    assert_eq!(with(PASSPHRASE, &["-o", "json", "repo", "passphrase", "add"]).json()["slot"].as_u64(), Some(1));
    with("second", &["lineages"]).text();
    with("second", &["repo", "passphrase", "add"]).refused(2, "opens the repository already");
    with("second", &["repo", "passphrase", "revoke", "7"]).refused(2, "those in slots 0, 1");
    with("second", &["repo", "passphrase", "revoke", "0"]).text();
    with(PASSPHRASE, &["lineages"]).refused(5, "wrong passphrase");
    let slots = with("second", &["-o", "json", "repo", "info"]).json()["slots"].clone();
    assert_eq!(slots.to_string(), r#"[{"revoked":true,"slot":0},{"revoked":false,"slot":1}]"#);
}
