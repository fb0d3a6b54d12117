// SPDX-License-Identifier: Apache-2.0
//! StateRestores: replicas go back in place to an earlier moment, all together, and prove it.
//!
//! ```text
//! aim       which checkpoint of each replica that is
//!   plan      what would be done, what stands in its way
//!     held      the gates of all of them are shut
//!       course    what is next: pods end, lineages go back, gates open, receipts come
//!         steps     and does it
//!         beside    or none of that: a copy of the workload is made, on histories that begin with the snapshot's
//!         delivery  or a pod writes the files into a claim, and nothing else happens
//!         history   the claim that makes a checkpoint the state again, and the proof that it is on the disk
//! ```
//!
//! Nothing is lost: what came after the moment stays in the timeline as a branch, and `undo` goes back to it. What was done stands in the object's
//! status and in the logs; a leader that takes over goes on from there, and no lineage goes back twice. There is no finalizer: when the object goes, the
//! gates open.

use super::conditions::{Saying, Truth};
use super::events::News;
use super::hindrance::{self, Hindrance};
use super::leading::Leading;
use super::once::{SUCCEEDED, Sees, is_over, see_to_all};
use super::pauses::{self, Pauses};
use super::watched::full_name;
use super::{Couriers, RepositoryKey, SlotView};
use crate::Coordinator;
use held::Held;
use holdfast_api::restore::{RestorePhaseStatus, RestoredMember, WOULD_BE_REFUSED};
use holdfast_api::{StateLineage, StateRestore, StateRestoreStatus};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use plan::{Plan, Scene};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tell::Teller;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod aim;
mod beside;
mod course;
mod delivery;
pub(crate) mod held;
mod history;
mod plan;
mod pods;
mod receipts;
mod steps;
mod tell;
#[cfg(test)]
mod tests;

/// What goes on is looked at this often.
const EVERY: Duration = Duration::from_secs(1);
/// Objects that have gone are looked for this often.
const GONE_EVERY: Duration = Duration::from_secs(1);
/// The objects that there are, are asked for again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The StateRestores of the cluster.
type Restores = Store<DeserializeGuard<StateRestore>>;

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) with: Leading,
    /// Holdfast's own namespace.
    pub(crate) system: String,
    /// Who has which slot.
    pub(crate) slots: watch::Receiver<Arc<Vec<SlotView>>>,
    pub(crate) held: Held,
    /// Whose pods may read what they are to write into volumes.
    pub(crate) couriers: watch::Sender<Couriers>,
    pub(crate) pauses: Pauses,
}

/// Reconciles until `stop`. Gates are told what is held before anything else.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let api: Api<DeserializeGuard<StateRestore>> = Api::all(context.with.client.clone());
    let controlled = async {
        take_over(&context, &api).await;
        context.with.objects.listed().await;
        let controller = Controller::new(api, watcher::Config::default());
        let gone = look_for_gone(Arc::clone(&context), controller.store());
        let restores = see_to_all(controller, Arc::clone(&context));
        futures::future::join(restores, gone).await;
    };
    stop.run_until_cancelled(controlled).await;
}

/// What the leader before has held is held on.
async fn take_over(context: &Context, api: &Api<DeserializeGuard<StateRestore>>) {
    let listed = loop {
        match api.list(&ListParams::default()).await {
            Ok(listed) => break listed,
            Err(error) => tracing::warn!(%error, "what restores there are is not known yet: nobody is let in"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    };
    for object in listed.items.into_iter().filter_map(|object| object.0.ok()).filter(|object| !is_over(object)) {
        context.hold(&object);
    }
    context.held.first();
}

/// Opens the gates of restores whose objects have gone.
async fn look_for_gone(context: Arc<Context>, restores: Restores) {
    // an error means that the process ends
    restores.wait_until_ready().await.ok();
    let mut seen: BTreeMap<String, StateRestore> = BTreeMap::new();
    loop {
        for uid in context.held.uids() {
            let there = restores.find(|object| object.uid().as_ref() == Some(&uid));
            match there.filter(|object| object.meta().deletion_timestamp.is_none()) {
                Some(object) => {
                    // one that can't be understood any more is there all the same
                    if let Ok(object) = &object.0 {
                        seen.insert(uid, object.clone());
                    }
                }
                // it may have begun and gone between two looks
                None => context.abandon(&uid, seen.remove(&uid).or_else(|| context.held.last(&uid))).await,
            }
        }
        let held = context.held.uids();
        seen.retain(|uid, _| held.contains(uid));
        tokio::time::sleep(GONE_EVERY).await;
    }
}

/// Whether it has begun: since then, its status says what is to be done.
fn has_begun(status: &StateRestoreStatus) -> bool {
    use RestorePhaseStatus as Phase;
    matches!(status.phase, Some(Phase::Stopping | Phase::GoingBack | Phase::Making | Phase::Starting))
        && !status.members.is_empty()
}

impl Sees<StateRestore> for Context {
    fn with(&self) -> &Leading {
        &self.with
    }

    fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    async fn see_to(&self, object: StateRestore) -> Result<Action, kube::Error> {
        let mut teller = Teller::new(self, object);
        if has_begun(&teller.status()) {
            if let Some(other) = self.hold(&teller.object) {
                // it can't have begun beside another one, unless somebody else writes what it says
                return self
                    .delay(teller, &Hindrance::passing("OtherRestore", format!("StateRestore {other} has the same replicas")))
                    .await;
            }
            return match teller.object.spec.elsewhere {
                Some(_) if delivery::claim_of(&teller.object).is_some() => Box::pin(self.deliver(teller)).await,
                Some(_) => Box::pin(self.make(teller)).await,
                None => self.carry_on(teller).await,
            };
        }
        teller.begin().await?;
        if let Some(claim) = delivery::claim_of(&teller.object).map(str::to_owned) {
            return Box::pin(self.begin_into_claim(teller, &claim)).await;
        }
        if teller.object.spec.elsewhere.is_some() {
            return Box::pin(self.beside(teller)).await;
        }
        let (repository, planned) = match self.planned(&teller.object).await? {
            Ok(planned) => planned,
            Err(why) => return self.hindered(teller, &why).await,
        };
        match self.shown(teller, &repository, &planned).await? {
            ControlFlow::Break(done) => Ok(done),
            ControlFlow::Continue(teller) => self.start(teller, &repository, planned).await,
        }
    }
}

impl Context {
    fn coordinator(&self, key: &RepositoryKey) -> Result<Coordinator, Hindrance> {
        hindrance::coordinator(&self.with.repositories.borrow(), key)
    }

    /// Holds what stands written that a restore holds; returns another restore that has something of it.
    fn hold(&self, object: &StateRestore) -> Option<String> {
        let status = object.status.as_ref().filter(|status| has_begun(status))?;
        if delivery::claim_of(object).is_some() {
            self.hold_delivery(object);
            return None;
        }
        let (uid, namespace) = (object.uid().unwrap_or_default(), namespace_of(status));
        let lineages = status.members.iter().map(|member| (namespace.clone(), member.lineage.clone())).collect();
        if let Err(other) = self.held.take(&uid, &full_name(object), lineages) {
            return Some(other);
        }
        self.held.remember(&uid, object);
        self.held.shut(&uid, status.members.iter().any(|member| member.claim.is_none()));
        None
    }

    /// What would be done.
    async fn planned(&self, object: &StateRestore) -> Result<Result<(RepositoryKey, Plan), Hindrance>, kube::Error> {
        let draft = match self.aim(object).await? {
            Ok(draft) => draft,
            Err(why) => return Ok(Err(why)),
        };
        let owner = match self.coordinator(&draft.repository) {
            Ok(coordinator) => coordinator.shared().owner,
            Err(why) => return Ok(Err(why)),
        };
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.with.client.clone(), &draft.repository.namespace);
        let budgets = budgets.list(&ListParams::default()).await?.items;
        let scene = Scene { pods: self.with.objects.pods.state(), budgets, owner: Some(owner) };
        Ok(Ok((draft.repository.clone(), plan::plan(&draft, &object.spec.accept, &scene))))
    }

    /// Shows a plan; goes on if it is to be carried out, and nothing stands in its way.
    async fn shown<'a>(
        &self,
        mut teller: Teller<'a>,
        repository: &RepositoryKey,
        planned: &Plan,
    ) -> Result<ControlFlow<Action, Teller<'a>>, kube::Error> {
        let status = StateRestoreStatus {
            plan: planned.sentences.clone(),
            repository: Some(repository.to_string()),
            restored_to: planned.restored_to.clone(),
            ..teller.status()
        };
        teller.object.status = Some(status);
        Ok(match &planned.obstacle {
            _ if teller.object.spec.dry_run => ControlFlow::Break(self.only_planned(teller, planned).await?),
            Some(why) => ControlFlow::Break(self.fail(teller, why).await?),
            None => ControlFlow::Continue(teller),
        })
    }

    async fn only_planned(&self, mut teller: Teller<'_>, planned: &Plan) -> Result<Action, kube::Error> {
        let message = match &planned.obstacle {
            Some(why) => format!("{WOULD_BE_REFUSED} ({}): {}", why.reason, why.message),
            None => format!("nothing was done; it would bring back {}", planned.short),
        };
        let uid = teller.uid();
        let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::Planned), ..teller.status() };
        teller.settle(status, &Saying::new(SUCCEEDED, true, "Planned", message.clone())).await?;
        teller.tell(false, "RestorePlanned", message);
        self.with.metrics.restore_settled("Planned");
        self.pauses.forget(&uid);
        Ok(Action::await_change())
    }

    /// Takes the replicas, keeps their checkpoints, and writes down that it begins.
    async fn start(&self, mut teller: Teller<'_>, repository: &RepositoryKey, planned: Plan) -> Result<Action, kube::Error> {
        let uid = teller.uid();
        let named = |member: &RestoredMember| (repository.namespace.clone(), member.lineage.clone());
        if let Err(other) = self.held.take(&uid, &teller.name(), planned.members.iter().map(named).collect()) {
            let message = format!(
                "StateRestore {other} brings some of the same replicas back: wait until it has ended, then create another one"
            );
            return self.fail(teller, &Hindrance::lasting("OtherRestore", message)).await;
        }
        let members = match self.kept(repository, &uid, planned.members).await {
            Ok(members) => members,
            Err(why) => {
                self.held.forget(&uid);
                return self.hindered(teller, &why).await;
            }
        };
        let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::Stopping), members, ..teller.status() };
        let message = format!("all gates are shut, and all pods end: {}", planned.short);
        self.begun(&mut teller, status, &Saying::new(SUCCEEDED, Truth::Unknown, "Stopping", message), planned.short).await?;
        self.carry_on(teller).await
    }

    /// Shuts the gates of what was taken, and writes down that it begins.
    async fn begun(
        &self,
        teller: &mut Teller<'_>,
        status: StateRestoreStatus,
        saying: &Saying,
        short: String,
    ) -> Result<(), kube::Error> {
        let uid = teller.uid();
        // from here on new pods wait: what is shut and not written down yet opens again when this leader goes
        self.held.shut(&uid, true);
        if let Err(error) = teller.settle(status, saying).await {
            // nothing stands written: it begins anew
            self.held.forget(&uid);
            return Err(error);
        }
        self.held.remember(&uid, &teller.object);
        teller.tell(false, "RestoreBegun", short);
        self.pauses.forget(&uid);
        Ok(())
    }

    /// A restore's object has gone before it had ended: the gates open, and what it had done is told of its lineages.
    async fn abandon(&self, uid: &str, last: Option<StateRestore>) {
        if !self.held.forget(uid) {
            return;
        }
        self.pauses.forget(uid);
        let Some(object) = last else { return };
        self.with.metrics.restore_settled("Deleted");
        if delivery::claim_of(&object).is_some() {
            return self.abandon_delivery(&object).await;
        }
        if object.spec.elsewhere.is_some() {
            return self.abandon_copy(&object).await;
        }
        let (name, status) = (full_name(&object), object.status.unwrap_or_default());
        tracing::warn!(restore = name, "a StateRestore was deleted before it had ended: its gates are open");
        let Some(repository) = status.repository.and_then(|key| key.parse::<RepositoryKey>().ok()) else { return };
        for member in &status.members {
            let note = match member.claim {
                Some(_) => format!(
                    "StateRestore {name} was deleted before it had ended: checkpoint {} is its state, and before it was checkpoint {}",
                    member.sequence,
                    member.before.unwrap_or_default()
                ),
                None => format!("StateRestore {name} was deleted before this replica had gone back: it goes on as it was"),
            };
            self.tell_lineage(&repository, &member.lineage, true, "RestoreAbandoned", note);
        }
        self.release(&repository, &status.members).await;
    }

    fn tell_lineage(&self, repository: &RepositoryKey, lineage: &str, is_warning: bool, reason: &'static str, note: String) {
        let is =
            |object: &StateLineage| object.namespace().as_deref() == Some(&repository.namespace) && object.name_any() == lineage;
        if let Some(object) = self.with.objects.lineages.find(is) {
            self.with.events.tell(News { about: object.object_ref(&()), is_warning, reason, action: "Restore", note });
        }
    }

    /// Something stands in its way before it has begun.
    async fn hindered(&self, teller: Teller<'_>, why: &Hindrance) -> Result<Action, kube::Error> {
        if why.passes { self.delay(teller, why).await } else { self.fail(teller, why).await }
    }

    /// It can't go on, and may later.
    async fn delay(&self, mut teller: Teller<'_>, why: &Hindrance) -> Result<Action, kube::Error> {
        let status = teller.status();
        let phase = if has_begun(&status) { status.phase } else { Some(RestorePhaseStatus::Waiting) };
        let status = StateRestoreStatus { phase, ..status };
        teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, why.reason, why.message.clone())).await?;
        teller.tell(true, "RestoreDelayed", why.message.clone());
        Ok(Action::requeue(self.pauses.put_off(&teller.uid(), self.with.clock.monotonic(), pauses::LONGEST)))
    }

    /// It is not carried out: nothing was done.
    async fn fail(&self, mut teller: Teller<'_>, why: &Hindrance) -> Result<Action, kube::Error> {
        let uid = teller.uid();
        let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::Failed), ..teller.status() };
        teller.settle(status, &Saying::new(SUCCEEDED, false, why.reason, why.message.clone())).await?;
        teller.tell(true, "RestoreFailed", why.message.clone());
        self.with.metrics.restore_settled(why.reason);
        self.pauses.forget(&uid);
        Ok(Action::await_change())
    }
}

/// The namespace of a restore's replicas.
fn namespace_of(status: &StateRestoreStatus) -> String {
    let key = status.repository.as_ref().and_then(|key| key.parse::<RepositoryKey>().ok());
    key.map(|key| key.namespace).unwrap_or_default()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
