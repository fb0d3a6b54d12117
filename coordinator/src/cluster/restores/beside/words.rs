// SPDX-License-Identifier: Apache-2.0
//! What a workload's manifest says by name: objects that its pods use, images, labels that select them. Plain functions.

use crate::cluster::name::{LABEL_MAX, hashed};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// New values of labels: key, old value, new value.
pub(super) type Relabelled = BTreeMap<String, (String, String)>;

/// Shows everything that a pod names: kind, name, whether the pod starts without it.
pub(super) fn names(pod: &mut Value, see: &mut dyn FnMut(&'static str, &mut String, bool)) {
    for volume in items(pod, "volumes") {
        source(volume.get_mut("configMap"), "ConfigMap", "name", see);
        source(volume.get_mut("secret"), "Secret", "secretName", see);
        source(volume.get_mut("persistentVolumeClaim"), "PersistentVolumeClaim", "claimName", see);
        for part in volume.get_mut("projected").into_iter().flat_map(|projected| items(projected, "sources")) {
            source(part.get_mut("configMap"), "ConfigMap", "name", see);
            source(part.get_mut("secret"), "Secret", "name", see);
        }
    }
    for list in ["containers", "initContainers"] {
        for container in items(pod, list) {
            for from in items(container, "envFrom") {
                source(from.get_mut("configMapRef"), "ConfigMap", "name", see);
                source(from.get_mut("secretRef"), "Secret", "name", see);
            }
            for from in items(container, "env").filter_map(|variable| variable.get_mut("valueFrom")) {
                source(from.get_mut("configMapKeyRef"), "ConfigMap", "name", see);
                source(from.get_mut("secretKeyRef"), "Secret", "name", see);
            }
        }
    }
    for secret in items(pod, "imagePullSecrets") {
        source(Some(secret), "Secret", "name", see);
    }
    source(Some(pod), "ServiceAccount", "serviceAccountName", see);
}

/// The items of a list, without making one where there is none.
fn items<'a>(of: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    of.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn source(of: Option<&mut Value>, kind: &'static str, field: &str, see: &mut dyn FnMut(&'static str, &mut String, bool)) {
    let Some(of) = of else { return };
    let optional = of.get("optional").and_then(Value::as_bool).unwrap_or(false);
    if let Some(Value::String(name)) = of.get_mut(field) {
        // what is Holdfast's own, or made in every namespace, is there wherever it is restored
        let own = match kind {
            "ConfigMap" => matches!(name.as_str(), "holdfast-ca" | "kube-root-ca.crt"),
            "ServiceAccount" => name == "default",
            _ => false,
        };
        if !own && !name.is_empty() {
            see(kind, name, optional);
        }
    }
}

/// An image by its digest; `None` if the node has resolved it to none that a registry knows.
pub(super) fn pinned(image: &str, resolved: &str) -> Option<String> {
    let (_, digest) = resolved.rsplit_once('@')?;
    let hex = digest.strip_prefix("sha256:")?;
    let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| format!("{}@{digest}", without_tag(image)))
}

fn without_tag(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// A name or a label's value with the prefix before it; long ones keep their head and a hash.
pub(super) fn prefixed(prefix: &str, value: &str) -> String {
    let whole = format!("{prefix}{value}");
    let whole = whole.trim_end_matches(['-', '_', '.']);
    if whole.len() <= LABEL_MAX {
        return whole.to_owned();
    }
    hashed(whole, whole)
}

/// The texts of a map.
pub(super) fn texts(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Which labels of pods get another value, so that nothing which selects the original's pods selects the copy's: those that the workload itself selects
/// by, and those of each Service that selects its pods.
pub(super) fn relabelled(prefix: &str, workload: &Value, services: &[BTreeMap<String, String>]) -> Relabelled {
    let labels = texts(&workload["spec"]["template"]["metadata"]["labels"]);
    let selector = &workload["spec"]["selector"];
    let mut keys: BTreeSet<String> = texts(&selector["matchLabels"]).into_keys().collect();
    let terms = selector["matchExpressions"].as_array().into_iter().flatten();
    keys.extend(terms.filter_map(|term| Some(term["key"].as_str()?.to_owned())));
    for service in services.iter().filter(|service| selects(service, &labels)) {
        keys.extend(service.keys().cloned());
    }
    // which policy it is under must stay
    keys.retain(|key| key != holdfast_api::labels::POLICY);
    let new = |key: String| labels.get(&key).map(|old| (key.clone(), (old.clone(), prefixed(prefix, old))));
    keys.into_iter().filter_map(new).collect()
}

/// Whether a Service's selector selects pods with these labels; an empty one selects nothing.
pub(super) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Gives pods their new labels, and makes everything in the workload that selects the old ones select the new ones.
pub(super) fn relabel(workload: &mut Value, new: &Relabelled) {
    if let Some(Value::Object(labels)) = workload.pointer_mut("/spec/template/metadata/labels") {
        for (key, (_, value)) in new {
            labels.insert(key.clone(), Value::String(value.clone()));
        }
    }
    let selected = |key: &String| new.get(key).map(|(_, value)| Value::String(value.clone()));
    let labels = texts(&workload["spec"]["template"]["metadata"]["labels"]);
    let keys: Vec<&String> = labels.keys().filter(|key| new.contains_key(*key)).collect();
    let equal: Map<String, Value> = keys.into_iter().filter_map(|key| Some((key.clone(), selected(key)?))).collect();
    workload["spec"]["selector"] = serde_json::json!({ "matchLabels": equal });
    for place in ["/spec/template/spec/affinity", "/spec/template/spec/topologySpreadConstraints"] {
        if let Some(part) = workload.pointer_mut(place) {
            reselect(part, new);
        }
    }
}

/// Replaces old values of labels in all selectors below.
fn reselect(part: &mut Value, new: &Relabelled) {
    match part {
        Value::Array(list) => list.iter_mut().for_each(|one| reselect(one, new)),
        Value::Object(fields) => {
            for (field, value) in fields.iter_mut() {
                match (field.as_str(), value) {
                    ("matchLabels", Value::Object(pairs)) => {
                        for (key, value) in pairs {
                            replace(new.get(key), value);
                        }
                    }
                    ("matchExpressions", Value::Array(terms)) => {
                        for term in terms {
                            let change = term["key"].as_str().and_then(|key| new.get(key)).cloned();
                            for value in items(term, "values") {
                                replace(change.as_ref(), value);
                            }
                        }
                    }
                    (_, value) => reselect(value, new),
                }
            }
        }
        _ => {}
    }
}

fn replace(change: Option<&(String, String)>, value: &mut Value) {
    if let Some((_, new)) = change.filter(|(old, _)| value == old.as_str()) {
        *value = Value::String(new.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_a_pod_names_is_seen_and_nothing_is_added() {
        let mut pod = json!({
            "containers": [{ "name": "a", "env": [{ "name": "A", "value": "plain" }, { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "c1", "key": "k" } } },
                { "name": "C", "valueFrom": { "secretKeyRef": { "name": "s1", "key": "k", "optional": true } } }] }],
            "initContainers": [{ "name": "i", "envFrom": [{ "secretRef": { "name": "s2" } }, { "configMapRef": { "name": "c2" } }] }],
            "imagePullSecrets": [{ "name": "s3" }], "serviceAccountName": "web",
            "volumes": [{ "name": "v1", "configMap": { "name": "c3" } }, { "name": "v2", "secret": { "secretName": "s4" } },
                { "name": "v3", "persistentVolumeClaim": { "claimName": "p1" } }, { "name": "v4", "emptyDir": {} },
                { "name": "v5", "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }, { "secret": { "name": "s5" } }] } }],
        });
        let before = pod.clone();
        let mut seen = Vec::new();
        names(&mut pod, &mut |kind, name, optional| {
            seen.push(format!("{}{name}{}", &kind[..2], if optional { "?" } else { "" }));
        });
        seen.sort();
        assert_eq!(seen, ["Coc1", "Coc2", "Coc3", "Pep1", "Ses1?", "Ses2", "Ses3", "Ses4", "Ses5", "Seweb"]);
        assert_eq!(pod, before, "looking changes nothing");
        names(&mut pod, &mut |kind, name, _| {
            if kind == "ConfigMap" {
                *name = format!("copy-{name}");
            }
        });
        assert_eq!(
            (&pod["volumes"][0]["configMap"]["name"], &pod["volumes"][1]["secret"]["secretName"]),
            (&json!("copy-c3"), &json!("s4"))
        );
    }

    #[test]
    fn images_are_pinned_to_what_the_node_resolved() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let table = [
            ("nginx:1.27", format!("docker.io/library/nginx@{digest}"), Some(format!("nginx@{digest}"))),
            ("localhost:5000/web", format!("localhost:5000/web@{digest}"), Some(format!("localhost:5000/web@{digest}"))),
            ("localhost:5000/web:2", format!("docker-pullable://x@{digest}"), Some(format!("localhost:5000/web@{digest}"))),
            ("web:1@sha256:00", format!("web@{digest}"), Some(format!("web@{digest}"))),
            ("web:1", digest, None),
            ("web:1", "web@sha256:short".to_owned(), None),
            ("web:1", String::new(), None),
        ];
        for (image, resolved, expected) in table {
            assert_eq!(pinned(image, &resolved), expected, "{image} as {resolved}");
        }
    }

    #[test]
    fn nothing_that_selects_the_original_selects_the_copy() {
        let mut workload = json!({ "spec": {
            "selector": { "matchLabels": { "app": "web" }, "matchExpressions": [{ "key": "track", "operator": "In", "values": ["a", "b"] }] },
            "template": {
                "metadata": { "labels": { "app": "web", "track": "a", "tier": "front", "team": "books", "holdfast.dev/policy": "web" } },
                "spec": { "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                        { "topologyKey": "node", "labelSelector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["web", "db"] }] } }] } },
                    "topologySpreadConstraints": [{ "labelSelector": { "matchLabels": { "app": "web", "team": "books" } } }] } } } });
        let before = texts(&workload["spec"]["template"]["metadata"]["labels"]);
        let service =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let services: Vec<BTreeMap<String, String>> =
            vec![service(&[("app", "web")]), service(&[("tier", "front")]), service(&[("team", "other")]), service(&[])];
        let new = relabelled("copy-", &workload, &services);
        assert_eq!(new.keys().collect::<Vec<_>>(), ["app", "tier", "track"], "of the Service of another team, nothing");
        relabel(&mut workload, &new);
        let after = texts(&workload["spec"]["template"]["metadata"]["labels"]);
        for service in &services[..2] {
            assert!(selects(service, &before) && !selects(service, &after), "{service:?}");
        }
        assert_eq!((after["team"].as_str(), after["holdfast.dev/policy"].as_str()), ("books", "web"));
        let selector = texts(&workload["spec"]["selector"]["matchLabels"]);
        assert!(
            selects(&selector, &after)
                && !selects(&selector, &before)
                && workload["spec"]["selector"]["matchExpressions"].is_null()
        );
        let pod = &workload["spec"]["template"]["spec"];
        let apart = &pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"];
        assert_eq!(apart["matchExpressions"][0]["values"], json!(["copy-web", "db"]));
        assert_eq!(
            pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
            json!({ "app": "copy-web", "team": "books" })
        );
    }

    #[test]
    fn long_values_stay_apart_and_fit() {
        let (one, two) = (prefixed("copy-", &format!("{}a", "x".repeat(62))), prefixed("copy-", &format!("{}b", "x".repeat(62))));
        assert!(one != two && one.len() <= 63 && one.starts_with("copy-x"), "{one}");
        assert_eq!(prefixed("copy-", ""), "copy", "a value ends with a letter");
    }
}
