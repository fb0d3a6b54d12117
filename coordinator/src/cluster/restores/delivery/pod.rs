// SPDX-License-Identifier: Apache-2.0
//! The pod that writes into a claim: the agent's image, no rights of its own, and what Pod Security calls restricted.

use super::{claim_of, own};
use crate::cluster::managed;
use holdfast_api::{StateRestore, labels};
use holdfast_core::delivery::{DIRECTORY, Delivery, VARIABLE};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

/// The user of files whose application runs as root, or as nobody knows whom.
const NOBODY: i64 = 65532;
/// Where containers find the API server's token, unless something else is mounted there.
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const CA_DIRECTORY: &str = "/var/run/holdfast/ca";
/// The ConfigMap with the coordinator's authorities.
const CA: &str = "holdfast-ca";
/// How long its token is good for, in seconds: the kubelet replaces it long before.
const TOKEN_SECONDS: u32 = 3600;
/// A node that is lost keeps it for so long, in seconds.
const NODE_LOST_SECONDS: u32 = 30;

/// As whom the files are written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Who {
    /// The user; `None`: the cluster assigns one.
    user: Option<i64>,
    group: Option<i64>,
    fs_group: Option<i64>,
    /// Whether the files' recorded owners are such that this user may give them.
    pub(super) owners: bool,
    /// The application's further groups.
    groups: Value,
    /// Its label of SELinux.
    se_linux: Value,
    /// What its agent may use.
    resources: Option<Value>,
    /// What images are pulled with.
    pull_secrets: Value,
}

impl Who {
    /// As a pod of the application runs, but never as root.
    pub(super) fn of(spec: Option<&Value>) -> Self {
        let nothing = Value::Null;
        let spec = spec.unwrap_or(&nothing);
        let named = |list: &str| spec[list].as_array().into_iter().flatten().find(|it| it["name"] == labels::AGENT_CONTAINER);
        let agent = named("initContainers");
        let (own, pod) = (agent.unwrap_or(&spec["containers"][0]), &spec["securityContext"]);
        let number = |field: &str| own["securityContext"][field].as_i64().or_else(|| pod[field].as_i64());
        let (user, group, fs_group) = (number("runAsUser"), number("runAsGroup"), pod["fsGroup"].as_i64());
        let resources = agent.map(|agent| agent["resources"].clone()).filter(Value::is_object);
        let se_linux = Some(&own["securityContext"]["seLinuxOptions"]).filter(|label| label.is_object());
        let base = Self {
            user,
            group,
            fs_group,
            owners: true,
            groups: pod["supplementalGroups"].clone(),
            se_linux: se_linux.unwrap_or(&pod["seLinuxOptions"]).clone(),
            resources,
            pull_secrets: spec["imagePullSecrets"].clone(),
        };
        match user {
            // an agent that was given none runs as whom the cluster assigns
            None if agent.is_some() => base,
            None | Some(0) => {
                let group = group.filter(|group| *group != 0).unwrap_or(NOBODY);
                let fs_group = fs_group.filter(|group| *group != 0).unwrap_or(NOBODY);
                Self { user: Some(NOBODY), group: Some(group), fs_group: Some(fs_group), owners: false, ..base }
            }
            // without a group of its own a new volume is root's
            Some(user) => Self { fs_group: fs_group.or(group).or(Some(user)), ..base },
        }
    }

    fn pod_context(&self) -> Value {
        let mut context = json!({
            "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" }, "fsGroupChangePolicy": "OnRootMismatch",
            "runAsUser": self.user, "runAsGroup": self.group, "fsGroup": self.fs_group,
            "supplementalGroups": self.groups, "seLinuxOptions": self.se_linux,
        });
        // what is not said is left out
        if let Some(fields) = context.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        context
    }
}

/// What it is made of.
pub(super) struct Order<'a> {
    pub(super) object: &'a StateRestore,
    pub(super) attempt: i32,
    pub(super) image: String,
    pub(super) coordinator: String,
    pub(super) who: Who,
    pub(super) delivery: Delivery,
}

/// The pod.
pub(super) fn body(order: &Order<'_>) -> Result<Pod, serde_json::Error> {
    let Order { object, who, .. } = order;
    let (uid, (key, value)) = (object.uid().unwrap_or_default(), managed());
    let name = format!("holdfast-restore-{}-{}", uid.get(..8).unwrap_or(&uid), order.attempt);
    // dollars are doubled, since kubelets replace $(NAME)
    let told = serde_json::to_string(&order.delivery)?.replace("$(", "$$(");
    let usual = || json!({ "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "cpu": "500m", "memory": "256Mi" } });
    let token = json!({ "audience": labels::TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token" });
    let tolerated = |key: &str| json!({ "key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_LOST_SECONDS });
    let container = json!({
        "name": labels::AGENT_CONTAINER,
        "image": order.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["deliver"],
        "env": [
            { "name": VARIABLE, "value": told },
            { "name": "HOLDFAST_COORDINATOR", "value": order.coordinator },
            { "name": "HOLDFAST_CA_FILE", "value": format!("{CA_DIRECTORY}/ca.crt") },
            { "name": "HOLDFAST_TOKEN_FILE", "value": format!("{TOKEN_DIRECTORY}/token") },
        ],
        "volumeMounts": [
            { "name": "volume", "mountPath": DIRECTORY },
            { "name": "token", "mountPath": TOKEN_DIRECTORY, "readOnly": true },
            { "name": CA, "mountPath": CA_DIRECTORY, "readOnly": true },
        ],
        "resources": who.resources.clone().unwrap_or_else(usual),
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": own(object), "labels": { key: value, labels::RESTORE: uid },
            "ownerReferences": [{ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRestore", "name": object.name_any(), "uid": uid, "controller": true }],
        },
        "spec": {
            // what can pass by itself ends the container with a failure, and it goes on from what is on the volume
            "restartPolicy": "OnFailure",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 5,
            "tolerations": [tolerated("not-ready"), tolerated("unreachable")],
            "securityContext": who.pod_context(),
            "containers": [container],
            "volumes": [
                { "name": "volume", "persistentVolumeClaim": { "claimName": claim_of(object) } },
                { "name": "token", "projected": { "sources": [{ "serviceAccountToken": token }] } },
                { "name": CA, "configMap": { "name": CA, "optional": true } },
            ],
        },
    });
    if who.pull_secrets.is_array() {
        pod["spec"]["imagePullSecrets"] = who.pull_secrets.clone();
    }
    serde_json::from_value(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(spec: &Value) -> (Option<i64>, Option<i64>, Option<i64>, bool) {
        let Who { user, group, fs_group, owners, .. } = Who::of(Some(spec));
        (user, group, fs_group, owners)
    }

    #[test]
    fn it_runs_as_the_application_and_never_as_root() {
        let agent = |context: Value| json!([{ "name": "holdfast-agent", "securityContext": context }]);
        let injected = json!({ "initContainers": agent(json!({ "runAsUser": 1000, "runAsGroup": 3000 })), "containers": [{}] });
        assert_eq!(who(&injected), (Some(1000), Some(3000), Some(3000), true));
        let template = json!({ "containers": [{}], "securityContext": { "runAsUser": 1000, "fsGroup": 2000 } });
        assert_eq!(who(&template), (Some(1000), None, Some(2000), true));
        let root = json!({ "initContainers": agent(json!({ "runAsUser": 0 })), "containers": [{}], "securityContext": { "fsGroup": 0 } });
        assert_eq!(who(&root), (Some(NOBODY), Some(NOBODY), Some(NOBODY), false), "owners can't be given");
        assert_eq!(who(&json!({ "containers": [{}] })), (Some(NOBODY), Some(NOBODY), Some(NOBODY), false));
        let assigned = json!({ "initContainers": agent(json!({})), "containers": [{}] });
        assert_eq!(who(&assigned), (None, None, None, true), "the cluster assigns");
        assert_eq!(Who::of(None).user, Some(NOBODY));
        let context = Who::of(Some(&injected)).pod_context();
        assert!(context.get("supplementalGroups").is_none() && context["runAsNonRoot"] == true, "{context}");
    }
}
