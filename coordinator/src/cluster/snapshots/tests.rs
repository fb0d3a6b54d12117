// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::kit::{Agent, Served, World, Writer};
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::leading::kit::{Leader, coordinator, object, repository, table};
use crate::cluster::{Repositories, Rests};
use holdfast_core::barrier::{Answer, Order, Rest};
use holdfast_core::checkpoint::Quality;
use holdfast_proto::barrier;
use holdfast_proto::v1::session_request::Event as Said;
use holdfast_proto::v1::session_response::Command;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

mod across;

/// Snapshots are taken from here on.
fn lead(server: &ApiServer, repositories: &watch::Sender<Repositories>, rests: &watch::Sender<Rests>) -> Leader {
    let (mut leader, with) = Leader::new(server, repositories);
    let resting = Resting::new(rests.clone());
    let context = Context { with, system: "holdfast-system".to_owned(), pauses: Pauses::default(), resting };
    leader.tasks.spawn(run(Arc::new(context), leader.stop.clone()));
    leader
}

/// A namespace with a repository, a policy, and the workload `web`.
struct Shop {
    world: World,
    served: Served,
    server: ApiServer,
    repositories: watch::Sender<Repositories>,
    rests: watch::Sender<Rests>,
}

impl Shop {
    async fn new() -> Self {
        let world = World::new().await;
        let served = Served::start(coordinator(&world)).await;
        let table = table(&served.coordinator, &["default"]);
        let server = ApiServer::default();
        server.put("staterepositories", repository());
        server.put("statepolicies", object("StatePolicy", "web", json!({ "paths": [] })));
        Self { world, served, server, repositories: watch::Sender::new(table), rests: watch::Sender::default() }
    }

    /// The state of a replica, and its StateLineage.
    async fn lineage(&self, slot: u8) -> Writer {
        let name = format!("statefulset/web/{slot}");
        let mut writer = self.world.writer(&name).await;
        writer.write("book", format!("begun by {slot}"));
        let first = writer.checkpoint().await;
        let workload = json!({ "kind": "StatefulSet", "name": "web" });
        let spec =
            json!({ "policy": "web", "repository": "default", "lineage": name, "slot": slot.to_string(), "workload": workload });
        let mut lineage = object("StateLineage", &format!("statefulset-web-{slot}"), spec);
        let checkpoint = json!({ "sequence": first.sequence, "time": "2026-01-01T00:00:00Z", "quality": "Clean", "bytes": 10 });
        lineage["status"] = json!({ "checkpoint": checkpoint });
        self.server.put("statelineages", lineage);
        writer
    }

    fn pod(&self, slot: u8, agents: Value) {
        let labels = json!({ "holdfast.dev/policy": "web", "holdfast.dev/lineage": format!("statefulset-web-{slot}") });
        let annotations = json!({ "holdfast.dev/injected": "{}" });
        self.server.put(
            "pods",
            json!({ "apiVersion": "v1", "kind": "Pod", "status": { "phase": "Running" },
                "metadata": { "name": format!("web-{slot}"), "namespace": "shop", "labels": labels, "annotations": annotations },
                "spec": { "containers": [], "initContainers": agents } }),
        );
    }

    /// A replica with a pod that runs, and its agent's session.
    async fn replica(&self, slot: u8) -> (Agent, Writer) {
        let writer = self.lineage(slot).await;
        self.pod(slot, guarded());
        (self.agent(slot).await, writer)
    }

    async fn agent(&self, slot: u8) -> Agent {
        let agent = Agent::open_as(self.served.channel.clone(), &format!("statefulset/web/{slot}"), slot + 1, true).await;
        let agent = agent.expect("a session");
        agent.report(0).await;
        agent
    }

    fn apply(&self, name: &str, spec: Value) {
        self.server.put("statesnapshots", object("StateSnapshot", name, spec));
    }

    fn lead(&self) -> Leader {
        lead(&self.server, &self.repositories, &self.rests)
    }

    fn status(&self, name: &str) -> Value {
        self.server.get("statesnapshots", "shop", name).expect("it is there")["status"].clone()
    }

    /// Waits until the condition says this, and returns the status.
    async fn until(&self, name: &str, is: &str, reason: &str) -> Value {
        self.server
            .until(|_| {
                let status = self.status(name);
                let said = &status["conditions"][0];
                (said["status"] == is && said["reason"] == reason).then_some(status)
            })
            .await
    }

    async fn in_store(&self) -> usize {
        self.served.coordinator.shared().board.snapshots.list().await.expect("a list").len()
    }

    async fn event(&self, reason: &str) -> String {
        let told = |event: &Value| event["reason"] == reason && event["regarding"]["kind"] == "StateSnapshot";
        self.server.until(|server| server.list("events").into_iter().find(told)).await["note"].to_string()
    }
}

fn guarded() -> Value {
    json!([{ "name": "holdfast-agent", "restartPolicy": "Always" }, { "name": "holdfast-gate" }])
}

/// Follows the orders of a barrier, until its session ends; returns the budgets that it was given.
async fn obey((mut agent, mut writer): (Agent, Writer), rest: Rest, pause: Duration) -> Vec<Duration> {
    let mut budgets = Vec::new();
    while let Ok(Some(said)) = agent.commands.message().await {
        let Some(Command::Barrier(order)) = said.command else { continue };
        let (id, order) = barrier::order_of(order).expect("an order");
        let answers = match order {
            Order::Prepare => vec![Answer::Prepared],
            Order::Freeze { budget } => {
                budgets.push(budget);
                vec![Answer::Frozen(rest)]
            }
            Order::Cut => {
                writer.write("book", "cut");
                vec![Answer::Cut]
            }
            Order::Thaw => {
                let sealed = writer.checkpoint_as(if rest == Rest::Crash { Quality::Fuzzy } else { Quality::Clean }).await;
                vec![Answer::Thawed(pause), Answer::Sealed(sealed.sequence)]
            }
        };
        for answer in answers {
            agent.say(Said::Barrier(barrier::answer(id, answer))).await;
        }
    }
    budgets
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_taken_once_and_its_status_tells_all() {
    let mut shop = Shop::new().await;
    let mut agents = JoinSet::new();
    agents.spawn(obey(shop.replica(0).await, Rest::Frozen, Duration::from_micros(7_200)));
    agents.spawn(obey(shop.replica(1).await, Rest::Frozen, Duration::from_millis(3)));
    let leader = shop.lead();
    shop.apply("before", json!({ "policies": ["web"], "pauseBudget": "1500ms", "deadline": "1m" }));
    let status = shop.until("before", "True", "Taken").await;
    assert_eq!(
        (&status["phase"], &status["consistency"], &status["memberCount"], &status["repository"], &status["snapshotName"]),
        (&json!("Taken"), &json!("Frozen"), &json!(2), &json!("shop/default"), &json!("before"))
    );
    assert_eq!(
        (&status["pauseMillis"], &status["observedGeneration"], &status["conditions"][0]["observedGeneration"]),
        (&json!(8), &json!(1), &json!(1))
    );
    let members = status["members"].as_array().expect("members");
    let of = |member: &Value| {
        (member["lineage"].clone(), member["quality"].clone(), member["pauseMillis"].clone(), member["bytes"].clone())
    };
    assert_eq!(of(&members[0]), (json!("statefulset-web-0"), json!("Clean"), json!(8), json!(3)));
    assert_eq!(of(&members[1]), (json!("statefulset-web-1"), json!("Clean"), json!(3), json!(3)));
    assert_eq!((&status["bytes"], status["skewMillis"].is_i64(), status["cutTime"].is_string()), (&json!(6), true, true));
    let snapshots = shop.served.coordinator.shared().board.snapshots.list().await.expect("a list");
    assert_eq!((snapshots.len(), snapshots[0].id.to_string().as_str()), (1, status["snapshotId"].as_str().expect("an id")));
    assert_eq!(snapshots[0].labels.get("holdfast.dev/namespace").map(String::as_str), Some("shop"));
    let note = shop.event("SnapshotTaken").await;
    assert!(note.contains("2 replicas; all stood still before any was captured, paused 8 ms at most"), "{note}");
    leader.end().await;
    // whoever leads next has nothing to say, and takes nothing
    shop.server.forget_requests();
    let leader = shop.lead();
    shop.apply("marker", json!({ "policies": ["web"], "deadline": "0s" }));
    shop.until("marker", "False", "Invalid").await;
    leader.end().await;
    assert!(shop.server.writes().iter().all(|asked| !asked.path.contains("before")), "{:?}", shop.server.writes());
    assert_eq!(shop.in_store().await, 1);
    shop.served.stop();
    for budgets in agents.join_all().await {
        assert_eq!(budgets.len(), 1, "each was at rest once");
        assert!(budgets[0] <= Duration::from_millis(1500), "{budgets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_of_the_same_policy_are_shut_until_all_were_captured() {
    let shop = Shop::new().await;
    let (mut agent, mut writer) = shop.replica(0).await;
    let leader = shop.lead();
    let mut rests = shop.rests.subscribe();
    shop.apply("slow", json!({ "policies": ["web"] }));
    let (mut heard, mut sealed) = (Vec::new(), None);
    let soon = Duration::from_secs(20);
    while sealed.is_none() {
        let Some(Command::Barrier(order)) = agent.commands.message().await.expect("a session").expect("an order").command else {
            continue;
        };
        let (id, order) = barrier::order_of(order).expect("an order");
        let answers = match order {
            Order::Prepare => vec![Answer::Prepared],
            Order::Freeze { .. } => vec![Answer::Frozen(Rest::Frozen)],
            Order::Cut => {
                let shut = tokio::time::timeout(soon, rests.wait_for(|rests| !rests.is_empty())).await.expect("they are shut");
                let shut = shut.expect("told").clone();
                heard.extend(shut.keys().cloned());
                assert!(shut.values().all(|why| why.contains("shop/slow")), "{shut:?}");
                vec![Answer::Cut]
            }
            Order::Thaw => {
                // all go on: whoever begins now comes after it, although nothing is durable yet
                tokio::time::timeout(soon, rests.wait_for(|rests| rests.is_empty())).await.expect("they open").expect("told");
                sealed = Some(writer.checkpoint().await.sequence);
                vec![Answer::Thawed(Duration::from_millis(1)), Answer::Sealed(sealed.unwrap_or_default())]
            }
        };
        for answer in answers {
            agent.say(Said::Barrier(barrier::answer(id, answer))).await;
        }
    }
    let status = shop.until("slow", "True", "Taken").await;
    leader.end().await;
    assert_eq!((&status["consistency"], heard), (&json!("Frozen"), vec![("shop".to_owned(), "web".to_owned())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_leader_has_made_is_found() {
    let shop = Shop::new().await;
    let mut agents = JoinSet::new();
    agents.spawn(obey(shop.replica(0).await, Rest::Crash, Duration::ZERO));
    let leader = shop.lead();
    shop.apply("lost", json!({ "everything": true }));
    let taken = shop.until("lost", "True", "Taken").await;
    leader.end().await;
    // as it stood when the snapshot was made and not told; by now its pod would fail it
    let mut object = shop.server.get("statesnapshots", "shop", "lost").expect("it is there");
    let in_progress = json!([{ "type": "Succeeded", "status": "Unknown", "reason": "InProgress", "message": "it is being taken",
        "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    object["status"] =
        json!({ "phase": "Sealing", "repository": "shop/default", "startTime": taken["startTime"], "conditions": in_progress });
    shop.server.put("statesnapshots", object);
    shop.pod(0, json!([]));
    let leader = shop.lead();
    let found = shop.until("lost", "True", "Taken").await;
    leader.end().await;
    let what = |status: &Value| {
        [&status["snapshotId"], &status["members"], &status["consistency"], &status["skewMillis"]].map(Clone::clone)
    };
    assert_eq!(what(&found), what(&taken));
    assert_eq!((shop.in_store().await, &found["members"][0]["quality"]), (1, &json!("Fuzzy")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_pass_fails_it_at_once_and_by_name() {
    let shop = Shop::new().await;
    let _agent = shop.replica(0).await;
    shop.pod(7, json!([]));
    let leader = shop.lead();
    shop.apply("bare", json!({ "policies": ["web"] }));
    let status = shop.until("bare", "False", "Unprotected").await;
    let message = status["conditions"][0]["message"].as_str().expect("a message");
    assert!(message.contains("shop/web-7: ") && !message.contains("web-0"), "{message}");
    assert_eq!(status["phase"], "Failed");
    shop.apply("elsewhere", json!({ "everything": true, "namespaces": ["bank"] }));
    shop.until("elsewhere", "False", "NamespaceRefused").await;
    shop.server.put("statepolicies", object("StatePolicy", "idle", json!({ "paths": [] })));
    shop.apply("empty", json!({ "policies": ["idle"] }));
    shop.until("empty", "False", "NothingSelected").await;
    assert!(shop.event("SnapshotFailed").await.contains("web-7"));
    leader.end().await;
    assert_eq!(shop.in_store().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_until_the_deadline() {
    let shop = Shop::new().await;
    let writer = shop.lineage(0).await;
    shop.pod(0, guarded());
    let leader = shop.lead();
    shop.apply("waits", json!({ "policies": ["web"] }));
    let status = shop.until("waits", "Unknown", "AgentAway").await;
    assert!(
        status["phase"] == "Waiting" && status["conditions"][0]["message"].as_str().is_some_and(|text| text.contains("web-0"))
    );
    // one whose time was over before it could be taken says what stood in its way
    let mut late = object("StateSnapshot", "late", json!({ "policies": ["web"], "deadline": "1m" }));
    let away = json!([{ "type": "Succeeded", "status": "Unknown", "reason": "AgentAway", "message": "web-0 was away",
        "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    late["status"] = json!({ "startTime": "2026-01-01T00:00:00Z", "conditions": away });
    shop.server.put("statesnapshots", late);
    let status = shop.until("late", "False", "DeadlineExceeded").await;
    assert_eq!(status["conditions"][0]["message"], "it could not be taken within 1m: web-0 was away");
    let mut agents = JoinSet::new();
    agents.spawn(obey((shop.agent(0).await, writer), Rest::Hooks, Duration::ZERO));
    let status = shop.until("waits", "True", "Taken").await;
    assert_eq!((&status["consistency"], shop.in_store().await), (&json!("Hooks"), 1));
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_a_pod_counts_with_what_is_stored() {
    let shop = Shop::new().await;
    let mut agents = JoinSet::new();
    agents.spawn(obey(shop.replica(0).await, Rest::Frozen, Duration::ZERO));
    let (_wanted, _scaled_away) = (shop.lineage(1).await, shop.lineage(2).await);
    let metadata = json!({ "name": "web", "namespace": "shop" });
    let spec = json!({ "replicas": 2, "serviceName": "web", "selector": {}, "template": {} });
    shop.server
        .put("statefulsets", json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec }));
    let leader = shop.lead();
    shop.apply("short", json!({ "policies": ["web"] }));
    let status = shop.until("short", "True", "Taken").await;
    leader.end().await;
    let members: Vec<(&str, bool)> = status["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| (member["lineage"].as_str().expect("a name"), member["pauseMillis"].is_i64()))
        .collect();
    assert_eq!(members, [("statefulset-web-0", true), ("statefulset-web-1", false)]);
    assert_eq!(status["consistency"], "Crash", "one was a moment of its own");
}

/// The policy with a schedule, and the next moment that a look before has noted.
fn scheduled(shop: &Shop, noted: &str) {
    let snapshots = json!({ "schedule": "5 3 1 3 *", "timeZone": "UTC", "keep": 1 });
    let paths = json!([{ "label": "data", "path": "/data" }]);
    let mut policy = object("StatePolicy", "web", json!({ "paths": paths, "snapshots": snapshots }));
    policy["status"] = json!({ "nextSnapshotTime": noted });
    shop.server.put("statepolicies", policy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_up_for_what_was_missed_once_and_keeps_so_many() {
    let shop = Shop::new().await;
    let writer = shop.lineage(0).await;
    shop.pod(0, guarded());
    scheduled(&shop, "2024-03-01T03:05:00Z");
    let leader = shop.lead();
    let there = |name: &'static str| move |server: &ApiServer| server.get("statesnapshots", "shop", name);
    let first = shop.server.until(there("web-20240301-0305")).await;
    let meta = &first["metadata"];
    assert_eq!(
        (&meta["ownerReferences"][0]["name"], &meta["labels"]["holdfast.dev/scheduled-by"]),
        (&json!("web"), &json!("web"))
    );
    assert_eq!(first["spec"]["policies"], json!(["web"]));
    shop.until("web-20240301-0305", "Unknown", "AgentAway").await;
    let noted = shop.server.until(|server| {
        let status = server.get("statepolicies", "shop", "web")?["status"].clone();
        (status["lastSnapshotTime"] == "2024-03-01T03:05:00Z").then_some(status)
    });
    assert!(
        noted.await["nextSnapshotTime"].as_str().is_some_and(|next| next > "2026-03-02"),
        "the years between are not made up for"
    );
    // another moment comes while the first is still under way
    scheduled(&shop, "2025-03-01T03:05:00Z");
    shop.until("web-20240301-0305", "Unknown", "AgentAway").await;
    let mut agents = JoinSet::new();
    agents.spawn(obey((shop.agent(0).await, writer), Rest::Frozen, Duration::ZERO));
    shop.server.until(there("web-20250301-0305")).await;
    shop.until("web-20250301-0305", "True", "Taken").await;
    shop.server.until(|server| server.get("statesnapshots", "shop", "web-20240301-0305").is_none().then_some(())).await;
    assert_eq!((shop.in_store().await, shop.server.list("statesnapshots").len()), (1, 1), "one is kept, here and there");
    leader.end().await;
    let writes = shop.server.writes();
    let begun = |asked: &crate::cluster::kube_kit::Asked| {
        asked.method == ::http::Method::POST && asked.body["metadata"]["name"] == "web-20250301-0305"
    };
    let ended = |asked: &crate::cluster::kube_kit::Asked| {
        asked.path.ends_with("/web-20240301-0305/status") && asked.body["status"]["conditions"][0]["status"] == "True"
    };
    let (ended, begun) = (writes.iter().position(ended), writes.iter().position(begun));
    assert!(ended.is_some() && ended < begun, "one after the other: {ended:?}, {begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_taken_away_leaves_nothing_noted() {
    let shop = Shop::new().await;
    scheduled(&shop, "2024-03-01T03:05:00Z");
    let mut policy = shop.server.get("statepolicies", "shop", "web").expect("it is there");
    policy["spec"]["snapshots"]["suspend"] = json!(true);
    shop.server.put("statepolicies", policy);
    let leader = shop.lead();
    let noted = |server: &ApiServer| {
        server.get("statepolicies", "shop", "web").expect("it is there")["status"]["nextSnapshotTime"].clone()
    };
    shop.server.until(|server| noted(server).is_null().then_some(())).await;
    leader.end().await;
    assert_eq!(shop.server.list("statesnapshots").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_replicas_ran_as_stands_recorded() {
    let shop = Shop::new().await;
    let mut agents = JoinSet::new();
    agents.spawn(obey(shop.replica(0).await, Rest::Frozen, Duration::ZERO));
    let mut pod = shop.server.get("pods", "shop", "web-0").expect("it is there");
    pod["spec"]["volumes"] = json!([{ "name": "state", "persistentVolumeClaim": { "claimName": "state-web-0" } }]);
    let ran = |name: &str| json!({ "name": name, "image": "web:7", "imageID": "registry.example/web@sha256:abcd", "ready": true, "restartCount": 0 });
    pod["status"]["containerStatuses"] = json!([ran("web")]);
    shop.server.put("pods", pod);
    let of = |kind: &str, version: &str, name: &str, more: Value| {
        let metadata = json!({ "name": name, "namespace": "shop", "managedFields": [{ "manager": "kubectl" }],
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "blue" } });
        let mut object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "status": { "phase": "Bound" } });
        json_patch::merge(&mut object, &more);
        object
    };
    let container = json!({ "name": "web", "env": [{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "keys", "key": "k" } } }],
        "envFrom": [{ "configMapRef": { "name": "settings" } }, { "configMapRef": { "name": "not-there" } }] });
    let template = json!({ "metadata": {}, "spec": { "containers": [container], "serviceAccountName": "runner" } });
    let spec = json!({ "spec": { "replicas": 1, "serviceName": "web", "selector": {}, "template": template } });
    shop.server.put("statefulsets", of("StatefulSet", "apps/v1", "web", spec));
    shop.server.put("configmaps", of("ConfigMap", "v1", "settings", json!({ "data": { "colour": "red" } })));
    shop.server.put("configmaps", of("ConfigMap", "v1", "of-others", json!({ "data": {} })));
    shop.server.put("secrets", of("Secret", "v1", "keys", json!({ "data": { "k": "aHVzaA==" } })));
    let bound = json!({ "metadata": { "annotations": { "pv.kubernetes.io/bound-by-controller": "yes" } }, "spec": { "volumeName": "pv-1", "accessModes": ["ReadWriteOnce"] } });
    shop.server.put("persistentvolumeclaims", of("PersistentVolumeClaim", "v1", "state-web-0", bound));
    let leader = shop.lead();
    shop.apply("whole", json!({ "policies": ["web"] }));
    let status = shop.until("whole", "True", "Taken").await;
    leader.end().await;
    let recorded = [
        "StatefulSet web",
        "ConfigMap settings",
        "PersistentVolumeClaim state-web-0",
        "Secret keys (name only)",
        "ServiceAccount runner (name only)",
        "StatePolicy web",
    ];
    assert_eq!(status["recorded"], json!(recorded));
    let setting =
        shop.served.coordinator.api().setting(status["snapshotId"].as_str().expect("an id"), "shop").await.expect("a setting");
    let body = |kind: &str| -> Value {
        let manifest = setting.manifests.iter().find(|manifest| manifest.kind == kind).expect("it is recorded");
        serde_json::from_slice(&manifest.json).unwrap_or_default()
    };
    assert_eq!(
        body("ConfigMap"),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "colour": "red" },
        "metadata": { "name": "settings", "namespace": "shop", "annotations": { "team": "blue" } } })
    );
    assert_eq!(
        body("PersistentVolumeClaim")["spec"],
        json!({ "accessModes": ["ReadWriteOnce"] }),
        "the cluster chose its volume"
    );
    assert_eq!(body("StatefulSet")["spec"]["template"]["spec"]["serviceAccountName"], "runner");
    assert_eq!(body("StatePolicy")["metadata"], json!({ "name": "web", "namespace": "shop" }));
    assert_eq!(body("Secret"), Value::Null);
    assert!(!shop.server.reads().iter().any(|path| path.contains("/secrets/")), "no Secret is even read");
    let images: Vec<(&str, &str, &str)> =
        setting.images.iter().map(|image| (image.lineage.as_str(), image.container.as_str(), image.digest.as_str())).collect();
    assert_eq!(images, [("statefulset/web/0", "web", "registry.example/web@sha256:abcd")]);
}
