// SPDX-License-Identifier: Apache-2.0
//! We are not alone: other webhooks change the pod before and after us, we are asked again, and people copy pods.

use crate::kit::{apply, around, init, mutate, names, plain_pod, plain_policy, settings};
use crate::pods::cases;
use holdfast_webhook::pod::{Decision, decide};
use serde_json::{Value, json};

/// What another webhook does.
type Other = fn(&mut Value);

fn put_init(pod: &mut Value, index: usize, container: Value) {
    let spec = pod["spec"].as_object_mut().expect("a specification");
    let inits = spec.entry("initContainers").or_insert_with(|| json!([]));
    if inits.is_null() {
        *inits = json!([]);
    }
    let inits = inits.as_array_mut().expect("a list");
    inits.retain(|other| other["name"] != container["name"]);
    inits.insert(index.min(inits.len()), container);
}

/// A mesh that moves its own first whenever it is asked.
fn istio(pod: &mut Value) {
    put_init(pod, 0, json!({"name": "istio-proxy", "image": "i", "restartPolicy": "Always"}));
    put_init(pod, 0, json!({"name": "istio-init", "image": "i"}));
}

/// Somebody who wants to be first without being a mesh.
fn pushy(pod: &mut Value) {
    put_init(pod, 0, json!({"name": "vault-agent-init", "image": "v"}));
}

/// Somebody who wants to be last.
fn modest(pod: &mut Value) {
    put_init(pod, usize::MAX, json!({"name": "last", "image": "l", "restartPolicy": "Always"}));
}

/// What the API server and its own plugins do between two webhooks.
fn defaults(pod: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["terminationMessagePath"] = json!("/dev/termination-log");
            container["terminationMessagePolicy"] = json!("File");
            let mounts = container.as_object_mut().expect("an object").entry("volumeMounts").or_insert_with(|| json!([]));
            let mounts = mounts.as_array_mut().expect("a list");
            let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
            if !mounts.iter().any(|mount| mount["mountPath"] == directory) {
                mounts.push(json!({"name": "kube-api-access-x", "mountPath": directory, "readOnly": true}));
            }
            for env in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
                if env.pointer("/valueFrom/fieldRef").is_some() {
                    env["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
                }
            }
        }
    }
    for volume in pod["spec"].get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for kind in ["projected", "configMap"] {
            if volume.get(kind).is_some() {
                volume[kind]["defaultMode"] = json!(420);
            }
        }
    }
}

/// Gives credentials to every container, as clouds do.
fn cloud(pod: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let env = container.as_object_mut().expect("an object").entry("env").or_insert_with(|| json!([]));
            let env = env.as_array_mut().expect("a list");
            if !env.iter().any(|env| env["name"] == "CLOUD_ROLE") {
                env.insert(0, json!({"name": "CLOUD_ROLE", "value": "r"}));
            }
        }
    }
}

fn ours(pod: &mut Value) {
    *pod = mutate(pod, &around(&plain_policy())).expect("let in");
}

fn position(pod: &Value, name: &str) -> Option<usize> {
    names(&pod["spec"]["initContainers"]).iter().position(|other| *other == name)
}

#[test]
fn in_whatever_order_we_end_up_where_we_must() {
    let others: [(&str, Other); 5] =
        [("istio", istio), ("pushy", pushy), ("modest", modest), ("defaults", defaults), ("cloud", cloud)];
    for (one_name, one) in others {
        for (other_name, other) in others {
            for first_ours in [true, false] {
                let steps: [Other; 6] =
                    if first_ours { [ours, one, other, ours, one, defaults] } else { [one, other, ours, defaults, one, ours] };
                let mut pod = plain_pod();
                steps.iter().for_each(|step| step(&mut pod));
                let name = format!("{one_name} {other_name} {first_ours}");
                let (agent, gate) =
                    (position(&pod, "holdfast-agent").expect("there"), position(&pod, "holdfast-gate").expect("there"));
                assert_eq!(gate, agent + 1, "{name}");
                if let Some(proxy) = position(&pod, "istio-proxy") {
                    assert!(proxy < agent, "{name}: it would lose its network before its last flush");
                }
                if let Some(last) = position(&pod, "last") {
                    assert!(gate < last, "{name}");
                }
                assert_eq!(names(&pod["spec"]["initContainers"]).iter().filter(|name| name.starts_with("holdfast")).count(), 2);
                // whoever came last: asked once more, we have nothing to add or the order is ours
                ours(&mut pod);
                let before = pod.clone();
                ours(&mut pod);
                assert_eq!(pod, before, "{name}");
            }
        }
    }
}

#[test]
fn to_move_is_all_that_is_done_about_an_order() {
    let mut pod = plain_pod();
    ours(&mut pod);
    defaults(&mut pod);
    cloud(&mut pod);
    put_init(&mut pod, usize::MAX, json!({"name": "istio-init", "image": "i"}));
    put_init(&mut pod, usize::MAX, json!({"name": "istio-proxy", "image": "i", "restartPolicy": "Always"}));
    let Decision::Patch(ops, _) = decide(&pod, &around(&plain_policy()), &settings()) else { panic!("let in") };
    assert!(ops.iter().all(|op| matches!(op, json_patch::PatchOperation::Move(_))), "{ops:?}");
    let changed = apply(&pod, &ops);
    assert_eq!(names(&changed["spec"]["initContainers"]), ["istio-init", "istio-proxy", "holdfast-agent", "holdfast-gate"]);
    // what others gave our containers is still theirs
    assert_eq!(init(&changed, "holdfast-agent")["env"][0]["name"], "CLOUD_ROLE");
}

#[test]
fn what_was_changed_about_ours_is_made_anew() {
    let spoil: [(&str, Other); 9] = [
        ("no sidecar", |agent| drop(agent.as_object_mut().expect("an object").remove("restartPolicy"))),
        ("image", |agent| agent["image"] = json!("evil:1")),
        ("command", |agent| agent["command"] = json!(["sh"])),
        ("rights", |agent| agent["securityContext"]["capabilities"]["add"] = json!(["SYS_ADMIN"])),
        ("privileged", |agent| agent["securityContext"]["privileged"] = json!(true)),
        ("endpoint", |agent| agent["env"][4]["value"] = json!("https://evil.example")),
        ("endpoint twice", |agent| {
            let env = agent["env"].as_array_mut().expect("a list");
            env.push(json!({"name": "HOLDFAST_COORDINATOR", "value": "https://evil.example"}));
        }),
        ("probe", |agent| agent["livenessProbe"] = json!({"exec": {"command": ["false"]}})),
        ("mount", |agent| drop(agent["volumeMounts"].as_array_mut().expect("a list").remove(0))),
    ];
    let mut whole = plain_pod();
    ours(&mut whole);
    for (name, spoil) in spoil {
        let mut pod = whole.clone();
        spoil(&mut pod["spec"]["initContainers"][0]);
        assert_ne!(pod, whole, "{name}");
        ours(&mut pod);
        assert_eq!(pod, whole, "{name}");
    }
    let mut twice = whole.clone();
    let agent = twice["spec"]["initContainers"][0].clone();
    twice["spec"]["initContainers"].as_array_mut().expect("a list").push(agent);
    ours(&mut twice);
    assert_eq!(names(&twice["spec"]["initContainers"]), ["holdfast-agent", "holdfast-gate"]);
}

#[test]
fn a_copy_under_another_policy_is_as_if_it_was_never_injected() {
    for case in cases().iter().filter(|case| case.decision == "Patched" && case.name != "somebody-elses-lineage") {
        let under = case.cluster.around(&case.policy());
        let fresh = mutate(&case.pod(), &under).expect("let in");
        let mut other = case.policy();
        json_patch::merge(&mut other, &json!({"cadence": {"scan": "90s"}, "budgets": {"memory": "96Mi"}}));
        if let Some(path) = other["paths"][0].as_object_mut() {
            path.remove("provision");
        }
        let other = case.cluster.around(&other);
        assert_ne!(under, other);
        match (mutate(&fresh, &other), mutate(&case.pod(), &other)) {
            (Some(copied), Some(direct)) => assert_eq!(shape(&copied), shape(&direct), "{}", case.name),
            (copied, direct) => assert_eq!(copied.is_some(), direct.is_some(), "{}", case.name),
        }
    }
}

/// A pod without what we may leave behind: empty lists, and a shared process namespace, which may be its author's by now.
fn shape(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        if container["volumeMounts"] == json!([]) {
            container.as_object_mut().expect("an object").remove("volumeMounts");
        }
    }
    let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
    volumes.sort_by_key(|volume| volume["name"].to_string());
    pod
}
