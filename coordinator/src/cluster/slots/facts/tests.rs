// SPDX-License-Identifier: Apache-2.0
use super::*;
use serde_json::{Value, json};

fn pod(change: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": "web-7", "namespace": "shop", "uid": "u", "labels": {POLICY: "web"}, "annotations": {INJECTED: "{}"}},
        "spec": {"containers": [], "nodeName": "node-a"},
    });
    json_patch::merge(&mut pod, &change);
    serde_json::from_value(pod).expect("a pod")
}

fn named(slot: &str) -> Option<Wish> {
    Some(Wish::Named(Slot(slot.to_owned())))
}

#[test]
fn every_kind_of_workload_has_its_slots() {
    let generated = || json!({"metadata": {"generateName": "web-"}});
    let indexed = json!({"metadata": {"annotations": {COMPLETION_INDEX: "4"}}});
    let no_node = json!({"spec": {"nodeName": null}});
    let table = [
        (Some("StatefulSet"), json!({}), named("7")),
        (Some("StatefulSet"), json!({"metadata": {"labels": {POD_INDEX: "8"}}}), named("8")),
        (Some("Deployment"), generated(), Some(Wish::Numbered)),
        (Some("ReplicaSet"), generated(), Some(Wish::Numbered)),
        (Some("DaemonSet"), generated(), named("node-a")),
        (Some("DaemonSet"), no_node, None),
        (Some("Job"), generated(), Some(Wish::Numbered)),
        (Some("Job"), indexed, named("4")),
        (Some("Cracker"), json!({}), named("7")),
        (Some("Cracker"), json!({"metadata": {"name": "other"}}), named("other")),
        (Some("Cracker"), generated(), Some(Wish::Numbered)),
        (None, json!({}), named("0")),
    ];
    for (kind, change, expected) in table {
        let owner = kind.map(|kind| Owner { kind: kind.to_owned(), name: "web".to_owned() });
        let facts = PodFacts::of(&pod(change.clone()), owner).expect("facts");
        assert_eq!(facts.wish, expected, "{kind:?} {change}");
        let of = facts.workload;
        assert_eq!((of.kind.as_str(), of.name.as_str()), kind.map_or(("Pod", "web-7"), |kind| (kind, "web")));
        let shared = PolicyFacts { shared: true, repository: "default".to_owned() };
        let facts = PodFacts::of(&pod(change), None).expect("facts");
        assert_eq!(facts.wish_under(&shared), named("shared"));
    }
}

#[test]
fn a_pod_is_alive_ending_or_ended() {
    let of = |change: Value| PodFacts::of(&pod(change), None).expect("facts");
    assert_eq!(of(json!({"status": {"phase": "Pending"}})).life, Life::Alive);
    assert_eq!(of(json!({"status": {"phase": "Unknown"}})).life, Life::Alive);
    let ending = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(of(ending).life, Life::Ending);
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(of(json!({"status": {"phase": phase}})).life, Life::Ended);
    }
    assert_eq!(of(json!({"spec": {"terminationGracePeriodSeconds": 60}})).patience, Duration::from_secs(70));
    assert_eq!(of(json!({})).patience, Duration::from_secs(40));
}

#[test]
fn pods_without_an_agent_are_none_of_ours() {
    assert!(PodFacts::of(&pod(json!({"metadata": {"labels": {POLICY: null}}})), None).is_none());
    assert!(PodFacts::of(&pod(json!({"metadata": {"annotations": {INJECTED: null}}})), None).is_none());
}

#[test]
fn the_slot_that_a_pod_had_is_read_from_its_label() {
    let owner = || Some(Owner { kind: "Deployment".to_owned(), name: "web".to_owned() });
    let labelled = |label: &str| PodFacts::of(&pod(json!({"metadata": {"labels": {LINEAGE: label}}})), owner()).expect("facts");
    let had = |label: &str| labelled(label).had(None).map(|slot| slot.0);
    assert_eq!(had("deployment-web-3").as_deref(), Some("3"));
    assert_eq!(had("deployment-other-3"), None);
    assert_eq!(had("nonsense"), None);
    let record = |name: &str| RecordFacts {
        workload: WorkloadKey { namespace: "shop".to_owned(), kind: "Deployment".to_owned(), name: name.to_owned() },
        slot: Slot("9".to_owned()),
        policy: "web".to_owned(),
        repository: "default".to_owned(),
        lineage: "deployment/web/9".to_owned(),
        holder: None,
        checkpoint: 0,
        made: 0,
        choice: None,
    };
    assert_eq!(labelled("hashed-1234567890").had(Some(&record("web"))), Some(Slot("9".to_owned())));
    assert_eq!(labelled("hashed-1234567890").had(Some(&record("other"))), None, "another workload's");
}
