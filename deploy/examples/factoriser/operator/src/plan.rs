// SPDX-License-Identifier: Apache-2.0
//! What must be there for an RSACracker: pure.
//!
//! Which block belongs to which worker follows from how many there are. So another count is not a rollout, in which old and new ones would search side
//! by side: all workers stop, then master and workers start with the new count, each where it was.

use crate::resource::RSACracker;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

/// The port that workers listen on.
const WORKER: u16 = 7100;
/// The port of the master's `/progress`.
const MASTER: u16 = 7000;
/// The annotation of the workers' StatefulSet that says for how many its pods are made.
pub const COUNT: &str = "factoriser.example/worker-count";

/// The workers as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// For how many their pods are made.
    pub made_for: i32,
    /// How many pods there still are.
    pub pods: i32,
}

/// Objects to apply, in their order.
#[must_use]
pub fn objects(cracker: &RSACracker, image: &str, now: Option<Workers>) -> Vec<Value> {
    let count = cracker.spec.worker_count;
    let mut found =
        vec![service(cracker, &workers_name(cracker), WORKER, true), service(cracker, &master_name(cracker), MASTER, false)];
    match now {
        // others than wanted are at work: they write down what they have done, and go
        Some(workers) if workers.made_for != count && workers.pods > 0 => {
            found.push(workers_object(cracker, image, workers.made_for, 0));
        }
        _ => {
            found.push(master_object(cracker, image));
            found.push(workers_object(cracker, image, count, count));
        }
    }
    found
}

/// The name of the workers' StatefulSet and Service.
#[must_use]
pub fn workers_name(cracker: &RSACracker) -> String {
    cracker.name_any()
}

/// The name of the master's Deployment and Service.
#[must_use]
pub fn master_name(cracker: &RSACracker) -> String {
    format!("{}-master", cracker.name_any())
}

fn metadata(cracker: &RSACracker, name: &str) -> Value {
    json!({
        "name": name, "namespace": cracker.namespace(), "labels": { "app": name },
        "ownerReferences": cracker.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
    })
}

fn service(cracker: &RSACracker, name: &str, port: u16, headless: bool) -> Value {
    let mut spec = json!({ "selector": { "app": name }, "ports": [{ "name": "http", "port": port, "targetPort": port }] });
    if headless {
        spec["clusterIP"] = json!("None");
        // the master must find them before they are ready: they become so by its word
        spec["publishNotReadyAddresses"] = json!(true);
    }
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata(cracker, name), "spec": spec })
}

fn container(name: &str, image: &str, port: u16, variables: &[(&str, String)]) -> Value {
    let environment: Vec<_> = variables.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    json!({
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "args": [name], "env": environment,
        "ports": [{ "name": "http", "containerPort": port }],
        "volumeMounts": [{ "name": "state", "mountPath": "/state" }],
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": port }, "periodSeconds": 1 },
        "resources": { "requests": { "cpu": "50m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
        "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
    })
}

fn pod(cracker: &RSACracker, name: &str, container: &Value) -> Value {
    let mut labels = json!(cracker.spec.pod_labels);
    labels["app"] = json!(name);
    json!({
        "metadata": { "labels": labels },
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 20, "containers": [container],
            // it goes with the pod, and what is in it with it: unless somebody keeps it
            "volumes": [{ "name": "state", "ephemeral": { "volumeClaimTemplate": { "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "64Mi" } },
            } } } }],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" },
            },
        },
    })
}

fn workers_object(cracker: &RSACracker, image: &str, made_for: i32, replicas: i32) -> Value {
    let name = workers_name(cracker);
    let variables = [
        ("FACTORISER_NUMBER", cracker.spec.number_to_factor.to_string()),
        ("FACTORISER_WORKERS", made_for.to_string()),
        ("FACTORISER_STATE", "/state".to_owned()),
        ("FACTORISER_LISTEN", format!("0.0.0.0:{WORKER}")),
        ("FACTORISER_RATE", cracker.spec.rate.to_string()),
    ];
    let mut metadata = metadata(cracker, &name);
    metadata["annotations"] = json!({ COUNT: made_for.to_string() });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata,
        "spec": {
            "replicas": replicas, "serviceName": name, "podManagementPolicy": "Parallel", "selector": { "matchLabels": { "app": name } },
            "template": pod(cracker, &name, &container("worker", image, WORKER, &variables)),
        },
    })
}

fn master_object(cracker: &RSACracker, image: &str) -> Value {
    let (name, workers) = (master_name(cracker), workers_name(cracker));
    let variables = [
        ("FACTORISER_NUMBER", cracker.spec.number_to_factor.to_string()),
        ("FACTORISER_WORKERS", cracker.spec.worker_count.to_string()),
        ("FACTORISER_WORKER_URLS", format!("http://{workers}-{{index}}.{workers}:{WORKER}")),
        ("FACTORISER_STATE", "/state".to_owned()),
        ("FACTORISER_LISTEN", format!("0.0.0.0:{MASTER}")),
    ];
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(cracker, &name),
        "spec": {
            "replicas": 1, "strategy": { "type": "Recreate" }, "selector": { "matchLabels": { "app": name } },
            "template": pod(cracker, &name, &container("master", image, MASTER, &variables)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::RSACrackerSpec;

    fn cracker(count: i32) -> RSACracker {
        let labels = [("holdfast.dev/policy".to_owned(), "factoriser".to_owned())].into();
        let spec = RSACrackerSpec { worker_count: count, number_to_factor: 804_556_097, rate: 0, pod_labels: labels };
        let mut cracker = RSACracker::new("rsa", spec);
        cracker.meta_mut().namespace = Some("demo".to_owned());
        cracker.meta_mut().uid = Some("1".to_owned());
        cracker
    }

    fn kinds(objects: &[Value]) -> Vec<&str> {
        objects.iter().filter_map(|object| object["kind"].as_str()).collect()
    }

    #[test]
    fn everything_belongs_to_the_cracker_and_workers_have_its_labels() {
        let objects = objects(&cracker(3), "image", None);
        assert_eq!(kinds(&objects), ["Service", "Service", "Deployment", "StatefulSet"]);
        for object in &objects {
            assert_eq!(object["metadata"]["ownerReferences"][0]["name"], "rsa", "{object}");
        }
        let workers = &objects[3];
        assert_eq!(workers["spec"]["replicas"], 3);
        assert_eq!(workers["spec"]["template"]["metadata"]["labels"]["holdfast.dev/policy"], "factoriser");
        assert_eq!(workers["spec"]["selector"]["matchLabels"], json!({ "app": "rsa" }), "a selector can't change, and labels do");
    }

    #[test]
    fn another_count_stops_all_before_any_starts() {
        let working = objects(&cracker(5), "image", Some(Workers { made_for: 3, pods: 2 }));
        assert_eq!(
            kinds(&working),
            ["Service", "Service", "StatefulSet"],
            "the master stays until the last worker has told it everything"
        );
        assert_eq!((&working[2]["spec"]["replicas"], &working[2]["metadata"]["annotations"][COUNT]), (&json!(0), &json!("3")));
        let stopped = objects(&cracker(5), "image", Some(Workers { made_for: 3, pods: 0 }));
        assert_eq!((&stopped[3]["spec"]["replicas"], &stopped[3]["metadata"]["annotations"][COUNT]), (&json!(5), &json!("5")));
        let steady = objects(&cracker(5), "image", Some(Workers { made_for: 5, pods: 2 }));
        assert_eq!(steady[3]["spec"]["replicas"], 5, "pods that are missing are only started");
    }
}
