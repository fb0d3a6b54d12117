// SPDX-License-Identifier: Apache-2.0
//! The definitions in `deploy/crds` are what the code says. After a change of the types:
//! `HOLDFAST_WRITE=1 cargo test -p holdfast-api --test crds`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use serde_json::Value;
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds")
}

/// Every definition and the name of its file.
fn definitions() -> Vec<(String, Value)> {
    let definitions = holdfast_api::crds::all().into_iter();
    let named = definitions.map(|definition| {
        let name = format!("{}.yaml", definition.spec.names.plural);
        (name, serde_json::to_value(definition).expect("a definition is JSON"))
    });
    named.collect()
}

#[test]
fn the_committed_definitions_are_what_the_code_says() {
    let write = std::env::var_os("HOLDFAST_WRITE").is_some();
    let mut names = Vec::new();
    for (name, definition) in definitions() {
        let yaml = serde_saphyr::to_string(&definition).expect("a definition is YAML");
        let text = format!(
            "# SPDX-License-Identifier: Apache-2.0\n# Generated from api/src: HOLDFAST_WRITE=1 cargo test -p holdfast-api --test crds\n{yaml}"
        );
        let file = directory().join(&name);
        if write {
            std::fs::write(&file, &text).expect("write");
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == text,
            "{} is not what the code says: run HOLDFAST_WRITE=1 cargo test -p holdfast-api --test crds",
            file.display()
        );
        let back: Value = serde_saphyr::from_str(&committed).expect("YAML");
        assert_eq!(back, definition, "{name} is read as something else than what was written");
        names.push(name);
    }
    for entry in std::fs::read_dir(directory()).expect("deploy/crds") {
        let name = entry.expect("entry").file_name().into_string().expect("a name");
        assert!(names.contains(&name) || name == "kustomization.yaml", "{name} defines no kind of ours");
    }
}

/// Visits every schema of a definition, with its path.
fn visit(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        visit(property, &format!("{path}.{name}"), look);
    }
    if schema["items"].is_object() {
        visit(&schema["items"], &format!("{path}[]"), look);
    }
}

fn schema(definition: &Value, part: &str) -> Value {
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// The API server refuses a definition whose rules might cost too much, which it reckons from these bounds.
#[test]
fn everything_people_write_is_bounded_and_described() {
    for (name, definition) in definitions() {
        visit(&schema(&definition, "spec"), "spec", &mut |path, schema| {
            let bounded = match schema["type"].as_str() {
                Some("string") => schema["maxLength"].is_u64() || schema["enum"].is_array() || schema["format"] == "date-time",
                Some("array") => schema["maxItems"].is_u64(),
                Some("integer") => schema["minimum"].is_number() && schema["maximum"].is_number(),
                Some("object") => schema["properties"].is_object() || schema["maxProperties"].is_u64(),
                Some("boolean") => true,
                other => panic!("{name}: {path} has the type {other:?}"),
            };
            assert!(bounded, "{name}: {path} has no bound: {schema}");
            let described = path.ends_with("[]") || schema["description"].as_str().is_some_and(|text| text.len() > 5);
            assert!(described, "{name}: {path} is not described");
        });
    }
}

#[test]
fn schemas_are_structural_and_known_to_the_api_server() {
    let formats = ["int32", "int64", "double", "float", "date-time", "byte"];
    for (name, definition) in definitions() {
        for part in ["spec", "status"] {
            visit(&schema(&definition, part), part, &mut |path, schema| {
                for word in ["oneOf", "anyOf", "allOf", "not", "$ref", "additionalProperties"] {
                    assert!(schema[word].is_null() || word == "additionalProperties", "{name}: {path} has {word}: {schema}");
                }
                if let Some(format) = schema["format"].as_str() {
                    assert!(formats.contains(&format), "{name}: {path} has the format {format}");
                }
                for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                    let message = rule["message"].as_str().unwrap_or_default();
                    assert!(message.len() > 20 && !message.contains('\n') && message.len() <= 2048, "{name}: {path}: {rule}");
                }
            });
        }
    }
}

/// Short names of other people's kinds that clusters with backups have.
#[test]
fn names_collide_with_nobody() {
    let taken = ["vs", "vsc", "bsl", "vsl", "po", "sts", "sa", "sc", "sp", "rs", "pol", "sn", "pv"];
    let mut seen = Vec::new();
    for (name, definition) in definitions() {
        let names = &definition["spec"]["names"];
        assert_eq!(names["categories"], serde_json::json!(["holdfast"]), "{name}");
        for short in names["shortNames"].as_array().expect("short names") {
            let short = short.as_str().expect("a name").to_owned();
            assert!(short.starts_with("hf") && !taken.contains(&short.as_str()) && !seen.contains(&short), "{name}: {short}");
            seen.push(short);
        }
    }
}
