// SPDX-License-Identifier: Apache-2.0
//! Which replicas a workload's name stands for, and under which policies they are. Plain functions of the StateLineages of a namespace.

use crate::exit::{NotFound, Usage};
use holdfast_api::StateLineage;
use std::collections::BTreeSet;

/// Kinds as kubectl abbreviates them.
const KINDS: [(&str, &[&str]); 5] = [
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
    ("Job", &["job", "jobs"]),
    ("Pod", &["pod", "pods", "po"]),
];

/// What somebody means by a workload's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meant {
    /// `StatefulSet/web`.
    pub(super) workload: String,
    /// The StatePolicies of its replicas.
    pub(super) policies: BTreeSet<String>,
    /// How many replicas have a state.
    pub(super) replicas: usize,
}

/// The workload of this name: `web`, `deployment/web`, `sts/web`.
pub(super) fn find(word: &str, namespace: &str, lineages: &[StateLineage]) -> anyhow::Result<Meant> {
    let (kind, name) = match word.split_once('/') {
        None => (None, word),
        Some((kind, name)) => (
            Some(kind_of(kind, lineages).ok_or_else(|| {
                Usage(format!(
                    "{kind:?} is no kind of workload whose state is kept in {namespace}: write for example deployment/{name}"
                ))
            })?),
            name,
        ),
    };
    let is =
        |of: &&StateLineage| of.spec.workload.name == name && kind.as_ref().is_none_or(|kind| of.spec.workload.kind == *kind);
    let found: Vec<&StateLineage> = lineages.iter().filter(is).collect();
    let kinds: BTreeSet<&str> = found.iter().map(|of| of.spec.workload.kind.as_str()).collect();
    match Vec::from_iter(kinds)[..] {
        [] => {
            let known: BTreeSet<String> = lineages.iter().map(in_a_word).collect();
            let known = match known.is_empty() {
                true => "nothing is protected there".to_owned(),
                false => format!("there are {}", Vec::from_iter(known).join(", ")),
            };
            Err(NotFound(format!("no workload {word:?} of namespace {namespace} has a state: {known}")).into())
        }
        [_] => Ok(Meant {
            workload: in_a_word(found[0]),
            policies: found.iter().map(|of| of.spec.policy.clone()).collect(),
            replicas: found.len(),
        }),
        ref several => {
            let names: Vec<String> = several.iter().map(|kind| format!("{}/{name}", kind.to_lowercase())).collect();
            Err(Usage(format!("there are several of that name in {namespace}: write {}", names.join(" or "))).into())
        }
    }
}

/// Other workloads under the same policies: whatever selects by policy has them, too.
pub(super) fn others(meant: &Meant, lineages: &[StateLineage]) -> Vec<String> {
    let shared = lineages.iter().filter(|of| meant.policies.contains(&of.spec.policy)).map(in_a_word);
    let others: BTreeSet<String> = shared.filter(|other| *other != meant.workload).collect();
    others.into_iter().collect()
}

fn in_a_word(lineage: &StateLineage) -> String {
    format!("{}/{}", lineage.spec.workload.kind.to_lowercase(), lineage.spec.workload.name)
}

/// A kind by its name or abbreviation, or as an operator's workloads are called.
fn kind_of(word: &str, lineages: &[StateLineage]) -> Option<String> {
    let word = word.to_lowercase();
    let known = KINDS.iter().find(|(_, names)| names.contains(&word.as_str())).map(|(kind, _)| (*kind).to_owned());
    known.or_else(|| lineages.iter().map(|of| &of.spec.workload.kind).find(|kind| kind.to_lowercase() == word).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lineage(kind: &str, name: &str, slot: u8, policy: &str) -> StateLineage {
        let object = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateLineage",
            "metadata": { "name": format!("{}-{name}-{slot}", kind.to_lowercase()), "namespace": "shop" },
            "spec": { "policy": policy, "repository": "default", "lineage": "x", "slot": slot.to_string(),
                "workload": { "kind": kind, "name": name } } });
        serde_json::from_value(object).expect("a lineage")
    }

    #[test]
    fn a_name_stands_for_one_workload() {
        let all = [
            lineage("StatefulSet", "web", 0, "books"),
            lineage("StatefulSet", "web", 1, "books"),
            lineage("Deployment", "api", 0, "books"),
            lineage("Deployment", "db", 0, "own"),
            lineage("StatefulSet", "db", 0, "own"),
            lineage("Vessel", "boat", 0, "own"),
        ];
        let found = |word: &str| find(word, "shop", &all);
        let web = found("web").expect("one");
        assert_eq!((web.workload.as_str(), web.replicas), ("statefulset/web", 2));
        assert_eq!(web.policies, BTreeSet::from(["books".to_owned()]));
        for word in ["sts/web", "statefulset/web", "StatefulSets/web"] {
            assert_eq!(found(word).expect("the same"), web, "{word}");
        }
        assert_eq!(found("vessel/boat").expect("an operator's").replicas, 1);
        assert_eq!(others(&web, &all), ["deployment/api"]);
        assert!(others(&found("boat").expect("one"), &all).contains(&"statefulset/db".to_owned()));
        let ambiguous = found("db").expect_err("two");
        assert!(ambiguous.is::<Usage>() && ambiguous.to_string().contains("deployment/db or statefulset/db"), "{ambiguous}");
        assert_eq!(found("deploy/db").expect("one").workload, "deployment/db");
        assert!(found("deploy/web").expect_err("none").is::<NotFound>());
        let unknown = found("ship/web").expect_err("no kind");
        assert!(unknown.is::<Usage>() && unknown.to_string().contains("deployment/web"), "{unknown}");
        let nothing = find("web", "bank", &[]).expect_err("none");
        assert!(nothing.is::<NotFound>() && nothing.to_string().contains("nothing is protected"), "{nothing}");
    }
}
