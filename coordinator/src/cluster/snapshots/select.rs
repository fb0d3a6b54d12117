// SPDX-License-Identifier: Apache-2.0
//! Which replicas a StateSnapshot holds, or why there is none. Plain functions of what the cluster shows.

use crate::cluster::RepositoryKey;
use crate::cluster::audit::guard::{Guard, guard, policy};
use crate::cluster::hindrance::{Hindrance, listed};
use crate::cluster::replicas::{Sight, Workload, bearers, is_wanted, runs, workload};
use holdfast_api::StateSnapshotSpec;
use holdfast_proto::v1::LineageRef;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};

/// A replica that is to be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) namespace: String,
    /// The StateRepository that it is in.
    pub(super) repository: RepositoryKey,
    /// The StateLineage.
    pub(super) object: String,
    /// Its name in the repository.
    pub(super) lineage: String,
    /// Its application may be at work: it must not be left out of the barrier. The pod's name.
    pub(super) runs: Option<String>,
    /// Something of it is durable.
    pub(super) stored: bool,
}

/// The replicas of a snapshot. All of them lie in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    /// The StateRepositories by which it is known, and the domain of each.
    pub(super) domains: BTreeMap<RepositoryKey, String>,
    /// The policies whose replicas they are, by (namespace, name).
    pub(super) policies: BTreeSet<(String, String)>,
    pub(super) replicas: Vec<Replica>,
    /// They belong to it, and have nothing to give yet.
    pub(super) absent: Vec<Replica>,
}

impl Selection {
    /// What a replica is called in the repository.
    pub(super) fn names(&self, replica: &Replica) -> LineageRef {
        let domain = self.domains.get(&replica.repository).cloned().unwrap_or_default();
        LineageRef { domain, lineage: replica.lineage.clone() }
    }

    /// Whether a replica's name may be another one's, too.
    pub(super) fn spans_domains(&self) -> bool {
        self.domains.values().collect::<BTreeSet<_>>().len() > 1
    }
}

/// In place of namespaces' names: all of them.
const ALL: &str = "*";

/// Namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Namespaces {
    /// These.
    Named(BTreeSet<String>),
    /// Whatever has anything that is protected.
    All,
}

impl Namespaces {
    fn has(&self, namespace: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(namespace),
            Self::All => true,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Named(names) => listed(&names.iter().map(String::as_str).collect::<Vec<_>>()),
            Self::All => "any namespace".to_owned(),
        }
    }
}

/// Whether it may hold replicas of several namespaces, and so of several domains.
pub(super) fn spans(spec: &StateSnapshotSpec, own: &str, system: &str) -> bool {
    own == system && !spec.namespaces.is_empty()
}

/// The namespaces that are meant.
///
/// # Errors
/// If they are not for whoever made the object: the rights in one namespace say nothing of others'.
pub(super) fn namespaces(spec: &StateSnapshotSpec, own: &str, system: &str) -> Result<Namespaces, Hindrance> {
    let asked: BTreeSet<String> = spec.namespaces.iter().cloned().collect();
    if asked.is_empty() {
        return Ok(Namespaces::Named(BTreeSet::from([own.to_owned()])));
    }
    let others: Vec<&str> = asked.iter().map(String::as_str).filter(|namespace| *namespace != own).collect();
    if others.is_empty() || own == system {
        return Ok(if asked.contains(ALL) { Namespaces::All } else { Namespaces::Named(asked) });
    }
    let message = match asked.contains(ALL) {
        true => format!(
            "only a StateSnapshot of namespace {system:?} may hold the whole cluster; leave out `namespaces`, or create it there"
        ),
        false => format!(
            "namespaces {} are others than its own: only a StateSnapshot of namespace {system:?} may hold them; leave out `namespaces`, or create it there",
            listed(&others)
        ),
    };
    Err(Hindrance::lasting("NamespaceRefused", message))
}

/// The policies that are meant, in each of the namespaces, by (namespace, name).
///
/// # Errors
/// If one is nowhere.
pub(super) fn policies(
    spec: &StateSnapshotSpec,
    namespaces: &Namespaces,
    sight: &Sight,
) -> Result<BTreeSet<(String, String)>, Hindrance> {
    let named = sight.policies.iter().map(|policy| (policy.namespace().unwrap_or_default(), policy.name_any()));
    let mut there: BTreeSet<(String, String)> =
        named.filter(|(namespace, name)| namespaces.has(namespace) && spec.policies.contains(name)).collect();
    let missing = spec.policies.iter().map(String::as_str).filter(|name| !there.iter().any(|(_, known)| known == name));
    let missing: Vec<&str> = missing.collect();
    if spec.everything {
        // a policy that was deleted under its replicas is no reason to leave them out
        let of_pods =
            sight.pods.iter().filter_map(|pod| Some((pod.namespace().unwrap_or_default(), policy(&pod.metadata)?.to_owned())));
        let of_lineages = sight.lineages.iter().map(|of| (of.namespace().unwrap_or_default(), of.spec.policy.clone()));
        there.extend(of_pods.chain(of_lineages).filter(|(namespace, _)| namespaces.has(namespace)));
        return Ok(there);
    }
    if missing.is_empty() {
        return Ok(there);
    }
    let message = format!("there is no StatePolicy {} in {}: create it", listed(&missing), namespaces.in_words());
    Err(Hindrance::passing("PolicyNotFound", message))
}

/// Workloads whose replicas have no pod at this moment: whether these belong to it depends on how many there are to be.
pub(super) fn doubtful(chosen: &BTreeSet<(String, String)>, sight: &Sight) -> BTreeSet<Workload> {
    let bearers = bearers(sight);
    let absent = sight.lineages.iter().filter(|lineage| {
        let namespace = lineage.namespace().unwrap_or_default();
        chosen.contains(&(namespace.clone(), lineage.spec.policy.clone()))
            && !bearers.contains_key(&(namespace, lineage.name_any()))
    });
    absent.map(|lineage| workload(lineage)).collect()
}

/// The replicas that are meant, in the order of (StateRepository, StateLineage).
///
/// `wanted` says how many replicas a workload is to have; those that are not in it are gone.
///
/// # Errors
/// If there is none, or one is not protected.
pub(super) fn replicas(
    chosen: &BTreeSet<(String, String)>,
    sight: &Sight,
    wanted: &BTreeMap<Workload, i32>,
) -> Result<Vec<Replica>, Hindrance> {
    unprotected(chosen, sight)?;
    let bearers = bearers(sight);
    let mut found = Vec::new();
    for lineage in &sight.lineages {
        let (namespace, object) = (lineage.namespace().unwrap_or_default(), lineage.name_any());
        let pod = bearers.get(&(namespace.clone(), object.clone()));
        let under = pod.and_then(|pod| policy(&pod.metadata)).unwrap_or(&lineage.spec.policy);
        if !chosen.contains(&(namespace.clone(), under.to_owned())) || !(pod.is_some() || is_wanted(lineage, wanted)) {
            continue;
        }
        found.push(Replica {
            repository: RepositoryKey::new(namespace.clone(), lineage.spec.repository.clone()),
            object,
            lineage: lineage.spec.lineage.clone(),
            runs: pod.filter(|pod| runs(pod)).map(|pod| pod.name_any()),
            stored: lineage.status.as_ref().is_some_and(|status| status.checkpoint.is_some()),
            namespace,
        });
    }
    if found.is_empty() {
        return Err(Hindrance::lasting(
            "NothingSelected",
            "no replica is under these policies: label a workload holdfast.dev/policy=NAME first, and wait for its StateLineages",
        ));
    }
    found.sort_by(|one, two| (&one.repository, &one.object).cmp(&(&two.repository, &two.object)));
    Ok(found)
}

/// The StateRepositories of replicas, which must be one repository: `place` says which each one is.
///
/// # Errors
/// If they are several, or one is not known.
pub(super) fn one_place<P: PartialEq>(
    replicas: &[Replica],
    place: impl Fn(&RepositoryKey) -> Result<P, Hindrance>,
) -> Result<Vec<RepositoryKey>, Hindrance> {
    let keys: BTreeSet<&RepositoryKey> = replicas.iter().map(|replica| &replica.repository).collect();
    let places = keys.iter().map(|key| place(key)).collect::<Result<Vec<P>, Hindrance>>()?;
    if places.windows(2).all(|two| two[0] == two[1]) {
        return Ok(keys.into_iter().cloned().collect());
    }
    let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = format!(
        "the replicas lie in several repositories ({}), and a snapshot becomes visible in one: create a StateSnapshot for each",
        listed(&names)
    );
    Err(Hindrance::lasting("SeveralRepositories", message))
}

/// The pods that run without an agent would be missing in it, and nobody would notice before a restore.
fn unprotected(chosen: &BTreeSet<(String, String)>, sight: &Sight) -> Result<(), Hindrance> {
    let bad = sight.pods.iter().filter_map(|pod| {
        let namespace = pod.namespace().unwrap_or_default();
        let is_chosen = chosen.contains(&(namespace.clone(), policy(&pod.metadata)?.to_owned()));
        match guard(pod) {
            Guard::Unguarded(why) if is_chosen => Some(format!("{namespace}/{}: {why}", pod.name_any())),
            _ => None,
        }
    });
    let mut bad: Vec<String> = bad.collect();
    bad.sort();
    if bad.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = bad.iter().map(String::as_str).collect();
    let message = format!(
        "pods run without Holdfast's agent ({}): delete them, so that they are made again, then create another StateSnapshot",
        listed(&names)
    );
    Err(Hindrance::lasting("Unprotected", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_api::{StateLineage, StatePolicy};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn spec(spec: Value) -> StateSnapshotSpec {
        serde_json::from_value(spec).expect("a spec")
    }

    fn policy_of(namespace: &str, name: &str) -> Arc<StatePolicy> {
        let object = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy",
            "metadata": { "name": name, "namespace": namespace }, "spec": { "paths": [] } });
        Arc::new(serde_json::from_value(object).expect("a policy"))
    }

    fn lineage(name: &str, slot: &str, policy: &str, repository: &str) -> Arc<StateLineage> {
        let object = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateLineage",
            "metadata": { "name": format!("{name}-{slot}"), "namespace": "shop" },
            "spec": { "policy": policy, "repository": repository, "lineage": format!("statefulset/{name}/{slot}"), "slot": slot,
                "workload": { "kind": "StatefulSet", "name": name } },
            "status": { "checkpoint": { "sequence": 3, "time": "2026-01-01T00:00:00Z", "quality": "Clean", "bytes": 10 } } });
        Arc::new(serde_json::from_value(object).expect("a lineage"))
    }

    fn pod(name: &str, policy: &str, more: Value) -> Arc<Pod> {
        let mut object = json!({
            "metadata": { "name": name, "namespace": "shop", "annotations": { "holdfast.dev/injected": "{}" },
                "labels": { "holdfast.dev/policy": policy, "holdfast.dev/lineage": name } },
            "spec": { "containers": [], "initContainers": [{ "name": "holdfast-agent", "restartPolicy": "Always" }, { "name": "holdfast-gate" }] },
            "status": { "phase": "Running" },
        });
        json_patch::merge(&mut object, &more);
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    fn chosen(names: &[&str]) -> BTreeSet<(String, String)> {
        names.iter().map(|name| ("shop".to_owned(), (*name).to_owned())).collect()
    }

    fn objects(selection: Result<Vec<Replica>, Hindrance>) -> Vec<(String, bool)> {
        selection.expect("selected").into_iter().map(|replica| (replica.object, replica.runs.is_some())).collect()
    }

    #[test]
    fn other_namespaces_are_for_our_own_only() {
        let asked = |namespaces: Value, own: &str| {
            let spec = spec(json!({ "everything": true, "namespaces": namespaces }));
            namespaces_of(&spec, own)
        };
        fn namespaces_of(spec: &StateSnapshotSpec, own: &str) -> Result<Vec<String>, &'static str> {
            let found = namespaces(spec, own, "holdfast-system").map_err(|why| why.reason)?;
            Ok(match found {
                Namespaces::Named(names) => names.into_iter().collect(),
                Namespaces::All => vec!["all".to_owned()],
            })
        }
        assert_eq!(asked(json!([]), "shop"), Ok(vec!["shop".to_owned()]));
        assert_eq!(asked(json!(["shop"]), "shop"), Ok(vec!["shop".to_owned()]));
        assert_eq!(asked(json!(["shop", "bank"]), "shop"), Err("NamespaceRefused"));
        assert_eq!(asked(json!(["bank"]), "shop"), Err("NamespaceRefused"), "one other is one too many");
        assert_eq!(asked(json!(["shop", "bank"]), "holdfast-system"), Ok(vec!["bank".to_owned(), "shop".to_owned()]));
        assert_eq!(asked(json!(["*"]), "holdfast-system"), Ok(vec!["all".to_owned()]));
        assert_eq!(asked(json!(["*"]), "shop"), Err("NamespaceRefused"));
        let whole = spec(json!({ "everything": true, "namespaces": ["*"] }));
        let refused = namespaces(&whole, "shop", "holdfast-system").expect_err("it is not ours");
        assert!(refused.message.contains("the whole cluster") && refused.message.contains("holdfast-system"), "{refused:?}");
    }

    #[test]
    fn a_policy_that_is_nowhere_is_waited_for() {
        let sight = Sight { policies: vec![policy_of("shop", "web"), policy_of("bank", "db")], ..Sight::default() };
        let shop = Namespaces::Named(BTreeSet::from(["shop".to_owned()]));
        let found = |text: Value| policies(&spec(text), &shop, &sight);
        assert_eq!(found(json!({ "policies": ["web"] })), Ok(chosen(&["web"])));
        assert_eq!(found(json!({ "everything": true })), Ok(chosen(&[])), "nobody bears one");
        let sight = Sight {
            lineages: vec![lineage("web", "0", "web", "default")],
            pods: vec![pod("db-0", "gone", json!({})), pod("x-0", "db", json!({ "metadata": { "namespace": "bank" } }))],
            ..Sight::default()
        };
        let everything = policies(&spec(json!({ "everything": true })), &shop, &sight);
        assert_eq!(everything, Ok(chosen(&["web", "gone"])), "another namespace's is none, and a deleted one is no reason");
        let whole = policies(&spec(json!({ "everything": true })), &Namespaces::All, &sight).expect("found");
        assert!(whole.contains(&("bank".to_owned(), "db".to_owned())) && whole.len() == 3, "{whole:?}");
        let missing = found(json!({ "policies": ["web", "db"] })).expect_err("db is elsewhere");
        assert!(missing.passes && missing.reason == "PolicyNotFound" && missing.message.contains("db"), "{missing:?}");
    }

    #[test]
    fn members_have_a_pod_or_are_wanted_back() {
        let lineages = ["0", "1", "2", "3"].map(|slot| lineage("web", slot, "web", "default"));
        let mut sight = Sight {
            lineages: lineages.into(),
            pods: vec![pod("web-0", "web", json!({})), pod("web-1", "web", json!({ "status": { "phase": "Pending" } }))],
            ..Sight::default()
        };
        let web = ("shop".to_owned(), "StatefulSet".to_owned(), "web".to_owned());
        assert_eq!(doubtful(&chosen(&["web"]), &sight), BTreeSet::from([web.clone()]));
        let wanted = BTreeMap::from([(web, 3)]);
        let all = |sight: &Sight| objects(replicas(&chosen(&["web"]), sight, &wanted));
        let expected = [("web-0", true), ("web-1", false), ("web-2", false)].map(|(name, runs)| (name.to_owned(), runs));
        assert_eq!(all(&sight), expected, "the fourth was scaled away, the third comes back, the second waits at its gate");
        // the heir of a pod that is ending counts, whichever is seen first
        sight.pods.insert(0, pod("web-0", "web", json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })));
        assert_eq!(all(&sight), expected);
        assert_eq!(replicas(&chosen(&["web"]), &sight, &BTreeMap::new()).expect("two").len(), 2, "a workload that is gone");
        let none = replicas(&chosen(&["other"]), &sight, &wanted).expect_err("none");
        assert!(!none.passes && none.reason == "NothingSelected", "{none:?}");
    }

    #[test]
    fn a_pod_that_is_not_labelled_yet_is_its_lineages_holder() {
        let mut held = StateLineage::clone(&lineage("web", "0", "web", "default"));
        held.status.get_or_insert_default().holder_uid = Some("uid-1".to_owned());
        let unlabelled = json!({ "metadata": { "uid": "uid-1", "labels": { "holdfast.dev/lineage": null } } });
        let sight = Sight { lineages: vec![Arc::new(held)], pods: vec![pod("web-0", "web", unlabelled)], ..Sight::default() };
        assert_eq!(objects(replicas(&chosen(&["web"]), &sight, &BTreeMap::new())), [("web-0".to_owned(), true)]);
    }

    #[test]
    fn a_pod_is_under_the_policy_that_it_bears() {
        let sight = Sight {
            lineages: vec![lineage("web", "0", "before", "default")],
            pods: vec![pod("web-0", "after", json!({}))],
            ..Sight::default()
        };
        assert_eq!(objects(replicas(&chosen(&["after"]), &sight, &BTreeMap::new())), [("web-0".to_owned(), true)]);
        assert!(replicas(&chosen(&["before"]), &sight, &BTreeMap::new()).is_err());
    }

    #[test]
    fn pods_without_an_agent_fail_it_by_name() {
        let bare = json!({ "spec": { "initContainers": null } });
        let sight = Sight {
            lineages: vec![lineage("web", "0", "web", "default")],
            pods: vec![pod("web-0", "web", json!({})), pod("web-1", "web", bare)],
            ..Sight::default()
        };
        let refused = replicas(&chosen(&["web"]), &sight, &BTreeMap::new()).expect_err("one is bare");
        assert!(!refused.passes && refused.reason == "Unprotected", "{refused:?}");
        assert!(refused.message.contains("shop/web-1") && !refused.message.contains("web-0"), "{refused:?}");
        assert!(replicas(&chosen(&["other"]), &sight, &BTreeMap::new()).is_err_and(|why| why.reason == "NothingSelected"));
    }

    #[test]
    fn one_snapshot_is_in_one_repository() {
        let sight = Sight {
            lineages: vec![lineage("web", "0", "web", "default"), lineage("db", "0", "web", "cold")],
            pods: vec![pod("web-0", "web", json!({})), pod("db-0", "web", json!({}))],
            ..Sight::default()
        };
        let found = replicas(&chosen(&["web"]), &sight, &BTreeMap::new()).expect("two");
        let refused = one_place(&found, |key| Ok(key.clone())).expect_err("two repositories");
        assert!(refused.reason == "SeveralRepositories" && refused.message.contains("shop/cold, shop/default"), "{refused:?}");
        let keys = one_place(&found, |_| Ok("the same place")).expect("one, by two names");
        assert_eq!(keys, ["cold", "default"].map(|name| RepositoryKey::new("shop", name)));
    }
}
