// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::kit::{OWNER, SystemClock, World, names};
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::leading::kit::{self, coordinator, object, repository, table};
use crate::cluster::{Holds, Repositories};
use crate::service::snapshot::Terms;
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::HolderKey;
use holdfast_core::time::Interval;
use holdfast_proto::v1::CreateSnapshotRequest;
use holdfast_store::capture::Clock as _;
use holdfast_store::log::Log;
use holdfast_store::reader::Reader;
use holdfast_store::record::RecordKind;
use holdfast_store::snapshot::Setting;
use holdfast_store::transport::Transport;
use holdfast_store::write::{CheckpointMeta, Opening, Session, Takeover, Tuning};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

mod delivery;

/// A namespace with a repository, and two replicas of the workload `web`.
struct Shop {
    world: World,
    coordinator: Coordinator,
    server: ApiServer,
    repositories: watch::Sender<Repositories>,
}

/// A controller at work, and what it holds shut.
struct Leader {
    at_work: kit::Leader,
    holds: watch::Receiver<Holds>,
    couriers: watch::Receiver<Couriers>,
}

impl Leader {
    async fn end(self) {
        self.at_work.end().await;
    }

    fn shut(&self) -> Vec<String> {
        self.holds.borrow().keys().map(|(_, name)| name.clone()).collect()
    }

    async fn until_shut(&mut self, count: usize) {
        let waiting = self.holds.wait_for(|holds| holds.len() == count);
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("in time").expect("a leader");
    }
}

fn lineage(slot: u8) -> String {
    format!("statefulset/web/{slot}")
}

/// An agent claims a lineage, has restored what the claim says, and captures it.
pub(super) async fn captures_what_it_restored(world: &World, lineage: &str, holder: u8) {
    let transport: Arc<dyn Transport> = world.memory.clone();
    let domain = Arc::clone(&world.domain);
    let opening = Opening {
        reader: Arc::new(Reader::new(transport, domain, tokio::runtime::Handle::current(), None)),
        name: lineage.to_owned(),
        owner: OWNER,
        holder: "an agent".to_owned(),
        holder_key: HolderKey::new([holder; 16]),
        takeover: Takeover::SameOwner,
        watermark: None,
        back_to: None,
        tuning: Tuning::default(),
        now: SystemClock.now(),
    };
    let mut session = Session::open(opening).await.expect("a session");
    let now = SystemClock.now();
    let work = move || {
        let (roots, totals) = (session.roots().to_vec(), *session.totals());
        let interval = Interval { first_open: now, last_close: now, clock_error: Duration::ZERO };
        let (scope, problems) = (session.scope().clone(), Vec::new());
        let meta = CheckpointMeta { interval, quality: Quality::Clean, scope, totals, volume: None, problems, now };
        session.commit(&roots, meta).map(drop)
    };
    tokio::task::spawn_blocking(work).await.expect("a thread").expect("a checkpoint");
}

impl Shop {
    async fn new() -> Self {
        let world = World::new().await;
        let coordinator = coordinator(&world);
        let table = table(&coordinator, &["default"]);
        let server = ApiServer::default();
        server.put("staterepositories", repository());
        let shop = Self { world, coordinator, server, repositories: watch::Sender::new(table) };
        for slot in [0, 1] {
            let workload = json!({ "kind": "StatefulSet", "name": "web" });
            let spec = json!({ "policy": "web", "repository": "default", "lineage": lineage(slot), "slot": slot.to_string(), "workload": workload });
            shop.server.put("statelineages", object("StateLineage", &format!("statefulset-web-{slot}"), spec));
            shop.pod(slot, json!({}));
        }
        let metadata = json!({ "name": "web", "namespace": "shop" });
        let spec = json!({ "replicas": 2, "serviceName": "web", "selector": {}, "template": {} });
        shop.server
            .put("statefulsets", json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec }));
        shop
    }

    fn pod(&self, slot: u8, more: Value) {
        let labels =
            json!({ "app": "web", "holdfast.dev/policy": "web", "holdfast.dev/lineage": format!("statefulset-web-{slot}") });
        let owner = json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true }]);
        let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "status": { "phase": "Running" }, "spec": { "containers": [] },
            "metadata": { "name": format!("web-{slot}"), "namespace": "shop", "labels": labels, "ownerReferences": owner } });
        json_patch::merge(&mut pod, &more);
        self.server.put("pods", pod);
    }

    fn log(&self, slot: u8) -> Log {
        let transport: Arc<dyn Transport> = self.world.memory.clone();
        Log::new(transport, Arc::clone(&self.world.domain), self.world.domain.keys.identity.lineage_id(&lineage(slot)))
    }

    async fn head(&self, slot: u8) -> u64 {
        self.log(slot).head(0).await.expect("a head")
    }

    /// Claims in a log for restores.
    async fn claims(&self, slot: u8) -> usize {
        let (log, mut count) = (self.log(slot), 0);
        for sequence in 1..=self.head(slot).await {
            let record = log.read_body(sequence).await.expect("a record");
            count += usize::from(matches!(record.kind, RecordKind::Claim(claim) if claim.holder.contains("StateRestore")));
        }
        count
    }

    /// Two states of each replica, and a snapshot of the first; the numbers of their checkpoints.
    async fn history(&self) -> Vec<(u64, u64)> {
        let (mut writers, mut first) = (Vec::new(), Vec::new());
        for slot in [0, 1] {
            let mut writer = self.world.writer(&lineage(slot)).await;
            writer.write("book", format!("then, of {slot}"));
            first.push(writer.checkpoint().await.sequence);
            writers.push(writer);
        }
        let request = CreateSnapshotRequest {
            name: "then".to_owned(),
            lineages: [0, 1].iter().map(|slot| names(&lineage(*slot))).collect(),
            request_id: "then".to_owned(),
            ..CreateSnapshotRequest::default()
        };
        let terms = Terms {
            within: Duration::from_secs(30),
            pause: Duration::from_secs(1),
            rename: false,
            setting: Setting::default(),
            absent: Vec::new(),
        };
        let snapshot = self.coordinator.api().taken(request, terms).await.expect("a snapshot");
        let mut taken = object("StateSnapshot", "then", json!({ "policies": ["web"] }));
        taken["status"] = json!({ "snapshotId": snapshot.id, "repository": "shop/default" });
        self.server.put("statesnapshots", taken);
        let mut all = Vec::new();
        for (mut writer, first) in writers.into_iter().zip(first) {
            writer.write("book", "since then");
            all.push((first, writer.checkpoint().await.sequence));
        }
        all
    }

    /// What a pod's agent does when its gate opens: it claims the lineage, and captures what it has restored; or what it should have restored.
    async fn starts(&self, slot: u8, restores: bool) {
        if !restores {
            let mut writer = self.world.writer(&lineage(slot)).await;
            writer.write("other", "what nobody asked for");
            writer.checkpoint().await;
            return;
        }
        captures_what_it_restored(&self.world, &lineage(slot), slot).await;
    }

    fn apply(&self, name: &str, spec: Value) {
        self.server.put("staterestores", object("StateRestore", name, spec));
    }

    fn lead(&self) -> Leader {
        let (mut at_work, with) = kit::Leader::new(&self.server, &self.repositories);
        let (told, holds) = watch::channel(Holds::default());
        let (sent, couriers) = watch::channel(Couriers::default());
        let context = Context {
            with,
            system: "holdfast-system".to_owned(),
            slots: watch::channel(Arc::default()).1,
            held: Held::new(told),
            couriers: sent,
            pauses: Pauses::default(),
        };
        at_work.tasks.spawn(run(Arc::new(context), at_work.stop.clone()));
        Leader { at_work, holds, couriers }
    }

    fn status(&self, name: &str) -> Value {
        self.server.get("staterestores", "shop", name).map(|found| found["status"].clone()).unwrap_or_default()
    }

    /// Waits until the condition says this, and returns the status.
    async fn until(&self, name: &str, is: &str, reason: &str) -> Value {
        self.until_said(name, is, reason, "").await
    }

    async fn until_said(&self, name: &str, is: &str, reason: &str, word: &str) -> Value {
        self.server
            .until(|_| {
                let status = self.status(name);
                let said = &status["conditions"][0];
                let has_word = said["message"].as_str().is_some_and(|message| message.contains(word));
                (said["status"] == is && said["reason"] == reason && has_word).then_some(status)
            })
            .await
    }

    /// Pods that are asked to end don't.
    fn pods_are_stubborn(&self) {
        self.server.on(move |method, path, _| {
            let name = path.rsplit('/').next()?;
            let asked = *method == Method::DELETE && path.contains("/pods/");
            asked.then(|| (StatusCode::OK, json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name } })))
        });
    }

    /// A pod was asked to end, and should have by now.
    fn pod_is_ending(&self, slot: u8) {
        self.pod(slot, json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
    }

    fn pod_ends(&self, slot: u8) {
        let pod = self.server.get("pods", "shop", &format!("web-{slot}")).expect("a pod");
        self.server.delete(&crate::cluster::kube_kit::Key::of("pods", &pod));
    }

    async fn event(&self, reason: &str) -> Value {
        self.server.until(|server| server.list("events").into_iter().find(|event| event["reason"] == reason)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_back_in_place_and_is_taken_back() {
    let shop = Shop::new().await;
    let history = shop.history().await;
    let mut leader = shop.lead();
    shop.apply("plan", json!({ "source": { "snapshot": "then" }, "dryRun": true }));
    let planned = shop.until("plan", "True", "Planned").await;
    assert_eq!((planned["plan"].as_array().map(Vec::len), shop.server.list("pods").len()), (Some(3), 2), "{planned}");
    assert!(shop.claims(0).await == 0 && planned["members"].is_null() && leader.shut().is_empty());
    shop.apply("back", json!({ "source": { "snapshot": "then" } }));
    let open = shop.until("back", "Unknown", "Starting").await;
    leader.until_shut(0).await;
    assert!(shop.server.list("pods").is_empty(), "both have ended");
    assert_eq!((shop.claims(0).await, shop.claims(1).await, open["members"][1]["before"].as_u64()), (1, 1, Some(history[1].1)));
    shop.starts(0, true).await;
    shop.until_said("back", "Unknown", "Starting", "receipts: statefulset-web-1 (it has no pod").await;
    shop.starts(1, true).await;
    let status = shop.until("back", "True", "Restored").await;
    for (receipt, (then, newer)) in status["receipts"].as_array().expect("receipts").iter().zip(&history) {
        assert_eq!((receipt["sequence"].as_u64(), receipt["before"].as_u64()), (Some(*then), Some(*newer)), "{receipt}");
        assert_eq!((&receipt["rootAsked"], &receipt["deviations"]), (&receipt["rootFound"], &json!(0)));
    }
    assert_eq!(
        (&status["phase"], &status["receiptCount"], status["restoredTo"].is_string()),
        (&json!("Restored"), &json!(2), true)
    );
    assert_eq!(
        (shop.world.pins(&lineage(0)).await, shop.event("WentBack").await["regarding"]["kind"].as_str()),
        (1, Some("StateLineage"))
    );
    shop.apply("undo", json!({ "source": { "undo": "back" } }));
    shop.until("undo", "Unknown", "Starting").await;
    shop.starts(0, true).await;
    // this one finds what it was not asked for
    shop.starts(1, false).await;
    let undone = shop.until("undo", "False", "NotAsItWas").await;
    let of = |index: usize| {
        (undone["receipts"][index]["sequence"].as_u64(), undone["receipts"][index]["deviations"].as_i64() > Some(1))
    };
    assert_eq!((of(0), of(1)), ((Some(history[0].1), false), (Some(history[1].1), true)), "one more, one less");
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_has_done_and_not_told_is_done_once() {
    let shop = Shop::new().await;
    shop.history().await;
    // the first leader claims, and can't write down that it has
    let fails = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&fails);
    shop.server.on(move |method, path, body| {
        let tells =
            *method == Method::PATCH && path.contains("/staterestores/") && body["status"]["members"][0]["claim"].is_number();
        let failure = crate::cluster::kube_kit::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "no");
        (tells && asked.load(Ordering::SeqCst)).then_some((StatusCode::INTERNAL_SERVER_ERROR, failure))
    });
    let mut leader = shop.lead();
    shop.apply("back", json!({ "source": { "snapshot": "then" } }));
    leader.until_shut(2).await;
    while shop.claims(1).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(leader.shut().len(), 2, "nothing opens before it stands written");
    leader.end().await;
    fails.store(false, Ordering::SeqCst);
    let heads = (shop.head(0).await, shop.head(1).await);
    let mut leader = shop.lead();
    shop.until("back", "Unknown", "Starting").await;
    leader.until_shut(0).await;
    assert_eq!((shop.head(0).await, shop.head(1).await), heads, "what is there is found");
    // an application that has started is never brought back again, whoever leads, whatever it writes
    shop.starts(0, true).await;
    shop.starts(1, true).await;
    leader.end().await;
    let leader = shop.lead();
    shop.until("back", "True", "Restored").await;
    leader.end().await;
    assert_eq!((shop.claims(0).await, shop.claims(1).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_end_is_waited_for_and_giving_up_opens_the_gates() {
    let shop = Shop::new().await;
    shop.history().await;
    shop.pods_are_stubborn();
    let mut leader = shop.lead();
    shop.apply("back", json!({ "source": { "snapshot": "then" } }));
    shop.until_said("back", "Unknown", "Stopping", "asked to end: web-0, web-1").await;
    shop.pod_is_ending(0);
    shop.until_said("back", "Unknown", "Stopping", "asked to end: web-1").await;
    shop.pod_is_ending(1);
    let status = shop.until_said("back", "Unknown", "Stopping", "should have ended").await;
    let message = status["conditions"][0]["message"].as_str().expect("a message");
    assert!(message.contains("web-0, web-1") && message.contains("out-of-service"), "{message}");
    shop.apply("second", json!({ "source": { "checkpoint": { "lineage": "statefulset-web-0", "sequence": 2 } } }));
    let refused = shop.until("second", "False", "OtherRestore").await;
    assert!(refused["conditions"][0]["message"].as_str().is_some_and(|said| said.contains("shop/back")), "{refused}");
    leader.end().await;
    // the next leader shuts what was shut before it lets anybody in, and goes on
    leader = shop.lead();
    leader.until_shut(2).await;
    shop.pod_ends(0);
    shop.until_said("back", "Unknown", "Stopping", "any more: web-1").await;
    assert_eq!((shop.claims(0).await, leader.shut().len()), (0, 2), "not one before all");
    let back = shop.server.get("staterestores", "shop", "back").expect("it is there");
    shop.server.delete(&crate::cluster::kube_kit::Key::of("staterestores", &back));
    leader.until_shut(0).await;
    let note = shop.event("RestoreAbandoned").await["note"].to_string();
    assert!(note.contains("it goes on as it was"), "{note}");
    leader.end().await;
    assert_eq!(shop.claims(0).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_is_that_of_each_replica_where_no_snapshot_is_consistent() {
    let shop = Shop::new().await;
    let history = shop.history().await;
    let leader = shop.lead();
    let now = SystemClock.now().to_jiff().to_string();
    shop.apply("early", json!({ "source": { "time": "2020-01-01T00:00:00Z", "policies": ["web"] } }));
    shop.until("early", "False", "NothingStored").await;
    shop.apply("late", json!({ "source": { "time": "2100-01-01T00:00:00Z", "policies": ["web"] } }));
    shop.until("late", "False", "Invalid").await;
    shop.apply("none", json!({ "source": { "time": now, "policies": ["idle"] } }));
    shop.until("none", "False", "NothingSelected").await;
    shop.apply("beside", json!({ "source": { "time": now, "policies": ["web"] }, "elsewhere": { "namespace": "bank" } }));
    shop.until("beside", "False", "NotBeside").await;
    shop.apply("waits", json!({ "source": { "snapshot": "none" } }));
    shop.until("waits", "Unknown", "SnapshotNotFound").await;
    shop.apply("plan", json!({ "source": { "time": now, "policies": ["web"] }, "dryRun": true }));
    let status = shop.until("plan", "True", "Planned").await;
    let plan = status["plan"].to_string();
    assert!(plan.contains("since no consistent snapshot of then holds them all"), "{plan}");
    assert!(plan.contains(&format!("statefulset-web-0 goes to checkpoint {} of", history[0].1)), "{plan}");
    leader.end().await;
    assert_eq!((shop.claims(0).await, shop.server.list("pods").len()), (0, 2));
}
