// SPDX-License-Identifier: Apache-2.0
//! One server for all repositories: who calls is found out, then which repository is meant, then the call goes to that repository's services.
//!
//! | call | who may | which repository |
//! |---|---|---|
//! | health, reflection | everybody | |
//! | `AgentService`: a session | the pod that the token is bound to | its policy's |
//! | `AgentService`: what is written into a volume | the pod that was made for it | its StateRestore's |
//! | `ObjectService` | whoever has a grant: it is void when its pod has ended, or has lost its slot | the grant's |
//! | all others | whom RBAC lets, in the repository's namespace | header `holdfast-repository` |

use super::identity::{Identity, Token};
use super::slots::Slots;
use super::table::Unready;
use super::{Couriers, Repositories, RepositoryKey};
use crate::Coordinator;
use crate::status;
use axum::body::Body;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::{GRANT_HEADER, REPOSITORY_HEADER};
use http::{Request, Response};
use rights::right_of;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tower::{Service, ServiceExt};

mod agents;
mod rights;
pub(super) mod tls;

pub(super) use agents::Agents;

/// A repository that isn't ready is asked again after this.
const READY_PAUSE: Duration = Duration::from_secs(5);
const OBJECT_SERVICE: &str = "/holdfast.v1.ObjectService/";

/// What the front's services share.
pub(super) struct Front {
    pub(super) repositories: watch::Receiver<Repositories>,
    pub(super) identity: Identity,
    pub(super) slots: Slots,
    pub(super) couriers: watch::Receiver<Couriers>,
    pub(super) stop: CancellationToken,
    routes: Mutex<BTreeMap<RepositoryKey, (Coordinator, Routes)>>,
}

impl Front {
    pub(super) fn new(
        repositories: watch::Receiver<Repositories>,
        identity: Identity,
        slots: Slots,
        couriers: watch::Receiver<Couriers>,
        stop: CancellationToken,
    ) -> Self {
        Self { repositories, identity, slots, couriers, stop, routes: Mutex::default() }
    }

    /// The coordinator of a repository.
    pub(super) fn coordinator(&self, key: &RepositoryKey) -> Result<Coordinator, Status> {
        self.repositories.borrow().coordinator(key).cloned().map_err(|unready| match unready {
            Unready::Missing => status::not_found("StateRepository", key.to_string()),
            why => {
                let problem = Problem::new(Reason::StoreUnavailable, format!("StateRepository {key} is not ready: {why}"));
                problem.resource("StateRepository", key.to_string()).retry_after(READY_PAUSE).into()
            }
        })
    }

    /// The repository whose lineage a grant opens.
    fn granted(&self, metadata: &MetadataMap) -> Result<RepositoryKey, Status> {
        let missing = || status::because(Reason::GrantUnknown, format!("send a grant's token in the header {GRANT_HEADER}"));
        let token = metadata.get_bin(GRANT_HEADER).ok_or_else(missing)?.to_bytes().map_err(|_| missing())?;
        let repositories = self.repositories.borrow().clone();
        let of = repositories.ready().find(|(_, coordinator)| coordinator.shared().has_grant(&token));
        let unknown = || status::because(Reason::GrantUnknown, "the grant is unknown or has expired: open a new session");
        of.map(|(key, _)| key.clone()).ok_or_else(unknown)
    }

    /// The repository that somebody may call, for what they call.
    async fn permitted(&self, path: &str, metadata: MetadataMap) -> Result<RepositoryKey, Status> {
        let headers = metadata.into_headers();
        let unnamed = || status::invalid(REPOSITORY_HEADER, "name the repository with this header: <namespace>/<name>");
        let Some(right) = right_of(path) else { return Err(Status::unimplemented("there is no such call")) };
        let missing = || status::because(Reason::Unauthenticated, "send the header `authorization: Bearer TOKEN`");
        let token = Token::of(&headers).ok_or_else(missing)?;
        let user = self.identity.user(&token).await?;
        let named = headers.get(REPOSITORY_HEADER).and_then(|name| name.to_str().ok()).ok_or_else(unnamed)?;
        let key: RepositoryKey = named.parse().map_err(|_| unnamed())?;
        self.identity.may(&user, right, &key.namespace).await?;
        Ok(key)
    }

    /// The services of a repository.
    fn routes(&self, key: &RepositoryKey) -> Result<Routes, Status> {
        let coordinator = self.coordinator(key)?;
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |known: &Coordinator| Arc::ptr_eq(known.shared(), coordinator.shared());
        if let Some((_, known)) = routes.get(key).filter(|(known, _)| is_same(known)) {
            return Ok(known.clone());
        }
        let repositories = self.repositories.borrow();
        routes.retain(|key, _| repositories.contains(key));
        let made = coordinator.routes();
        routes.insert(key.clone(), (coordinator, made.clone()));
        Ok(made)
    }

    async fn pass_on(&self, request: Request<Body>) -> Result<Response<tonic::body::Body>, Status> {
        let path = request.uri().path().to_owned();
        let metadata = MetadataMap::from_headers(request.headers().clone());
        let key = match path.starts_with(OBJECT_SERVICE) {
            true => self.granted(&metadata)?,
            false => self.permitted(&path, metadata).await?,
        };
        let answer = self.routes(&key)?.oneshot(request).await;
        answer.map_err(|_| status::lost())
    }
}

/// Everything that isn't the front's own.
#[derive(Clone)]
pub(super) struct Others(pub(super) Arc<Front>);

impl Service<Request<Body>> for Others {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let front = Arc::clone(&self.0);
        Box::pin(async move { Ok(front.pass_on(request).await.unwrap_or_else(Status::into_http)) })
    }
}
