// SPDX-License-Identifier: Apache-2.0
//! A restore beside the original: a new workload from what a snapshot recorded, each of whose replicas begins with the snapshot's state. The original
//! goes on untouched.
//!
//! ```text
//! copy        what it consists of: recorded objects, stripped, renamed, pinned to the images that ran
//!   scene       what is there
//!   preflight   what is missing, all of it, before anything is made
//!     course      what is next: histories begin, objects are made, pods restore
//!     fork        and how a history begins
//! ```
//!
//! Objects are created, never changed: what has the name already is somebody's, or bears this restore's UID since an earlier try made it.

use super::aim::{self, Answer, Taken};
use super::history;
use super::plan::moment;
use super::tell::Teller;
use super::{Context, SUCCEEDED};
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{Saying, Truth};
use crate::cluster::hindrance::Hindrance;
use crate::cluster::pauses;
use copy::{Address, Copy, Object, copy};
use course::Next;
use holdfast_api::restore::{MadeObject, RestorePhaseStatus};
use holdfast_api::{StateRestore, StateRestoreStatus};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use preflight::{Origin, Sketch};
use scene::Look;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

mod copy;
mod course;
mod fork;
mod histories;
mod objects;
mod preflight;
mod scene;
mod strip;
#[cfg(test)]
mod tests;
mod words;

/// What was recorded, as it would be made where it goes.
struct Drawn {
    source: Taken,
    copy: Copy,
    address: Address,
    /// The Services that are there.
    services: BTreeMap<String, BTreeMap<String, String>>,
    /// What could not be looked at.
    denied: Vec<String>,
}

impl Context {
    /// Plans it, and begins it if nothing is missing.
    pub(super) async fn beside(&self, teller: Teller<'_>) -> Result<Action, kube::Error> {
        let (repository, sketch) = match self.sketched(&teller.object).await? {
            Ok(sketched) => sketched,
            Err(why) => return self.hindered(teller, &why).await,
        };
        match self.shown(teller, &repository, &sketch.plan).await? {
            ControlFlow::Break(done) => Ok(done),
            ControlFlow::Continue(teller) => self.begin_copy(teller, &repository, sketch).await,
        }
    }

    /// What was recorded, as it would be made where it goes.
    async fn drawn(&self, object: &StateRestore) -> Answer<Drawn> {
        let own = object.namespace().unwrap_or_default();
        let (Some(elsewhere), Some(name)) = (&object.spec.elsewhere, &object.spec.source.snapshot) else {
            let message = "beside the original a snapshot is restored: take one, or write source: {snapshot: NAME}";
            return Ok(Err(Hindrance::lasting("NotBeside", message)));
        };
        let source = match self.snapshot(&own, name).await? {
            Ok(source) => source,
            Err(why) => return Ok(Err(why)),
        };
        let setting = match source.coordinator.api().setting(&source.snapshot.id.to_string(), &source.key.namespace).await {
            Ok(setting) => setting,
            Err(status) => return Ok(Err(aim::hindrance(&status))),
        };
        let address = Address {
            to: elsewhere.namespace.clone(),
            prefix: elsewhere.name_prefix.clone(),
            uid: object.uid().unwrap_or_default(),
        };
        let mut look = Look::new(&self.with.client, &address.to);
        let services = look.services().await?;
        let selectors: Vec<_> = services.values().cloned().collect();
        let members: Vec<String> = source.snapshot.members.iter().map(|member| member.name.clone()).collect();
        let copy = copy(&setting, &members, &object.spec.source.policies, &address, &selectors);
        let denied = look.into_denied();
        Ok(Ok(Drawn { source, copy, address, services, denied }))
    }

    async fn sketched(&self, object: &StateRestore) -> Answer<(RepositoryKey, Sketch)> {
        let drawn = match self.drawn(object).await? {
            Ok(drawn) => drawn,
            Err(why) => return Ok(Err(why)),
        };
        let Drawn { source, copy, address, services, denied } = &drawn;
        let known = async {
            let repository = self.repository_of(copy, address)?;
            let origins = origins(source, copy).await?;
            Ok((repository, origins))
        };
        let (repository, origins) = match known.await {
            Ok(known) => known,
            Err(why) => return Ok(Err(why)),
        };
        let look = Look::new(&self.with.client, &address.to).with(denied.clone());
        let scene = self.scene(look, copy, address, repository.clone(), source, services.clone()).await?;
        if let preflight::Lodging::Away(why) = &scene.lodging {
            let message = format!("StateRepository {repository} can't be used: {why}");
            return Ok(Err(Hindrance::passing("RepositoryNotReady", message)));
        }
        let name = object.spec.source.snapshot.clone().unwrap_or_default();
        let snapshot = &source.snapshot;
        let how =
            format!("a copy of snapshot {name:?} of {} ({})", moment(snapshot.created), aim::in_words(snapshot.consistency));
        Ok(Ok((repository, preflight::sketch(&how, copy, &origins, address, &scene, &object.spec.accept))))
    }

    /// The StateRepository that the policies of the copy name, those that are there before those that were recorded.
    fn repository_of(&self, copy: &Copy, address: &Address) -> Result<RepositoryKey, Hindrance> {
        let there = self.with.objects.policies.state();
        let named = copy.policies.iter().map(|(name, recorded)| {
            let is = there.iter().find(|policy| policy.namespace().as_deref() == Some(&address.to) && policy.name_any() == *name);
            let recorded = || recorded.as_ref()?.pointer("/spec/repositoryRef/name")?.as_str().map(str::to_owned);
            is.map(|policy| policy.spec.repository_ref.name.clone()).or_else(recorded).unwrap_or_else(|| "default".to_owned())
        });
        let names: BTreeSet<String> = named.collect();
        let mut names = names.into_iter();
        match (names.next(), names.next()) {
            (name, None) => Ok(RepositoryKey::new(address.to.clone(), name.unwrap_or_else(|| "default".to_owned()))),
            (Some(one), Some(two)) => {
                let message = format!(
                    "the policies keep their states in several repositories ({one}, {two}): name policies, and create a StateRestore for each"
                );
                Err(Hindrance::lasting("SeveralRepositories", message))
            }
            (None, Some(_)) => Err(Hindrance::lasting("Invalid", "no policy")),
        }
    }

    /// Takes the names of the replicas, keeps what they begin with, and writes down that it begins.
    async fn begin_copy(
        &self,
        mut teller: Teller<'_>,
        repository: &RepositoryKey,
        sketch: Sketch,
    ) -> Result<Action, kube::Error> {
        let uid = teller.uid();
        let members = sketch.plan.members;
        let lineages = members.iter().map(|member| (repository.namespace.clone(), member.lineage.clone())).collect();
        if let Err(other) = self.held.take(&uid, &teller.name(), lineages) {
            let message = format!("StateRestore {other} makes some of the same replicas: choose another namePrefix");
            return self.fail(teller, &Hindrance::lasting("OtherRestore", message)).await;
        }
        let members = match self.kept(repository, &uid, members).await {
            Ok(members) => members,
            Err(why) => {
                self.held.forget(&uid);
                return self.hindered(teller, &why).await;
            }
        };
        let made = |object: &Object| MadeObject { kind: object.kind.clone(), name: object.name.clone(), made: false };
        let status = StateRestoreStatus {
            phase: Some(RestorePhaseStatus::Making),
            objects: sketch.objects.iter().map(made).collect(),
            members,
            ..teller.status()
        };
        let short = sketch.plan.short;
        let saying = Saying::new(SUCCEEDED, Truth::Unknown, "Making", format!("histories begin: {short}"));
        self.begun(&mut teller, status, &saying, short).await?;
        self.make(teller).await
    }

    /// Does what is next of a copy that has begun.
    pub(super) async fn make(&self, teller: Teller<'_>) -> Result<Action, kube::Error> {
        let status = teller.status();
        let Some(repository) = teller.repository() else { return Ok(Action::await_change()) };
        match course::next(&status.members, &status.objects) {
            Next::Begin(who) => self.begin_histories(teller, &repository, &who).await,
            Next::Make(which) => self.make_objects(teller, &which).await,
            Next::Start => self.carry_on(teller).await,
        }
    }

    /// What is done stands written; the rest is tried again.
    async fn try_again(
        &self,
        mut teller: Teller<'_>,
        status: StateRestoreStatus,
        why: &Hindrance,
    ) -> Result<Action, kube::Error> {
        let message = format!("{}; it is tried again; to give it up, delete this StateRestore", why.message);
        teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, why.reason, message.clone())).await?;
        teller.tell(true, "RestoreDelayed", message);
        Ok(Action::requeue(self.pauses.put_off(&teller.uid(), self.with.clock.monotonic(), pauses::LONGEST)))
    }
}

/// The checkpoints that the replicas begin with.
async fn origins(source: &Taken, copy: &Copy) -> Result<BTreeMap<String, Origin>, Hindrance> {
    let (shared, mut found) = (source.coordinator.shared(), BTreeMap::new());
    for replica in &copy.replicas {
        let Some(member) = source.snapshot.members.iter().find(|member| member.name == replica.origin) else { continue };
        let read = async {
            let place = history::place(shared, &source.key.namespace, &member.name).await?;
            shared.catalog.checkpoint(place, member.sequence).await
        };
        let at = read.await.map_err(|status| aim::hindrance(&status))?;
        let Some(recorded) = at.entry.record.checkpoint() else { continue };
        let origin = Origin {
            sequence: member.sequence,
            root: recorded.root.to_string(),
            time: recorded.interval.last_close,
            quality: at.checkpoint.quality(),
            bytes: recorded.totals.bytes,
        };
        found.insert(member.name.clone(), origin);
    }
    Ok(found)
}
