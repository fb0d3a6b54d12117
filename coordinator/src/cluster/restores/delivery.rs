// SPDX-License-Identifier: Apache-2.0
//! A restore into a claim: the files only, on a volume that somebody has made for them. No workload is touched, and none is made.
//!
//! ```text
//! claim    whether the volume can be had
//!   sketch   what would be written, and what stands in its way
//!     pod      the pod that writes it, and courier: that it may read it
//!     course   what is next: the pod is made, runs, is replaced, has ended
//!     end      and what came of it
//! ```
//!
//! The pod has no rights of its own: it is granted what its StateRestore restores because its UID stands in the status, which only the coordinator writes.

use super::held::Held;
use super::plan::Plan;
use super::tell::Teller;
use super::{Context, EVERY, SUCCEEDED, namespace_of, unsigned};
use crate::cluster::conditions::{Saying, Truth};
use crate::cluster::hindrance::Hindrance;
use crate::cluster::upgrade::facts::{IMAGE_VARIABLE, variable};
use crate::cluster::watched::full_name;
use crate::cluster::{RepositoryKey, WEBHOOK, pauses};
use course::{Next, Seen};
use holdfast_api::restore::{DeliveryPod, RestorePhaseStatus, RestoredMember};
use holdfast_api::{StateRestore, StateRestoreStatus, labels};
use holdfast_core::delivery::{Delivery, Parcel};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use serde_json::Value;
use std::ops::ControlFlow;

mod claim;
mod courier;
mod course;
mod end;
mod pod;
mod sketch;

/// Whether a restore goes into a claim; its name.
pub(super) fn claim_of(object: &StateRestore) -> Option<&str> {
    Some(object.spec.elsewhere.as_ref()?.claim.as_ref()?.name.as_str())
}

/// The namespace of the object, which is that of the claim and the pod.
fn own(object: &StateRestore) -> String {
    object.namespace().unwrap_or_default()
}

impl Context {
    /// Plans it, and begins it if nothing stands in its way.
    pub(super) async fn begin_into_claim(&self, teller: Teller<'_>, name: &str) -> Result<Action, kube::Error> {
        let draft = match self.aim(&teller.object).await? {
            Ok(draft) => draft,
            Err(why) => return self.hindered(teller, &why).await,
        };
        let claim = match self.claim(&teller.object, name).await? {
            Ok(claim) => claim,
            Err(why) => return self.hindered(teller, &why).await,
        };
        let spec = &teller.object.spec;
        let chosen = match self.chosen(&draft, &spec.paths).await {
            Err(why) if why.passes => return self.hindered(teller, &why).await,
            chosen => chosen,
        };
        let planned = sketch::sketch(&draft, &spec.accept, name, &claim, chosen);
        match self.shown(teller, &draft.repository, &planned).await? {
            ControlFlow::Break(done) => Ok(done),
            ControlFlow::Continue(teller) => Box::pin(self.begin_delivery(teller, &draft.repository, planned)).await,
        }
    }

    /// Keeps the checkpoints, and writes down that it begins. No gate is shut: whoever writes these lineages goes on.
    async fn begin_delivery(
        &self,
        mut teller: Teller<'_>,
        repository: &RepositoryKey,
        planned: Plan,
    ) -> Result<Action, kube::Error> {
        let uid = teller.uid();
        take(&self.held, &teller.object);
        let members = match self.kept(repository, &uid, planned.members).await {
            Ok(members) => members,
            Err(why) => {
                self.held.forget(&uid);
                return self.hindered(teller, &why).await;
            }
        };
        let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::Making), members, ..teller.status() };
        let saying = Saying::new(SUCCEEDED, Truth::Unknown, "Making", format!("a pod is made for it: {}", planned.short));
        self.begun(&mut teller, status, &saying, planned.short).await?;
        Box::pin(self.deliver(teller)).await
    }

    /// What stands written that a restore into a claim has begun: its lineages go on, and its pod may read them.
    pub(super) fn hold_delivery(&self, object: &StateRestore) {
        take(&self.held, object);
        self.held.remember(&object.uid().unwrap_or_default(), object);
        self.send(object);
    }

    /// Does what is next of one that has begun.
    pub(super) async fn deliver(&self, teller: Teller<'_>) -> Result<Action, kube::Error> {
        let status = teller.status();
        let pods: Api<Pod> = Api::namespaced(self.with.client.clone(), &own(&teller.object));
        let seen = match &status.pod {
            Some(DeliveryPod { name, uid, .. }) if !uid.is_empty() => match pods.get_opt(name).await? {
                Some(found) if found.uid().as_ref() == Some(uid) => {
                    let is_lost = course::is_ending(&found) && self.is_node_lost(&found).await?;
                    Seen::Pod(Box::new(found), is_lost)
                }
                _ => Seen::Gone,
            },
            _ => Seen::NotMade,
        };
        match course::next(&seen) {
            Next::Make => self.make_courier(teller, &pods).await,
            Next::Replace(why) => self.replace_courier(teller, &why).await,
            Next::Wait(message) => {
                let mut teller = teller;
                teller.goes_on(RestorePhaseStatus::Making, "Making", message).await?;
                Ok(Action::requeue(EVERY))
            }
            Next::End(report) => self.end_delivery(teller, &report).await,
        }
    }

    /// Makes the pod, and writes down which it is: only then is it granted anything.
    async fn make_courier(&self, mut teller: Teller<'_>, pods: &Api<Pod>) -> Result<Action, kube::Error> {
        let status = teller.status();
        let attempt = status.pod.as_ref().map_or(0, |pod| pod.attempt);
        let body = match self.courier_body(&teller.object, attempt).await? {
            Ok(body) => body,
            Err(why) => return self.delay(teller, &why).await,
        };
        // given up meanwhile: nothing more is made
        if !self.held.has(&teller.uid()) {
            return Ok(Action::await_change());
        }
        let name = body.name_any();
        let made = match pods.create(&PostParams::default(), &body).await {
            Ok(made) => made,
            Err(kube::Error::Api(refused)) if refused.is_already_exists() => {
                // of an earlier try that could not be written down, or somebody else's: none of them is ever granted anything
                if let Some(there) = pods.get_opt(&name).await?.filter(|there| is_of(there, &teller.uid())) {
                    super::pods::delete(pods, &name, &there.uid().unwrap_or_default()).await?;
                }
                return self.replace_courier(teller, &format!("there is a pod {name} already")).await;
            }
            Err(kube::Error::Api(refused)) if refused.code < 500 => {
                let why =
                    Hindrance::passing("PodRefused", format!("the pod that writes it could not be made: {}", refused.message));
                return self.delay(teller, &why).await;
            }
            Err(error) => return Err(error),
        };
        let pod = Some(DeliveryPod { name: name.clone(), uid: made.uid().unwrap_or_default(), attempt });
        let status = StateRestoreStatus { pod, ..status };
        let message = format!("pod {name} is to write it; waiting until it runs");
        teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "Making", message)).await?;
        self.held.remember(&teller.uid(), &teller.object);
        self.send(&teller.object);
        Ok(Action::requeue(EVERY))
    }

    async fn courier_body(&self, object: &StateRestore, attempt: i32) -> Result<Result<Pod, Hindrance>, kube::Error> {
        let deployments: Api<Deployment> = Api::namespaced(self.with.client.clone(), &self.system);
        let webhook = deployments.get_opt(WEBHOOK).await?;
        let Some(image) = webhook.as_ref().and_then(|webhook| variable(webhook, IMAGE_VARIABLE)) else {
            let message = format!("Deployment {WEBHOOK} of namespace {} does not say which image agents have", self.system);
            return Ok(Err(Hindrance::passing("NoImage", message)));
        };
        let usual = || format!("https://holdfast-coordinator.{}.svc:7420", self.system);
        let coordinator = webhook.as_ref().and_then(|webhook| variable(webhook, "HOLDFAST_COORDINATOR")).unwrap_or_else(usual);
        let status = object.status.clone().unwrap_or_default();
        let spec = self.spec_of(&namespace_of(&status), &status.members).await?;
        let who = pod::Who::of(spec.as_ref());
        let delivery = delivery(object, &status.members, who.owners);
        let order = pod::Order { object, attempt, image, coordinator, who, delivery };
        Ok(pod::body(&order).map_err(|error| Hindrance::lasting("Invalid", error.to_string())))
    }

    /// How the pods are made whose files these are: as a pod that there is, or else as their workload says.
    async fn spec_of(&self, namespace: &str, members: &[RestoredMember]) -> Result<Option<Value>, kube::Error> {
        let is_one = |pod: &Pod| {
            let lineage = pod.labels().get(labels::LINEAGE);
            pod.namespace().as_deref() == Some(namespace) && members.iter().any(|member| Some(&member.lineage) == lineage)
        };
        if let Some(pod) = self.with.objects.pods.find(is_one) {
            return Ok(serde_json::to_value(&pod.spec).ok());
        }
        let first = members.first().map(|member| member.lineage.clone()).unwrap_or_default();
        let lineages = &self.with.objects.lineages;
        let Some(lineage) = lineages.find(|it| it.namespace().as_deref() == Some(namespace) && it.name_any() == first) else {
            return Ok(None);
        };
        let (client, of) = (self.with.client.clone(), &lineage.spec.workload);
        Ok(match of.kind.as_str() {
            "Deployment" => {
                let found = Api::<Deployment>::namespaced(client, namespace).get_opt(&of.name).await?;
                found.and_then(|found| serde_json::to_value(found.spec?.template.spec).ok())
            }
            "StatefulSet" => {
                let found = Api::<StatefulSet>::namespaced(client, namespace).get_opt(&of.name).await?;
                found.and_then(|found| serde_json::to_value(found.spec?.template.spec).ok())
            }
            _ => None,
        })
    }

    /// Another pod takes the place of one that has gone, or will never end. What that one was granted is taken from it.
    async fn replace_courier(&self, mut teller: Teller<'_>, why: &str) -> Result<Action, kube::Error> {
        let status = teller.status();
        self.recall(&teller.object).await;
        let attempt = status.pod.as_ref().map_or(0, |pod| pod.attempt).saturating_add(1);
        let pod = Some(DeliveryPod { name: String::new(), uid: String::new(), attempt });
        let message = format!("{why}: another pod goes on with what is on the volume");
        teller
            .settle(StateRestoreStatus { pod, ..status }, &Saying::new(SUCCEEDED, Truth::Unknown, "Making", message.clone()))
            .await?;
        teller.tell(true, "RestoreDelayed", message);
        Ok(Action::requeue(self.pauses.put_off(&teller.uid(), self.with.clock.monotonic(), pauses::LONGEST)))
    }

    /// A restore's object has gone before all was written: its pod goes, and the claim stays as it is.
    pub(super) async fn abandon_delivery(&self, object: &StateRestore) {
        self.recall(object).await;
        let status = object.status.clone().unwrap_or_default();
        tracing::warn!(restore = full_name(object), "a StateRestore was deleted before all was written: its claim holds a part");
        if let Some(repository) = status.repository.and_then(|key| key.parse::<RepositoryKey>().ok()) {
            self.release(&repository, &status.members).await;
        }
    }
}

/// A restore into a claim has no lineage to itself: it only reads.
fn take(held: &Held, object: &StateRestore) {
    // nothing is taken, so nobody else can have it
    held.take(&object.uid().unwrap_or_default(), &full_name(object), Vec::new()).ok();
}

/// Whether a pod says that it is a restore's.
fn is_of(pod: &Pod, uid: &str) -> bool {
    pod.owner_references().iter().any(|owner| owner.kind == "StateRestore" && owner.uid == uid)
}

/// What the pod is told.
fn delivery(object: &StateRestore, members: &[RestoredMember], owners: bool) -> Delivery {
    let parcel = |member: &RestoredMember| Parcel {
        lineage: member.lineage.clone(),
        sequence: unsigned(member.sequence),
        directory: sketch::directory(members.len(), &member.lineage),
        paths: object.spec.paths.clone(),
    };
    Delivery {
        version: Delivery::VERSION,
        restore: object.uid().unwrap_or_default(),
        owners,
        parcels: members.iter().map(parcel).collect(),
    }
}
