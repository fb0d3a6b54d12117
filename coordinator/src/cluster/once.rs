// SPDX-License-Identifier: Apache-2.0
//! Objects that are done once: each is seen to until it has succeeded or failed, and is left alone from then on.
//!
//! What StateSnapshots and StateRestores have in common: the controller's loop, the condition that says how it ended, and how a status is written.

use super::conditions::{self, Saying};
use super::leading::Leading;
use super::pauses::{self, Pauses};
use super::watched::full_name;
use futures::StreamExt;
use holdfast_api::{StateRestore, StateRestoreStatus, StateSnapshot, StateSnapshotStatus};
use holdfast_core::time::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus;
use kube::runtime::controller::{Action, Controller, Error};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;

/// The condition that says how it ended: unknown until then.
pub(crate) const SUCCEEDED: &str = "Succeeded";
/// Objects of a kind that are seen to at once.
const AT_ONCE: u16 = 16;

/// The status of an object that is done once.
pub(crate) trait Told: Clone + Default + PartialEq + Serialize + Send + Sync {
    fn conditions(&self) -> &[Condition];
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// The generation that it is about.
    fn generation_mut(&mut self) -> &mut Option<i64>;
}

macro_rules! told {
    ($($status:ty),*) => {$(
        impl Told for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }

            fn generation_mut(&mut self) -> &mut Option<i64> {
                &mut self.observed_generation
            }
        }
    )*};
}

told!(StateSnapshotStatus, StateRestoreStatus);

/// An object that is done once.
pub(crate) trait Once:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Told>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Once for StateSnapshot {}
impl Once for StateRestore {}

/// Who sees to the objects of a kind.
pub(crate) trait Sees<K>: Send + Sync + 'static {
    fn with(&self) -> &Leading;
    fn pauses(&self) -> &Pauses;
    /// Does what can be done for it now; the object is as the API server has it.
    fn see_to(&self, object: K) -> impl Future<Output = Result<Action, kube::Error>> + Send;
}

/// Whether nothing is left to be done for it.
pub(crate) fn is_over<K: Once>(object: &K) -> bool {
    let settled = object.status().and_then(|status| conditions::find(status.conditions(), SUCCEEDED));
    object.meta().deletion_timestamp.is_some() || settled.is_some_and(|settled| settled.status != "Unknown")
}

/// Whether it came to what was asked for.
pub(crate) fn has_succeeded<K: Once>(object: &K) -> bool {
    object.status().is_some_and(|status| conditions::is_true(status.conditions(), SUCCEEDED))
}

/// Sees to all objects of a kind, for ever.
pub(crate) async fn see_to_all<K: Once, C: Sees<K>>(controller: Controller<DeserializeGuard<K>>, context: Arc<C>) {
    controller
        .with_config(kube::runtime::Config::default().concurrency(AT_ONCE))
        .run(reconcile, on_error, context)
        .for_each(|done| async {
            if let Err(Error::QueueError(error)) = done {
                tracing::warn!(%error, "a watch was interrupted");
            }
        })
        .await;
}

#[allow(clippy::needless_pass_by_value, reason = "as the controller calls it")]
fn on_error<K: Once, C: Sees<K>>(object: Arc<DeserializeGuard<K>>, error: &kube::Error, context: Arc<C>) -> Action {
    // somebody has written it meanwhile: what stands there now is read
    if !matches!(error, kube::Error::Api(refused) if refused.is_conflict()) {
        context.with().metrics.reconcile_failed(&K::kind(&()));
        tracing::warn!(kind = %K::kind(&()), object = full_name(&*object), %error, "an object could not be looked after");
    }
    let now = context.with().clock.monotonic();
    Action::requeue(context.pauses().put_off(&object.uid().unwrap_or_default(), now, pauses::LONGEST))
}

async fn reconcile<K: Once, C: Sees<K>>(object: Arc<DeserializeGuard<K>>, context: Arc<C>) -> Result<Action, kube::Error> {
    let object = match &object.0 {
        Ok(object) => object,
        Err(error) => {
            tracing::error!(kind = %K::kind(&()), object = full_name(&*object), error = %error.error, "an object can't be understood");
            context.with().metrics.not_understood(&K::kind(&()));
            return Ok(Action::await_change());
        }
    };
    if is_over(object) {
        return Ok(Action::await_change());
    }
    if let Some(left) = context.pauses().left(&object.uid().unwrap_or_default(), context.with().clock.monotonic()) {
        return Ok(Action::requeue(left));
    }
    // what is cached may be older than what was written a moment ago
    let api: Api<K> = Api::namespaced(context.with().client.clone(), &object.namespace().unwrap_or_default());
    let present = api.get_opt(&object.name_any()).await?;
    match present.filter(|present| present.uid() == object.uid() && !is_over(present)) {
        Some(object) => context.see_to(object).await,
        None => Ok(Action::await_change()),
    }
}

/// Who writes statuses of a kind, and how.
pub(crate) struct Manager {
    /// Whose fields these are.
    pub(crate) name: &'static str,
    /// Whether somebody else's writing in between is refused, as a conflict.
    pub(crate) alone: bool,
}

/// Writes a status with its condition; returns what stands there then. What says nothing new isn't written.
///
/// # Errors
/// As the API server answers.
pub(crate) async fn settle<K: Once>(
    with: &Leading,
    manager: &Manager,
    object: &K,
    status: K::Status,
    saying: &Saying,
) -> Result<Option<K>, kube::Error> {
    let Some(status) = new_status(object, status, saying, with.clock.now()) else { return Ok(None) };
    let api: Api<K> = Api::namespaced(with.client.clone(), &object.namespace().unwrap_or_default());
    // another object of the same name is not meant
    let mut metadata = json!({ "uid": object.uid() });
    if manager.alone {
        metadata["resourceVersion"] = json!(object.resource_version());
    }
    let patch = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata, "status": status });
    api.patch_status(&object.name_any(), &PatchParams::apply(manager.name).force(), &Patch::Apply(patch)).await.map(Some)
}

/// The status with its condition; `None`: all of it stands there already.
fn new_status<K: Once>(object: &K, mut status: K::Status, saying: &Saying, now: Timestamp) -> Option<K::Status> {
    let mut before = object.status().cloned().unwrap_or_default();
    let generation = object.meta().generation;
    let said = conditions::settled(before.conditions(), std::slice::from_ref(saying), generation, now);
    let same = conditions::all_said(before.conditions(), &said);
    // compared were the conditions
    before.conditions_mut().clone_from(&said);
    *status.conditions_mut() = said;
    *status.generation_mut() = generation;
    (!same || before != status).then_some(status)
}
