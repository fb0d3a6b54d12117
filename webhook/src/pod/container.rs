// SPDX-License-Identifier: Apache-2.0
//! The two containers that are added, and the volumes and annotations they come with.

use super::mounts::Mounts;
use super::parts::{CA_VOLUME, Parts, TOKEN_VOLUME};
use super::processes;
use super::resources::Share;
use super::user::Who;
use crate::around::Settings;
use holdfast_api::labels::{AGENT_CONTAINER, GATE_CONTAINER, INJECTED, POLICY_DIGEST, TOKEN_AUDIENCE};
use holdfast_core::pod::{CONFIG_VARIABLE, PodConfig};
use holdfast_core::policy::Policy;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Of what is added: it grows with every change of it.
const REVISION: u32 = 1;

/// Where containers find the API server's token, unless something else is mounted there.
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where ours find the coordinator's authorities.
const CA_DIRECTORY: &str = "/var/run/holdfast/ca";

/// How long an agent's token is good for, in seconds: the kubelet replaces it long before.
const TOKEN_SECONDS: u32 = 3600;

/// What ours are made of.
pub(crate) struct Order<'a, 'p> {
    pub(crate) parts: &'a Parts<'p>,
    pub(crate) policy: &'a Policy,
    pub(crate) mounts: &'a Mounts<'p>,
    pub(crate) user: &'a Who,
    pub(crate) share: &'a Share,
    pub(crate) settings: &'a Settings,
}

/// What is added to a pod.
pub(crate) struct Made {
    pub(crate) agent: Value,
    pub(crate) gate: Value,
    /// All volumes that are ours.
    pub(crate) volumes: Vec<Value>,
    /// Annotations.
    pub(crate) marks: [(&'static str, String); 2],
}

pub(crate) fn make(order: &Order<'_, '_>) -> Made {
    let mut volumes = vec![token_volume(), ca_volume()];
    volumes.extend(order.mounts.provisioned.iter().map(|provisioned| provisioned.volume.clone()));
    let names: Vec<&Value> = volumes.iter().map(|volume| &volume["name"]).collect();
    let mark = json!({"revision": REVISION, "containers": [AGENT_CONTAINER, GATE_CONTAINER], "volumes": names});
    let marks = [(INJECTED, mark.to_string()), (POLICY_DIGEST, config_digest(order.policy))];
    Made { agent: agent(order), gate: gate(order), volumes, marks }
}

/// What agents are told of a policy, in 16 letters: to find pods that were told something else.
#[must_use]
pub fn config_digest(policy: &Policy) -> String {
    let digest = Sha256::digest(written(&PodConfig::of(policy)));
    hex::encode(&digest[..8])
}

fn written(config: &PodConfig) -> String {
    // numbers, texts and lists of them are always JSON
    serde_json::to_string(config).unwrap_or_default()
}

fn token_volume() -> Value {
    let token = json!({"audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"});
    json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}})
}

fn ca_volume() -> Value {
    // the coordinator writes it when the namespace gets its first policy, which may be a moment ago
    json!({"name": CA_VOLUME, "configMap": {"name": CA_VOLUME, "optional": true}})
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn agent(order: &Order<'_, '_>) -> Value {
    let mut config = PodConfig::of(order.policy);
    for path in &mut config.paths {
        path.read_only = order.mounts.read_only.contains(&path.label);
    }
    let plain = |name: &str, value: String| json!({"name": name, "value": value});
    let mut env = vec![
        field("HOLDFAST_POD_UID", "metadata.uid"),
        field("HOLDFAST_POD_NAME", "metadata.name"),
        field("HOLDFAST_NODE_NAME", "spec.nodeName"),
        // dollars are doubled, since kubelets replace $(NAME)
        plain(CONFIG_VARIABLE, written(&config).replace("$(", "$$(")),
        plain("HOLDFAST_COORDINATOR", order.settings.coordinator.clone()),
        plain("HOLDFAST_CA_FILE", format!("{CA_DIRECTORY}/ca.crt")),
        plain("HOLDFAST_TOKEN_FILE", format!("{TOKEN_DIRECTORY}/token")),
        plain("HOLDFAST_GRACE_SECONDS", order.parts.grace_seconds().to_string()),
        plain("HOLDFAST_SCRATCH", "/scratch".to_owned()),
    ];
    env.extend(order.mounts.variables.iter().map(|variable| (*variable).clone()));
    let mut mounts: Vec<Value> = order.mounts.mirrored.values().cloned().collect();
    mounts.push(json!({"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true}));
    mounts.push(json!({"name": CA_VOLUME, "mountPath": CA_DIRECTORY, "readOnly": true}));
    json!({
        "name": AGENT_CONTAINER,
        "image": order.settings.agent_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "restartPolicy": "Always",
        "env": env,
        "volumeMounts": mounts,
        "resources": order.share.agent,
        "securityContext": order.user.agent(processes::signals(order.policy)),
        // tells the agent that the end has begun, long before its own SIGTERM
        "lifecycle": {"preStop": {"exec": {"command": ["/holdfast-agent", "stopping"]}}},
    })
}

fn gate(order: &Order<'_, '_>) -> Value {
    json!({
        "name": GATE_CONTAINER,
        "image": order.settings.agent_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["gate"],
        "env": [field("HOLDFAST_POD_UID", "metadata.uid")],
        // it needs no token; without a mount at this place it would be given the API server's
        "volumeMounts": [{"name": CA_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true}],
        "resources": order.share.gate,
        "securityContext": order.user.gate(),
    })
}
