// SPDX-License-Identifier: Apache-2.0
//! `docs/injection.md` says exactly what the webhook says.

use holdfast_webhook::reason::{Kind, Refusal, Skip, Warning};
use std::path::Path;

/// The rows that a kind's tables must have.
fn rows<K: Kind>(all: &[K]) -> Vec<String> {
    all.iter().map(|kind| format!("| `{}` | {} |", kind.code(), kind.sentence().replace('<', "\\<"))).collect()
}

#[test]
fn the_tables_are_what_is_said() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/injection.md");
    let text = std::fs::read_to_string(&file).expect("the document");
    let written: Vec<&str> = text.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() >= 3).collect();
    for (section, wanted) in [("skips", rows(Skip::ALL)), ("refusals", rows(Refusal::ALL)), ("warnings", rows(Warning::ALL))] {
        let begin = text.find(&format!("<!-- {section} -->")).unwrap_or_else(|| panic!("no table of {section}"));
        let end = text[begin..].find("<!-- end -->").map(|end| begin + end).expect("its end");
        let table: Vec<&str> = text[begin..end].lines().filter(|line| written.contains(line)).collect();
        if table != wanted {
            panic!("the table of {section} in docs/injection.md is not what the code says; it must be:\n{}", wanted.join("\n"));
        }
    }
}

/// A kind that no case brings about would be a sentence that nobody has seen.
#[test]
fn every_kind_comes_up_in_a_case() {
    let cases = ["pods.yaml", "workloads.yaml"]
        .map(|name| std::fs::read_to_string(crate::kit::directory().join(name)).expect("a file of cases"));
    let is_there = |code: &str| cases.iter().any(|text| text.contains(code));
    let mut never: Vec<&str> = Refusal::ALL.iter().map(|kind| kind.code()).filter(|code| !is_there(code)).collect();
    never.extend(Warning::ALL.iter().map(|kind| kind.code()).filter(|code| !is_there(code)));
    never.extend(Skip::ALL.iter().map(|kind| kind.code()).filter(|code| !is_there(code)));
    assert!(never.is_empty(), "{never:?}");
}
