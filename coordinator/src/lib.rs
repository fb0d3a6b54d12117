// SPDX-License-Identifier: Apache-2.0
//! The coordinator: sessions of agents, snapshots, restores and the files of any point in time, over gRPC.
//!
//! It keeps no state of its own: what it knows beyond the repository is of those that are connected now.
//!
//! ```text
//! server    accepts connections, counts calls, ends in good order
//!   access    lets a call in
//!     service   checks what comes in, shapes what goes out
//!       barrier                   brings agents to one moment
//!       session, grant, restore   plain tables, driven by events and readings of the clock
//!       board, catalog, tree      what the repository says, through holdfast-store
//!   status    the one place where errors become answers
//! ```

// what the tests share names this crate as others do
#[cfg(all(test, feature = "kubernetes"))]
extern crate self as holdfast_coordinator;

mod access;
mod barrier;
mod board;
mod catalog;
mod clock;
#[cfg(feature = "kubernetes")]
pub mod cluster;
mod collector;
mod convert;
mod error;
mod grant;
mod page;
mod restore;
mod server;
mod service;
mod session;
mod shared;
mod status;
mod stream;
mod tree;

pub use access::Access;
pub use collector::{Collected, Collector, CollectorConfig, Policies};
pub use error::CoordinatorError;
pub use server::InProcess;

use access::Gatekeeper;
use holdfast_core::id::OwnerId;
use holdfast_store::repository::Repository;
use service::Api;
use shared::Shared;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::{Channel, Identity};

/// What a coordinator works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The repository.
    pub repository: Repository,
    /// Who owns what is claimed through it.
    pub owner: OwnerId,
    /// Who may call it. A client in this process ([`Coordinator::in_process`]) always may.
    pub access: Access,
    /// The only domain that is spoken of through it; `None`: all of the repository's.
    pub domain: Option<String>,
}

/// All services over one repository. Clones are the same coordinator.
#[derive(Debug, Clone)]
pub struct Coordinator {
    shared: Arc<Shared>,
    access: Access,
}

impl Coordinator {
    /// A coordinator. It does nothing until it serves.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let access = config.access.clone();
        Self { shared: Arc::new(Shared::new(config)), access }
    }

    /// What its services share.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What takes snapshots of the agents of several coordinators of one repository; `None` of none. The same coordinators must come in the same order:
    /// whoever takes a snapshot of them waits for each one's turn, one after the other.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn across(coordinators: &[&Self]) -> Option<Self> {
        let joined = coordinators.iter().map(|coordinator| Arc::clone(&coordinator.shared)).collect();
        Some(Self { shared: Arc::new(Shared::across(joined)?), access: Access::Open })
    }

    pub(crate) fn api(&self) -> Api {
        Api { shared: Arc::clone(&self.shared), stop: self.shared.stop.child_token() }
    }

    /// All services with health, reflection and the access layer, for a server of the caller's. Their streams end with the coordinator
    /// ([`end`](Self::end)), not with that server.
    #[must_use]
    pub fn routes(&self) -> Routes {
        self.api().offer(&Gatekeeper::new(&self.access)).routes
    }

    /// Serves on a listener until `stop` resolves: then open streams end with `UNAVAILABLE`, and the rest is waited for, up to 10 s.
    /// What else is served of the same coordinator goes on.
    ///
    /// # Errors
    /// If the listener fails, or everybody could reach it ([`Access::Open`] is for loopback addresses).
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send) -> Result<(), CoordinatorError> {
        server::serve(self.api(), &self.access, listener, None, stop).await
    }

    /// As [`serve`](Self::serve), over TLS: with this certificate, which callers must trust, and its key.
    ///
    /// # Errors
    /// As well if the two are of no use.
    pub async fn serve_encrypted(
        self,
        listener: TcpListener,
        identity: Identity,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), CoordinatorError> {
        server::serve(self.api(), &self.access, listener, Some(identity), stop).await
    }

    /// Serves one client in this process over a pipe; the returned guard ends it when dropped.
    ///
    /// # Errors
    /// If the coordinator has ended.
    pub async fn in_process(&self) -> Result<(Channel, InProcess), CoordinatorError> {
        if self.shared.stop.is_cancelled() {
            return Err(CoordinatorError::Ended);
        }
        server::in_process(self.api())
    }

    /// Ends everything without waiting for it: for a coordinator that another one replaces.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn hang_up(&self) {
        self.shared.stop.cancel();
    }

    /// Ends everything: streams are told, running restores fail and let go of their checkpoints, snapshots that are being taken are waited
    /// for, up to 10 s.
    pub async fn end(&self) {
        server::join(&self.shared.tasks, &self.shared.stop).await;
    }
}
