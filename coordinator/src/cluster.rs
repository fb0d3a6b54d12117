// SPDX-License-Identifier: Apache-2.0
//! The coordinator in a Kubernetes cluster: many repositories behind one server, callers known by their tokens, lineages granted by who a pod is.
//!
//! ```text
//! front       one gRPC server: who calls, which repository, and on to that repository's services
//!   identity    TokenReview, SubjectAccessReview, the pod that a token is bound to
//!   waiting     a pod's session before and beside its lineage: what it waits for, what ends it
//!     slots       one task that owns the table of slots: gathers from watches, asks holdfast_core::slot, writes StateLineages
//! ```
//!
//! And the process around it:
//!
//! ```text
//! process     looks whether it can work (rights), waits until it leads (lead), ends in good order
//!   term        what the leader does while it leads (leading: what its parts share)
//!     watched       stores that follow the cluster's objects, and bells
//!     pki           the authority and its certificates
//!     repositories  StateRepositories become coordinators, in a table that the others look into
//!     snapshots     StateSnapshots are taken
//!     collecting    what the policies no longer want is deleted
//!     restores      StateRestores are carried out (once: what both have in common)
//!     sweep         the look at everything: audit, lineages, policies, and what their statuses say
//!     verify        lineages are read back
//!     probe         whether the API server reaches the webhook
//!     upgrade       agents of running pods get the image of new ones
//!     gates, events, conditions, metrics, http    what is told
//! ```
//!
//! It runs in the leader only. What it knows is in the API server (StateLineages, pods) and in the repositories.

mod audit;
mod collecting;
mod conditions;
mod events;
mod front;
mod gates;
mod hindrance;
mod http;
mod identity;
#[cfg(test)]
#[path = "../tests/kit/mod.rs"]
mod kit;
#[cfg(test)]
#[path = "../tests/kube_kit/mod.rs"]
mod kube_kit;
mod lead;
mod leading;
mod lineages;
#[cfg(test)]
mod manifest;
mod metrics;
mod name;
mod once;
mod pauses;
mod pki;
mod policies;
mod probe;
mod process;
mod replicas;
mod repositories;
mod restores;
mod rights;
mod settings;
mod signals;
mod slots;
mod snapshots;
mod sweep;
mod table;
mod term;
mod upgrade;
mod verify;
mod waiting;
mod watched;

pub(crate) use identity::pass::key as pass_key;
pub use name::{LineageName, RepositoryKey};
pub use process::run;
pub use settings::Settings;
pub use table::{Repositories, RepositoryState};

use crate::CoordinatorError;
use crate::server::{accepted, run_offer};
use crate::service::{MESSAGE_BYTES_MAX, Offer, health, reflection};
use front::{Agents, Front, Others, tls};
use holdfast_proto::v1::agent_service_server::AgentServiceServer;
use identity::Identity;
use rustls::server::ResolvesServerCert;
use slots::Slots;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// What keeps gates shut for now: by the name of a StateLineage's object, with a sentence for people (`RestoreInProgress`). A new map is sent when
/// that changes.
pub type Holds = Arc<BTreeMap<(String, String), String>>;

/// The snapshots that bring replicas to rest just now: by (namespace, StatePolicy), with a sentence for people (`SnapshotInProgress`). A pod that has not
/// begun by then waits until they go on.
pub type Rests = Arc<BTreeMap<(String, String), String>>;

/// The pods that were made to write states into volumes, by UID: what each may read, and nobody else. A new map is sent when that changes.
pub type Couriers = Arc<BTreeMap<String, Courier>>;

/// A pod that was made to write states into a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Courier {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where the states are.
    pub repository: RepositoryKey,
    /// The lineages that it may read: the StateLineages' names, and those in the repository.
    pub lineages: BTreeMap<String, String>,
}

/// What a [`Cluster`] works with.
#[derive(Clone)]
pub struct ClusterConfig {
    /// The API server.
    pub client: kube::Client,
    /// The repositories, from whoever reconciles them.
    pub repositories: watch::Receiver<Repositories>,
    /// What keeps gates shut, by (namespace, StateLineage); nobody's: an empty map.
    pub holds: watch::Receiver<Holds>,
    /// Whose replicas are being brought to rest.
    pub rests: watch::Receiver<Rests>,
    /// Who writes states into volumes.
    pub couriers: watch::Receiver<Couriers>,
}

/// One slot of a workload and what is the matter with it: what status and Events are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// The namespace of the pod, the workload and the StateLineage.
    pub namespace: String,
    /// The StateLineage's name; `None` while a pod waits and no slot is chosen.
    pub object: Option<String>,
    /// The repository that it is in.
    pub repository: RepositoryKey,
    /// The name of the lineage in the repository, in the coordinator's domain; empty if there is no object.
    pub lineage: String,
    /// The pod that holds it: name, UID.
    pub holder: Option<(String, String)>,
    /// The pod that waits: name, and what for.
    pub waiting: Option<(String, WaitingFor)>,
}

/// Why a pod's gate stays shut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFor {
    /// One of the closed set of `Waiting.reason`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Somebody may have to do something; else it ends by itself.
    pub is_warning: bool,
}

impl WaitingFor {
    /// Something that ends by itself.
    pub(crate) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), is_warning: false }
    }

    /// Something that may last until somebody does what the message says.
    pub(crate) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::normal(reason, message) }
    }
}

/// The webhook's Deployment in Holdfast's own namespace, and our own.
const WEBHOOK: &str = "holdfast-webhook";
const COORDINATOR: &str = "holdfast-coordinator";

/// The label of objects that the coordinator made for itself.
pub(crate) fn managed() -> (String, String) {
    ("app.kubernetes.io/managed-by".to_owned(), COORDINATOR.to_owned())
}

/// The coordinator of a cluster, as its leader runs it. It does nothing until it serves.
pub struct Cluster {
    front: Arc<Front>,
    task: slots::Task,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    /// A coordinator of a cluster.
    #[must_use]
    pub fn new(config: ClusterConfig) -> Self {
        let identity = Identity::new(config.client.clone());
        let repositories = config.repositories.clone();
        let couriers = config.couriers.clone();
        let (slots, task) = Slots::new(config);
        Self { front: Arc::new(Front::new(repositories, identity, slots, couriers, CancellationToken::new())), task }
    }

    /// The slots of all workloads and what waits for them, and each change of that.
    #[must_use]
    pub fn slots(&self) -> watch::Receiver<Arc<Vec<SlotView>>> {
        self.front.slots.rows()
    }

    /// Decides about slots and serves on a listener until `stop` resolves: then open streams end with `UNAVAILABLE`, and the rest is waited
    /// for, up to 10 s. The resolver is asked for a certificate with each connection.
    ///
    /// # Errors
    /// If the listener fails, or it has no certificates and can be reached from other machines.
    pub async fn serve(
        self,
        listener: TcpListener,
        certificates: Option<Arc<dyn ResolvesServerCert>>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), CoordinatorError> {
        let Self { front, task } = self;
        let address = listener.local_addr()?;
        if certificates.is_none() && !address.ip().is_loopback() {
            return Err(CoordinatorError::Unguarded { address });
        }
        tracing::info!(%address, "serving the cluster");
        let ending = front.stop.clone();
        let offer = offer(&front);
        let serving = Box::pin(async {
            match certificates {
                None => run_offer(offer, ending.clone(), accepted(listener)).await,
                Some(resolver) => {
                    run_offer(offer, ending.clone(), tls::encrypted(accepted(listener), tls::config(resolver)?)).await
                }
            }
        });
        let deciding = Box::pin(task.run(ending.clone()));
        let stopping = async {
            stop.await;
            ending.cancel();
        };
        tokio::pin!(stopping);
        let both = async {
            tokio::join!(
                async {
                    let ended = serving.await;
                    // whatever ended it
                    ending.cancel();
                    ended
                },
                deciding
            )
            .0
        };
        tokio::pin!(both);
        tokio::select! {
            ended = &mut both => return ended,
            () = &mut stopping => {}
        }
        both.await
    }
}

/// What the front serves: its own, and all others' by way of their repositories.
fn offer(front: &Arc<Front>) -> Offer {
    let (health, routes) = health();
    let agents = AgentServiceServer::new(Agents(Arc::clone(front))).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut routes = routes.add_service(agents);
    match reflection() {
        Ok(reflection) => routes = routes.add_service(reflection),
        Err(error) => tracing::error!(%error, "reflection is not offered"),
    }
    let router = routes.into_axum_router().fallback_service(Others(Arc::clone(front)));
    Offer { routes: Routes::from(router), health }
}
