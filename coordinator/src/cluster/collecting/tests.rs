// SPDX-License-Identifier: Apache-2.0
use super::wishes::Wishes;
use super::*;
use crate::cluster::Repositories;
use crate::cluster::kit::{OWNER, World};
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::leading::Objects;
use crate::cluster::leading::kit::{coordinator, still, table};
use holdfast_api::{StateLineage, StatePolicy, StateRepository};
use holdfast_core::policy::{Retention, Tier, Window};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

fn object<K: DeserializeOwned>(kind: &str, name: &str, labels: Value, spec: Value) -> Arc<K> {
    let version = if kind == "Pod" { "v1" } else { "holdfast.dev/v1alpha1" };
    let meta = json!({ "name": name, "namespace": "shop", "labels": labels });
    let object = json!({ "apiVersion": version, "kind": kind, "metadata": meta, "spec": spec });
    Arc::new(serde_json::from_value(object).expect("an object"))
}

fn pod(name: &str, policy: &str, lineage: &str) -> Arc<Pod> {
    let labels = json!({ "holdfast.dev/policy": policy, "holdfast.dev/lineage": lineage });
    object("Pod", name, labels, json!({ "containers": [] }))
}

fn policy(name: &str, retention: Value) -> Arc<StatePolicy> {
    let spec = json!({ "paths": [{ "label": "data", "path": "/data" }], "retention": retention });
    object("StatePolicy", name, json!({}), spec)
}

fn lineage(name: &str, of: &str) -> Arc<StateLineage> {
    let spec = json!({ "policy": "old", "repository": "main", "lineage": of, "workload": { "kind": "StatefulSet", "name": "web" }, "slot": "0" });
    object("StateLineage", name, json!({}), spec)
}

fn repository(name: &str) -> Arc<StateRepository> {
    let spec = json!({ "s3": { "bucket": "states" }, "passphrase": { "name": "holdfast" }, "domain": "default" });
    object("StateRepository", name, json!({}), spec)
}

/// Two pods with lineages of their own, and one lineage whose pod has gone.
fn sight() -> Sight {
    Sight {
        lineages: vec![lineage("web-0", "web"), lineage("db-0", "db"), lineage("gone-0", "gone")],
        pods: vec![pod("web-0", "web", "web-0"), pod("db-0", "db", "db-0")],
        policies: vec![
            policy("web", json!({ "keepAll": "10m", "hourly": 1 })),
            policy("db", json!({ "keepAll": "2h", "daily": 3 })),
            policy("old", json!({ "keepAll": "10m" })),
        ],
        repositories: vec![repository("main"), repository("again")],
    }
}

fn open(world: &World) -> Repositories {
    table(&coordinator(world), &["main", "again"])
}

fn wish(wishes: &Wishes, lineage: &str) -> Option<Retention> {
    wishes.get(&("default".to_owned(), lineage.to_owned())).cloned().flatten()
}

#[tokio::test]
async fn what_remains_is_what_the_policies_of_the_living_pods_want() {
    let world = World::new().await;
    let open = open(&world);
    let wishes = |sight: &Sight| {
        let found = tasks(sight, &open);
        assert_eq!(found.len(), 1, "one repository, whatever it is called");
        let task = found.into_values().next().expect("a task");
        assert_eq!(task.objects.len(), 2, "all are told");
        Arc::unwrap_or_clone(task.wishes)
    };
    let hours = Duration::from_hours;
    let web = Retention { keep_all: Duration::from_mins(10), tiers: vec![Tier { window: Window::Hour, count: 1 }] };
    let db = Retention { keep_all: hours(2), tiers: vec![Tier { window: Window::Day, count: 3 }] };
    let mut sight = sight();
    let found = wishes(&sight);
    assert_eq!((wish(&found, "web"), wish(&found, "db")), (Some(web.clone()), Some(db.clone())));
    assert_eq!(wish(&found, "gone"), None, "nobody bears it: it keeps what it has, whatever it began under");
    // a rollout to another policy: as long as pods of both run, what either wants remains
    sight.pods.push(pod("web-0-next", "db", "web-0"));
    let both = Retention { keep_all: hours(2), tiers: web.tiers.iter().chain(&db.tiers).copied().collect() };
    assert_eq!(wish(&wishes(&sight), "web"), Some(both));
    // a policy that is gone, or can't be understood, gives nothing up
    sight.pods.push(pod("web-0-last", "missing", "web-0"));
    sight.policies[1] = policy("db", json!({ "keepAll": "2s" }));
    let found = wishes(&sight);
    assert_eq!((wish(&found, "web"), wish(&found, "db")), (None, None));
    // two objects of one lineage in the repository
    let mut twice = self::sight();
    twice.lineages.push(lineage("web-again", "web"));
    assert_eq!(wish(&wishes(&twice), "web"), None, "one of them keeps everything");
}

#[test]
fn turns_are_taken_by_who_waits_longest_and_never_twice() {
    let (mut turns, every) = (Turns::default(), Duration::from_mins(60));
    let ids: Vec<_> = (1..=4).map(|byte| RepositoryId::new([byte; 16])).collect();
    let at = |minutes| Monotonic(Duration::from_mins(minutes));
    assert!(turns.take(at(0), every, ids[..1].iter().copied()).is_empty(), "not as soon as a process leads");
    assert!(turns.take(at(5), every, ids.iter().rev().copied()).is_empty());
    let first = turns.take(at(70), every, ids.iter().copied());
    assert_eq!(first, [(ids[0], true), (ids[1], true)]);
    assert!(turns.take(at(71), every, ids.iter().copied()).is_empty(), "two at once");
    turns.ended(at(72), ids[0], true, Went::Done);
    assert_eq!(turns.take(at(72), every, ids.iter().copied()), [(ids[2], true)]);
    turns.ended(at(73), ids[1], true, Went::Failed);
    turns.ended(at(73), ids[2], true, Went::Done);
    assert_eq!(turns.take(at(74), every, ids.iter().copied()), [(ids[3], true), (ids[1], true)], "what failed, too, but later");
    turns.ended(at(75), ids[3], true, Went::Done);
    turns.ended(at(75), ids[1], true, Went::Done);
    assert_eq!(turns.take(at(140), every, ids.iter().copied()), [(ids[0], false), (ids[2], false)], "packs once a day");
}

fn stored<K>(objects: &[Arc<K>]) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply((**object).clone()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    reader
}

/// A collector of what there is, and what it tells.
fn collecting(world: &World, every: Duration) -> (Collecting, mpsc::Receiver<News>) {
    let sight = sight();
    let objects = Objects {
        pods: stored(&sight.pods),
        policies: stored(&sight.policies),
        lineages: stored(&sight.lineages),
        repositories: stored(&sight.repositories),
        first: Arc::default(),
    };
    let (_, repositories) = watch::channel(open(world));
    let (with, told) = still(&ApiServer::default(), repositories, objects);
    (Collecting { with, owner: OWNER, holder: "a test".to_owned(), every, options: Options::default() }, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_gives_up_is_deleted_and_everybody_is_told() {
    let world = World::new().await;
    for name in ["web", "gone"] {
        let mut writer = world.writer(name).await;
        for hours in [5, 4, 3, 0] {
            writer.write("file", format!("state of {hours}"));
            writer.checkpoint_of(Duration::from_hours(hours)).await;
        }
    }
    let (collecting, mut told) = collecting(&world, Duration::from_millis(20));
    let metrics = collecting.with.metrics.clone();
    let heard = async {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let news = told.recv().await.expect("it goes on");
            heard.push((news.about.name.unwrap_or_default(), news.is_warning, news.reason, news.note));
        }
        heard
    };
    let heard = tokio::select! {
        () = run(collecting) => panic!("it never ends"),
        heard = tokio::time::timeout(Duration::from_secs(60), heard) => heard.expect("a collection"),
    };
    let note = "deleted objects by reason: 3 thinned".to_owned();
    let expected = ["again", "main"].map(|name| (name.to_owned(), false, "Collected", note.clone()));
    assert_eq!(heard, expected);
    let text = metrics.text();
    let of = r#"namespace="shop",repository="again""#;
    assert!(text.contains(&format!(r#"deleted_objects_total{{{of},reason="thinned"}} 3"#)), "{text}");
    assert!(text.contains(&format!(r#"collections_total{{{of},ended="done"}}"#)), "{text}");
    let records = |lineage: &str| {
        let id = world.domain.keys.identity.lineage_id(lineage).to_string();
        world.memory.objects().keys().filter(|name| name.as_str().contains(&format!("{id}/log/"))).count()
    };
    // the claim, and the newest; of the other one everything
    assert_eq!((records("web"), records("gone")), (2, 5));
}

#[tokio::test]
async fn a_store_that_fails_is_told_and_tried_again() {
    let world = World::new().await;
    world.memory.set_failing(true);
    let (collecting, mut told) = collecting(&world, Duration::from_millis(1));
    let (id, task) = collecting.tasks().pop_first().expect("a task");
    let round = collecting.round(id, task, true).await;
    collecting.tell(&round);
    assert_eq!(went(&round.result), Went::Failed);
    let news = told.try_recv().expect("told");
    assert!(news.is_warning && news.reason == "CollectionFailed", "{news:?}");
    let text = collecting.with.metrics.text();
    assert!(text.contains(r#"ended="failed"} 1"#), "{text}");
}
