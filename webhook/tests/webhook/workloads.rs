// SPDX-License-Identifier: Apache-2.0
//! The table of workloads.

use crate::kit::{self, Cluster, apply, plain_pod, settings};
use holdfast_webhook::pod::Decision;
use holdfast_webhook::reason::Kind as _;
use holdfast_webhook::workload::{Change, decide};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `Deployment` if it isn't said.
    #[serde(default)]
    kind: Option<String>,
    /// What the change makes of a plain workload.
    #[serde(default)]
    object: Value,
    /// What it was before; none: it is being created.
    #[serde(default)]
    old: Option<Value>,
    #[serde(default)]
    policy: Value,
    #[serde(default)]
    cluster: Cluster,
    decision: String,
    #[serde(default)]
    says: Option<String>,
    #[serde(default)]
    warns: Vec<String>,
    /// What the result differs in from the object as it came.
    #[serde(default)]
    has: BTreeMap<String, Value>,
    #[serde(default)]
    lacks: Vec<String>,
    /// Nothing is changed.
    #[serde(default)]
    unchanged: bool,
}

fn plain(kind: &str) -> Value {
    let pod = plain_pod();
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod["spec"]});
    let spec = match kind {
        "CronJob" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
        "StatefulSet" => {
            let mut template = template;
            template["spec"]["volumes"] = Value::Null;
            json!({"replicas": 2, "template": template, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]})
        }
        _ => json!({"template": template}),
    };
    json!({"kind": kind, "metadata": {"name": "web"}, "spec": spec})
}

#[test]
fn each_workload_becomes_what_the_table_says() {
    let cases: Vec<Case> = kit::read("workloads.yaml");
    for case in cases {
        let kind = case.kind.as_deref().unwrap_or("Deployment");
        let object = kit::laid_over(plain(kind), &case.object);
        let old = case.old.as_ref().map(|old| kit::laid_over(plain(kind), old));
        let change = Change { kind, object: &object, old: old.as_ref() };
        let mut policy = kit::plain_policy();
        if !case.policy.is_null() {
            json_patch::merge(&mut policy, &case.policy);
        }
        let around = case.cluster.around(&policy);
        let decision = decide(&change, &around, &settings());
        assert_eq!(kit::code(&decision), case.decision, "{}: {decision:?}", case.name);
        match &decision {
            Decision::Skip(_) => {}
            Decision::Deny(refusal) => {
                assert!(refusal.text.contains(case.says.as_deref().unwrap_or_default()), "{}: {refusal}", case.name);
                assert!(!refusal.text.contains('<'), "{}: {refusal}", case.name);
            }
            Decision::Patch(ops, warnings) => {
                let kinds: Vec<_> = warnings.iter().map(|warning| warning.kind.code()).collect();
                assert_eq!(kinds, case.warns, "{}: {warnings:?}", case.name);
                assert_eq!(ops.is_empty(), case.unchanged, "{}: {ops:?}", case.name);
                let changed = apply(&object, ops);
                for (pointer, wanted) in &case.has {
                    assert_eq!(changed.pointer(pointer), Some(wanted), "{}: {pointer}", case.name);
                }
                for pointer in &case.lacks {
                    assert_eq!(changed.pointer(pointer), None, "{}: {pointer}", case.name);
                }
                check_again(&case, kind, &object, &changed, &around);
            }
        }
    }
}

/// Asked again, in the same request or at the next, there is nothing left to do.
fn check_again(case: &Case, kind: &str, object: &Value, changed: &Value, around: &holdfast_webhook::around::Around) {
    let name = &case.name;
    for old in [None, Some(object), Some(changed)].into_iter().filter(|old| old.is_some() || case.old.is_none()) {
        let again = decide(&Change { kind, object: changed, old }, around, &settings());
        let nothing = match &again {
            Decision::Patch(ops, _) => ops.is_empty(),
            Decision::Skip(_) => true,
            // what is refused when it is new was let through because it was not
            Decision::Deny(_) => old != Some(changed),
        };
        assert!(nothing, "{name}: {again:?}");
    }
}

#[test]
fn a_label_that_comes_and_goes_leaves_nothing_behind() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "CronJob"] {
        let mut before = plain(kind);
        if kind == "Deployment" {
            before["spec"]["strategy"] =
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
        }
        let around = kit::around(&kit::plain_policy());
        let mut labelled = before.clone();
        labelled["metadata"]["labels"] = json!({"holdfast.dev/policy": "web"});
        let Decision::Patch(ops, _) = decide(&Change { kind, object: &labelled, old: Some(&before) }, &around, &settings())
        else {
            panic!("{kind} is refused")
        };
        let protected = apply(&labelled, &ops);
        assert!(!ops.is_empty(), "{kind}");
        let mut unlabelled = protected.clone();
        unlabelled["metadata"]["labels"] = json!({});
        let change = Change { kind, object: &unlabelled, old: Some(&protected) };
        let Decision::Patch(ops, _) = decide(&change, &around, &settings()) else { panic!("{kind} is refused") };
        let mut after = apply(&unlabelled, &ops);
        assert_eq!(after["metadata"]["annotations"], json!({}), "{kind}");
        after["metadata"] = before["metadata"].clone();
        assert_eq!(after, before, "{kind}");
    }
}
