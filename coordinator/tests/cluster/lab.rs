// SPDX-License-Identifier: Apache-2.0
//! A cluster to try the coordinator in: an API server in memory that knows tokens and rights, workloads and nodes, pods' agents on real connections.

use crate::kit::World;
use crate::kube_kit::{ApiServer, Key};
use holdfast_coordinator::cluster::{
    Cluster, ClusterConfig, Couriers, Holds, Repositories, RepositoryKey, RepositoryState, Rests, SlotView, WaitingFor,
};
use holdfast_coordinator::{Access, Config, Coordinator};
use holdfast_core::id::OwnerId;
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{self, SessionRequest, SessionResponse};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// This cluster; what [`World`] writes is another's.
pub const CLUSTER: OwnerId = OwnerId::new([0xc1; 16]);
pub const WITHIN: Duration = Duration::from_secs(60);

/// What the API server says about callers.
#[derive(Default)]
pub struct Law {
    pub away: AtomicBool,
    pub reviews: AtomicUsize,
    /// "<user> <verb> <resource> <namespace>"
    pub rights: Mutex<BTreeSet<String>>,
}

pub struct Lab {
    pub world: World,
    pub api: ApiServer,
    pub law: Arc<Law>,
    pub repositories: watch::Sender<Repositories>,
    pub holds: watch::Sender<Holds>,
    pub rests: watch::Sender<Rests>,
    pub couriers: watch::Sender<Couriers>,
    pub served: Served,
}

/// A leader.
pub struct Served {
    pub channel: Channel,
    pub slots: watch::Receiver<Arc<Vec<SlotView>>>,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

impl Served {
    async fn start(
        api: &ApiServer,
        repositories: &watch::Sender<Repositories>,
        holds: &watch::Sender<Holds>,
        rests: &watch::Sender<Rests>,
        couriers: &watch::Sender<Couriers>,
    ) -> Self {
        let (repositories, holds, rests) = (repositories.subscribe(), holds.subscribe(), rests.subscribe());
        let couriers = couriers.subscribe();
        let config = ClusterConfig { client: api.client(), repositories, holds, rests, couriers };
        let cluster = Cluster::new(config);
        let slots = cluster.slots();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let stopped = async { drop(stopped.await) };
            cluster.serve(listener, None, stopped).await.unwrap();
        });
        Self { channel: Endpoint::from_shared(url).unwrap().connect_lazy(), slots, stop, tasks }
    }

    pub async fn end(mut self) {
        self.stop.send(()).unwrap();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// A coordinator of this cluster over the world's repository, for one domain.
pub fn coordinator(world: &World, domain: &str) -> Coordinator {
    let config =
        Config { repository: world.repository.clone(), owner: CLUSTER, access: Access::Open, domain: Some(domain.to_owned()) };
    Coordinator::new(config)
}

impl Lab {
    /// A cluster with the namespaces `shop` (whose domain is the world's) and `other`, a policy `web` in each, and a node.
    pub async fn new() -> Self {
        let world = World::new().await;
        let (api, law) = (ApiServer::default(), Arc::<Law>::default());
        judge(&api, &law);
        let state = |domain: &str| RepositoryState::Ready(coordinator(&world, domain));
        let table =
            [(RepositoryKey::new("shop", "default"), state("default")), (RepositoryKey::new("other", "default"), state("other"))];
        let repositories = watch::Sender::new(table.into_iter().collect());
        let (holds, rests) = (watch::Sender::new(Holds::default()), watch::Sender::new(Rests::default()));
        let couriers = watch::Sender::new(Couriers::default());
        for namespace in ["shop", "other"] {
            policy(&api, namespace, "web", "Replica");
        }
        node(&api, "node-a", true);
        let served = Served::start(&api, &repositories, &holds, &rests, &couriers).await;
        Self { world, api, law, repositories, holds, rests, couriers, served }
    }

    /// Another leader: the one before is gone.
    pub async fn elect(&mut self) {
        let next = Served::start(&self.api, &self.repositories, &self.holds, &self.rests, &self.couriers).await;
        std::mem::replace(&mut self.served, next).end().await;
    }

    pub fn allow(&self, right: &str) {
        self.law.rights.lock().unwrap().insert(right.to_owned());
    }

    /// A pod as its webhook left it; `change` is merged into it.
    pub fn pod(&self, namespace: &str, name: &str, uid: &str, owner: Option<(&str, &str)>, change: Value) {
        let owners: Vec<Value> = owner
            .iter()
            .map(|(kind, name)| json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true}))
            .collect();
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": namespace, "uid": uid, "ownerReferences": owners,
                "labels": {"holdfast.dev/policy": "web"}, "annotations": {"holdfast.dev/injected": "{}"},
            },
            "spec": {"nodeName": "node-a", "containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
            "status": {"phase": "Running"},
        });
        json_patch::merge(&mut pod, &change);
        self.api.put("pods", pod);
    }

    /// A pod of a StatefulSet.
    pub fn member(&self, namespace: &str, name: &str, uid: &str) {
        let set = name.rsplit_once('-').unwrap().0;
        self.pod(namespace, name, uid, Some(("StatefulSet", set)), json!({}));
    }

    /// A pod of Deployment `api`.
    pub fn replica(&self, name: &str, uid: &str) {
        self.pod("shop", name, uid, Some(("ReplicaSet", "api-5d9")), json!({"metadata": {"generateName": "api-5d9-"}}));
    }

    pub fn deployment(&self, replicas: u32) {
        let of = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "uid-of-api", "controller": true}]);
        let metadata = |name: &str| json!({"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")});
        let spec = json!({"replicas": replicas, "selector": {}, "template": {}});
        self.api.put(
            "deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("api"), "spec": spec}),
        );
        let mut set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata("api-5d9")});
        set["metadata"]["ownerReferences"] = of;
        self.api.put("replicasets", set);
    }

    /// Changes a pod as somebody else would.
    pub fn change(&self, namespace: &str, name: &str, change: Value) {
        let mut pod = self.api.get("pods", namespace, name).unwrap();
        json_patch::merge(&mut pod, &change);
        self.api.put("pods", pod);
    }

    pub fn ending(&self, namespace: &str, name: &str) {
        self.change(namespace, name, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    }

    pub fn gone(&self, namespace: &str, name: &str) {
        self.api.delete(&Key::new("pods", namespace, name));
    }

    pub fn choose(&self, lineage: &str, choice: &str) {
        let mut record = self.api.get("statelineages", "shop", lineage).unwrap();
        json_patch::merge(&mut record, &json!({"metadata": {"annotations": {"holdfast.dev/choose": choice}}}));
        self.api.put("statelineages", record);
    }

    /// Whether the Event on a pod that waits for this is a warning, once one does.
    pub async fn warns(&self, reason: &str, words: &str) -> bool {
        let waits = |waiting: &WaitingFor| waiting.reason == reason && waiting.message.contains(words);
        let find = |rows: &[SlotView]| {
            rows.iter()
                .filter_map(|row| Some(&row.waiting.as_ref()?.1))
                .find(|&waiting| waits(waiting))
                .map(|waiting| waiting.is_warning)
        };
        let mut slots = self.served.slots.clone();
        let rows = tokio::time::timeout(WITHIN, slots.wait_for(|rows| find(rows).is_some())).await.expect("it waits").unwrap();
        find(&rows).unwrap()
    }

    /// The agent of a pod says hello, with the pod's token.
    pub async fn hello(&self, namespace: &str, name: &str, uid: &str) -> PodAgent {
        PodAgent::open(self.served.channel.clone(), Some(&format!("pod:{namespace}/{name}/{uid}")), 1, "").await
    }

    /// As [`hello`](Self::hello), and is welcomed.
    pub async fn join(&self, namespace: &str, name: &str, uid: &str) -> PodAgent {
        self.hello(namespace, name, uid).await.welcomed().await
    }
}

pub fn policy(api: &ApiServer, namespace: &str, name: &str, scope: &str) {
    let spec = json!({"scope": scope, "paths": [{"label": "data", "path": "/data"}]});
    let metadata = json!({"name": name, "namespace": namespace});
    api.put(
        "statepolicies",
        json!({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": metadata, "spec": spec}),
    );
}

pub fn node(api: &ApiServer, name: &str, ready: bool) {
    let status = json!({"conditions": [{"type": "Ready", "status": if ready { "True" } else { "Unknown" }}]});
    api.put("nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}));
}

/// Tokens are "pod:<namespace>/<name>/<uid>" (for us), "account:<namespace>/<name>" (for us, not bound to a pod), "user:<name>" (for the API server),
/// "blind:<namespace>/<name>/<uid>" (an API server that knows no audiences); all others are void.
fn judge(api: &ApiServer, law: &Arc<Law>) {
    let law = Arc::clone(law);
    api.on(move |method, path, body| {
        let is_review = method == http::Method::POST && path.ends_with("reviews");
        if is_review && law.away.load(Ordering::Relaxed) {
            return Some((StatusCode::SERVICE_UNAVAILABLE, crate::kube_kit::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "away")));
        }
        if path.ends_with("/tokenreviews") {
            law.reviews.fetch_add(1, Ordering::Relaxed);
            let token = body["spec"]["token"].as_str().unwrap_or_default();
            let asked = body["spec"]["audiences"].as_array().cloned().unwrap_or_default();
            return Some((StatusCode::CREATED, json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": verdict(token, &asked)})));
        }
        if path.ends_with("/subjectaccessreviews") {
            let (spec, what) = (&body["spec"], &body["spec"]["resourceAttributes"]);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let resource = match what["subresource"].as_str() {
                Some(sub) => format!("{}/{sub}", text(&what["resource"])),
                None => text(&what["resource"]),
            };
            let right = [text(&spec["user"]), text(&what["verb"]), resource, text(&what["namespace"])].join(" ");
            let allowed = what["group"] == "holdfast.dev" && law.rights.lock().unwrap().contains(&right);
            return Some((StatusCode::CREATED, json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {}, "status": {"allowed": allowed}})));
        }
        None
    });
}

fn verdict(token: &str, asked: &[Value]) -> Value {
    let ours = json!("holdfast.dev/coordinator");
    let void = json!({"authenticated": false, "error": "it is void"});
    let Some((kind, of)) = token.split_once(':') else { return void };
    let parts: Vec<&str> = of.split('/').collect();
    let bound = || {
        json!({
            "username": format!("system:serviceaccount:{}:default", parts[0]),
            "extra": {"authentication.kubernetes.io/pod-name": [parts[1]], "authentication.kubernetes.io/pod-uid": [parts[2]]},
        })
    };
    match kind {
        "pod" if asked.contains(&ours) => json!({"authenticated": true, "user": bound(), "audiences": [ours]}),
        "blind" => json!({"authenticated": true, "user": bound()}),
        "account" if asked.contains(&ours) => {
            json!({"authenticated": true, "user": {"username": format!("system:serviceaccount:{}:{}", parts[0], parts[1])}, "audiences": [ours]})
        }
        "user" if asked.is_empty() => {
            json!({"authenticated": true, "user": {"username": of, "groups": ["people"]}, "audiences": ["api"]})
        }
        _ => void,
    }
}

/// A pod's agent that does as it is told.
pub struct PodAgent {
    pub out: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
    pub welcome: v1::Welcome,
}

impl PodAgent {
    pub async fn open(channel: Channel, token: Option<&str>, instance: u8, resume: &str) -> Self {
        let hello = v1::Hello {
            protocol: holdfast_proto::AGENT_PROTOCOL,
            agent_version: "0.1.0".to_owned(),
            lineage: None,
            holder: "an agent".to_owned(),
            instance: vec![instance; 16].into(),
            resume: resume.to_owned(),
            barriers: false,
        };
        Self::say_hello(channel, token, hello).await
    }

    pub async fn say_hello(channel: Channel, token: Option<&str>, hello: v1::Hello) -> Self {
        let (out, events) = mpsc::channel(16);
        out.send(SessionRequest { event: Some(Event::Hello(hello)) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(events));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let answers = AgentServiceClient::new(channel).session(request).await.unwrap().into_inner();
        Self { out, answers, welcome: v1::Welcome::default() }
    }

    /// The next answer.
    pub async fn next(&mut self) -> Result<Command, Status> {
        let answer = tokio::time::timeout(WITHIN, self.answers.message()).await.expect("an answer in time")?;
        Ok(answer.expect("not the end").command.expect("a command"))
    }

    /// Waits until it is told to wait for this.
    pub async fn waits_for(&mut self, reason: &str) -> String {
        loop {
            match self.next().await {
                Ok(Command::Waiting(waiting)) if waiting.reason == reason => return waiting.message,
                Ok(Command::Waiting(_)) => {}
                other => panic!("it should wait for {reason}: {other:?}"),
            }
        }
    }

    pub async fn welcomed(mut self) -> Self {
        loop {
            match self.next().await {
                Ok(Command::Waiting(_)) => {}
                Ok(Command::Welcome(welcome)) => {
                    self.welcome = welcome;
                    return self;
                }
                other => panic!("no welcome: {other:?}"),
            }
        }
    }

    /// How its session ends.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    pub fn grant(&self) -> &v1::Grant {
        self.welcome.grant.as_ref().expect("a grant")
    }

    pub fn lineage(&self) -> String {
        let names = self.grant().lineage.clone().expect("names");
        format!("{}:{}", names.domain, names.lineage)
    }

    pub async fn report(&self, phase: v1::Phase, trouble: &str) {
        let live = v1::Live { phase: phase.into(), trouble: trouble.to_owned(), ..v1::Live::default() };
        let report = v1::StatusReport { live: Some(live), ..v1::StatusReport::default() };
        self.out.send(SessionRequest { event: Some(Event::Status(report)) }).await.unwrap();
    }

    pub async fn stopping(&self, grace_ms: u64) {
        self.out.send(SessionRequest { event: Some(Event::Stopping(v1::Stopping { grace_ms })) }).await.unwrap();
    }
}
