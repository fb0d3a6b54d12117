// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::Coordinator;
use crate::cluster::events::News;
use crate::cluster::kit::World;
use crate::cluster::kube_kit::{ApiServer, failure};
use crate::cluster::leading::Objects;
use crate::cluster::leading::kit::{coordinator, object, still, table};
use holdfast_core::time::Timestamp;
use http::StatusCode;
use kube::runtime::reflector::store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;

const NEW: &str = "agent:2";

/// Holdfast and some pods on an API server, and what upgrades their agents: it sees what is there when a test says so.
struct Scene {
    server: ApiServer,
    upgrade: Upgrade,
    memory: Memory,
    told: mpsc::Receiver<News>,
    holds: watch::Sender<Holds>,
    pods: Writer<Pod>,
    lineages: Writer<StateLineage>,
    now: Now,
    /// The repository of all of them.
    coordinator: Coordinator,
}

fn deployment(server: &ApiServer, name: &str, image: &str) {
    let container = json!({ "name": name, "env": [{ "name": "HOLDFAST_AGENT_IMAGE", "value": image }] });
    let status = json!({ "observedGeneration": 9, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 });
    let spec = json!({ "selector": {}, "template": { "spec": { "containers": [container] } } });
    let meta = json!({ "name": name, "namespace": "holdfast-system" });
    server.put(
        "deployments",
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec, "status": status }),
    );
}

impl Scene {
    /// With these workloads of one pod each.
    async fn new(workloads: &[&str]) -> Self {
        let (world, server) = (World::new().await, ApiServer::default());
        let coordinator = coordinator(&world);
        let ((pods, pods_feed), (lineages, lineages_feed)) = (store(), store());
        let objects = Objects { pods, lineages, policies: store().0, repositories: store().0, first: Arc::default() };
        let (_, repositories) = watch::channel(table(&coordinator, &["default"]));
        let (with, told) = still(&server, repositories, objects);
        let (holds, held) = watch::channel(Holds::default());
        let upgrade = Upgrade { with, system: "holdfast-system".to_owned(), at_once: 5, holds: held };
        let now = Now { day: Timestamp::from_nanos(1_767_225_600_000_000_000), steady: Monotonic(Duration::from_secs(1000)) };
        deployment(&server, WEBHOOK, NEW);
        deployment(&server, COORDINATOR, "");
        let memory = Memory::default();
        let scene = Self { server, upgrade, memory, told, holds, pods: pods_feed, lineages: lineages_feed, now, coordinator };
        for name in workloads {
            scene.put(name);
            scene.protect(name, "Streaming");
            scene.runs(name, "a");
        }
        scene
    }

    fn put(&self, name: &str) {
        let sidecar = json!({ "name": "holdfast-agent", "image": "agent:1", "restartPolicy": "Always" });
        let gate = json!({ "name": "holdfast-gate", "image": "agent:1" });
        let meta =
            json!({ "name": format!("{name}-x"), "namespace": "shop", "labels": { "holdfast.dev/lineage": name, "app": name } });
        let containers = json!([{ "name": "app", "image": "app:1" }]);
        let spec = json!({ "containers": containers, "initContainers": [sidecar, gate] });
        self.server.put("pods", json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec }));
    }

    fn pod(&self, name: &str) -> Value {
        self.server.get("pods", "shop", &format!("{name}-x")).expect("the pod")
    }

    /// The pod's agent runs in this container; none: it waits for its image.
    fn runs(&self, name: &str, container: &str) {
        let state =
            if container.is_empty() { json!({ "waiting": { "reason": "ImagePullBackOff" } }) } else { json!({ "running": {} }) };
        let agent = json!({ "name": "holdfast-agent", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state,
            "containerID": format!("containerd://{container}") });
        let mut pod = self.pod(name);
        pod["status"] = json!({ "phase": "Running", "initContainerStatuses": [agent] });
        self.server.put("pods", pod);
    }

    /// What is said of its lineage.
    fn protect(&self, name: &str, reason: &str) {
        let spec = json!({ "policy": "p", "repository": "default", "lineage": name, "slot": "0",
            "workload": { "kind": "Deployment", "name": name } });
        let mut lineage = object("StateLineage", name, spec);
        let is = if reason == "Streaming" { "True" } else { "False" };
        lineage["status"] = json!({ "conditions": [{ "type": "Protected", "status": is, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z" }] });
        self.server.put("statelineages", lineage);
    }

    /// What watches have told.
    fn see(&mut self) {
        for pod in self.server.list("pods") {
            self.pods.apply_watcher_event(&Event::Apply(serde_json::from_value(pod).expect("a pod")));
        }
        self.see_lineages();
    }

    fn see_lineages(&mut self) {
        for lineage in self.server.list("statelineages") {
            self.lineages.apply_watcher_event(&Event::Apply(serde_json::from_value(lineage).expect("a lineage")));
        }
    }

    /// A look so long after the last; what it told.
    async fn look(&mut self, after: Duration) -> Vec<(String, bool, &'static str)> {
        self.see();
        self.look_blind(after).await
    }

    /// The same, while watches tell nothing.
    async fn look_blind(&mut self, after: Duration) -> Vec<(String, bool, &'static str)> {
        self.now = Now { day: self.now.day.plus(after), steady: self.now.steady.plus(after) };
        self.upgrade.look(&mut self.memory, self.now).await.expect("a look");
        let told = std::iter::from_fn(|| self.told.try_recv().ok());
        told.map(|news| (news.about.name.unwrap_or_default(), news.is_warning, news.reason)).collect()
    }

    /// The pods whose agents have been given the image.
    fn given(&self) -> Vec<String> {
        let image = |pod: &Value| pod["spec"]["initContainers"][0]["image"] == NEW;
        self.server.list("pods").iter().filter(|pod| image(pod)).map(|pod| pod["metadata"]["labels"]["app"].to_string()).collect()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn an_agent_is_given_the_image_and_the_next_when_it_is_back() {
    let mut scene = Scene::new(&["a", "b"]).await;
    let before = scene.pod("a");
    assert_eq!(scene.look(seconds(5)).await, []);
    assert_eq!(scene.given(), [r#""a""#]);
    let after = scene.pod("a");
    let mut expected = before["spec"].clone();
    expected["initContainers"][0]["image"] = json!(NEW);
    assert_eq!(after["spec"], expected, "nothing but the agent's image has changed");
    let note: Note =
        serde_json::from_str(after["metadata"]["annotations"][AGENT_UPGRADE].as_str().expect("a note")).expect("JSON");
    assert_eq!((note.image.as_str(), note.before.as_str(), note.container.as_str()), (NEW, "agent:1", "containerd://a"));
    assert!(scene.upgrade.with.metrics.text().contains("outdated_agents 2"), "{}", scene.upgrade.with.metrics.text());
    scene.protect("a", "AgentSilent");
    scene.see_lineages();
    scene.look_blind(seconds(5)).await;
    assert_eq!(scene.given().len(), 1, "what was written is remembered until it is seen");
    scene.protect("a", "Streaming");
    for _ in 0..4 {
        assert_eq!(scene.look(seconds(10)).await, [], "it is the old container that streams");
    }
    scene.protect("a", "AgentSilent");
    scene.look(seconds(5)).await;
    scene.runs("a", "b");
    scene.look(seconds(5)).await;
    scene.protect("a", "Streaming");
    assert_eq!(scene.look(seconds(5)).await, [], "it has just begun");
    scene.runs("a", "c");
    assert_eq!(scene.look(STEADY).await, [], "it has begun anew");
    assert_eq!(scene.look(STEADY).await, [("a-x".to_owned(), false, "AgentUpgraded")]);
    assert_eq!(scene.pod("a")["metadata"]["annotations"].get(AGENT_UPGRADE), None);
    assert_eq!(scene.given().len(), 1);
    assert_eq!(scene.look(seconds(5)).await, []);
    assert_eq!(scene.given().len(), 2, "the next");
}

#[tokio::test]
async fn one_that_does_not_come_back_stops_it_until_there_is_another_image() {
    let mut scene = Scene::new(&["a", "b"]).await;
    scene.look(seconds(5)).await;
    scene.runs("a", "");
    scene.protect("a", "AgentSilent");
    assert_eq!(scene.look(plan::patience(0) - seconds(1)).await, []);
    let both = [("a-x".to_owned(), true, "AgentNotBack"), ("a".to_owned(), true, "AgentNotBack")];
    assert_eq!(scene.look(seconds(1)).await, both, "on the pod and on its lineage");
    // whoever leads next knows it, too
    scene.memory = Memory::default();
    assert_eq!(scene.look(seconds(900)).await, both);
    assert_eq!(scene.given(), [r#""a""#], "nobody else is given this image");
    deployment(&scene.server, WEBHOOK, "agent:3");
    assert_eq!(scene.look(seconds(5)).await, []);
    let images = ["a", "b"].map(|name| scene.pod(name)["spec"]["initContainers"][0]["image"].clone());
    assert_eq!(images, ["agent:3", "agent:1"], "the one that is away is the first to get another");
    scene.runs("a", "b");
    scene.protect("a", "Streaming");
    scene.look(seconds(5)).await;
    assert_eq!(scene.look(STEADY).await, [("a-x".to_owned(), false, "AgentUpgraded")]);
}

#[tokio::test]
async fn what_a_snapshot_or_a_restore_has_is_left_alone() {
    let mut scene = Scene::new(&["a"]).await;
    let one = scene.coordinator.clone();
    let turn = one.shared().barriers.turn.lock().await;
    scene.look(seconds(5)).await;
    assert_eq!(scene.given(), Vec::<String>::new(), "a snapshot is being taken");
    drop(turn);
    let held = [(("shop".to_owned(), "a".to_owned()), "RestoreInProgress".to_owned())];
    scene.holds.send_replace(Arc::new(held.into()));
    scene.look(seconds(5)).await;
    assert_eq!(scene.given(), Vec::<String>::new(), "a restore has it");
    scene.holds.send_replace(Holds::default());
    scene.protect("a", "Lagging");
    scene.look(seconds(5)).await;
    assert_eq!(scene.given(), Vec::<String>::new(), "it lags");
    scene.protect("a", "Streaming");
    scene.look(seconds(5)).await;
    assert_eq!(scene.given().len(), 1);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_and_put_off() {
    let mut scene = Scene::new(&["a", "b"]).await;
    scene.server.on(|method, path, _| {
        let refused = method == http::Method::PATCH && path.ends_with("/a-x");
        refused.then(|| (StatusCode::FORBIDDEN, failure(StatusCode::FORBIDDEN, "Forbidden", "images are signed here")))
    });
    assert_eq!(scene.look(seconds(0)).await, [("a-x".to_owned(), true, "AgentNotUpgraded")]);
    assert_eq!(scene.look(seconds(0)).await, []);
    assert_eq!(scene.given(), [r#""b""#], "it keeps nobody else waiting");
}

#[tokio::test]
async fn a_pod_that_has_changed_meanwhile_is_looked_at_again() {
    let mut scene = Scene::new(&["a"]).await;
    scene.see();
    scene.runs("a", "a2");
    assert_eq!(scene.look_blind(seconds(5)).await, []);
    assert_eq!(scene.given(), Vec::<String>::new(), "it is not what was seen");
    scene.look(seconds(5)).await;
    assert_eq!(scene.given().len(), 1);
}
