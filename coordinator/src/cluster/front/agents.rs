// SPDX-License-Identifier: Apache-2.0
//! Sessions of pods' agents, before it is known which repository they are for.

use super::Front;
use crate::cluster::identity::{Pass, PodIdentity, Refusal, Token};
use crate::service::agent::{self, Events};
use crate::session::Instance;
use crate::status;
use crate::stream::Answers;
use futures::{FutureExt, StreamExt, stream};
use holdfast_api::labels::{INJECTED, POLICY};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::agent_service_server::AgentService;
use holdfast_proto::v1::{
    Grant, GrantDeliveryRequest, GrantDeliveryResponse, Hello, LineageRef, SessionRequest, SessionResponse,
};
use kube::ResourceExt;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// The agents' service of the front.
#[derive(Clone)]
pub(in crate::cluster) struct Agents(pub(in crate::cluster) Arc<Front>);

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = Answers<SessionResponse>;

    /// The answer begins at once and is driven by whoever reads it.
    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let front = Arc::clone(&self.0);
        let (metadata, _, events) = request.into_parts();
        let token = Token::of(&metadata.into_headers());
        let answers = async move {
            match front.greet(token, events.boxed()).await {
                Ok(answers) => answers,
                Err(status) => stream::once(std::future::ready(Err(status))).boxed(),
            }
        };
        Ok(Response::new(answers.flatten_stream().boxed()))
    }

    async fn grant_delivery(&self, request: Request<GrantDeliveryRequest>) -> Result<Response<GrantDeliveryResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let token = Token::of(&metadata.into_headers());
        let grant = self.0.courier(token, &message.lineage).await?;
        Ok(Response::new(GrantDeliveryResponse { grant: Some(grant) }))
    }
}

impl Front {
    /// Hears who comes, and lets them in.
    async fn greet(&self, token: Option<Token>, mut events: Events) -> Result<Answers<SessionResponse>, Status> {
        let hello = tokio::select! {
            hello = agent::hello(&mut events) => hello?,
            () = self.stop.cancelled() => return Err(status::shutting_down()),
        };
        if hello.lineage.is_some() {
            let message = "a pod does not choose its lineage: leave hello.lineage out, the coordinator knows from the token whose state it is";
            return Err(status::because(Reason::NotYours, message));
        }
        let instance: Instance =
            hello.instance.as_ref().try_into().map_err(|_| status::invalid("hello.instance", "must have 16 bytes"))?;
        let pod = tokio::select! {
            pod = self.pod(token, &hello, &instance) => pod?,
            () = self.stop.cancelled() => return Err(status::shutting_down()),
        };
        let usher = self.slots.attend(pod, instance).await?;
        Ok(agent::attend(self.stop.clone(), &hello, events, Box::new(usher)))
    }

    /// The right to read a lineage, for the pod that was made to write its files into a volume. That is the one whose UID the coordinator has written
    /// down when it made it: what else a pod says of itself, or bears, counts for nothing.
    async fn courier(&self, token: Option<Token>, lineage: &str) -> Result<Grant, Status> {
        let missing = "send the header `authorization: Bearer TOKEN` with the pod's projected token";
        let token = token.ok_or_else(|| status::because(Reason::Unauthenticated, missing))?;
        let pod = self.identity.bound(&token).await?;
        let known = || {
            let couriers = self.couriers.borrow();
            couriers.get(&pod.uid).filter(|known| (&known.namespace, &known.name) == (&pod.namespace, &pod.name)).cloned()
        };
        let refused = || {
            let message = format!("pod {} was not made to write a state of {lineage:?} into a volume", pod.name);
            status::because(Reason::NotYours, message)
        };
        let courier = known().ok_or_else(refused)?;
        let stored_as = courier.lineages.get(lineage).ok_or_else(refused)?;
        let coordinator = self.coordinator(&courier.repository)?;
        let shared = coordinator.shared();
        let domain = shared.catalog.only().unwrap_or(&courier.repository.namespace).to_owned();
        let names = LineageRef { domain, lineage: stored_as.clone() };
        let place = shared.catalog.existing(Some(names), "lineage").await?;
        let (grant, _) = shared.grant(&place, false, Some(pod.uid.as_str().into())).await?;
        // it may have ended meanwhile: what was granted then was not taken from it
        if known().is_none() {
            shared.revoke_all(&pod.uid);
            return Err(refused());
        }
        Ok(grant)
    }

    /// The pod whose agent this is: by its token, or while the pod is being ended by what an earlier session gave it.
    async fn pod(&self, token: Option<Token>, hello: &Hello, instance: &Instance) -> Result<PodIdentity, Status> {
        let refusal = match &token {
            Some(token) => match self.identity.pod(token).await {
                Ok(pod) => return Ok(pod),
                Err(refusal) => refusal,
            },
            None => Refusal::No("send the header `authorization: Bearer TOKEN` with the pod's projected token".to_owned()),
        };
        if hello.resume.is_empty() {
            return Err(refusal.into());
        }
        self.resumed(&hello.resume, instance).await?.ok_or_else(|| refusal.into())
    }

    /// The pod that a session's pass is for, if it may go on without a token.
    async fn resumed(&self, resume: &str, instance: &Instance) -> Result<Option<PodIdentity>, Status> {
        let Some(pass) = Pass::read(resume) else { return Ok(None) };
        // whoever sends something else must not learn which repositories there are
        let Ok(coordinator) = self.coordinator(pass.repository()) else { return Ok(None) };
        let Some(pass) = pass.check(&coordinator.shared().passes, instance) else { return Ok(None) };
        let found = self.identity.look_up(&pass.pod.namespace, &pass.pod.name).await?;
        let is_ending = found.is_some_and(|pod| {
            let is_it = pod.uid().as_deref() == Some(pass.pod.uid.as_str());
            let is_ours = pod.labels().contains_key(POLICY) && pod.annotations().contains_key(INJECTED);
            is_it && is_ours && pod.metadata.deletion_timestamp.is_some()
        });
        Ok(is_ending.then_some(pass.pod))
    }
}
