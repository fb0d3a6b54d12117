// SPDX-License-Identifier: Apache-2.0
//! The definition in `kubernetes/rsacrackers.yaml` is what the code says. After a change of the type:
//! `HOLDFAST_WRITE=1 cargo test -p holdfast-factoriser-operator --test crd`.

#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use holdfast_factoriser_operator::resource::RSACracker;
use kube::CustomResourceExt as _;
use std::path::Path;

#[test]
fn the_committed_definition_is_what_the_code_says() {
    let yaml = serde_saphyr::to_string(&RSACracker::crd()).expect("a definition is YAML");
    let how = "HOLDFAST_WRITE=1 cargo test -p holdfast-factoriser-operator --test crd";
    let text = format!("# SPDX-License-Identifier: Apache-2.0\n# Generated from operator/src: {how}\n{yaml}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kubernetes/rsacrackers.yaml");
    if std::env::var_os("HOLDFAST_WRITE").is_some() {
        std::fs::write(&file, &text).expect("write");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "it is not what the code says: {how}");
}
