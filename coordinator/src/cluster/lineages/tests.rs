// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::RepositoryState;
use crate::cluster::kube_kit::ApiServer;
use crate::session::{Guest, Seat};
use crate::{Access, Config, Coordinator};
use holdfast_core::id::OwnerId;
use holdfast_proto::v1::{self, LineageRef};
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::Transport;
use holdfast_store::transport::memory::Memory;
use serde_json::Value;
use std::sync::Arc;

struct Scene {
    memory: Arc<Memory>,
    server: ApiServer,
    client: Client,
    clock: Clock,
    coordinator: Coordinator,
    repositories: Repositories,
    waiting: HashMap<Name, (String, WaitingFor)>,
    verified: BTreeMap<Name, Verified>,
    pods: HashMap<Name, PodFacts>,
    lineages: Lineages,
    metrics: metrics::Metrics,
    events: Events,
    told: crate::cluster::events::Queue,
}

fn name() -> Name {
    ("shop".to_owned(), "statefulset-web-0".to_owned())
}

impl Scene {
    async fn new() -> Self {
        let (server, memory) = (ApiServer::default(), Arc::new(Memory::default()));
        let transport: Arc<dyn Transport> = memory.clone();
        let repository = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("a repository");
        let coordinator = Coordinator::new(Config {
            repository,
            owner: OwnerId::new([1; 16]),
            access: Access::Open,
            domain: Some("shop".to_owned()),
        });
        let ready = RepositoryState::Ready(coordinator.clone());
        let repositories = [(RepositoryKey::new("shop", "default"), ready)].into_iter().collect();
        let spec = json!({ "policy": "web", "repository": "default", "lineage": "statefulset/web/0", "workload": { "kind": "StatefulSet", "name": "web" }, "slot": "0" });
        server.put("statelineages", json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateLineage", "metadata": { "name": name().1, "namespace": "shop" }, "spec": spec }));
        let pods = HashMap::from([(name(), PodFacts { node: Some("node-1".to_owned()), ..PodFacts::default() })]);
        let (client, clock) = (server.client(), Clock::new());
        let metrics = metrics::Metrics::default();
        let (events, told) = Events::new(metrics.clone());
        let (waiting, verified, lineages) = (HashMap::new(), BTreeMap::new(), Lineages::default());
        Self {
            memory,
            server,
            client,
            clock,
            coordinator,
            repositories,
            waiting,
            verified,
            pods,
            lineages,
            metrics,
            events,
            told,
        }
    }

    async fn sit(&self) -> Seat {
        let names = LineageRef { domain: "shop".to_owned(), lineage: "statefulset/web/0".to_owned() };
        let place = self.coordinator.shared.catalog.begin(Some(names.clone()), "lineage").await.expect("a place");
        let guest = Guest {
            key: place.key(),
            names,
            instance: [7; 16],
            holder: "pod shop/web-0".to_owned(),
            version: "0.1.0".to_owned(),
            barriers: false,
        };
        self.coordinator.shared.desk.open(guest).expect("a seat")
    }

    async fn sweep(&mut self) -> Vec<Name> {
        let objects = [Arc::new(serde_json::from_value::<StateLineage>(self.object()).expect("a lineage"))];
        let limits = HashMap::new();
        let sources = Sources {
            client: &self.client,
            clock: self.clock,
            events: &self.events,
            repositories: &self.repositories,
            pods: &self.pods,
            limits: &limits,
            waiting: &self.waiting,
            verified: &self.verified,
        };
        self.lineages.sweep(&sources, &objects, &self.metrics).await
    }

    fn object(&self) -> Value {
        self.server.get("statelineages", "shop", &name().1).expect("it is there")
    }

    fn message(&self) -> Value {
        self.object()["status"]["conditions"][0]["message"].clone()
    }

    fn reason(&self) -> Value {
        self.object()["status"]["conditions"][0]["reason"].clone()
    }

    /// As if the last write were long ago.
    fn let_it_write(&mut self) {
        self.lineages.known.values_mut().for_each(|known| known.written = None);
    }
}

fn live(phase: Phase, lag_ms: u64) -> v1::Live {
    v1::Live { phase: phase.into(), lag_ms, ..v1::Live::default() }
}

#[tokio::test]
async fn what_the_agent_says_is_shown_and_then_left_alone() {
    let mut scene = Scene::new().await;
    let seat = scene.sit().await;
    seat.heard(live(Phase::Streaming, 1500));
    let closed = prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 };
    seat.stored(v1::StatusReport {
        sequence: 7,
        quality: Quality::Fuzzy.into(),
        last_close: Some(closed),
        bytes: 42,
        live: None,
    });
    assert_eq!(scene.sweep().await, [name()]);
    let status = scene.object()["status"].clone();
    assert_eq!(scene.reason(), "Streaming");
    assert_eq!((&status["lagSeconds"], &status["node"]), (&json!(2), &json!("node-1")));
    assert_eq!(status["checkpoint"], json!({ "sequence": 7, "time": "2027-01-15T08:00:00Z", "quality": "Fuzzy", "bytes": 42 }));
    scene.server.forget_requests();
    scene.let_it_write();
    seat.heard(live(Phase::Streaming, 1500));
    scene.sweep().await;
    assert_eq!(scene.server.writes(), [], "nothing is new");
    // everything is durable now, and until just now something was not
    seat.heard(v1::Live { lag_lately_ms: 2500, ..live(Phase::Streaming, 0) });
    scene.sweep().await;
    assert_eq!(scene.object()["status"]["lagSeconds"], 3);
    // its agent tells the greatest of a while: what it does not tell any more is not shown any longer
    seat.heard(live(Phase::Streaming, 0));
    scene.let_it_write();
    scene.sweep().await;
    assert_eq!(scene.object()["status"]["lagSeconds"], 0);
    assert!(scene.metrics.text().contains(r#"lineage_protected{namespace="shop",lineage="statefulset-web-0"} 1"#));
}

#[tokio::test]
async fn a_change_is_written_soon_and_less_lag_now_and_then() {
    let mut scene = Scene::new().await;
    let seat = scene.sit().await;
    seat.heard(live(Phase::Streaming, 0));
    scene.sweep().await;
    seat.heard(live(Phase::Streaming, 60_000));
    assert_eq!(scene.sweep().await, [] as [Name; 0]);
    assert_eq!(scene.reason(), "Streaming", "not that soon");
    scene.let_it_write();
    scene.sweep().await;
    assert_eq!(scene.reason(), "Lagging");
    let told: Vec<_> = std::iter::from_fn(|| scene.told.try_recv().ok()).map(|news| (news.about.kind, news.reason)).collect();
    assert_eq!(
        told,
        [(Some("StateLineage".to_owned()), "StateUnprotected"), (None, "StateUnprotected")],
        "of the lineage and of its pod, once"
    );
    let lag = |lag| StateLineageStatus { lag_seconds: Some(lag), ..StateLineageStatus::default() };
    assert_eq!(change(Some(&lag(1)), &lag(2)), Some(Change::More));
    assert_eq!(change(Some(&lag(2)), &lag(1)), Some(Change::LessLag));
    assert_eq!(change(Some(&lag(1)), &lag(1)), None);
    assert_eq!(change(Some(&lag(1)), &StateLineageStatus::default()), Some(Change::More));
    let moved = StateLineageStatus { node: Some("other".to_owned()), ..lag(1) };
    assert_eq!(change(Some(&lag(1)), &moved), Some(Change::More));
}

#[tokio::test]
async fn an_agent_that_has_gone_is_missed_while_its_pod_runs() {
    let mut scene = Scene::new().await;
    let seat = scene.sit().await;
    seat.heard(live(Phase::Streaming, 4000));
    scene.sweep().await;
    drop(seat);
    scene.let_it_write();
    scene.sweep().await;
    assert_eq!(scene.reason(), "Reconnecting");
    scene.pods.clear();
    scene.let_it_write();
    assert_eq!(scene.sweep().await, [] as [Name; 0]);
    assert_eq!(scene.reason(), "Unsealed", "it had not made everything durable");
    assert_eq!(scene.object()["status"]["node"], "node-1", "the last one");
}

#[tokio::test]
async fn what_an_agent_has_made_durable_at_last_is_read_when_it_has_gone() {
    let mut scene = Scene::new().await;
    let seat = scene.sit().await;
    seat.heard(live(Phase::Streaming, 4000));
    let closed = prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 };
    seat.stored(v1::StatusReport {
        sequence: 7,
        quality: Quality::Clean.into(),
        last_close: Some(closed),
        bytes: 42,
        live: None,
    });
    scene.sweep().await;
    drop(seat);
    scene.pods.clear();
    // as long as the store does not answer, nobody knows what there is: neither that it is lost, nor that it is less than what was there
    scene.memory.set_failing(true);
    scene.let_it_write();
    scene.sweep().await;
    assert_eq!((scene.reason(), scene.object()["status"]["checkpoint"]["sequence"].clone()), (json!("NotRead"), json!(7)));
    scene.memory.set_failing(false);
    scene.lineages.known.values_mut().for_each(|known| known.not_read = None);
    scene.let_it_write();
    scene.sweep().await;
    assert_eq!(scene.reason(), "Unsealed");
    // and whoever leads next, who has heard nothing of it
    scene.lineages = Lineages::default();
    scene.sweep().await;
    assert_eq!(scene.reason(), "Unsealed");
}

/// What is shown as lag lasts for a while, and its greatest says nothing of what was durable at last.
#[tokio::test]
async fn whoever_leads_next_judges_by_what_was_not_durable() {
    let cases = [
        (v1::Live { lag_lately_ms: 2500, ..live(Phase::Streaming, 0) }, 3, "AtRest"),
        (v1::Live { lag_lately_ms: 2500, ..live(Phase::Streaming, 700) }, 3, "Unsealed"),
        (v1::Live { dirty_paths: 1, ..live(Phase::Streaming, 0) }, 0, "Unsealed"),
        (live(Phase::Seeding, 0), 0, "Unsealed"),
        (live(Phase::Streaming, 0), 0, "AtRest"),
    ];
    for (said, shown, wanted) in cases {
        let mut scene = Scene::new().await;
        let seat = scene.sit().await;
        seat.heard(said.clone());
        scene.sweep().await;
        assert_eq!(scene.object()["status"]["lagSeconds"], shown, "{said:?}");
        // both are gone at once, and nobody has heard of the pod since
        (scene.lineages, scene.pods) = (Lineages::default(), HashMap::new());
        drop(seat);
        scene.sweep().await;
        assert_eq!(scene.reason(), wanted, "{said:?}");
        // an agent that waits makes nothing durable
        let seat = scene.sit().await;
        seat.heard(live(Phase::Waiting, 0));
        scene.let_it_write();
        scene.sweep().await;
        assert_eq!(scene.reason(), "Waiting");
        drop(seat);
        scene.let_it_write();
        scene.sweep().await;
        assert_eq!(scene.reason(), wanted, "{said:?}");
    }
}

#[tokio::test]
async fn what_an_agent_can_not_capture_is_told_until_it_can() {
    let mut scene = Scene::new().await;
    let seat = scene.sit().await;
    let problem = v1::Problem { path: b"/data/key".to_vec().into(), what: "Permission denied (os error 13)".to_owned() };
    seat.heard(v1::Live { problems: 3, problem: Some(problem), ..live(Phase::Streaming, 0) });
    assert_eq!(scene.sweep().await, [] as [Name; 0]);
    let condition = |scene: &Scene| scene.object()["status"]["conditions"][0].clone();
    assert_eq!((&condition(&scene)["status"], scene.reason()), (&json!("False"), json!("Unreadable")));
    assert_eq!(
        scene.message(),
        "/data/key can't be captured (Permission denied (os error 13)), nor 2 more: a start elsewhere would bring back what was captured of it before, \
         if anything"
    );
    let told = scene.told.try_recv().expect("an Event");
    assert_eq!((told.is_warning, told.reason), (true, "StateUnprotected"));
    seat.heard(live(Phase::Streaming, 0));
    scene.let_it_write();
    assert_eq!(scene.sweep().await, [name()]);
    assert_eq!((&condition(&scene)["status"], scene.reason()), (&json!("True"), json!("Streaming")));
}

/// What its newest checkpoint lacks, it lacks without a pod, too.
#[tokio::test]
async fn what_could_not_be_captured_is_told_when_the_pod_has_gone() {
    let mut scene = Scene::new().await;
    let problem = v1::Problem { path: b"/data/key".to_vec().into(), what: "denied".to_owned() };
    let seat = scene.sit().await;
    seat.heard(v1::Live { problems: 1, problem: Some(problem), ..live(Phase::Streaming, 0) });
    scene.sweep().await;
    let said = scene.message();
    scene.pods = HashMap::new();
    drop(seat);
    // whoever led then says so, and whoever leads next
    for lineages in [std::mem::take(&mut scene.lineages), Lineages::default()] {
        scene.lineages = lineages;
        scene.let_it_write();
        scene.sweep().await;
        assert_eq!((scene.reason(), scene.message()), (json!("Unreadable"), said.clone()));
    }
    // an agent that captures nothing yet does not know better; one that does, does
    for (phase, then) in [(Phase::Waiting, "Unreadable"), (Phase::Restoring, "Unreadable"), (Phase::Streaming, "AtRest")] {
        let seat = scene.sit().await;
        seat.heard(live(phase, 0));
        scene.let_it_write();
        scene.sweep().await;
        drop(seat);
        scene.let_it_write();
        scene.sweep().await;
        assert_eq!(scene.reason(), then, "{phase:?}");
    }
    let written = scene.server.writes();
    let last = written.last().expect("it was written");
    assert_eq!(last.body["status"].get("unreadable"), None, "what is applied without it has it no more");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_keeps_no_status_back() {
    let mut scene = Scene::new().await;
    let seat = scene.sit().await;
    scene.memory.set_silent(true);
    for lag_ms in [60_000, 70_000] {
        seat.heard(live(Phase::Streaming, lag_ms));
        scene.let_it_write();
        tokio::time::timeout(Duration::from_secs(20), scene.sweep()).await.expect("nobody waits for the store");
        assert_eq!((scene.reason(), scene.object()["status"]["lagSeconds"].clone()), (json!("Lagging"), json!(lag_ms / 1000)));
    }
    assert_eq!(scene.lineages.reading.len(), 1, "it is asked once");
    // what was asked then is known once it answers
    scene.memory.set_silent(false);
    scene.sweep().await;
    assert!(scene.lineages.reading.is_empty() && scene.lineages.known.values().all(|known| known.logged.is_some()));
}

#[tokio::test]
async fn a_repository_that_is_not_opened_yet_is_not_called_missing() {
    let mut scene = Scene::new().await;
    scene.repositories = std::iter::empty().collect();
    scene.sweep().await;
    assert_eq!(scene.message(), "its repository can't be used: there is no StateRepository shop/default");
    scene.repositories = [(RepositoryKey::new("shop", "default"), RepositoryState::Opening)].into_iter().collect();
    scene.let_it_write();
    scene.sweep().await;
    assert_eq!(scene.message(), "its repository can't be used: it is being opened");
}

#[tokio::test]
async fn one_that_can_not_be_written_is_left_in_peace_for_a_while() {
    let mut scene = Scene::new().await;
    scene.server.on(|method, path, _| {
        let refusal = crate::cluster::kube_kit::failure(http::StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "no");
        (*method == http::Method::PATCH && path.ends_with("/status"))
            .then_some((http::StatusCode::INTERNAL_SERVER_ERROR, refusal))
    });
    for _ in 0..20 {
        scene.sweep().await;
    }
    assert_eq!(scene.server.writes().len(), 1);
    assert!(scene.metrics.text().contains(r#"reconcile_errors_total{kind="StateLineage"} 1"#));
}
