// SPDX-License-Identifier: Apache-2.0
//! What holds for every pod, however strange: random combinations of what pods are made of.

use crate::kit::{apply, around, settings};
use holdfast_webhook::pod::{Decision, decide};
use json_patch::PatchOperation;
use proptest::prelude::*;
use serde_json::{Value, json};

fn one_of(values: Vec<Value>) -> impl Strategy<Value = Value> {
    proptest::sample::select(values)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        12 => proptest::sample::select(vec!["web", "log", "istio-init", ""]),
        1 => proptest::sample::select(vec!["istio-proxy", "linkerd-proxy", "envoy", "proxyinit", "holdfast-agent", "holdfast-gate"]),
    ]
}

fn mount() -> impl Strategy<Value = Value> {
    let volumes = prop_oneof![
        8 => Just("data"),
        1 => proptest::sample::select(vec!["other", "holdfast-state-data", "holdfast-ca", "missing"]),
    ];
    let places = prop_oneof![
        6 => Just("/data"),
        2 => proptest::sample::select(vec!["/data/", "/", "/data/in", "/x", "/scratch", ""]),
    ];
    let more = one_of(vec![
        json!({}),
        json!({}),
        json!({}),
        json!({}),
        json!({"subPath": "s"}),
        json!({"subPathExpr": "$(A)"}),
        json!({"readOnly": true}),
        json!({"new": [1]}),
    ]);
    (volumes, places, more).prop_map(|(volume, place, more)| {
        let mut mount = json!({"name": volume, "mountPath": place});
        json_patch::merge(&mut mount, &more);
        mount
    })
}

fn container() -> impl Strategy<Value = Value> {
    let more = one_of(vec![
        json!({}),
        json!({"restartPolicy": "Always"}),
        json!({"securityContext": {"runAsUser": 5}}),
        json!({"securityContext": null, "env": [{"name": "A", "value": "x"}]}),
        json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}),
        json!({"fromTheFuture": {"deep": [{"x": null}]}, "volumeDevices": [{"name": "b", "devicePath": "/dev/x"}]}),
    ]);
    (name(), proptest::collection::vec(mount(), 0..3), more).prop_map(|(name, mounts, more)| {
        let mut container = json!({"name": name, "image": "i", "volumeMounts": mounts});
        json_patch::merge(&mut container, &more);
        container
    })
}

fn containers() -> impl Strategy<Value = Value> {
    prop_oneof![
        16 => proptest::collection::vec(container(), 0..4).prop_map(Value::Array),
        2 => one_of(vec![Value::Null, json!([])]),
        1 => one_of(vec![json!({}), json!("text"), json!([1, "a", null])]),
    ]
}

fn volumes() -> impl Strategy<Value = Value> {
    let source = one_of(vec![
        json!({"persistentVolumeClaim": {"claimName": "c"}}),
        json!({"persistentVolumeClaim": {"claimName": "d"}}),
        json!({"emptyDir": {}}),
        json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
        json!({"hostPath": {"path": "/"}}),
        json!({"fromTheFuture": {}}),
        json!({"configMap": null}),
    ]);
    let names = prop_oneof![
        6 => proptest::sample::select(vec!["data", "other"]),
        1 => proptest::sample::select(vec!["holdfast-token", "holdfast-state-old"]),
    ];
    let volume = (names, source).prop_map(|(name, mut volume)| {
        volume["name"] = json!(name);
        volume
    });
    prop_oneof![
        20 => proptest::collection::vec(volume, 0..4).prop_map(Value::Array),
        2 => Just(Value::Null),
        1 => Just(json!(7)),
    ]
}

fn metadata() -> impl Strategy<Value = Value> {
    let annotations = one_of(vec![
        Value::Null,
        json!({}),
        json!({"a/b~c": "x"}),
        json!({"holdfast.dev/injected": "{\"revision\":1}"}),
        json!({"holdfast.dev/injected": "garbage"}),
        json!({"traffic.sidecar.istio.io/excludeOutboundPorts": "7420,443"}),
        json!({"holdfast.dev/injected": "{\"revision\":1}", "kubectl.kubernetes.io/default-container": "web"}),
    ]);
    let labels =
        one_of(vec![json!({"holdfast.dev/policy": "web"}), json!({"holdfast.dev/policy": "web", "holdfast.dev/lineage": "l"})]);
    (annotations, labels).prop_map(|(annotations, labels)| json!({"generateName": "w-", "annotations": annotations, "labels": labels, "managedFields": [{"x": 1}]}))
}

fn pod() -> impl Strategy<Value = Value> {
    let more = one_of(vec![
        json!({}),
        json!({"securityContext": {"runAsUser": 1000}}),
        json!({"securityContext": {"runAsUser": 5}}),
        json!({"securityContext": {"runAsUser": 1000, "fsGroup": 1}, "terminationGracePeriodSeconds": -5, "newField": {"a": [1]}}),
        json!({"hostNetwork": true}),
        json!({"securityContext": "odd", "shareProcessNamespace": true}),
    ]);
    (metadata(), containers(), containers(), volumes(), more).prop_map(|(metadata, inits, containers, volumes, more)| {
        let mut spec = json!({"initContainers": inits, "containers": containers, "volumes": volumes});
        json_patch::merge(&mut spec, &more);
        json!({"metadata": metadata, "spec": spec})
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let provision = json!({"paths": [{"label": "data", "path": "/data", "provision": {"ephemeralVolume": {"size": "1Gi"}}}]});
    let plain = json!({"paths": [{"label": "data", "path": "/data"}]});
    let mut owner = plain.clone();
    owner["preserveOwner"] = json!(true);
    let mut run_as = provision.clone();
    run_as["runAs"] = json!({"user": 7});
    run_as["consistency"] = json!({"mode": "Freeze"});
    one_of(vec![provision, plain, owner, run_as])
}

fn is_ours(element: &Value) -> bool {
    element["name"].as_str().is_some_and(|name| name.starts_with("holdfast-"))
}

/// What others put into a list.
fn of_others(list: &Value) -> Vec<Value> {
    list.as_array().into_iter().flatten().filter(|element| !is_ours(element)).cloned().collect()
}

/// A pod without anything of ours, as bytes.
fn without_ours(pod: &Value) -> String {
    let mut pod = pod.clone();
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        let mounts = of_others(&container["volumeMounts"]);
        container["volumeMounts"] = json!(mounts);
    }
    for list in ["initContainers", "volumes"] {
        let others = of_others(&pod["spec"][list]);
        pod["spec"][list] = json!(others);
    }
    pod["spec"]["shareProcessNamespace"] = Value::Null;
    for (map, keys) in
        [("annotations", vec!["holdfast.dev/injected", "holdfast.dev/policy-digest"]), ("labels", vec!["holdfast.dev/lineage"])]
    {
        let empty = pod["metadata"][map].is_null();
        pod["metadata"][map] = if empty { json!({}) } else { pod["metadata"][map].clone() };
        keys.iter().for_each(|key| drop(pod["metadata"][map].as_object_mut().expect("an object").remove(*key)));
    }
    pod.to_string()
}

/// Whether an operation is one that we may do.
fn is_allowed(op: &PatchOperation, pod: &Value) -> bool {
    let path = op.path().as_str();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match op {
        PatchOperation::Add(add) => match parts.as_slice() {
            ["metadata", "annotations"] | ["spec", "initContainers" | "volumes"] => {
                add.value == json!({}) || add.value == json!([])
            }
            ["metadata", "annotations", key] => key.starts_with("holdfast.dev~1"),
            ["spec", "shareProcessNamespace"] => add.value == json!(true) && pod["spec"]["shareProcessNamespace"].is_null(),
            ["spec", "initContainers" | "volumes", _] | ["spec", "containers", _, "volumeMounts", _] => is_ours(&add.value),
            ["spec", "containers", _, "volumeMounts"] => add.value == json!([]),
            _ => false,
        },
        PatchOperation::Remove(_) | PatchOperation::Move(_) => {
            path == "/metadata/labels/holdfast.dev~1lineage"
                || matches!(
                    parts.as_slice(),
                    ["spec", "initContainers" | "volumes", _] | ["spec", "containers", _, "volumeMounts", _]
                )
        }
        PatchOperation::Replace(_) | PatchOperation::Copy(_) | PatchOperation::Test(_) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn a_pod_is_refused_or_gets_what_is_ours_and_keeps_what_is_its_own(pod in pod(), policy in policy()) {
        let around = around(&policy);
        let Decision::Patch(ops, _) = decide(&pod, &around, &settings()) else { return Ok(()) };
        for op in &ops {
            prop_assert!(is_allowed(op, &pod), "{op:?}");
        }
        let changed = apply(&pod, &ops);
        prop_assert_eq!(without_ours(&changed), without_ours(&pod));
        let names = crate::kit::names(&changed["spec"]["initContainers"]);
        let agent = names.iter().position(|name| *name == "holdfast-agent");
        prop_assert!(agent.is_some_and(|agent| names.get(agent + 1) == Some(&"holdfast-gate")), "{:?}", names);
        prop_assert_eq!(names.iter().filter(|name| name.starts_with("holdfast-")).count(), 2);
        // asked again, there is nothing left to say
        let again = decide(&changed, &around, &settings());
        prop_assert!(matches!(&again, Decision::Patch(ops, _) if ops.is_empty()), "{:?}", again);
    }

    #[test]
    fn garbage_is_answered(text in "\\PC*", value in containers()) {
        let around = around(&json!({"paths": [{"label": "data", "path": "/data"}]}));
        let labels = json!({"labels": {"holdfast.dev/policy": "web"}});
        for pod in [json!(text), value.clone(), json!({"metadata": labels, "spec": value}), json!({"metadata": labels})] {
            if let Decision::Patch(ops, _) = decide(&pod, &around, &settings()) {
                apply(&pod, &ops);
            }
        }
        let _ = holdfast_webhook::review::read(text.as_bytes());
    }
}

/// How many random pods are let in: if hardly any was, the property above would say little.
#[test]
fn enough_random_pods_are_let_in() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut let_in = 0;
    for _ in 0..400 {
        let (pod, policy) = (pod(), policy()).new_tree(&mut runner).expect("a tree").current();
        let_in += usize::from(matches!(decide(&pod, &around(&policy), &settings()), Decision::Patch(..)));
    }
    println!("{let_in} of 400 are let in");
    assert!(let_in > 40, "{let_in} of 400");
}
