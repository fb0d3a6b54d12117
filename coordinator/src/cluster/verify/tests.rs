// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::Config;
use crate::cluster::kit::{OWNER, World};
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::leading::Objects;
use crate::cluster::leading::kit::{coordinator, still};
use crate::cluster::{Repositories, RepositoryState};
use holdfast_store::transport::Transport;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::task::JoinSet;

fn lineage(name: &str, verified: Option<&str>, has_checkpoint: bool) -> Arc<StateLineage> {
    lineage_in("default", name, verified, has_checkpoint)
}

fn lineage_in(repository: &str, name: &str, verified: Option<&str>, has_checkpoint: bool) -> Arc<StateLineage> {
    let checkpoint = json!({ "sequence": 3, "time": "2026-01-01T00:00:00Z", "quality": "Clean", "bytes": 1 });
    let spec = json!({ "policy": "web", "repository": repository, "lineage": name, "workload": { "kind": "StatefulSet", "name": "web" }, "slot": "0" });
    let object = json!({
        "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateLineage", "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
        "status": { "checkpoint": has_checkpoint.then_some(checkpoint), "verifiedTime": verified }
    });
    Arc::new(serde_json::from_value(object).expect("a lineage"))
}

fn at(hours: u64) -> Timestamp {
    // the first of January 2026
    Timestamp::from_nanos(1_767_225_600_000_000_000).plus(Duration::from_secs(hours * 3600))
}

#[test]
fn whoever_was_not_read_back_for_the_longest_time_is_next() {
    let day = Duration::from_secs(24 * 3600);
    let all = [
        lineage("empty", None, false),
        lineage("new", None, true),
        lineage("old", Some("2026-01-01T00:00:00Z"), true),
        lineage("older", Some("2025-12-31T22:00:00Z"), true),
    ];
    let next = |now, found: &BTreeMap<Name, Verified>| {
        let (_, object) = due(now, day, &all, found, |_| true).into_iter().next()?;
        Some(object.name_any())
    };
    let mut found = BTreeMap::new();
    let mut tell = |name: &str, at, outcome| {
        found.insert(("shop".to_owned(), name.to_owned()), Verified { at, outcome });
        found.clone()
    };
    assert_eq!(next(at(1), &BTreeMap::new()).as_deref(), Some("new"), "what has no checkpoint yet has nothing to verify");
    let told = tell("new", at(1), Outcome::Whole(3));
    assert_eq!(next(at(2), &told), None);
    assert_eq!(next(at(22), &told).as_deref(), Some("older"));
    let told = tell("older", at(22), Outcome::Unknown);
    assert_eq!(next(at(22), &told), None, "not at once again");
    assert_eq!(next(at(23), &told).as_deref(), Some("older"), "and before the others' day has passed");
    let told = tell("older", at(23), Outcome::Damaged("a pack".to_owned()));
    assert_eq!(next(at(25), &told).as_deref(), Some("old"));
}

#[test]
fn repositories_have_turns_of_their_own() {
    let all = [
        lineage_in("one", "newer", Some("2025-12-31T22:00:00Z"), true),
        lineage_in("one", "older", Some("2025-12-31T21:00:00Z"), true),
        lineage_in("two", "oldest", Some("2025-12-31T20:00:00Z"), true),
        lineage_in("three", "recent", Some("2026-01-01T00:00:00Z"), true),
    ];
    let next = |is_free: fn(&RepositoryKey) -> bool| -> Vec<String> {
        let due = due(at(1), Duration::from_secs(2 * 3600), &all, &BTreeMap::new(), is_free);
        due.iter().map(|(_, object)| object.name_any()).collect()
    };
    assert_eq!(next(|_| true), ["oldest", "older"]);
    assert_eq!(next(|key| *key != RepositoryKey::new("shop", "two")), ["older"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_the_store_is_found() {
    let world = World::new().await;
    let mut writer = world.writer("statefulset/web/0").await;
    // more than fits into a record, and nothing to be made smaller
    let noise = (0..300_000_u32)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b1).rotate_left(13).wrapping_mul(0x85eb_ca6b).to_le_bytes());
    writer.write("book", noise.collect::<Vec<u8>>());
    let checkpoint = writer.checkpoint().await;
    let config = Config {
        repository: world.repository.clone(),
        owner: OWNER,
        access: crate::Access::Open,
        domain: Some("default".to_owned()),
    };
    let coordinator = Coordinator::new(config);
    let (key, stop) = (RepositoryKey::new("shop", "default"), CancellationToken::new());
    let look = async || judged(read_back(&coordinator, &key, "statefulset/web/0", &stop).await.as_ref());
    assert_eq!(look().await, Outcome::Whole(checkpoint.sequence));
    let objects = world.memory.list("", None, false, 1000).await.expect("a list");
    let pack = objects.objects.iter().find(|(name, _)| name.as_str().contains("/packs/")).expect("a pack");
    world.memory.delete(&pack.0).await.expect("deleted");
    let found = look().await;
    assert!(matches!(&found, Outcome::Damaged(what) if what.contains("it does not exist")), "{found:?}");
    let nobody = judged(read_back(&coordinator, &key, "statefulset/none/0", &stop).await.as_ref());
    assert_eq!(nobody, Outcome::Unknown);
}

/// A leader's objects: these lineages, and nothing else.
fn objects(lineages: &[Arc<StateLineage>]) -> Objects {
    fn of<K: kube::Resource<DynamicType = ()> + Clone + 'static>(objects: &[Arc<K>]) -> Store<K> {
        let (reader, mut writer) = store();
        writer.apply_watcher_event(&Event::Init);
        objects.iter().for_each(|object| writer.apply_watcher_event(&Event::InitApply(object.as_ref().clone())));
        writer.apply_watcher_event(&Event::InitDone);
        reader
    }
    Objects { pods: of::<Pod>(&[]), policies: of(&[]), lineages: of(lineages), repositories: of(&[]), first: Arc::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_store_holds_up_no_other_repository() {
    let (silent, world) = (World::new().await, World::new().await);
    let checkpoint = world.writer("web").await.checkpoint().await;
    let ready = |name: &str, world: &World| (RepositoryKey::new("shop", name), RepositoryState::Ready(coordinator(world)));
    let table: Repositories = [ready("silent", &silent), ready("works", &world)].into_iter().collect();
    // that of the silent store was not read back for longer: it is its turn first
    let lineages = [lineage_in("silent", "mute", None, true), lineage_in("works", "web", Some("2026-01-01T00:00:00Z"), true)];
    let (_told, repositories) = watch::channel(table);
    let (with, _events) = still(&ApiServer::default(), repositories, objects(&lineages));
    silent.memory.set_silent(true);
    let ((told, mut found), stop) = (watch::channel(Findings::default()), CancellationToken::new());
    let mut reading = JoinSet::new();
    reading.spawn(run(with, Duration::from_secs(3600), told, stop.clone()));
    let web = ("shop".to_owned(), "web".to_owned());
    let heard = tokio::time::timeout(Duration::from_secs(20), found.wait_for(|found| found.contains_key(&web))).await;
    let outcome = heard.expect("nobody waits for the silent store").expect("told")[&web].outcome.clone();
    assert_eq!(outcome, Outcome::Whole(checkpoint.sequence));
    assert_eq!(found.borrow().len(), 1, "the other is still waited for");
    stop.cancel();
    silent.memory.set_silent(false);
    reading.join_all().await;
}
