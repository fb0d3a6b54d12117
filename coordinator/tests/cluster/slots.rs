// SPDX-License-Identifier: Apache-2.0
//! Which pod has which lineage, and what the others wait for.

use crate::lab::{Lab, PodAgent, coordinator, node, policy};
use holdfast_coordinator::cluster::{RepositoryKey, RepositoryState, SlotView};
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::Phase;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_granted_the_lineage_of_its_place() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    let agent = lab.join("shop", "web-0", "w0").await;
    assert_eq!(agent.lineage(), "default:statefulset/web/0");
    assert!(agent.welcome.take_over && agent.grant().write && agent.welcome.session.len() > 64);
    assert_eq!(agent.welcome.owner.as_ref(), crate::lab::CLUSTER.as_bytes());
    let record = lab.api.get("statelineages", "shop", "statefulset-web-0").expect("a record");
    let spec = json!({"policy": "web", "repository": "default", "lineage": "statefulset/web/0", "slot": "0", "workload": {"kind": "StatefulSet", "name": "web"}});
    assert_eq!(
        (&record["spec"], &record["status"]["holder"], &record["status"]["holderUid"]),
        (&spec, &json!("web-0"), &json!("w0"))
    );
    let pod = lab.api.get("pods", "shop", "web-0").expect("the pod");
    assert_eq!(pod["metadata"]["labels"]["holdfast.dev/lineage"], "statefulset-web-0");
    // the same name in another namespace is another's
    lab.member("other", "web-0", "o0");
    assert_eq!(lab.join("other", "web-0", "o0").await.lineage(), "other:statefulset/web/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_waits_for_its_predecessor_and_goes_on_with_its_slot() {
    let lab = Lab::new().await;
    lab.deployment(2);
    lab.replica("api-a", "a");
    lab.replica("api-b", "b");
    let (one, mut two) = (lab.join("shop", "api-a", "a").await, lab.join("shop", "api-b", "b").await);
    assert_eq!([one.lineage(), two.lineage()], ["default:deployment/api/0", "default:deployment/api/1"]);
    lab.ending("shop", "api-b");
    lab.replica("api-c", "c");
    let mut three = lab.hello("shop", "api-c", "c").await;
    let message = three.waits_for("NoFreeSlot").await;
    assert!(message.contains("Deployment api has 2 replicas"), "{message}");
    let waiting =
        lab.served.slots.clone().wait_for(|rows| rows.iter().any(|row| row.waiting.is_some())).await.expect("rows").clone();
    let row = waiting.iter().find_map(|row| row.waiting.as_ref()).expect("a row");
    assert_eq!((row.0.as_str(), row.1.reason, row.1.is_warning), ("api-c", "NoFreeSlot", false));
    lab.gone("shop", "api-b");
    let three = three.welcomed().await;
    assert_eq!(three.lineage(), "default:deployment/api/1");
    assert_eq!(Problem::of(&two.end().await).reason, Some(Reason::NotYours), "its pod is gone");
    // there is room for one more
    lab.replica("api-d", "d");
    let mut four = lab.hello("shop", "api-d", "d").await;
    four.waits_for("NoFreeSlot").await;
    lab.deployment(3);
    assert_eq!(four.welcomed().await.lineage(), "default:deployment/api/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_gone_begins_no_lineage() {
    let lab = Lab::new().await;
    lab.deployment(1);
    lab.replica("api-a", "a");
    let one = lab.join("shop", "api-a", "a").await;
    assert_eq!(one.lineage(), "default:deployment/api/0");
    // deleted; a replacement that was made just before asks while its predecessor is still being ended
    lab.api.delete(&crate::kube_kit::Key::new("deployments", "shop", "api"));
    lab.ending("shop", "api-a");
    lab.replica("api-b", "b");
    let mut two = lab.hello("shop", "api-b", "b").await;
    two.waits_for("NoFreeSlot").await;
    // made anew under its name, it goes on with what it had
    lab.gone("shop", "api-a");
    lab.deployment(1);
    assert_eq!(two.welcomed().await.lineage(), "default:deployment/api/0");
    assert!(lab.api.get("statelineages", "shop", "deployment-api-1").is_none(), "a second lineage was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_state_has_one_writer() {
    let lab = Lab::new().await;
    policy(&lab.api, "shop", "web", "Shared");
    lab.deployment(2);
    lab.replica("api-a", "a");
    lab.replica("api-b", "b");
    assert_eq!(lab.join("shop", "api-a", "a").await.lineage(), "default:deployment/api/shared");
    let mut two = lab.hello("shop", "api-b", "b").await;
    let message = two.waits_for("SlotHeld").await;
    assert!(message.contains("held by pod api-a"), "{message}");
    // its containers have ended, although it is still there
    lab.change("shop", "api-a", json!({"status": {"phase": "Failed"}}));
    assert_eq!(two.welcomed().await.lineage(), "default:deployment/api/shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_knows_who_has_what() {
    let mut lab = Lab::new().await;
    lab.deployment(2);
    for (name, uid) in [("api-a", "a"), ("api-b", "b")] {
        lab.replica(name, uid);
    }
    let (mut one, two) = (lab.join("shop", "api-a", "a").await, lab.join("shop", "api-b", "b").await);
    drop(two);
    lab.elect().await;
    assert_eq!(Problem::of(&one.end().await).reason, Some(Reason::ShuttingDown));
    // a third comes first: both slots have holders that live
    lab.replica("api-c", "c");
    let mut three = lab.hello("shop", "api-c", "c").await;
    three.waits_for("NoFreeSlot").await;
    assert_eq!(lab.join("shop", "api-b", "b").await.lineage(), "default:deployment/api/1");
    assert_eq!(lab.join("shop", "api-a", "a").await.lineage(), "default:deployment/api/0");
    // what died while nobody led is continued by its replacement
    lab.gone("shop", "api-b");
    lab.elect().await;
    drop(three);
    assert_eq!(lab.join("shop", "api-c", "c").await.lineage(), "default:deployment/api/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_deletes_is_written_again() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    let _agent = lab.join("shop", "web-0", "w0").await;
    lab.api.delete(&crate::kube_kit::Key::new("statelineages", "shop", "statefulset-web-0"));
    let holder = |api: &crate::kube_kit::ApiServer| {
        api.get("statelineages", "shop", "statefulset-web-0").filter(|record| record["status"]["holderUid"] == "w0")
    };
    lab.api.until(holder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_waited_for() {
    let lab = Lab::new().await;
    lab.api.delete(&crate::kube_kit::Key::new("statepolicies", "shop", "web"));
    let ready = lab.repositories.borrow().clone();
    let not_ready = RepositoryState::NotReady("the bucket does not answer".to_owned());
    lab.repositories.send_replace([(RepositoryKey::new("shop", "default"), not_ready)].into_iter().collect());
    lab.holds.send_replace(Arc::new(BTreeMap::from([(
        ("shop".to_owned(), "statefulset-web-0".to_owned()),
        "restore nightly goes on".to_owned(),
    )])));
    lab.member("shop", "web-0", "w0");
    let mut agent = lab.hello("shop", "web-0", "w0").await;
    agent.waits_for("PolicyMissing").await;
    assert!(lab.warns("PolicyMissing", "create it").await);
    policy(&lab.api, "shop", "web", "Replica");
    assert_eq!(agent.waits_for("RestoreInProgress").await, "restore nightly goes on");
    assert!(!lab.warns("RestoreInProgress", "nightly").await, "it ends with the restore");
    lab.holds.send_replace(Arc::default());
    assert!(agent.waits_for("RepositoryNotReady").await.contains("the bucket does not answer"));
    assert!(lab.warns("RepositoryNotReady", "the bucket does not answer").await);
    lab.repositories.send_replace(ready);
    assert_eq!(agent.welcomed().await.lineage(), "default:statefulset/web/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_into_the_middle_of_a_snapshot() {
    let lab = Lab::new().await;
    let web = |namespace: &str| ((namespace.to_owned(), "web".to_owned()), "StateSnapshot shop/nightly".to_owned());
    lab.rests.send_replace(Arc::new(BTreeMap::from([web("shop")])));
    lab.pod("shop", "web-0", "w0", Some(("StatefulSet", "web")), serde_json::json!({ "status": { "phase": "Pending" } }));
    // an agent whose application is at work comes back to it
    lab.member("shop", "web-1", "w1");
    lab.pod("other", "web-0", "o0", Some(("StatefulSet", "web")), serde_json::json!({ "status": { "phase": "Pending" } }));
    lab.hello("shop", "web-1", "w1").await.welcomed().await;
    lab.hello("other", "web-0", "o0").await.welcomed().await;
    let mut agent = lab.hello("shop", "web-0", "w0").await;
    assert_eq!(agent.waits_for("SnapshotInProgress").await, "StateSnapshot shop/nightly");
    assert!(!lab.warns("SnapshotInProgress", "nightly").await, "it ends with the barrier");
    lab.rests.send_replace(Arc::default());
    assert_eq!(agent.welcomed().await.lineage(), "default:statefulset/web/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_silent_is_not_taken_for_a_silent_coordinator() {
    let lab = Lab::new().await;
    lab.world.memory.set_silent(true);
    lab.member("shop", "web-0", "w0");
    let mut agent = lab.hello("shop", "web-0", "w0").await;
    let message = agent.waits_for("RepositoryNotReady").await;
    assert!(message.contains("StateRepository shop/default: its store does not answer"), "{message}");
    let waits = |row: &SlotView| row.object.as_deref() == Some("statefulset-web-0") && row.waiting.is_some();
    lab.served.slots.clone().wait_for(|rows| rows.iter().any(waits)).await.expect("it is shown");
    lab.world.memory.set_silent(false);
    assert_eq!(agent.welcomed().await.lineage(), "default:statefulset/web/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_repository_that_is_not_there_is_to_be_created() {
    let lab = Lab::new().await;
    let table = |states: Vec<(RepositoryKey, RepositoryState)>| states.into_iter().collect();
    let ready = lab.repositories.send_replace(table(Vec::new()));
    lab.member("shop", "web-0", "w0");
    let mut agent = lab.hello("shop", "web-0", "w0").await;
    let message = agent.waits_for("RepositoryNotReady").await;
    assert!(message.contains("there is no StateRepository shop/default: create it"), "{message}");
    assert!(lab.warns("RepositoryNotReady", "create it").await);
    // a leader that has just begun has opened none of those that are there
    lab.repositories.send_replace(table(vec![(RepositoryKey::new("shop", "default"), RepositoryState::Opening)]));
    assert_eq!(agent.waits_for("RepositoryNotReady").await, "StateRepository shop/default is not ready: it is being opened");
    assert!(!lab.warns("RepositoryNotReady", "it is being opened").await, "it will be");
    // of another namespace it is no help
    lab.repositories.send_replace(table(vec![(RepositoryKey::new("other", "default"), RepositoryState::Opening)]));
    assert!(agent.waits_for("RepositoryNotReady").await.contains("create it"));
    // or has not even looked which there are
    lab.repositories.send_replace(Default::default());
    assert!(agent.waits_for("RepositoryNotReady").await.contains("it was not looked at yet"));
    assert!(!lab.warns("RepositoryNotReady", "it was not looked at yet").await, "it will be");
    lab.repositories.send_replace(ready);
    assert_eq!(agent.welcomed().await.lineage(), "default:statefulset/web/0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_given_up_only_when_its_agent_is_silent() {
    let lab = Lab::new().await;
    lab.deployment(1);
    lab.pod(
        "shop",
        "api-a",
        "a",
        Some(("ReplicaSet", "api-5d9")),
        json!({"metadata": {"generateName": "api-5d9-"}, "spec": {"nodeName": "node-b", "terminationGracePeriodSeconds": 0}}),
    );
    node(&lab.api, "node-b", true);
    let mut one = lab.join("shop", "api-a", "a").await;
    node(&lab.api, "node-b", false);
    lab.ending("shop", "api-a");
    lab.replica("api-b", "b");
    let mut two = lab.hello("shop", "api-b", "b").await;
    two.waits_for("NoFreeSlot").await;
    // it says nothing for ten seconds, the shortest patience there is
    assert_eq!(two.welcomed().await.lineage(), "default:deployment/api/0");
    assert_eq!(Problem::of(&one.end().await).reason, Some(Reason::NotYours));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_lineage_waits_for_a_person() {
    let lab = Lab::new().await;
    let mut writer = lab.world.writer("statefulset/web/0").await;
    writer.write("file", "theirs");
    writer.checkpoint().await;
    let mut other = lab.world.writer("statefulset/web/1").await;
    other.checkpoint().await;
    lab.member("shop", "web-0", "w0");
    lab.member("shop", "web-1", "w1");
    let mut one = lab.hello("shop", "web-0", "w0").await;
    let message = one.waits_for("ForeignLineageFound").await;
    assert!(message.contains("holdfast.dev/choose") && message.contains("statefulset-web-0"), "{message}");
    lab.choose("statefulset-web-0", "adopt");
    let one = one.welcomed().await;
    assert_eq!(one.lineage(), "default:statefulset/web/0");
    let record = |name: &str| lab.api.get("statelineages", "shop", name).expect("a record");
    assert!(record("statefulset-web-0")["metadata"]["annotations"].get("holdfast.dev/choose").is_none(), "it was followed");
    let mut two = lab.hello("shop", "web-1", "w1").await;
    two.waits_for("ForeignLineageFound").await;
    assert!(lab.warns("ForeignLineageFound", "choose").await);
    lab.choose("statefulset-web-1", "fresh");
    let two = two.welcomed().await;
    assert_eq!(two.lineage(), "default:statefulset/web/1@c1c1c1c1");
    assert_eq!(record("statefulset-web-1")["spec"]["lineage"], "statefulset/web/1@c1c1c1c1");
    // and so it stays
    drop(two);
    assert_eq!(lab.join("shop", "web-1", "w1").await.lineage(), "default:statefulset/web/1@c1c1c1c1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_differs_waits_for_a_person() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    let mut agent = lab.join("shop", "web-0", "w0").await;
    assert_eq!(agent.welcome.start, 0);
    agent.report(Phase::Waiting, "Diverged: the disk is older than the repository").await;
    assert!(lab.warns("Diverged", "older than the repository").await);
    let stuck = |rows: &Arc<Vec<SlotView>>| {
        rows.iter().any(|row| row.waiting.as_ref().is_some_and(|(_, waiting)| waiting.reason == "Diverged"))
    };
    lab.served.slots.clone().wait_for(stuck).await.expect("rows");
    lab.choose("statefulset-web-0", "prefer-store");
    assert_eq!(Problem::of(&agent.end().await).reason, Some(Reason::Decided));
    let agent = lab.join("shop", "web-0", "w0").await;
    assert_eq!(agent.welcome.start(), holdfast_proto::v1::Start::PreferStore);
    // once it goes on, the choice is spent
    agent.report(Phase::Restoring, "").await;
    lab.api
        .until(|api| {
            let record = api.get("statelineages", "shop", "statefulset-web-0")?;
            record["metadata"]["annotations"].get("holdfast.dev/choose").is_none().then_some(())
        })
        .await;
    assert_eq!(lab.join("shop", "web-0", "w0").await.welcome.start, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_again_takes_the_place_of_its_last_connection() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    let mut first = lab.join("shop", "web-0", "w0").await;
    let second = PodAgent::open(lab.served.channel.clone(), Some("pod:shop/web-0/w0"), 2, "").await.welcomed().await;
    assert_eq!(second.lineage(), first.lineage());
    assert_eq!(Problem::of(&first.end().await).reason, Some(Reason::SessionReplaced));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_never_have_one_history() {
    let lab = Lab::new().await;
    // the same place under two names
    let table = ["shop", "other"]
        .map(|namespace| (RepositoryKey::new(namespace, "default"), RepositoryState::Ready(coordinator(&lab.world, "default"))));
    lab.repositories.send_replace(table.into_iter().collect());
    lab.member("shop", "web-0", "w0");
    let first = lab.join("shop", "web-0", "w0").await;
    assert_eq!(first.lineage(), "default:statefulset/web/0");
    let mut record = lab.api.get("statelineages", "shop", "statefulset-web-0").expect("a record");
    record["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    lab.api.put("statelineages", record);
    lab.member("other", "web-0", "o0");
    let mut second = lab.hello("other", "web-0", "o0").await;
    let message = second.waits_for("LineageTaken").await;
    assert!(lab.warns("LineageTaken", "same history").await);
    assert!(message.contains("StateLineage shop/statefulset-web-0") && message.contains("a domain or a prefix"), "{message}");
    // another slot is nobody's
    lab.member("other", "web-1", "o1");
    assert_eq!(lab.join("other", "web-1", "o1").await.lineage(), "default:statefulset/web/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_its_controller_lets_go_keeps_its_slot_while_it_lives() {
    let mut lab = Lab::new().await;
    let orphaned = json!({"metadata": {"ownerReferences": null}});
    lab.deployment(1);
    lab.replica("api-a", "a");
    lab.member("shop", "web-0", "w0");
    let (released, orphan) = (lab.join("shop", "api-a", "a").await, lab.join("shop", "web-0", "w0").await);
    assert_eq!([released.lineage(), orphan.lineage()], ["default:deployment/api/0", "default:statefulset/web/0"]);
    // a label that a ReplicaSet selects by was taken away; a StatefulSet was deleted without its pods
    lab.change("shop", "api-a", orphaned.clone());
    lab.change("shop", "web-0", orphaned);
    lab.replica("api-b", "b");
    let mut heir = lab.hello("shop", "api-b", "b").await;
    heir.waits_for("NoFreeSlot").await;
    // its successor has what it had, once it is gone
    lab.gone("shop", "api-a");
    assert_eq!(heir.welcomed().await.lineage(), "default:deployment/api/0");
    // nor does the next leader take such a pod for one of nobody
    lab.elect().await;
    assert_eq!(lab.join("shop", "web-0", "w0").await.lineage(), "default:statefulset/web/0");
    lab.gone("shop", "web-0");
    lab.member("shop", "web-0", "w0-again");
    assert_eq!(lab.join("shop", "web-0", "w0-again").await.lineage(), "default:statefulset/web/0");
}
