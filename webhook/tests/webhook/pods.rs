// SPDX-License-Identifier: Apache-2.0
//! The table of pods, and what must hold for each of them.

use crate::kit::{self, Cluster, apply, config, init, names, settings};
use holdfast_webhook::pod::{Decision, decide};
use holdfast_webhook::reason::Kind as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pod: Value,
    #[serde(default)]
    policy: Value,
    #[serde(default)]
    pub(crate) cluster: Cluster,
    pub(crate) decision: String,
    #[serde(default)]
    says: Option<String>,
    #[serde(default)]
    warns: Vec<String>,
    #[serde(default)]
    inits: Option<Vec<String>>,
    #[serde(default)]
    has: BTreeMap<String, Value>,
    #[serde(default)]
    lacks: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Option<String>>,
    #[serde(default)]
    empty_dirs: usize,
    #[serde(default)]
    golden: bool,
}

impl Case {
    pub(crate) fn pod(&self) -> Value {
        kit::laid_over(kit::plain_pod(), &self.pod)
    }

    pub(crate) fn policy(&self) -> Value {
        kit::laid_over(kit::plain_policy(), &self.policy)
    }
}

pub(crate) fn cases() -> Vec<Case> {
    kit::read("pods.yaml")
}

#[test]
fn each_pod_becomes_what_the_table_says() {
    for case in cases() {
        let (pod, around) = (case.pod(), case.cluster.around(&case.policy()));
        let decision = decide(&pod, &around, &settings());
        assert_eq!(kit::code(&decision), case.decision, "{}: {decision:?}", case.name);
        match &decision {
            Decision::Skip(_) => {}
            Decision::Deny(refusal) => {
                let wanted = case.says.as_deref().unwrap_or_default();
                assert!(refusal.text.contains(wanted), "{}: {refusal}", case.name);
                assert!(!refusal.text.contains('?') && !refusal.text.contains('<'), "{}: {refusal}", case.name);
            }
            Decision::Patch(ops, warnings) => {
                let kinds: Vec<_> = warnings.iter().map(|warning| warning.kind.code()).collect();
                assert_eq!(kinds, case.warns, "{}", case.name);
                for warning in warnings {
                    let text = &warning.text;
                    assert!(text.len() <= 200 && !text.contains('<') && !text.contains('?'), "{}: {text}", case.name);
                }
                check_changed(&case, &pod, &apply(&pod, ops));
                if case.golden {
                    compare_with_committed(&case, &serde_json::to_value(ops).expect("JSON"));
                }
            }
        }
    }
}

fn check_changed(case: &Case, pod: &Value, changed: &Value) {
    let name = &case.name;
    if let Some(inits) = &case.inits {
        assert_eq!(&names(&changed["spec"]["initContainers"]), inits, "{name}");
    }
    for (pointer, wanted) in &case.has {
        assert_eq!(changed.pointer(pointer), Some(wanted), "{name}: {pointer}");
    }
    for pointer in &case.lacks {
        assert_eq!(changed.pointer(pointer), None, "{name}: {pointer}");
    }
    let (agent, gate) = (init(changed, "holdfast-agent"), init(changed, "holdfast-gate"));
    let env = agent["env"].as_array().expect("variables");
    for (variable, value) in &case.env {
        let found = env.iter().find(|env| env["name"] == variable.as_str()).unwrap_or_else(|| panic!("{name}: {variable}"));
        assert!(value.is_none() || found["value"].as_str() == value.as_deref(), "{name}: {found}");
    }
    assert_eq!(agent["restartPolicy"], "Always", "{name}");
    assert!(gate.get("restartPolicy").is_none(), "{name}");
    check_tokens(name, changed);
    let empty_dirs = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        volumes.iter().filter(|volume| volume.get("emptyDir").is_some()).count()
    };
    assert_eq!(empty_dirs(changed), empty_dirs(pod) + case.empty_dirs, "{name}: drains are refused for an emptyDir");
    assert!(changed["metadata"].get("finalizers").is_none(), "{name}");
    // what agents read is what was meant, label by label
    let labels: Vec<_> = config(changed).paths.iter().map(|path| path.label.clone()).collect();
    assert!(labels.is_sorted(), "{name}: {labels:?}");
}

/// Nobody but the agent gets its token, and ours get no other.
fn check_tokens(name: &str, changed: &Value) {
    const DEFAULT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let lists = [&changed["spec"]["initContainers"], &changed["spec"]["containers"]];
    for container in lists.into_iter().flat_map(|list| list.as_array().into_iter().flatten()) {
        let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        let is_agent = container["name"] == "holdfast-agent";
        assert_eq!(mounts.iter().any(|mount| mount["name"] == "holdfast-token"), is_agent, "{name}");
        let is_ours = is_agent || container["name"] == "holdfast-gate";
        assert!(!is_ours || mounts.iter().any(|mount| mount["mountPath"] == DEFAULT), "{name}: it would get the API's token");
    }
}

/// Patches as files, so that a change of what is added is seen: `HOLDFAST_WRITE=1 cargo test -p holdfast-webhook`.
fn compare_with_committed(case: &Case, patch: &Value) {
    let file = kit::directory().join(format!("{}.json", case.name));
    let text = format!("{}\n", serde_json::to_string_pretty(patch).expect("JSON"));
    if std::env::var_os("HOLDFAST_WRITE").is_some() {
        std::fs::write(&file, &text).expect("write");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not what is added now: run HOLDFAST_WRITE=1 cargo test -p holdfast-webhook",
        file.display()
    );
}

/// Pod Security `restricted`, of what we add; the rest of the pod is its author's business.
fn violations(container: &Value) -> Vec<&'static str> {
    let context = &container["securityContext"];
    let added = context["capabilities"]["add"].as_array().map_or(0, Vec::len);
    let checks = [
        (context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation"),
        (context["capabilities"]["drop"] == json!(["ALL"]) && added == 0, "capabilities"),
        (context["runAsNonRoot"] == true && context["runAsUser"] != 0, "runAsNonRoot"),
        (context["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile"),
        (context.get("privileged").is_none() && context.get("procMount").is_none(), "privileged"),
        (container.get("ports").is_none(), "hostPort"),
    ];
    checks.into_iter().filter(|(kept, _)| !kept).map(|(_, what)| what).collect()
}

#[test]
fn what_is_added_passes_pod_security() {
    let kinds = ["projected", "configMap", "ephemeral", "emptyDir", "persistentVolumeClaim"];
    for case in cases().iter().filter(|case| case.decision == "Patched") {
        let pod = kit::mutate(&case.pod(), &case.cluster.around(&case.policy())).expect("let in");
        let agent = violations(init(&pod, "holdfast-agent"));
        let wanted: &[&str] = match case.name.as_str() {
            // baseline, as asked for
            "redis-of-all-owners" | "frozen-by-root" => &["capabilities", "runAsNonRoot"],
            // as its author wrote it
            "root" => &["runAsNonRoot"],
            _ => &[],
        };
        assert_eq!(agent, wanted, "{}", case.name);
        let gate = violations(init(&pod, "holdfast-gate"));
        assert!(gate.is_empty() || case.name == "root", "{}: {gate:?}", case.name);
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let is_ours = volume["name"].as_str().is_some_and(|name| name.starts_with("holdfast-"));
            assert!(!is_ours || kinds.iter().any(|kind| volume.get(kind).is_some()), "{}: {volume}", case.name);
        }
    }
}

/// The quality of service that Kubernetes gives a pod without resources of its own.
pub(crate) fn quality(pod: &Value) -> &'static str {
    let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
    let all: Vec<&Value> = lists.into_iter().flat_map(|list| list.as_array().into_iter().flatten()).collect();
    let amount = |container: &&Value, side: &str, what: &str| container["resources"][side].get(what).cloned();
    let is_none = |container: &&Value| {
        ["cpu", "memory"].iter().all(|what| ["limits", "requests"].iter().all(|side| amount(container, side, what).is_none()))
    };
    let is_all = |container: &&Value| {
        ["cpu", "memory"].iter().all(|what| {
            let (limit, request) = (amount(container, "limits", what), amount(container, "requests", what));
            limit.is_some() && (request.is_none() || same(limit.as_ref(), request.as_ref()))
        })
    };
    if all.iter().all(is_none) {
        "BestEffort"
    } else if all.iter().all(is_all) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// The cases write what is equal in these ways.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    let equal = [["1", "1000m"], ["1Gi", "1024Mi"]];
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let (one, other) = (text(one), text(other));
    one == other
        || equal.iter().any(|pair| pair.iter().all(|side| Some(*side) == one.as_deref() || Some(*side) == other.as_deref()))
}

#[test]
fn the_quality_of_service_stays() {
    let mut seen = std::collections::BTreeSet::new();
    for case in cases().iter().filter(|case| case.decision == "Patched" && case.name != "resources-of-the-whole-pod") {
        let pod = case.pod();
        let changed = kit::mutate(&pod, &case.cluster.around(&case.policy())).expect("let in");
        // without any request, the limits of ours make it Burstable
        let wanted = if quality(&pod) == "BestEffort" { "Burstable" } else { quality(&pod) };
        assert_eq!(quality(&changed), wanted, "{}", case.name);
        seen.insert(quality(&pod));
    }
    assert_eq!(seen.len(), 3, "every quality is tried");
}
