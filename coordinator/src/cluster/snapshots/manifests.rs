// SPDX-License-Identifier: Apache-2.0
//! What a snapshot's replicas ran as: their workloads, the ConfigMaps and claims that these name, the policies, and the images' digests. Of Secrets
//! and service accounts the names only.

use super::select::{Replica, Selection};
use crate::catalog;
use crate::cluster::replicas::{Sight, Workload, workload};
use holdfast_api::{StatePolicy, labels};
use holdfast_store::snapshot::{Image, Manifest, Setting};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All manifests of a snapshot together, in bytes; of what comes after, the names only.
const BYTES_MAX: usize = 3 << 20;
/// Objects that are read for one snapshot.
const OBJECTS_MAX: usize = 2000;

/// What the cluster adds to an object's metadata: it would be wrong of another one.
const ADDED: [&str; 9] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Annotations that the cluster's own controllers and tools leave.
const ADDED_NOTES: [&str; 4] =
    ["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision", "pv.kubernetes.io/", "volume."];

/// An object that something names: kind and name.
type Named = (&'static str, String);

/// An object that something of a namespace names.
type NamedIn = (String, &'static str, String);

/// Reads what the replicas of a selection run as.
///
/// # Errors
/// If the API server fails. What is named and not there is left out.
pub(super) async fn gather(client: &Client, selection: &Selection, sight: &Sight) -> Result<Setting, kube::Error> {
    let (pods, workloads) = concerned(selection, sight);
    let mut manifests = Vec::new();
    let within = |namespace: &str, spec: &PodSpec| -> Vec<NamedIn> {
        named_by(spec).into_iter().map(|(kind, name)| (namespace.to_owned(), kind, name)).collect()
    };
    let of_pod = |pod: &&Arc<Pod>| Some(within(&pod.namespace().unwrap_or_default(), pod.spec.as_ref()?));
    let mut named: BTreeSet<NamedIn> = pods.iter().filter_map(of_pod).flatten().collect();
    for (namespace, kind, name) in &workloads {
        let Some(kind) = resource(kind) else { continue };
        if let Some(found) = read(client, &kind, namespace, name).await? {
            let template = found.pointer("/spec/template/spec").or_else(|| found.pointer("/spec/jobTemplate/spec/template/spec"));
            let template = template.and_then(|template| serde_json::from_value::<PodSpec>(template.clone()).ok());
            named.extend(template.iter().flat_map(|template| within(namespace, template)));
            manifests.push(manifest(&kind, namespace, name, Some(found)));
        }
    }
    for (namespace, kind, name) in named.iter().take(OBJECTS_MAX) {
        let Some(resource) = resource(kind) else { continue };
        let found = match *kind {
            "ConfigMap" | "PersistentVolumeClaim" => match read(client, &resource, namespace, name).await? {
                Some(found) => Some(found),
                None => continue,
            },
            _ => None,
        };
        manifests.push(manifest(&resource, namespace, name, found));
    }
    for policy in policies(&pods, sight) {
        let object = serde_json::to_value(&*policy).map_err(kube::Error::SerdeError)?;
        let kind = ApiResource::erase::<StatePolicy>(&());
        let namespace = policy.namespace().unwrap_or_default();
        manifests.push(manifest(&kind, &namespace, &policy.name_any(), Some(stripped(object))));
    }
    shorten(&mut manifests);
    Ok(Setting { manifests, images: images(&pods, selection) })
}

/// The pods and the workloads of a selection.
fn concerned<'a>(selection: &Selection, sight: &'a Sight) -> (Vec<&'a Arc<Pod>>, BTreeSet<Workload>) {
    let objects: BTreeSet<(&str, &str)> =
        selection.replicas.iter().map(|replica| (replica.namespace.as_str(), replica.object.as_str())).collect();
    let is_chosen =
        |namespace: Option<String>, object: &str| objects.contains(&(namespace.as_deref().unwrap_or_default(), object));
    let pods = sight.pods.iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.labels().get(labels::LINEAGE).is_some_and(|object| is_chosen(pod.namespace(), object))
    });
    let lineages = sight.lineages.iter().filter(|lineage| is_chosen(lineage.namespace(), &lineage.name_any()));
    (pods.collect(), lineages.map(|lineage| workload(lineage)).collect())
}

fn policies(pods: &[&Arc<Pod>], sight: &Sight) -> Vec<Arc<StatePolicy>> {
    let borne: BTreeSet<(Option<String>, &String)> =
        pods.iter().filter_map(|pod| Some((pod.namespace(), pod.labels().get(labels::POLICY)?))).collect();
    let is_borne =
        |policy: &&Arc<StatePolicy>| borne.iter().any(|(of, name)| *of == policy.namespace() && **name == policy.name_any());
    let mut found: Vec<_> = sight.policies.iter().filter(is_borne).cloned().collect();
    found.sort_by_key(|policy| (policy.namespace(), policy.name_any()));
    found
}

/// The kinds that are read, or named. What an operator makes of its own kinds is the operator's to make again.
fn resource(kind: &str) -> Option<ApiResource> {
    let (group, version, plural) = match kind {
        "Deployment" => ("apps", "v1", "deployments"),
        "StatefulSet" => ("apps", "v1", "statefulsets"),
        "DaemonSet" => ("apps", "v1", "daemonsets"),
        "Job" => ("batch", "v1", "jobs"),
        "CronJob" => ("batch", "v1", "cronjobs"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "PersistentVolumeClaim" => ("", "v1", "persistentvolumeclaims"),
        "Secret" => ("", "v1", "secrets"),
        "ServiceAccount" => ("", "v1", "serviceaccounts"),
        _ => return None,
    };
    Some(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural))
}

async fn read(client: &Client, kind: &ApiResource, namespace: &str, name: &str) -> Result<Option<Value>, kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    let found = api.get_opt(name).await?;
    found.map(|found| serde_json::to_value(found).map(stripped).map_err(kube::Error::SerdeError)).transpose()
}

fn manifest(kind: &ApiResource, namespace: &str, name: &str, body: Option<Value>) -> Manifest {
    Manifest {
        api_version: kind.api_version.clone(),
        kind: kind.kind.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        json: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
    }
}

/// An object without what the cluster has added to it.
fn stripped(mut object: Value) -> Value {
    let bound = object.pointer("/metadata/annotations/pv.kubernetes.io~1bound-by-controller").is_some();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(Value::Object(meta)) = fields.get_mut("metadata") {
            strip_metadata(meta);
        }
    }
    // a claim that was bound by the cluster named no volume
    if let Some(Value::Object(spec)) = object.get_mut("spec").filter(|_| bound) {
        spec.remove("volumeName");
    }
    object
}

fn strip_metadata(meta: &mut Map<String, Value>) {
    meta.retain(|field, _| !ADDED.contains(&field.as_str()));
    if let Some(Value::Object(notes)) = meta.get_mut("annotations") {
        notes.retain(|note, _| !ADDED_NOTES.iter().any(|added| note.starts_with(added)));
        if notes.is_empty() {
            meta.remove("annotations");
        }
    }
}

/// What a pod names.
fn named_by(spec: &PodSpec) -> Vec<Named> {
    let mut named = Vec::new();
    for volume in spec.volumes.iter().flatten() {
        named.extend(volume.config_map.iter().map(|of| ("ConfigMap", of.name.clone())));
        named.extend(volume.secret.iter().filter_map(|of| Some(("Secret", of.secret_name.clone()?))));
        named.extend(volume.persistent_volume_claim.iter().map(|of| ("PersistentVolumeClaim", of.claim_name.clone())));
        for source in volume.projected.iter().flat_map(|of| of.sources.iter().flatten()) {
            named.extend(source.config_map.iter().map(|of| ("ConfigMap", of.name.clone())));
            named.extend(source.secret.iter().map(|of| ("Secret", of.name.clone())));
        }
    }
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        for from in container.env_from.iter().flatten() {
            named.extend(from.config_map_ref.iter().map(|of| ("ConfigMap", of.name.clone())));
            named.extend(from.secret_ref.iter().map(|of| ("Secret", of.name.clone())));
        }
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            named.extend(from.config_map_key_ref.iter().map(|of| ("ConfigMap", of.name.clone())));
            named.extend(from.secret_key_ref.iter().map(|of| ("Secret", of.name.clone())));
        }
    }
    named.extend(spec.image_pull_secrets.iter().flatten().map(|of| ("Secret", of.name.clone())));
    named.extend(spec.service_account_name.iter().map(|name| ("ServiceAccount", name.clone())));
    // what is Holdfast's own, or made in every namespace, is there wherever it is restored
    let own = |(kind, name): &Named| {
        name.is_empty()
            || (*kind == "ConfigMap" && matches!(name.as_str(), "holdfast-ca" | "kube-root-ca.crt"))
            || (*kind == "ServiceAccount" && name == "default")
    };
    named.retain(|one| !own(one));
    named
}

/// What the containers of each replica ran, as the node resolved it.
fn images(pods: &[&Arc<Pod>], selection: &Selection) -> Vec<Image> {
    // where a name may be that of another domain's member, too, the domain stands before it
    let name = |replica: &Replica| match selection.spans_domains() {
        true => catalog::text(&selection.names(replica)),
        false => replica.lineage.clone(),
    };
    let lineages: BTreeMap<(&str, &str), String> =
        selection.replicas.iter().map(|replica| ((replica.namespace.as_str(), replica.object.as_str()), name(replica))).collect();
    let mut images = Vec::new();
    for pod in pods {
        let namespace = pod.namespace().unwrap_or_default();
        let object = pod.labels().get(labels::LINEAGE);
        let Some(lineage) = object.and_then(|object| lineages.get(&(namespace.as_str(), object.as_str()))) else { continue };
        let status = pod.status.as_ref();
        let all = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
        let known = all.filter(|container| !container.image_id.is_empty());
        images.extend(known.map(|container| Image {
            lineage: lineage.clone(),
            container: container.name.clone(),
            image: container.image.clone(),
            digest: container.image_id.clone(),
        }));
    }
    images.sort();
    images
}

/// Keeps the whole within what one object of the repository can hold: the largest lose what is in them first.
fn shorten(manifests: &mut [Manifest]) {
    let mut all: usize = manifests.iter().map(|manifest| manifest.json.len()).sum();
    while all > BYTES_MAX {
        let Some(largest) = manifests.iter_mut().max_by_key(|manifest| manifest.json.len()) else { return };
        tracing::warn!(
            kind = largest.kind,
            name = largest.name,
            "a manifest is too large for the snapshot: its name alone is recorded"
        );
        all -= largest.json.len();
        largest.json = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_a_pod_names_is_found() {
        let spec = json!({
            "containers": [{ "name": "a", "env": [
                { "name": "A", "value": "plain" },
                { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "c1", "key": "k" } } },
                { "name": "C", "valueFrom": { "secretKeyRef": { "name": "s1", "key": "k" } } }] }],
            "initContainers": [{ "name": "i", "envFrom": [{ "secretRef": { "name": "s2" } }, { "configMapRef": { "name": "c2" } }] }],
            "imagePullSecrets": [{ "name": "s3" }],
            "serviceAccountName": "default",
            "volumes": [
                { "name": "v1", "configMap": { "name": "c3" } }, { "name": "v2", "secret": { "secretName": "s4" } },
                { "name": "v3", "persistentVolumeClaim": { "claimName": "p1" } }, { "name": "v4", "emptyDir": {} },
                { "name": "v5", "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }, { "secret": { "name": "s5" } },
                    { "configMap": { "name": "c4" } }] } }],
        });
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        let mut named = named_by(&spec);
        named.sort();
        let words: Vec<String> = named.iter().map(|(kind, name)| format!("{}{name}", &kind[..1])).collect();
        assert_eq!(words, ["Cc1", "Cc2", "Cc3", "Cc4", "Pp1", "Ss1", "Ss2", "Ss3", "Ss4", "Ss5"]);
    }

    #[test]
    fn the_largest_go_first_where_it_is_too_much() {
        let of = |name: &str, bytes: usize| Manifest {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            json: vec![b'x'; bytes],
        };
        let mut all = [of("small", 10), of("huge", BYTES_MAX), of("large", BYTES_MAX / 2)];
        shorten(&mut all);
        assert_eq!(all.map(|manifest| manifest.json.len()), [10, 0, BYTES_MAX / 2]);
    }
}
