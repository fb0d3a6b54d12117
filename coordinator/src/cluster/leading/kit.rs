// SPDX-License-Identifier: Apache-2.0
//! What tests of a leader's parts begin with: a namespace `shop` whose repository is open, and a part at work in it.

use super::{Leading, Objects};
use crate::clock::Clock;
use crate::cluster::events::{self, Events, News};
use crate::cluster::kit::World;
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::metrics::Metrics;
use crate::cluster::watched::follow;
use crate::cluster::{Repositories, RepositoryKey, RepositoryState};
use crate::{Access, Config, Coordinator};
use kube::runtime::watcher;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The coordinator of the namespace's repository.
pub(crate) fn coordinator(world: &World) -> Coordinator {
    Coordinator::new(Config { domain: Some("default".to_owned()), ..world.config(Access::Open) })
}

/// The table in which that repository has these names.
pub(crate) fn table(coordinator: &Coordinator, names: &[&str]) -> Repositories {
    let ready = |name: &&str| (RepositoryKey::new("shop", *name), RepositoryState::Ready(coordinator.clone()));
    names.iter().map(ready).collect()
}

/// An object of ours in the namespace.
pub(crate) fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": kind, "metadata": { "name": name, "namespace": "shop" }, "spec": spec })
}

/// The StateRepository of the namespace.
pub(crate) fn repository() -> Value {
    object(
        "StateRepository",
        "default",
        json!({ "domain": "default", "s3": { "bucket": "states" }, "passphrase": { "name": "holdfast" } }),
    )
}

/// Parts of a leader that watch what these tests don't: nothing is told, nobody follows.
pub(crate) fn still(
    server: &ApiServer,
    repositories: watch::Receiver<Repositories>,
    objects: Objects,
) -> (Leading, mpsc::Receiver<News>) {
    let metrics = Metrics::default();
    let (events, told) = Events::new(metrics.clone());
    (Leading { client: server.client(), clock: Clock::new(), metrics, events, repositories, objects }, told)
}

/// A leader that follows the cluster's objects and tells its events.
pub(crate) struct Leader {
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Leader {
    /// Begins to lead, and works with what is returned.
    pub(crate) fn new(server: &ApiServer, repositories: &watch::Sender<Repositories>) -> (Self, Leading) {
        let (stop, mut tasks, metrics, client) = (CancellationToken::new(), JoinSet::new(), Metrics::default(), server.client());
        let all = watcher::Config::default;
        let objects = Objects {
            policies: follow(&mut tasks, &stop, &metrics, &client, all(), &[]),
            repositories: follow(&mut tasks, &stop, &metrics, &client, all(), &[]),
            lineages: follow(&mut tasks, &stop, &metrics, &client, all(), &[]),
            pods: follow(&mut tasks, &stop, &metrics, &client, all(), &[]),
            first: Arc::default(),
        };
        let (events, queue) = Events::new(metrics.clone());
        tasks.spawn(events::tell(client.clone(), "holdfast".into(), Clock::new(), queue, stop.clone()));
        let repositories = repositories.subscribe();
        (Self { stop, tasks }, Leading { client, clock: Clock::new(), metrics, events, repositories, objects })
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.join_all().await;
    }
}
