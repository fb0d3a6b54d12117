// SPDX-License-Identifier: Apache-2.0
//! `holdfast check`: sound repositories, and damaged ones.

use crate::kit::{Kit, noise, write};
use holdfast_s3_server::Fault;
use http::{Method, StatusCode};

/// A lineage with a file that is too large for a record.
fn with_a_pack() -> Kit {
    let kit = Kit::new();
    let state = kit.path("big");
    std::fs::create_dir(&state).expect("a directory");
    write(&state.join("noise"), &noise(3 << 20));
    kit.protect("big", &state);
    kit
}

#[test]
fn a_sound_repository_is_found_sound() {
    let kit = Kit::seeded();
    let text = kit.run(&["check"]).text();
    assert!(text.starts_with("web: sound ("), "{text}");
    let all = kit.json(&["check", "--all", "--read-data", "web"]).json();
    assert_eq!((all["sound"].as_bool(), all["lineages"][0]["finding_count"].as_u64()), (Some(true), Some(0)));
    kit.run(&["check", "nobody"]).refused(8, "there is no lineage \"nobody\"");
}

#[test]
fn flipped_bytes_are_found_where_they_are_and_what_they_spoil_is_told() {
    let kit = with_a_pack();
    kit.script.always(Method::GET, "state/domains/", Fault::FlipByte { at: 150_000 });
    assert_eq!(kit.run(&["check"]).code, 0, "without its data nothing is wrong");
    let ran = kit.json(&["check", "--read-data"]);
    let report = &ran.json()["lineages"][0];
    assert_eq!((ran.code, report["sound"].as_bool()), (6, Some(false)));
    let finding = &report["findings"][0];
    assert_eq!(finding["kind"].as_str(), Some("damaged"));
    assert!(finding["object"].as_str().is_some_and(|object| object.contains("/packs/")), "{finding}");
    assert_eq!(finding["paths"][0].as_str(), Some("data/noise"));
    assert_eq!(finding["checkpoints"], report["newest"].as_u64().map_or(serde_json::Value::Null, |newest| vec![newest].into()));
    let table = kit.run(&["check", "--read-data"]);
    assert_eq!(table.code, 6);
    assert!(table.any_text().contains("\n    data/noise\n"), "{}", table.any_text());
}

#[test]
fn a_store_that_fails_is_no_damage() {
    let kit = Kit::seeded();
    kit.script.always(Method::GET, "state/domains/", Fault::Answer(StatusCode::FORBIDDEN));
    kit.run(&["check"]).refused(4, "AccessDenied");
}
