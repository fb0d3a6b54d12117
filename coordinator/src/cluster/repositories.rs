// SPDX-License-Identifier: Apache-2.0
//! StateRepositories: each is tried out, opened, and becomes a coordinator of its own in the table that the front looks into.

use super::conditions::{self, Saying, Truth, find};
use super::metrics::Metrics;
use super::watched::{Bell, full_name};
use super::{Repositories, RepositoryKey, RepositoryState};
use crate::clock::Clock;
use crate::{Access, Config, Coordinator};
use futures::StreamExt;
use holdfast_api::{StateRepository, StateRepositoryStatus};
use holdfast_core::id::OwnerId;
use holdfast_core::time::{Monotonic, doubled};
use holdfast_store::repository::Repository;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use open::{Connect, Trouble};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod count;
pub(crate) mod open;
#[cfg(test)]
mod tests;

/// Whose fields of a status these are.
const MANAGER: &str = "holdfast-repositories";
/// Repositories that are opened at once: each takes a processor for half a second.
const AT_ONCE: u16 = 4;
/// A change of a Secret is noticed within this.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// What is in the way is looked at again after this, twice as long each time, up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(120));

/// The conditions of a StateRepository.
pub(crate) const READY: &str = "Ready";
/// The store has proven that of two who create one object one wins.
const FENCES: &str = "Fences";

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) owner: OwnerId,
    pub(crate) metrics: Metrics,
    pub(crate) connect: Connect,
    /// Repositories without credentials are opened with the coordinator's own.
    pub(crate) own_identity: bool,
    /// The table.
    pub(crate) table: watch::Sender<Repositories>,
    pub(crate) known: Mutex<HashMap<RepositoryKey, Known>>,
}

/// What is remembered of a repository.
#[derive(Debug, Default)]
pub(crate) struct Known {
    opened: Option<Opened>,
    failures: u32,
}

#[derive(Debug, Clone)]
struct Opened {
    digest: [u8; 32],
    repository: Repository,
    coordinator: Coordinator,
    counted: Option<(Monotonic, count::Count)>,
}

/// Reconciles until `stop`, then ends all coordinators.
pub(crate) async fn run(context: Arc<Context>, bell: Bell, stop: CancellationToken) {
    let api: Api<DeserializeGuard<StateRepository>> = Api::all(context.client.clone());
    let controller = Controller::new(api, watcher::Config::default());
    let objects = controller.store();
    let controlled = controller
        .with_config(kube::runtime::Config::default().concurrency(AT_ONCE).debounce(Duration::from_millis(100)))
        .run(reconcile, on_error, Arc::clone(&context))
        .for_each(|done| async {
            if let Err(kube::runtime::controller::Error::QueueError(error)) = done {
                tracing::warn!(%error, "a watch was interrupted");
            }
        });
    // cut off, not drained: the controller would first wait for whatever it has put off
    let controlled = stop.run_until_cancelled(controlled);
    let forgetting = stop.run_until_cancelled(async {
        // an error means that the controller has ended
        objects.wait_until_ready().await.ok();
        loop {
            context.list(&objects).await;
            bell.heard(LOOK_EVERY).await;
        }
    });
    futures::future::join(controlled, forgetting).await;
    context.end().await;
}

#[allow(clippy::needless_pass_by_value, reason = "as the controller calls it")]
fn on_error(object: Arc<DeserializeGuard<StateRepository>>, error: &kube::Error, context: Arc<Context>) -> Action {
    context.metrics.reconcile_failed("StateRepository");
    tracing::warn!(repository = full_name(&*object), %error, "a repository could not be looked after");
    Action::requeue(context.failed(&key_of(&*object)))
}

/// The key of a StateRepository in the table.
pub(crate) fn key_of<K: Resource>(object: &K) -> RepositoryKey {
    RepositoryKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// What a look at a repository came to.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, on its way to the table")]
enum Outcome {
    Ready(Opened),
    Trouble(Trouble),
}

async fn reconcile(object: Arc<DeserializeGuard<StateRepository>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let key = key_of(&*object);
    let object = match &object.0 {
        Ok(object) => object,
        Err(error) => {
            context.tell(&key, Err(error.error.clone()));
            return Ok(Action::await_change());
        }
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let outcome = look(&context, &key, object).await?;
    match &outcome {
        Outcome::Ready(opened) => context.tell(&key, Ok(opened.clone())),
        // who is connected stays so while the store is away
        Outcome::Trouble(trouble) if trouble.passes && context.opened(&key).is_some() => {}
        Outcome::Trouble(trouble) => context.tell(&key, Err(format!("{}: {}", trouble.reason, trouble.message))),
    }
    write_status(&context, object, &outcome).await?;
    Ok(Action::requeue(match outcome {
        Outcome::Ready(_) => {
            context.succeeded(&key);
            super::lead::jittered(LOOK_EVERY)
        }
        Outcome::Trouble(_) => context.failed(&key),
    }))
}

async fn look(context: &Context, key: &RepositoryKey, object: &StateRepository) -> Result<Outcome, kube::Error> {
    let keys = match open::keys(context, object).await? {
        Ok(keys) => keys,
        Err(trouble) => return Ok(Outcome::Trouble(trouble)),
    };
    let before = context.opened(key);
    if let Some(mut opened) = before.filter(|opened| opened.digest == keys.digest) {
        // whether it is still there
        let (domain, before) = (domain_of(object), opened.counted.take());
        return Ok(match count::due(context, &opened.repository, &opened.coordinator, &domain, before).await {
            Ok(counted) => {
                opened.counted = Some(counted);
                Outcome::Ready(opened)
            }
            Err(error) => Outcome::Trouble(Trouble::of_store(&error)),
        });
    }
    announce(context, object).await?;
    let proven = proven(object);
    let opening = open::open(context, &object.spec, &keys, proven).await;
    let repository = match opening {
        Ok(repository) => repository,
        Err(trouble) => return Ok(Outcome::Trouble(trouble)),
    };
    tracing::info!(repository = %key, id = %repository.id(), location = repository.transport().location(), "a repository is open");
    let domain = Some(domain_of(object));
    let config = Config { repository: repository.clone(), owner: context.owner, access: Access::Open, domain };
    let coordinator = Coordinator::new(config);
    Ok(Outcome::Ready(Opened { digest: keys.digest, repository, coordinator, counted: None }))
}

/// The domain of a repository: its own, or its namespace.
pub(crate) fn domain_of(object: &StateRepository) -> String {
    let namespace = || object.namespace().unwrap_or_default();
    if object.spec.domain.is_empty() { namespace() } else { object.spec.domain.clone() }
}

/// Whether this very place was tried out before.
fn proven(object: &StateRepository) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let same = |condition: &&_| {
        let condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition = condition;
        condition.observed_generation == object.metadata.generation
    };
    conditions::is_true(conditions, FENCES) && find(conditions, FENCES).as_ref().is_some_and(same)
}

/// Says that it is being opened, before that takes its time.
async fn announce(context: &Context, object: &StateRepository) -> Result<(), kube::Error> {
    let fresh = object.status.as_ref().is_none_or(|status| status.conditions.is_empty());
    if !fresh {
        return Ok(());
    }
    let sayings = [Saying::new(READY, Truth::Unknown, "Opening", "the store is being tried out and the repository opened")];
    apply(context, object, &sayings, StateRepositoryStatus::default()).await
}

async fn write_status(context: &Context, object: &StateRepository, outcome: &Outcome) -> Result<(), kube::Error> {
    let before = object.status.clone().unwrap_or_default();
    let (sayings, status) = match outcome {
        Outcome::Ready(opened) => {
            let sayings = vec![
                Saying::new(READY, true, "Ready", "the repository is open"),
                Saying::new(FENCES, true, "Proven", "of several who created one object at the same moment, one won each time"),
            ];
            let count = opened.counted.as_ref().map(|(_, count)| count);
            let status = StateRepositoryStatus {
                repository_id: Some(opened.repository.id().to_string()),
                lineages: count.map_or(before.lineages, |count| Some(count.lineages())),
                stored_bytes: count.map_or(before.stored_bytes, |count| count.stored_bytes),
                ..StateRepositoryStatus::default()
            };
            (sayings, status)
        }
        Outcome::Trouble(trouble) => {
            let mut sayings = vec![Saying::new(READY, false, trouble.reason, trouble.message.clone())];
            if trouble.reason == "StoreDoesNotFence" {
                sayings.push(Saying::new(FENCES, false, trouble.reason, trouble.message.clone()));
            } else if proven(object) {
                let message = find(&before.conditions, FENCES).map(|known| known.message.clone()).unwrap_or_default();
                sayings.push(Saying::new(FENCES, true, "Proven", message));
            }
            let StateRepositoryStatus { repository_id, lineages, stored_bytes, .. } = before;
            (sayings, StateRepositoryStatus { repository_id, lineages, stored_bytes, ..StateRepositoryStatus::default() })
        }
    };
    apply(context, object, &sayings, status).await
}

/// Writes the status, if it says anything new.
async fn apply(
    context: &Context,
    object: &StateRepository,
    sayings: &[Saying],
    mut status: StateRepositoryStatus,
) -> Result<(), kube::Error> {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    status.conditions = conditions::settled(&before.conditions, sayings, generation, context.clock.now());
    let same = conditions::all_said(&before.conditions, &status.conditions)
        && (before.observed_generation, &before.repository_id, before.lineages, before.stored_bytes)
            == (status.observed_generation, &status.repository_id, status.lineages, status.stored_bytes);
    if same {
        return Ok(());
    }
    let api: Api<StateRepository> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({ "apiVersion": StateRepository::api_version(&()), "kind": StateRepository::kind(&()), "status": status });
    match api.patch_status(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await {
        // it was deleted meanwhile
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

impl Context {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<RepositoryKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, key: &RepositoryKey) -> Option<Opened> {
        self.known().get(key).and_then(|known| known.opened.clone())
    }

    fn succeeded(&self, key: &RepositoryKey) {
        self.known().entry(key.clone()).or_default().failures = 0;
    }

    /// After how long to look again.
    fn failed(&self, key: &RepositoryKey) -> Duration {
        let mut known = self.known();
        let failures = &mut known.entry(key.clone()).or_default().failures;
        let pause = doubled(RETRY.0, *failures, RETRY.1);
        *failures = failures.saturating_add(1);
        super::lead::jittered(pause)
    }

    /// Puts a repository into the table. A coordinator that another one replaces is ended; its agents come to the other one.
    fn tell(&self, key: &RepositoryKey, found: Result<Opened, String>) {
        let (state, opened) = match found {
            Ok(opened) => (RepositoryState::Ready(opened.coordinator.clone()), Some(opened)),
            Err(why) => (RepositoryState::NotReady(why), None),
        };
        let replaced = {
            let mut known = self.known();
            let slot = &mut known.entry(key.clone()).or_default().opened;
            let before = std::mem::replace(slot, opened.clone());
            before.filter(|before| opened.as_ref().is_none_or(|opened| opened.digest != before.digest))
        };
        self.table.send_if_modified(|table| table.put(key, state, replaced.is_none()));
        if let Some(replaced) = replaced {
            replaced.coordinator.hang_up();
        }
    }

    /// Tells which there are, and ends the coordinators of those that are no more.
    async fn list(&self, objects: &Store<DeserializeGuard<StateRepository>>) {
        let existing: Vec<RepositoryKey> = objects.state().iter().map(|object| key_of(&**object)).collect();
        let gone: Vec<(RepositoryKey, Known)> = self.known().extract_if(|key, _| !existing.contains(key)).collect();
        self.table.send_if_modified(|table| table.list(&existing));
        for (key, known) in gone {
            if let Some(opened) = known.opened {
                tracing::info!(repository = %key, "a repository is no more: its coordinator ends");
                opened.coordinator.end().await;
            }
        }
    }

    async fn end(&self) {
        self.table.send_replace(Repositories::default());
        let all: Vec<Known> = self.known().drain().map(|(_, known)| known).collect();
        futures::future::join_all(all.iter().filter_map(|known| known.opened.as_ref()).map(|opened| opened.coordinator.end()))
            .await;
    }
}
