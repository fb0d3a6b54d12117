// SPDX-License-Identifier: Apache-2.0
//! What a recorded object loses before another one is made of it: what the cluster, its controllers and its tools have added, what binds it to a node,
//! a volume or an owner. Plain functions.

use holdfast_api::labels;
use serde_json::{Map, Value};

/// What an object's metadata keeps; everything else is of the one that was recorded.
const KEPT: [&str; 3] = ["name", "labels", "annotations"];

/// Labels that controllers give, and of tools that would take the copy for their own.
const LABELS: [&str; 8] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    labels::LINEAGE,
];

/// Labels by which tools find what is theirs: on the objects that they manage, not on pods.
const TRACKING: [&str; 3] = ["app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "argocd.argoproj.io/instance"];

/// Annotations that controllers and tools leave.
const ANNOTATIONS: [&str; 11] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/",
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "argocd.argoproj.io/",
    "meta.helm.sh/",
    "helm.sh/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "autoscaling.alpha.kubernetes.io/",
];

/// Of a claim: the volume that it was bound to, and where its data came from. The new one begins empty.
const OF_A_VOLUME: [&str; 3] = ["volumeName", "dataSource", "dataSourceRef"];

/// An object without what is of the recorded one alone.
pub(super) fn object(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(Value::Object(meta)) = fields.get_mut("metadata") {
            metadata(meta);
            drop_keys(meta, "labels", &TRACKING);
        }
    }
    match object["kind"].as_str() {
        Some("PersistentVolumeClaim") => claim(object.get_mut("spec")),
        Some("Deployment" | "StatefulSet") => workload(&mut object),
        _ => {}
    }
    object
}

fn metadata(meta: &mut Map<String, Value>) {
    meta.retain(|field, _| KEPT.contains(&field.as_str()));
    drop_keys(meta, "labels", &LABELS);
    drop_keys(meta, "annotations", &ANNOTATIONS);
}

/// Removes keys, and those that begin with a prefix which ends with a slash.
fn drop_keys(meta: &mut Map<String, Value>, field: &str, dropped: &[&str]) {
    let is_dropped = |key: &str| dropped.iter().any(|drop| key == *drop || (drop.ends_with('/') && key.starts_with(drop)));
    if let Some(Value::Object(pairs)) = meta.get_mut(field) {
        pairs.retain(|key, _| !is_dropped(key));
        if pairs.is_empty() {
            meta.remove(field);
        }
    }
}

fn claim(spec: Option<&mut Value>) {
    if let Some(Value::Object(spec)) = spec {
        spec.retain(|field, _| !OF_A_VOLUME.contains(&field.as_str()));
    }
}

fn workload(object: &mut Value) {
    if let Some(Value::Object(meta)) = object.pointer_mut("/spec/template/metadata") {
        metadata(meta);
        meta.remove("name");
    }
    if let Some(Value::Object(spec)) = object.pointer_mut("/spec/template/spec") {
        // where it ran; the older name of the service account says the same again
        spec.remove("nodeName");
        spec.remove("serviceAccount");
    }
    if let Some(Value::Array(claims)) = object.pointer_mut("/spec/volumeClaimTemplates") {
        for template in claims {
            if let Some(fields) = template.as_object_mut() {
                fields.remove("status");
                if let Some(Value::Object(meta)) = fields.get_mut("metadata") {
                    metadata(meta);
                }
            }
            claim(template.get_mut("spec"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_the_recorded_one_stays() {
        let recorded = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3, "selfLink": "/x", "finalizers": ["x/y"],
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}], "ownerReferences": [{ "kind": "Operator" }],
                "labels": { "app": "web", "app.kubernetes.io/instance": "shop", "holdfast.dev/policy": "web" },
                "annotations": { "argocd.argoproj.io/tracking-id": "shop", "team": "books" } },
            "spec": { "serviceName": "web",
                "template": { "metadata": { "creationTimestamp": null, "labels": { "app": "web", "pod-template-hash": "abc", "app.kubernetes.io/instance": "shop" },
                        "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" } },
                    "spec": { "nodeName": "node1", "serviceAccount": "web", "serviceAccountName": "web", "containers": [] } },
                "volumeClaimTemplates": [{ "metadata": { "name": "data", "uid": "v", "annotations": { "volume.kubernetes.io/selected-node": "node1" } },
                    "spec": { "volumeName": "pv-1", "dataSource": { "kind": "VolumeSnapshot" }, "resources": { "requests": { "storage": "1Gi" } } },
                    "status": { "phase": "Bound" } }] },
            "status": { "replicas": 3 },
        });
        let expected = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "name": "web", "labels": { "app": "web", "holdfast.dev/policy": "web" }, "annotations": { "team": "books" } },
            "spec": { "serviceName": "web",
                "template": { "metadata": { "labels": { "app": "web", "app.kubernetes.io/instance": "shop" } },
                    "spec": { "serviceAccountName": "web", "containers": [] } },
                "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": { "resources": { "requests": { "storage": "1Gi" } } } }] },
        });
        assert_eq!(object(recorded), expected);
    }

    #[test]
    fn a_claim_is_bound_to_nothing() {
        let notes = json!({ "pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes",
            "volume.kubernetes.io/storage-provisioner": "x", "volume.beta.kubernetes.io/storage-provisioner": "x" });
        let spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeName": "pv-1", "dataSourceRef": { "kind": "X" } });
        let recorded = json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "finalizers": ["kubernetes.io/pvc-protection"], "annotations": notes },
            "spec": spec, "status": {} });
        let expected = json!({ "kind": "PersistentVolumeClaim", "metadata": { "name": "data" },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "fast" } });
        assert_eq!(object(recorded), expected);
    }
}
