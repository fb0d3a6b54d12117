// SPDX-License-Identifier: Apache-2.0
//! Cases as data: a plain pod (or workload) under a plain policy (`cases/plain.yaml`), and what each case changes about them.

use holdfast_api::StatePolicySpec;
use holdfast_webhook::around::{Around, Known, Namespace, OldNode, Settings};
use holdfast_webhook::pod::{Decision, decide};
use holdfast_webhook::reason::Kind as _;
use json_patch::PatchOperation;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Reads a file of cases.
pub(crate) fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(directory().join(name)).expect("a file of cases");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// An object with a case's changes to it.
pub(crate) fn laid_over(mut base: Value, change: &Value) -> Value {
    if !change.is_null() {
        json_patch::merge(&mut base, change);
    }
    base
}

/// What a decision is called in the tables.
pub(crate) fn code(decision: &Decision) -> &'static str {
    match decision {
        Decision::Patch(..) => "Patched",
        Decision::Skip(skip) => skip.code(),
        Decision::Deny(refusal) => refusal.kind.code(),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        agent_image: "registry.example/holdfast/agent:1".to_owned(),
        coordinator: "https://holdfast-coordinator.holdfast-system.svc:7420".to_owned(),
        own_namespace: "holdfast-system".to_owned(),
    }
}

/// What cases change something about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    pod: Value,
    policy: Value,
}

fn plain() -> &'static Plain {
    static PLAIN: LazyLock<Plain> = LazyLock::new(|| read("plain.yaml"));
    &PLAIN
}

/// A pod that declares its user and mounts one claim at /data.
pub(crate) fn plain_pod() -> Value {
    plain().pod.clone()
}

pub(crate) fn plain_policy() -> Value {
    plain().policy.clone()
}

/// What a policy of this text means.
pub(crate) fn known(spec: &Value) -> Known {
    let spec: StatePolicySpec = serde_json::from_value(spec.clone()).expect("a spec");
    let resolved = spec.resolve();
    match resolved.policy {
        Some(policy) => Known::Usable(Box::new(policy)),
        None => Known::Unusable(resolved.findings[0].to_string()),
    }
}

pub(crate) fn around(policy: &Value) -> Around {
    let namespace = Namespace { name: "shop".to_owned(), ..Namespace::default() };
    Around { namespace, policy: known(policy), store_port: Some(443), old_node: None }
}

/// What a case says about the cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cluster {
    namespace: Option<String>,
    namespace_disabled: bool,
    restricted: bool,
    assigns_users: bool,
    no_policy: bool,
    no_repository: bool,
    store_port: Option<u16>,
    old_node: bool,
}

impl Cluster {
    pub(crate) fn around(&self, policy: &Value) -> Around {
        let mut around = around(policy);
        around.namespace.name = self.namespace.clone().unwrap_or(around.namespace.name);
        around.namespace.disabled = self.namespace_disabled;
        around.namespace.restricted = self.restricted;
        around.namespace.assigns_users = self.assigns_users;
        around.policy = if self.no_policy { Known::Missing } else { around.policy };
        around.store_port = if self.no_repository { None } else { self.store_port.or(Some(443)) };
        around.old_node = self.old_node.then(|| OldNode { name: "node-7".to_owned(), version: "v1.28.2".to_owned() });
        around
    }
}

/// Applies a patch as the API server does.
pub(crate) fn apply(object: &Value, ops: &[PatchOperation]) -> Value {
    let mut changed = object.clone();
    json_patch::patch(&mut changed, ops).unwrap_or_else(|error| panic!("the patch doesn't apply: {error}\n{ops:#?}"));
    changed
}

/// The pod that comes of it, if it isn't refused.
pub(crate) fn mutate(pod: &Value, around: &Around) -> Option<Value> {
    match decide(pod, around, &settings()) {
        Decision::Patch(ops, _) => Some(apply(pod, &ops)),
        Decision::Skip(_) => Some(pod.clone()),
        Decision::Deny(_) => None,
    }
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    let elements = list.as_array().map_or(&[][..], Vec::as_slice);
    elements.iter().map(|element| element["name"].as_str().unwrap_or_default()).collect()
}

/// One of our containers.
pub(crate) fn init<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let inits = pod["spec"]["initContainers"].as_array().expect("init containers");
    inits.iter().find(|init| init["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// What the agent is told.
pub(crate) fn config(pod: &Value) -> holdfast_core::pod::PodConfig {
    let env = init(pod, "holdfast-agent")["env"].as_array().expect("variables");
    let config = env.iter().find(|env| env["name"] == holdfast_core::pod::CONFIG_VARIABLE).expect("a configuration");
    let text = config["value"].as_str().expect("text").replace("$$(", "$(");
    serde_json::from_str(&text).expect("what agents read")
}
