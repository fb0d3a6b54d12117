// SPDX-License-Identifier: Apache-2.0
//! The reference and the examples say what the code does.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use holdfast_api::{check_yaml, explain};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn reference() -> String {
    std::fs::read_to_string(root().join("docs/policy.md")).expect("docs/policy.md")
}

/// Every field beneath `spec`, and its schema.
fn fields() -> BTreeMap<String, (Value, bool)> {
    fn collect(schema: &Value, path: &str, fields: &mut BTreeMap<String, (Value, bool)>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name));
            collect(property, &inner, fields);
            collect(&property["items"], &format!("{inner}[]"), fields);
            fields.insert(inner, (property.clone(), required));
        }
    }
    let schema = holdfast_api::crds::schema("StatePolicy").expect("a schema");
    let mut fields = BTreeMap::new();
    collect(&schema["properties"]["spec"], "", &mut fields);
    // both hooks have the same fields, which the reference lists once
    fields.retain(|path, _| !path.starts_with("consistency.hooks.after."));
    fields
}

/// The rows of the reference that describe a field: its path, default and meaning.
fn rows(reference: &str) -> BTreeMap<String, (String, String)> {
    let cells = reference.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [path, _, default, meaning] = cells.as_slice() else { return None };
        Some((path.trim_end_matches('`').to_owned(), ((*default).to_owned(), (*meaning).to_owned())))
    });
    cells.collect()
}

#[test]
fn every_field_is_in_the_reference_with_its_default() {
    let rows = rows(&reference());
    for (path, (schema, required)) in fields() {
        let Some((default, meaning)) = rows.get(&path) else { panic!("docs/policy.md has no row for {path}") };
        let expected = match &schema["default"] {
            Value::Null if required => "*required*".to_owned(),
            Value::Null => "–".to_owned(),
            Value::Object(_) => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(*default, expected, "the default of {path}");
        for word in schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(meaning.contains(&format!("`{word}`")), "the row of {path} doesn't say what {word} means");
        }
    }
}

#[test]
fn the_reference_describes_no_field_that_is_not_there() {
    let fields = fields();
    for path in rows(&reference()).keys() {
        assert!(fields.contains_key(path), "docs/policy.md describes {path}, which is no field");
    }
}

fn check_good(text: &str, name: &str) {
    let report = check_yaml(text, name);
    assert_eq!(report.findings().count(), 0, "{name}: {report:?}");
    for document in &report.documents {
        let policy = document.policy.as_ref().unwrap_or_else(|| panic!("{name} has no policy"));
        let text = explain(policy, &document.name);
        assert!(text.contains("What a crash can lose") && text.lines().all(|line| line.len() < 200), "{name}:\n{text}");
    }
}

#[test]
fn examples_have_nothing_wrong() {
    let reference = reference();
    let blocks: Vec<&str> = reference.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert!(!blocks.is_empty());
    blocks.iter().for_each(|block| check_good(block, "docs/policy.md"));
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("deploy/examples/policies")).expect("examples") {
        let path = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.starts_with("# SPDX-License-Identifier: Apache-2.0\n"), "{}", path.display());
        check_good(&text, &path.display().to_string());
        count += 1;
    }
    assert!(count >= 5, "{count} examples");
}
