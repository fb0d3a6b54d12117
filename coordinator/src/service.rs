// SPDX-License-Identifier: Apache-2.0
//! The services, thin: what comes in is checked, what goes out is shaped; the rest is done elsewhere.

use crate::access::Gatekeeper;
use crate::shared::{OBJECT_MIB, Shared};
use futures::FutureExt;
use holdfast_proto::v1;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::codegen::InterceptedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

pub(crate) mod agent;
mod file;
mod lineage;
mod object;
mod restore;
pub(crate) mod snapshot;

/// Longest message that is taken, but for objects.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// An object with its name and hash.
const OBJECT_MESSAGE_BYTES_MAX: usize = ((OBJECT_MIB as usize) << 20) + (64 << 10);

/// All services of a coordinator, as one server offers them.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
    /// When this server ends: what goes on for ever ends then.
    pub(crate) stop: CancellationToken,
}

/// What a server offers, and its health.
pub(crate) struct Offer {
    pub(crate) routes: Routes,
    pub(crate) health: HealthReporter,
}

/// The names of all services.
pub(crate) const SERVICES: [&str; 6] = [
    v1::agent_service_server::SERVICE_NAME,
    v1::file_service_server::SERVICE_NAME,
    v1::lineage_service_server::SERVICE_NAME,
    v1::object_service_server::SERVICE_NAME,
    v1::restore_service_server::SERVICE_NAME,
    v1::snapshot_service_server::SERVICE_NAME,
];

macro_rules! guarded {
    ($api:expr, $gate:expr, $server:path, $limit:expr) => {
        InterceptedService::new(<$server>::new($api.clone()).max_decoding_message_size($limit), $gate.clone())
    };
}

impl Api {
    /// All services, behind the gatekeeper; health is for everybody.
    pub(crate) fn offer(&self, gate: &Gatekeeper) -> Offer {
        let (health, checks) = health();
        use v1::agent_service_server::AgentServiceServer;
        use v1::file_service_server::FileServiceServer;
        use v1::lineage_service_server::LineageServiceServer;
        use v1::object_service_server::ObjectServiceServer;
        use v1::restore_service_server::RestoreServiceServer;
        use v1::snapshot_service_server::SnapshotServiceServer;
        let mut routes = checks
            .add_service(guarded!(self, gate, AgentServiceServer<Self>, MESSAGE_BYTES_MAX))
            .add_service(guarded!(self, gate, FileServiceServer<Self>, MESSAGE_BYTES_MAX))
            .add_service(guarded!(self, gate, LineageServiceServer<Self>, MESSAGE_BYTES_MAX))
            .add_service(guarded!(self, gate, ObjectServiceServer<Self>, OBJECT_MESSAGE_BYTES_MAX))
            .add_service(guarded!(self, gate, RestoreServiceServer<Self>, MESSAGE_BYTES_MAX))
            .add_service(guarded!(self, gate, SnapshotServiceServer<Self>, MESSAGE_BYTES_MAX));
        match reflection() {
            Ok(reflection) => routes = routes.add_service(InterceptedService::new(reflection, gate.clone())),
            Err(error) => tracing::error!(%error, "reflection is not offered"),
        }
        Offer { routes, health }
    }
}

/// Health of all services, and the service that tells it.
pub(crate) fn health() -> (HealthReporter, Routes) {
    let health = HealthReporter::new();
    for service in SERVICES {
        // nobody else has the table yet, so this never waits
        health.set_service_status(service, ServingStatus::Serving).now_or_never();
    }
    let checks = tonic_health::server::HealthService::from_health_reporter(health.clone());
    (health, Routes::new(tonic_health::pb::health_server::HealthServer::new(checks)))
}

pub(crate) fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, tonic_reflection::server::Error> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(holdfast_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
}
