// SPDX-License-Identifier: Apache-2.0
//! One snapshot of two namespaces, whose StateRepositories name one place with a domain for each.

use super::{guarded, lead, obey};
use crate::cluster::kit::{Agent, Served, World, Writer};
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::leading::kit::Leader;
use crate::cluster::{Repositories, RepositoryKey, RepositoryState, Rests};
use crate::{Access, Config, Coordinator};
use holdfast_core::barrier::Rest;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::{DeleteSnapshotRequest, GetSnapshotRequest, LineageRef};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

const NAMESPACES: [&str; 2] = ["bank", "shop"];
const LINEAGE: &str = "statefulset/web/0";

/// A namespace and its domain, in which the replica `web-0` has an agent.
struct Town {
    world: World,
    served: Served,
}

impl Town {
    async fn new(world: &World, name: &str) -> Self {
        let domain = Arc::new(world.repository.domain(name).await.expect("a domain"));
        let world = World { memory: Arc::clone(&world.memory), repository: world.repository.clone(), domain };
        let config = Config { domain: Some(name.to_owned()), ..world.config(Access::Open) };
        let served = Served::start(Coordinator::new(config)).await;
        Self { world, served }
    }

    async fn replica(&self, server: &ApiServer, name: &str) -> (Agent, Writer) {
        let mut writer = self.world.writer(LINEAGE).await;
        writer.write("book", "begun");
        let first = writer.checkpoint().await;
        let spec = json!({ "policy": "web", "repository": "default", "lineage": LINEAGE, "slot": "0",
            "workload": { "kind": "StatefulSet", "name": "web" } });
        let mut lineage = of(name, "StateLineage", "statefulset-web-0", spec);
        let checkpoint = json!({ "sequence": first.sequence, "time": "2026-01-01T00:00:00Z", "quality": "Clean", "bytes": 10 });
        lineage["status"] = json!({ "checkpoint": checkpoint });
        server.put("statelineages", lineage);
        let labels = json!({ "holdfast.dev/policy": "web", "holdfast.dev/lineage": "statefulset-web-0" });
        let metadata =
            json!({ "name": "web-0", "namespace": name, "labels": labels, "annotations": { "holdfast.dev/injected": "{}" } });
        let ran = json!({ "name": "web", "image": "web:7", "imageID": format!("registry.example/web@sha256:{name}"), "ready": true, "restartCount": 0 });
        server.put("pods", json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "status": { "phase": "Running", "containerStatuses": [ran] }, "spec": { "containers": [], "initContainers": guarded() } }));
        server.put("statefulsets", json!({ "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "name": "web", "namespace": name }, "spec": { "replicas": 1, "serviceName": name, "selector": {}, "template": {} } }));
        let names = LineageRef { domain: name.to_owned(), lineage: LINEAGE.to_owned() };
        let agent = Agent::open_in(self.served.channel.clone(), names, 1, true).await.expect("a session");
        agent.report(0).await;
        (agent, writer)
    }

    fn snapshots(&self) -> SnapshotServiceClient<tonic::transport::Channel> {
        SnapshotServiceClient::new(self.served.channel.clone())
    }
}

fn of(namespace: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": kind, "metadata": { "name": name, "namespace": namespace }, "spec": spec })
}

/// Two namespaces of one cluster.
struct Land {
    towns: [Town; 2],
    server: ApiServer,
    repositories: watch::Sender<Repositories>,
    rests: watch::Sender<Rests>,
    agents: JoinSet<Vec<Duration>>,
}

impl Land {
    /// Each with a world of its own, or both with the same one.
    async fn new(worlds: [&World; 2]) -> Self {
        let server = ApiServer::default();
        let towns = [Town::new(worlds[0], NAMESPACES[0]).await, Town::new(worlds[1], NAMESPACES[1]).await];
        let mut agents = JoinSet::new();
        for (town, name) in towns.iter().zip(NAMESPACES) {
            let spec = json!({ "s3": { "bucket": "states" }, "passphrase": { "name": "holdfast" } });
            server.put("staterepositories", of(name, "StateRepository", "default", spec));
            server.put("statepolicies", of(name, "StatePolicy", "web", json!({ "paths": [] })));
            agents.spawn(obey(town.replica(&server, name).await, Rest::Frozen, Duration::from_millis(3)));
        }
        let ready = |(town, name): (&Town, &str)| {
            (RepositoryKey::new(name, "default"), RepositoryState::Ready(town.served.coordinator.clone()))
        };
        let repositories = watch::Sender::new(towns.iter().zip(NAMESPACES).map(ready).collect::<Repositories>());
        Self { towns, server, repositories, rests: watch::Sender::default(), agents }
    }

    fn lead(&self) -> Leader {
        lead(&self.server, &self.repositories, &self.rests)
    }

    /// The status of one of Holdfast's own namespace, once it has succeeded or failed.
    async fn settled(&self, name: &str) -> Value {
        let over = |server: &ApiServer| {
            let status = server.get("statesnapshots", "holdfast-system", name)?["status"].clone();
            (status["conditions"][0]["status"] != "Unknown" && status["conditions"][0].is_object()).then_some(status)
        };
        self.server.until(over).await
    }

    async fn taken(&self, name: &str, spec: Value) -> Value {
        self.server.put("statesnapshots", of("holdfast-system", "StateSnapshot", name, spec));
        self.settled(name).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_snapshot_holds_replicas_of_several_namespaces() {
    let world = World::new().await;
    let mut land = Land::new([&world, &world]).await;
    let leader = land.lead();
    let status = land.taken("both", json!({ "policies": ["web"], "namespaces": NAMESPACES })).await;
    assert_eq!(status["conditions"][0]["reason"], "Taken", "{status}");
    assert_eq!((&status["consistency"], &status["memberCount"]), (&json!("Frozen"), &json!(2)), "{status}");
    let whose = |status: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let members = status["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| (text(&member["namespace"]), text(&member["lineage"]))).collect()
    };
    let mut found = whose(&status);
    found.sort();
    assert_eq!(found, NAMESPACES.map(|name| (name.to_owned(), "statefulset-web-0".to_owned())));
    assert_eq!(
        status["recorded"],
        json!(["StatefulSet bank/web", "StatefulSet shop/web", "StatePolicy bank/web", "StatePolicy shop/web"])
    );
    // and the whole cluster, with what either has taken by itself in between
    let all = land.taken("all", json!({ "everything": true, "namespaces": ["*"] })).await;
    assert_eq!((&all["consistency"], &all["memberCount"]), (&json!("Frozen"), &json!(2)), "{all}");
    land.server.put("statesnapshots", of("shop", "StateSnapshot", "alone", json!({ "policies": ["web"] })));
    let alone = |server: &ApiServer| {
        let status = server.get("statesnapshots", "shop", "alone")?["status"].clone();
        (status["conditions"][0]["reason"] == "Taken").then_some(status)
    };
    let alone = land.server.until(alone).await;
    assert_eq!((&alone["consistency"], &alone["memberCount"]), (&json!("Frozen"), &json!(1)), "a later barrier: {alone}");
    leader.end().await;
    // a leader that takes over finds it
    let mut object = land.server.get("statesnapshots", "holdfast-system", "both").expect("it is there");
    object["status"]["conditions"] = json!([{ "type": "Succeeded", "status": "Unknown", "reason": "InProgress", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    land.server.put("statesnapshots", object);
    let leader = land.lead();
    let again = land.settled("both").await;
    leader.end().await;
    assert_eq!(
        (&again["snapshotId"], &again["members"], &again["recorded"]),
        (&status["snapshotId"], &status["members"], &status["recorded"])
    );
    land.towns.iter_mut().for_each(|town| town.served.stop());
    for rests in land.agents.join_all().await {
        assert!((2..=3).contains(&rests.len()), "once for each snapshot: {rests:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_sees_its_own_part_and_deletes_nothing() {
    let world = World::new().await;
    let land = Land::new([&world, &world]).await;
    let leader = land.lead();
    let status = land.taken("both", json!({ "everything": true, "namespaces": ["*"] })).await;
    leader.end().await;
    let id = status["snapshotId"].as_str().expect("an id").to_owned();
    for (town, name) in land.towns.iter().zip(NAMESPACES) {
        let seen = town.snapshots().get_snapshot(GetSnapshotRequest { snapshot: id.clone() }).await.expect("seen").into_inner();
        let of = |member: &holdfast_proto::v1::SnapshotMember| member.checkpoint.clone()?.lineage.map(|names| names.domain);
        let domains: Vec<_> = seen.members.iter().map(of).collect();
        assert_eq!(domains, [Some(name.to_owned())], "its own alone");
        let setting = town.served.coordinator.api().setting(&id, name).await.expect("a setting");
        assert!(
            setting.manifests.len() == 2 && setting.manifests.iter().all(|manifest| manifest.namespace == name),
            "{setting:?}"
        );
        let images: Vec<(&str, &str)> = setting.images.iter().map(|of| (of.lineage.as_str(), of.digest.as_str())).collect();
        assert_eq!(images, [(LINEAGE, format!("registry.example/web@sha256:{name}").as_str())]);
        let delete = DeleteSnapshotRequest { snapshot: id.clone() };
        assert_eq!(crate::cluster::kit::reason(town.snapshots().delete_snapshot(delete).await), Reason::Forbidden);
    }
    let whole = land.towns[0].served.coordinator.shared().board.snapshots.list().await.expect("a list");
    assert_eq!((whole.len(), whole[0].members.len()), (1, 2), "it is there as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_of_two_places_are_refused() {
    let (one, two) = (World::new().await, World::new().await);
    let land = Land::new([&one, &two]).await;
    let leader = land.lead();
    let status = land.taken("both", json!({ "everything": true, "namespaces": ["*"] })).await;
    leader.end().await;
    let said = &status["conditions"][0];
    assert_eq!(said["reason"], "SeveralRepositories", "{said}");
    assert!(said["message"].as_str().is_some_and(|text| text.contains("bank/default, shop/default")), "{said}");
}
