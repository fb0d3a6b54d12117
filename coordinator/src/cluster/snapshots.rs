// SPDX-License-Identifier: Apache-2.0
//! StateSnapshots: each is taken once, by a barrier over the replicas that it selects, and told from its beginning to its end.
//!
//! The snapshot's id follows from the object's UID: whoever leads after a leader that was lost finds what that one has made, or takes it. What passes
//! (an agent that is away, a barrier that was broken) is tried again until the object's deadline; what only another object could get around fails it at
//! once. Those of one repository are taken one after the other. There is no finalizer: deleting the object deletes nothing in the store.

use super::RepositoryKey;
use super::conditions::{Saying, Truth};
use super::events::News;
use super::hindrance::{self, Hindrance};
use super::leading::Leading;
use super::lineages::repository_of;
use super::once::{SUCCEEDED, Sees, see_to_all};
use super::pauses::Pauses;
use super::replicas::{self, Sight};
use super::repositories::domain_of;
use super::watched::full_name;
use crate::Coordinator;
use crate::service::snapshot::Terms;
use holdfast_api::quantity::parse_duration;
use holdfast_api::snapshot::PhaseStatus;
use holdfast_api::{StateLineage, StateSnapshot, StateSnapshotSpec, StateSnapshotStatus, labels};
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::{CreateSnapshotRequest, LineageRef, Snapshot};
use holdfast_store::snapshot::Setting;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use select::{Replica, Selection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Status;

mod manifests;
mod resting;
mod schedule;
mod select;
mod tell;
#[cfg(test)]
mod tests;

pub(crate) use resting::Resting;

/// Longest name in the repository, without what tells it from others of the same name.
const NAME_MAX: usize = 100;

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) with: Leading,
    /// Holdfast's own namespace.
    pub(crate) system: String,
    pub(crate) pauses: Pauses,
    /// Whose gates are shut while it is taken.
    pub(crate) resting: Resting,
}

/// Reconciles until `stop`. What is being taken then is waited for, or called off, by the repository's coordinator.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let api: Api<DeserializeGuard<StateSnapshot>> = Api::all(context.with.client.clone());
    let controlled = async {
        context.with.objects.listed().await;
        let controller = Controller::new(api, watcher::Config::default());
        let schedules = schedule::run(Arc::clone(&context), controller.store());
        let snapshots = see_to_all(controller, Arc::clone(&context));
        futures::future::join(snapshots, schedules).await;
    };
    stop.run_until_cancelled(controlled).await;
}

impl Sees<StateSnapshot> for Context {
    fn with(&self) -> &Leading {
        &self.with
    }

    fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Takes it, or says why it is not there yet, or never will be.
    async fn see_to(&self, object: StateSnapshot) -> Result<Action, kube::Error> {
        let uid = &object.uid().unwrap_or_default();
        let mut teller = tell::Teller::new(self, object);
        let (all, pause) = match times(&teller.object.spec) {
            Ok(times) => times,
            Err(why) => return self.fail(teller, &why, uid).await,
        };
        let began = teller.begin().await?;
        let left = all.saturating_sub(self.with.clock.now().since(began));
        match self.attempt(&mut teller, left, pause).await? {
            Ok(status) => {
                let note = tell::in_words(&status);
                teller.settle(status, &Saying::new(SUCCEEDED, true, "Taken", note.clone())).await?;
                self.with.events.tell(News::normal(teller.object.object_ref(&()), "SnapshotTaken", "Snapshot", note));
                self.with.metrics.snapshot_settled("Taken");
                self.pauses.forget(uid);
                Ok(Action::await_change())
            }
            Err(why) if !why.passes => self.fail(teller, &why, uid).await,
            Err(why) if all <= self.with.clock.now().since(began) => {
                let message = format!("it could not be taken within {}: {}", teller.object.spec.deadline.0, why.message);
                self.fail(teller, &Hindrance::lasting("DeadlineExceeded", message), uid).await
            }
            Err(why) => {
                let status = StateSnapshotStatus { phase: Some(PhaseStatus::Waiting), ..teller.status() };
                teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, why.reason, why.message.clone())).await?;
                self.with.events.tell(News::warning(teller.object.object_ref(&()), "SnapshotDelayed", "Snapshot", why.message));
                // the last look is at the deadline
                let rest = all.saturating_sub(self.with.clock.now().since(began));
                Ok(Action::requeue(self.pauses.put_off(uid, self.with.clock.monotonic(), rest)))
            }
        }
    }
}

/// The times of a spec: all that it may take, and the longest pause.
fn times(spec: &StateSnapshotSpec) -> Result<(Duration, Duration), Hindrance> {
    let time = |field: &str, text: &str| {
        parse_duration(text).filter(|time| !time.is_zero()).ok_or_else(|| {
            Hindrance::lasting(
                "Invalid",
                format!("{field} {text:?} is not a time: write for example 10s, in another StateSnapshot"),
            )
        })
    };
    Ok((time("deadline", &spec.deadline.0)?, time("pauseBudget", &spec.pause_budget.0)?))
}

/// What names the snapshot of an object, however often it is tried, and by whomever.
fn request_of(uid: &str) -> String {
    format!("statesnapshot {uid}")
}

impl Context {
    async fn fail(&self, mut teller: tell::Teller<'_>, why: &Hindrance, uid: &str) -> Result<Action, kube::Error> {
        let status = StateSnapshotStatus { phase: Some(PhaseStatus::Failed), ..teller.status() };
        teller.settle(status, &Saying::new(SUCCEEDED, false, why.reason, why.message.clone())).await?;
        self.with.events.tell(News::warning(teller.object.object_ref(&()), "SnapshotFailed", "Snapshot", why.message.clone()));
        self.with.metrics.snapshot_settled(why.reason);
        self.pauses.forget(uid);
        Ok(Action::await_change())
    }

    /// One try: what an earlier one has made, or else what is made now.
    async fn attempt(
        &self,
        teller: &mut tell::Teller<'_>,
        left: Duration,
        pause: Duration,
    ) -> Result<Result<StateSnapshotStatus, Hindrance>, kube::Error> {
        let request_id = request_of(&teller.object.uid().unwrap_or_default());
        let spans = self.spans(&teller.object);
        let before = teller.status().repository.and_then(|name| name.parse::<RepositoryKey>().ok());
        if let Some(key) = before {
            // whoever has written this may have taken it, too
            let made = match self.reader(&key, spans) {
                Ok(coordinator) => coordinator.api().made(&request_id).await.map_err(|status| hindrance(&status)),
                Err(why) => Err(why),
            };
            match made {
                Ok(None) => {}
                Ok(Some(snapshot)) => return Ok(Ok(self.told(&snapshot, &key, spans, teller.status()).await)),
                Err(why) => return Ok(Err(why)),
            }
        }
        if left.is_zero() {
            return Ok(Err(teller.standing()));
        }
        let (selection, setting, coordinator) = match self.selected(&teller.object).await? {
            Ok(selected) => selected,
            Err(why) => return Ok(Err(why)),
        };
        let Some(repository) = selection.domains.keys().next().cloned() else { return Ok(Err(teller.standing())) };
        let names = |replicas: &[Replica]| replicas.iter().map(|replica| selection.names(replica)).collect();
        let request = CreateSnapshotRequest {
            name: name_of(&teller.object),
            lineages: names(&selection.replicas),
            labels: labels_of(&teller.object),
            request_id,
            // each member's quality is told
            accept_fuzzy: true,
            ..CreateSnapshotRequest::default()
        };
        teller.announce(&repository).await?;
        let terms = Terms { within: left, pause, rename: true, setting, absent: names(&selection.absent) };
        let whose = full_name(&teller.object);
        let taken = self.take(&coordinator, request, terms, (teller, self.resting.of(&whose, &selection.policies))).await;
        Ok(match taken {
            Ok(snapshot) => Ok(self.told(&snapshot, &repository, spans, teller.status()).await),
            Err(status) => Err(hindrance(&status)),
        })
    }

    /// Takes it, and tells how far that is.
    async fn take(
        &self,
        coordinator: &Coordinator,
        request: CreateSnapshotRequest,
        terms: Terms,
        (teller, rest): (&mut tell::Teller<'_>, resting::Rest<'_>),
    ) -> Result<Snapshot, Status> {
        let id = coordinator.shared().board.id_of_request(&request.request_id);
        let mut underway = coordinator.shared().barriers.watch();
        let api = coordinator.api();
        let mut taking = std::pin::pin!(api.taken(request, terms));
        loop {
            tokio::select! {
                biased;
                taken = &mut taking => return taken,
                Ok(()) = underway.changed() => {
                    let phase = underway.borrow_and_update().get(&id).and_then(|progress| tell::phase(&progress.phase));
                    if let Some(phase) = phase {
                        rest.is_in(phase);
                        teller.progress(phase).await;
                    }
                }
            }
        }
    }

    /// The replicas that are meant, what they run as, and the coordinator of their repository.
    async fn selected(
        &self,
        object: &StateSnapshot,
    ) -> Result<Result<(Selection, Setting, Coordinator), Hindrance>, kube::Error> {
        let own = object.namespace().unwrap_or_default();
        let sight = Sight {
            policies: self.with.objects.policies.state(),
            lineages: self.with.objects.lineages.state(),
            pods: self.with.objects.pods.state(),
        };
        let chosen = select::namespaces(&object.spec, &own, &self.system)
            .and_then(|namespaces| select::policies(&object.spec, &namespaces, &sight));
        let chosen = match chosen {
            Ok(chosen) => chosen,
            Err(why) => return Ok(Err(why)),
        };
        let wanted = replicas::wanted(&self.with.client, select::doubtful(&chosen, &sight)).await?;
        let selected =
            select::replicas(&chosen, &sight, &wanted).and_then(|replicas| self.ready(replicas, chosen, self.spans(object)));
        Ok(match selected {
            Ok((selection, coordinator)) => {
                let setting = manifests::gather(&self.with.client, &selection, &sight).await?;
                Ok((selection, setting, coordinator))
            }
            Err(why) => Err(why),
        })
    }

    /// Those of the replicas that can be members now, and what takes a snapshot of them.
    fn ready(
        &self,
        replicas: Vec<Replica>,
        policies: BTreeSet<(String, String)>,
        spans: bool,
    ) -> Result<(Selection, Coordinator), Hindrance> {
        let place = |key: &RepositoryKey| match spans {
            true => Ok(place_of(&self.coordinator(key)?)),
            // one that is not of several namespaces is seen by one of them alone
            false => Ok(key.to_string()),
        };
        let mut coordinators = BTreeMap::new();
        let mut domains = BTreeMap::new();
        for key in select::one_place(&replicas, place)? {
            let missing = || Hindrance::passing("RepositoryNotReady", format!("there is no StateRepository {key}"));
            let object = self.with.objects.repository(&key).ok_or_else(missing)?;
            domains.insert(key.clone(), domain_of(&object));
            coordinators.insert(key.clone(), self.coordinator(&key)?);
        }
        let (replicas, absent) = present(replicas, &coordinators)?;
        let all: Vec<&Coordinator> = coordinators.values().collect();
        let coordinator = match all[..] {
            [only] if !spans => Some(only.clone()),
            _ => Coordinator::across(&all),
        };
        let none = || Hindrance::lasting("NothingSelected", "no replica is under these policies");
        Ok((Selection { domains, policies, replicas, absent }, coordinator.ok_or_else(none)?))
    }

    /// Whether it may hold replicas of several namespaces.
    fn spans(&self, object: &StateSnapshot) -> bool {
        select::spans(&object.spec, &object.namespace().unwrap_or_default(), &self.system)
    }

    fn coordinator(&self, key: &RepositoryKey) -> Result<Coordinator, Hindrance> {
        hindrance::coordinator(&self.with.repositories.borrow(), key)
    }

    /// What reads of a snapshot whatever its object may ask for.
    fn reader(&self, key: &RepositoryKey, spans: bool) -> Result<Coordinator, Hindrance> {
        let coordinator = self.coordinator(key)?;
        Ok(Coordinator::across(&[&coordinator]).filter(|_| spans).unwrap_or(coordinator))
    }

    async fn told(
        &self,
        snapshot: &Snapshot,
        repository: &RepositoryKey,
        spans: bool,
        before: StateSnapshotStatus,
    ) -> StateSnapshotStatus {
        let of = |names: &LineageRef| {
            let is =
                |object: &StateLineage| object.spec.lineage == names.lineage && self.is_of(object, repository, &names.domain);
            let found = self.with.objects.lineages.find(is);
            let object = || Some((found.as_ref()?.namespace()?, found.as_ref()?.name_any()));
            object().unwrap_or_else(|| (repository.namespace.clone(), names.lineage.clone()))
        };
        let recorded = match self.reader(repository, spans) {
            Ok(coordinator) => coordinator.api().setting(&snapshot.id, &repository.namespace).await.ok(),
            Err(_) => None,
        };
        let status = tell::taken(snapshot, repository, &of, before);
        // what can't be read at this moment stands in the repository all the same
        StateSnapshotStatus { recorded: recorded.iter().flat_map(|setting| tell::recorded(setting, spans)).collect(), ..status }
    }

    /// Whether a StateLineage lies in a domain of the same repository as a StateRepository.
    fn is_of(&self, object: &StateLineage, repository: &RepositoryKey, domain: &str) -> bool {
        let key = repository_of(object);
        if key == *repository {
            return self.with.objects.repository(&key).is_some_and(|object| domain_of(&object) == domain);
        }
        let repositories = self.with.repositories.borrow();
        let place = |key: &RepositoryKey| repositories.coordinator(key).ok().map(place_of);
        place(&key).is_some()
            && place(&key) == place(repository)
            && self.with.objects.repository(&key).is_some_and(|object| domain_of(&object) == domain)
    }
}

/// Which repository a coordinator is of, however many StateRepositories name it.
fn place_of(coordinator: &Coordinator) -> String {
    coordinator.shared().catalog.repository().id().to_string()
}

/// Those that can be members now, and those that have nothing to give yet.
///
/// # Errors
/// If an application may be at work that nobody can bring to rest: without its agent only an older state of it could be had.
fn present(
    replicas: Vec<Replica>,
    coordinators: &BTreeMap<RepositoryKey, Coordinator>,
) -> Result<(Vec<Replica>, Vec<Replica>), Hindrance> {
    let seen: BTreeMap<&RepositoryKey, _> = coordinators.iter().map(|(key, coordinator)| (key, coordinator.seen())).collect();
    let is_seen = |replica: &Replica| seen.get(&replica.repository).is_some_and(|seen| seen.contains_key(&replica.lineage));
    let is_away = |replica: &&Replica| replica.runs.is_some() && !is_seen(replica);
    let away: Vec<&str> = replicas.iter().filter(is_away).filter_map(|replica| replica.runs.as_deref()).collect();
    if let Some(first) = away.first() {
        let message = format!("the agents of {} running pods are not connected, {first}'s among them", away.len());
        return Err(Hindrance::passing("AgentAway", message));
    }
    let is_there = |replica: &Replica| replica.stored || is_seen(replica);
    let (there, absent): (Vec<Replica>, Vec<Replica>) = replicas.into_iter().partition(is_there);
    match there.is_empty() {
        true => Err(Hindrance::passing("NothingStored", "of no replica anything is durable yet")),
        false => Ok((there, absent)),
    }
}

/// Its name in the repository.
fn name_of(object: &StateSnapshot) -> String {
    let mut name = object.name_any();
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
}

/// What tells people in the repository whose snapshot it is.
fn labels_of(object: &StateSnapshot) -> BTreeMap<String, String> {
    let namespace = object.namespace().unwrap_or_default();
    BTreeMap::from([("holdfast.dev/namespace".to_owned(), namespace), (labels::SNAPSHOT.to_owned(), object.name_any())])
}

/// What a refusal means for the object.
fn hindrance(status: &Status) -> Hindrance {
    let problem = Problem::of(status);
    let message = status.message().to_owned();
    match problem.reason {
        Some(Reason::Deleted) => Hindrance::lasting("Deleted", message),
        Some(Reason::BarrierFailed | Reason::FlushFailed) => Hindrance::passing("BarrierFailed", message),
        Some(Reason::DeadlineExceeded) => Hindrance::passing("NotInTime", message),
        Some(Reason::StoreUnavailable | Reason::StoreRefused) => Hindrance::passing("StoreUnreachable", message),
        Some(Reason::NoCheckpoint | Reason::NotFound) => Hindrance::passing("NothingStored", message),
        // a collection that is under way, a session that has ended, a leader that ends
        _ => Hindrance::passing("NotTaken", message),
    }
}
