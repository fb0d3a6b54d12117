// SPDX-License-Identifier: Apache-2.0
//! One table of good and bad policies, judged twice: by the rules in Rust, and by the CEL in the definition as an API
//! server would. Both must say the same sentence about the same policy.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use holdfast_api::policy::StatePolicySpec;
use holdfast_api::policy::shapes::SHAPES;
use holdfast_core::policy::Severity;
use holdfast_core::policy::rules::RULES;
use kube_cel::Validator;
use serde_json::{Value, json};

mod table;

/// The name, severity, sentence and CEL of every rule.
fn rules() -> Vec<(&'static str, Severity, &'static str, &'static str)> {
    let values = RULES.iter().map(|rule| (rule.name, rule.severity, rule.sentence, rule.cel));
    let shapes = SHAPES.iter().map(|rule| (rule.name, rule.severity, rule.sentence, rule.cel));
    values.chain(shapes).collect()
}

fn schema() -> Value {
    holdfast_api::crds::schema("StatePolicy").expect("a schema")["properties"]["spec"].clone()
}

/// The sentences with which an API server would refuse this spec.
fn refused_by_cel(spec: &Value) -> Vec<String> {
    let Err(errors) = Validator::new().validate_with_defaults(&schema(), spec, None) else { return Vec::new() };
    let mut sentences: Vec<String> = errors.iter().map(|error| error.message.clone()).collect();
    sentences.sort();
    sentences.dedup();
    sentences
}

/// The sentences that Rust finds, errors and warnings apart.
fn found_in_rust(spec: &Value) -> (Vec<String>, Vec<String>) {
    let spec: StatePolicySpec = serde_json::from_value(spec.clone()).expect("a spec of the right types");
    let (errors, warnings): (Vec<_>, Vec<_>) =
        spec.resolve().findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    let sentences = |findings: Vec<holdfast_core::policy::Finding>| {
        let mut sentences: Vec<String> = findings.into_iter().map(|finding| finding.sentence).collect();
        sentences.sort();
        sentences.dedup();
        sentences
    };
    (sentences(errors), sentences(warnings))
}

/// `spec` with the fields of `change` laid over it.
fn merge(spec: &mut Value, change: Value) {
    match (spec, change) {
        (Value::Object(spec), Value::Object(change)) => {
            for (name, value) in change {
                merge(spec.entry(name).or_insert(Value::Null), value);
            }
        }
        (spec, change) => *spec = change,
    }
}

fn spec(change: Value) -> Value {
    let mut spec = json!({"paths": [{"label": "data", "path": "/var/lib/app"}]});
    merge(&mut spec, change);
    spec
}

#[test]
fn good_policies_pass_both() {
    for change in table::good() {
        let spec = spec(change);
        assert_eq!(found_in_rust(&spec).0, Vec::<String>::new(), "{spec}");
        assert_eq!(refused_by_cel(&spec), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn bad_policies_are_refused_in_the_same_words() {
    let rules = rules();
    for (name, change) in table::bad() {
        let spec = spec(change);
        let Some((_, severity, sentence, cel)) = rules.iter().find(|rule| rule.0 == name) else { panic!("no rule {name}") };
        let (errors, warnings) = found_in_rust(&spec);
        let expected = vec![(*sentence).to_owned()];
        match severity {
            Severity::Error => assert_eq!(errors, expected, "{name}: {spec}"),
            Severity::Warning => assert_eq!((errors, warnings), (vec![], expected.clone()), "{name}: {spec}"),
        }
        if !cel.is_empty() {
            assert_eq!(refused_by_cel(&spec), expected, "{name}: {spec}");
        }
    }
}

#[test]
fn malformed_quantities_are_refused_in_the_same_words() {
    for (change, words) in table::malformed() {
        let spec = spec(change);
        let (errors, _) = found_in_rust(&spec);
        assert!(errors.len() == 1 && errors[0].starts_with(words), "{spec}: {errors:?}");
        // other rules can't be evaluated over such a text, and say so
        assert!(refused_by_cel(&spec).contains(&errors[0]), "{spec}: {:?}", refused_by_cel(&spec));
    }
}

#[test]
fn every_rule_is_in_the_table() {
    let table = table::bad();
    for (name, ..) in rules() {
        assert!(table.iter().any(|(other, _)| *other == name), "nothing in the table breaks {name}");
    }
}

/// The CEL and sentence of every rule in a schema.
fn carried(schema: &Value, found: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        found.push((text("rule"), text("message")));
    }
    schema["properties"].as_object().into_iter().flatten().for_each(|(_, property)| carried(property, found));
    if schema["items"].is_object() {
        carried(&schema["items"], found);
    }
}

#[test]
fn the_definition_carries_every_rule_that_has_cel_and_no_other() {
    let mut found = Vec::new();
    carried(&schema(), &mut found);
    let ours = rules();
    for (name, _, sentence, cel) in ours.iter().filter(|rule| !rule.3.is_empty()) {
        assert!(found.iter().any(|(rule, message)| rule == cel && message == sentence), "no part of the schema carries {name}");
    }
    for (rule, message) in &found {
        let known = ours.iter().any(|(_, _, sentence, cel)| rule == cel && message == sentence);
        assert!(known || rule.starts_with("self.matches("), "the schema has a rule of its own: {rule}");
    }
}
