// SPDX-License-Identifier: Apache-2.0
//! What the manifests in `deploy/` grant, for tests that compare it with what is asked for.

use serde_json::Value;

/// One verb on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// `Role` or `ClusterRole`, and its name.
    pub(super) kind: String,
    pub(super) role: String,
    pub(super) group: String,
    /// With its part, as in `pods/status`.
    pub(super) resource: String,
    pub(super) verb: String,
    /// The only object that it is for; empty: all.
    pub(super) name: String,
}

/// All that a manifest below `deploy/` grants.
pub(super) fn grants(path: &str) -> Vec<Grant> {
    let text = std::fs::read_to_string(format!("{}/../deploy/{path}", env!("CARGO_MANIFEST_DIR"))).expect("the manifest");
    let objects = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).expect("YAML"));
    objects.flat_map(|object| grants_of(&object)).collect()
}

fn grants_of(object: &Value) -> Vec<Grant> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().map(text).collect() };
    let mut found = Vec::new();
    for rule in object["rules"].as_array().into_iter().flatten() {
        let mut names = texts(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    found.extend(names.iter().map(|name| Grant {
                        kind: text(&object["kind"]),
                        role: text(&object["metadata"]["name"]),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    found
}
