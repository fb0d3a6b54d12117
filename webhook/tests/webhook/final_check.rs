// SPDX-License-Identifier: Apache-2.0
//! What `deploy/webhook` makes the API server do: its expressions are evaluated here on the pods of the table.

use crate::kit::{self, around, mutate, plain_pod, plain_policy};
use crate::pods::cases;
use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

fn documents(name: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/webhook").join(name);
    let text = std::fs::read_to_string(&file).expect("a manifest");
    let pieces = text.split("\n---\n");
    pieces.map(|piece| serde_saphyr::from_str(piece).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// What expressions see: the object, its namespace, and what a policy derives from them.
fn seen(object: &Value, namespace: &Value, variables: &[Value]) -> Context<'static> {
    let mut context = Context::default().with_all();
    context.add_variable("object", object).expect("an object");
    context.add_variable("namespaceObject", namespace).expect("a namespace");
    let mut derived = HashMap::new();
    for variable in variables {
        let value = run(text(variable, "expression"), &context);
        derived.insert(Key::String(Arc::new(text(variable, "name").to_owned())), value);
        context.add_variable("variables", Cel::Map(Map { map: Arc::new(derived.clone()) })).expect("variables");
    }
    context
}

fn run(expression: &str, context: &Context<'_>) -> Cel {
    let program = Program::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    program.execute(context).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn is_true(expression: &str, context: &Context<'_>) -> bool {
    match run(expression, context) {
        Cel::Bool(value) => value,
        other => panic!("{expression} is {other:?}"),
    }
}

/// Whether conditions match an object.
fn matches(conditions: &Value, object: &Value, namespace: &Value) -> bool {
    let context = seen(object, namespace, &[]);
    list(conditions).iter().all(|condition| is_true(text(condition, "expression"), &context))
}

/// What the policy says of a pod; `None`: its conditions don't match.
fn said(pod: &Value, namespace: &Value) -> Option<Vec<String>> {
    let policy = documents("policy.yaml").remove(0);
    let spec = &policy["spec"];
    if !matches(&spec["matchConditions"], pod, namespace) {
        return None;
    }
    let context = seen(pod, namespace, list(&spec["variables"]));
    let broken = list(&spec["validations"]).iter().filter(|rule| !is_true(text(rule, "expression"), &context));
    Some(broken.map(|rule| text(rule, "message").to_owned()).collect())
}

fn plain_namespace() -> Value {
    json!({"metadata": {"name": "shop"}})
}

#[test]
fn what_the_webhook_lets_in_passes() {
    for case in cases().iter().filter(|case| case.decision == "Patched") {
        let pod = mutate(&case.pod(), &case.cluster.around(&case.policy())).expect("let in");
        assert_eq!(said(&pod, &plain_namespace()), Some(Vec::new()), "{}", case.name);
    }
}

/// What somebody does to a pod, and what the API server says then.
type Spoiled = (&'static str, fn(&mut Value));

const SPOILED: &[Spoiled] = &[
    ("it has no container holdfast-agent", |pod| *pod = plain_pod()),
    ("has lost restartPolicy", |pod| drop(agent(pod).as_object_mut().expect("an object").remove("restartPolicy"))),
    ("has lost restartPolicy", |pod| agent(pod)["restartPolicy"] = json!("Never")),
    ("would run something else", |pod| agent(pod)["command"] = json!(["sh"])),
    ("would run something else", |pod| agent(pod)["args"] = json!(["gate"])),
    ("is not told what is state", |pod| agent(pod)["env"] = json!([])),
    ("is not told what is state", |pod| drop(agent(pod).as_object_mut().expect("an object").remove("env"))),
    ("is not told what is state", |pod| config(pod)["value"] = json!("")),
    ("is not told what is state", |pod| config(pod)["name"] = json!("HOLDFAST_OTHER_CONFIG")),
    ("is not told what is state", |pod| {
        // the last of one name counts
        let other = json!({"name": "HOLDFAST_POD_CONFIG", "valueFrom": {"configMapKeyRef": {"name": "other", "key": "config"}}});
        agent(pod)["env"].as_array_mut().expect("a list").push(other);
    }),
    ("has no token", |pod| agent(pod)["volumeMounts"] = json!([])),
    ("does not follow holdfast-agent", |pod| {
        pod["spec"]["initContainers"].as_array_mut().expect("a list").swap(0, 1);
    }),
    ("does not follow holdfast-agent", |pod| drop(pod["spec"]["initContainers"].as_array_mut().expect("a list").remove(1))),
    ("holdfast-gate would run something else", |pod| gate(pod)["command"] = json!(["true"])),
    ("holdfast-gate would run something else", |pod| gate(pod)["args"] = json!(["--version"])),
    ("holdfast-gate would run something else", |pod| drop(gate(pod).as_object_mut().expect("an object").remove("args"))),
    // a sidecar has started as soon as it runs
    ("would not be waited for", |pod| gate(pod)["restartPolicy"] = json!("Always")),
    ("of another image than holdfast-agent", |pod| gate(pod)["image"] = json!("registry.example/pause")),
    ("of another image than holdfast-agent", |pod| agent(pod)["image"] = json!("registry.example/pause")),
    ("before holdfast-agent mounts a volume", |pod| {
        let seed = json!({"name": "seed", "volumeMounts": [{"name": "data", "mountPath": "/d"}]});
        pod["spec"]["initContainers"].as_array_mut().expect("a list").insert(0, seed);
    }),
    ("no annotation", |pod| drop(pod["metadata"].as_object_mut().expect("an object").remove("annotations"))),
];

fn agent(pod: &mut Value) -> &mut Value {
    &mut pod["spec"]["initContainers"][0]
}

fn gate(pod: &mut Value) -> &mut Value {
    &mut pod["spec"]["initContainers"][1]
}

/// What the agent is told.
fn config(pod: &mut Value) -> &mut Value {
    let variables = agent(pod)["env"].as_array_mut().expect("a list");
    variables.iter_mut().find(|variable| variable["name"] == "HOLDFAST_POD_CONFIG").expect("its configuration")
}

#[test]
fn what_somebody_took_away_is_noticed() {
    let whole = mutate(&plain_pod(), &around(&plain_policy())).expect("let in");
    for (wanted, spoil) in SPOILED {
        let mut pod = whole.clone();
        spoil(&mut pod);
        let said = said(&pod, &plain_namespace()).expect("it matches");
        assert!(said.iter().any(|message| message.contains(wanted)), "{wanted}: {said:?}");
    }
    let messages: Vec<_> = documents("policy.yaml")[0]["spec"]["validations"].as_array().expect("a list").clone();
    for validation in &messages {
        let is_tried = SPOILED.iter().any(|(wanted, _)| text(validation, "message").contains(wanted));
        assert!(is_tried, "{validation}");
    }
    // somebody before us who touches nothing of ours is no harm
    let mut pod = whole;
    pod["spec"]["initContainers"].as_array_mut().expect("a list").insert(0, json!({"name": "vault"}));
    assert_eq!(said(&pod, &plain_namespace()), Some(Vec::new()));
    // the agents of running pods are given other images, and their gates are not
    let rules = &documents("policy.yaml")[0]["spec"]["matchConstraints"]["resourceRules"];
    assert_eq!(rules[0]["operations"], json!(["CREATE"]));
    assert_eq!(list(rules).len(), 1);
}

#[test]
fn what_is_left_alone_is_left_alone_by_both() {
    for case in cases().iter().filter(|case| ["Disabled", "MirrorPod"].contains(&case.decision.as_str())) {
        assert_eq!(said(&case.pod(), &plain_namespace()), None, "{}", case.name);
    }
    let disabled = json!({"metadata": {"name": "shop", "annotations": {"holdfast.dev/inject": "disabled"}}});
    assert_eq!(said(&plain_pod(), &disabled), Some(Vec::new()));
    // conditions see no namespace: an API server of version 1.34 refuses every pod if they look at it
    let conditions = documents("policy.yaml").remove(0)["spec"]["matchConditions"].to_string();
    assert!(!conditions.contains("namespaceObject"), "{conditions}");
}

#[test]
fn the_configuration_asks_about_what_it_should() {
    let documents = documents("mutating.yaml");
    let webhooks = list(&documents[0]["webhooks"]);
    assert_eq!(kit::names(&documents[0]["webhooks"]), ["pods.holdfast.dev", "workloads.holdfast.dev", "probe.holdfast.dev"]);
    for webhook in webhooks {
        assert!(webhook["clientConfig"].get("caBundle").is_none(), "to apply it again would take the bundle away");
        assert_eq!(webhook["sideEffects"], "None");
        assert!(webhook["timeoutSeconds"].as_u64().is_some_and(|seconds| seconds <= 5));
    }
    for webhook in &webhooks[..2] {
        assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
        let excluded = &webhook["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(excluded["values"], json!(["kube-system", "holdfast-system"]));
    }
    let pods = &webhooks[0];
    assert_eq!((&pods["failurePolicy"], &webhooks[1]["failurePolicy"]), (&json!("Fail"), &json!("Ignore")));
    assert_eq!(pods["rules"][0]["operations"], json!(["CREATE"]));
    assert_eq!(pods["objectSelector"]["matchExpressions"][0], json!({"key": "holdfast.dev/policy", "operator": "Exists"}));
    let asked = |webhook: &Value, object: &Value| matches(&webhook["matchConditions"], object, &plain_namespace());
    for case in cases() {
        let wanted = !["Disabled", "MirrorPod"].contains(&case.decision.as_str());
        assert_eq!(asked(pods, &case.pod()), wanted, "{}", case.name);
    }
    let labels = json!({"labels": {"holdfast.dev/policy": "web"}});
    let table = [
        (json!({"metadata": {}, "spec": {"template": {}}}), false),
        (json!({"metadata": {"labels": {"app": "x"}}, "spec": {"template": {"metadata": {"labels": {}}}}}), false),
        (json!({"metadata": labels, "spec": {}}), true),
        (json!({"metadata": {"annotations": {"holdfast.dev/policy-carried": "web"}}, "spec": {}}), true),
        (json!({"metadata": {}, "spec": {"template": {"metadata": labels}}}), true),
        (json!({"metadata": {}, "spec": {"jobTemplate": {"spec": {"template": {"metadata": labels}}}}}), true),
        (json!({"metadata": {}, "spec": {"jobTemplate": {"spec": {"template": {}}}}}), false),
    ];
    for (object, wanted) in table {
        assert_eq!(asked(&webhooks[1], &object), wanted, "{object}");
    }
}
