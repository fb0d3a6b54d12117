// SPDX-License-Identifier: Apache-2.0
//! Connections of pods' agents: what each waits for, what it is told.

use super::actor::{Actor, Done, pod_is_gone};
use super::facts::{Named, PodFacts, RecordFacts, WorkloadKey};
use super::foreign;
use super::preflight::{self, Checked};
use super::{Ask, News, Said, Speech};
use crate::Coordinator;
use crate::cluster::identity::PodIdentity;
use crate::cluster::{RepositoryKey, WaitingFor};
use crate::session::Instance;
use crate::status;
use holdfast_core::slot::{Event, PodId, Slot, Why};
use holdfast_core::time::Monotonic;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::Start;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// What the store did not answer is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// That the store does not answer is said after this: well before an agent takes the coordinator itself for silent.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// A watch shows a pod that the API server knows within this, unless something is wrong.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// A seal is looked for at these moments after a connection has ended.
const SEALED_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for a slot, or for what comes before its lineage is looked at.
    Waiting,
    /// Its lineage is looked at, since then.
    Checking(Monotonic),
    /// The store did not answer: looked at again then.
    Troubled(Monotonic),
    /// It waits for a person.
    Foreign,
    /// It was granted its lineage.
    Begun,
}

/// A connection of a pod's agent.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) pod: PodIdentity,
    connection: u64,
    instance: Instance,
    since: Monotonic,
    said: watch::Sender<Said>,
    pub(super) waiting: Option<WaitingFor>,
    asked: bool,
    slot: Option<Slot>,
    stage: Stage,
    /// What a person chose, and its welcome carried.
    carried: Option<String>,
    stuck: bool,
}

impl Guest {
    fn new(pod: PodIdentity, instance: Instance, connection: u64, said: watch::Sender<Said>, since: Monotonic) -> Self {
        let (stage, waiting, slot, carried) = (Stage::Waiting, None, None, None);
        Self { pod, connection, instance, since, said, waiting, asked: false, slot, stage, carried, stuck: false }
    }

    /// The machine has granted it a slot.
    pub(super) fn granted(&mut self, slot: Slot) {
        (self.slot, self.stage) = (Some(slot), Stage::Waiting);
    }

    pub(super) const fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    const fn is_checking(&self) -> bool {
        matches!(self.stage, Stage::Checking(_))
    }

    fn say(&self, speech: Speech) {
        self.said.send_replace(Said(Some(Arc::new(speech))));
    }

    fn wait(&mut self, why: WaitingFor) {
        if self.waiting.as_ref() != Some(&why) {
            self.say(Speech::Wait { reason: why.reason, message: why.message.clone() });
            self.waiting = Some(why);
        }
    }
}

impl Actor {
    pub(super) fn hear(&mut self, ask: Ask) {
        match ask {
            Ask::Arrives { pod, instance, connection, said } => {
                let uid = pod.uid.clone();
                let other = status::because(Reason::SessionReplaced, "the pod's agent has opened another session");
                self.dismiss(&uid, other, false);
                let since = self.clock.monotonic();
                self.guests.insert(uid.clone(), Guest::new(pod, instance, connection, said, since));
                if self.departed.contains(&uid) {
                    return self.dismiss(&uid, pod_is_gone(), true);
                }
                self.consider(&uid);
            }
            Ask::Heard { uid, connection, news } => {
                let Some(key) = self.of(&uid, connection) else { return };
                self.feed(&key, Event::Heard(PodId(uid.clone())));
                if let Some(news) = news {
                    self.news(&key, &uid, news);
                }
            }
            Ask::Leaves { uid, connection } => {
                let Some(key) = self.of(&uid, connection) else { return };
                let slot = self.guests.remove(&uid).and_then(|guest| guest.slot);
                self.feed(&key, Event::Leaves(PodId(uid.clone())));
                if let Some(slot) = slot {
                    self.look_for_seal(&key, uid, &slot);
                }
            }
        }
    }

    /// The workload of a pod, if this is its newest connection.
    fn of(&self, uid: &str, connection: u64) -> Option<WorkloadKey> {
        self.guests.get(uid).filter(|guest| guest.connection == connection)?;
        self.pods.get(uid).map(|facts| facts.workload.clone())
    }

    /// Ends a pod's connection.
    pub(super) fn dismiss(&mut self, uid: &str, status: Status, revoke: bool) {
        if let Some(guest) = self.guests.remove(uid) {
            self.changed = true;
            guest.say(Speech::End { status, revoke });
        }
    }

    /// Asks the machine for a pod's slot, once what must be known of the pod is.
    pub(super) fn consider(&mut self, uid: &str) {
        let (Some(guest), Some(facts)) = (self.guests.get_mut(uid), self.pods.get(uid)) else { return };
        if guest.asked {
            return;
        }
        self.changed = true;
        let Some(policy) = self.policies.get(&(facts.workload.namespace.clone(), facts.policy.clone())) else {
            let message =
                format!("there is no StatePolicy {} in namespace {}: create it", facts.policy, facts.workload.namespace);
            return guest.wait(WaitingFor::warning("PolicyMissing", message));
        };
        if facts.wish_under(policy).is_none() {
            let message = format!("which replica of {} the pod is can't be told", facts.workload.name);
            return guest.wait(WaitingFor::warning("NoFreeSlot", message));
        }
        guest.asked = true;
        let key = facts.workload.clone();
        self.show(uid);
        self.feed(&key, Event::Wants(PodId(uid.to_owned())));
    }

    /// Something has changed that connections may wait for.
    pub(super) fn go_on(&mut self) {
        for uid in self.guests.keys().cloned().collect::<Vec<_>>() {
            self.consider(&uid);
            self.advance(&uid);
        }
    }

    /// A pod that has its slot: what else stands between it and its lineage.
    pub(super) fn advance(&mut self, uid: &str) {
        let (Some(guest), Some(facts)) = (self.guests.get(uid), self.pods.get(uid)) else { return };
        let (Stage::Waiting, Some(slot)) = (guest.stage, guest.slot.clone()) else { return };
        let name = facts.workload.lineage(&slot);
        let of: Named = (facts.workload.namespace.clone(), name.object());
        let Some(record) = self.records.get(&of).cloned() else { return };
        let shut = self.shut(&of, facts);
        let repository = self.repository(&RepositoryKey::new(&of.0, &record.repository));
        let taken = repository.as_ref().ok().and_then(|coordinator| self.taken(&of, &record, coordinator));
        let now = self.clock.monotonic();
        let (connection, pod, instance, node) = (guest.connection, guest.pod.clone(), guest.instance, facts.node.clone());
        let Some(guest) = self.guests.get_mut(uid) else { return };
        self.changed = true;
        match (shut, taken, repository) {
            (Some(why), ..) => guest.wait(why),
            (None, Some(why), _) => {
                guest.stage = Stage::Troubled(now.plus(AGAIN_AFTER));
                guest.wait(WaitingFor::warning("LineageTaken", why));
            }
            (None, None, Err(why)) => guest.wait(why),
            (None, None, Ok(coordinator)) => {
                guest.stage = Stage::Checking(now);
                let check = preflight::Check { coordinator, writer: self.writer.clone(), of, name, record, pod, instance, node };
                let uid = uid.to_owned();
                self.work.spawn(async move {
                    let outcome = check.run().await;
                    Done::Checked { uid, connection, slot, outcome }
                });
            }
        }
    }

    /// Why a gate is shut whatever its lineage: a restore goes on, or the replicas of its policy are being brought to rest, and one that began now would
    /// come into the middle of that.
    fn shut(&self, of: &Named, pod: &PodFacts) -> Option<WaitingFor> {
        let restore = self.holds.borrow().get(of).cloned().map(|why| WaitingFor::normal("RestoreInProgress", why));
        restore.or_else(|| {
            // an agent that comes back to its application is a member, and must hear so
            let snapshot = self.rests.borrow().get(&(of.0.clone(), pod.policy.clone())).filter(|_| !pod.has_begun).cloned();
            snapshot.map(|why| WaitingFor::normal("SnapshotInProgress", why))
        })
    }

    /// Another namespace's replica that has this very history, where two StateRepositories are one place and one domain: both would write it, and each
    /// would begin with the other's state. Whose StateLineage was made first keeps it.
    fn taken(&self, of: &Named, record: &RecordFacts, coordinator: &Coordinator) -> Option<String> {
        let place = |coordinator: &Coordinator, namespace: &str| {
            let id = coordinator.shared().catalog.repository().id();
            (id, preflight::names(coordinator, namespace, &record.lineage).domain)
        };
        let own = place(coordinator, &of.0);
        let first = |(other, theirs): &(&Named, &RecordFacts)| {
            let is_other = other.0 != of.0 && theirs.lineage == record.lineage;
            let is_first = (theirs.made, *other) < (record.made, of);
            let key = RepositoryKey::new(&other.0, &theirs.repository);
            is_other && is_first && self.repository(&key).is_ok_and(|theirs| place(&theirs, &other.0) == own)
        };
        let (other, theirs) = self.records.iter().find(first)?;
        Some(format!(
            "StateLineage {}/{} has the same history: StateRepository {}/{} names the same place and the same domain; give this namespace's repository a \
             domain or a prefix of its own",
            other.0, other.1, other.0, theirs.repository
        ))
    }

    /// A lineage was looked at.
    pub(super) fn checked(&mut self, uid: &str, connection: u64, slot: &Slot, outcome: Checked) {
        self.changed = true;
        let again = self.clock.monotonic().plus(AGAIN_AFTER);
        let current =
            |guest: &&mut Guest| guest.connection == connection && guest.slot.as_ref() == Some(slot) && guest.is_checking();
        let shut = self.pods.get(uid).and_then(|facts| {
            let of = (facts.workload.namespace.clone(), facts.workload.lineage(slot).object());
            self.shut(&of, facts)
        });
        let Some(guest) = self.guests.get_mut(uid).filter(current) else { return };
        match outcome {
            Checked::Clear { assigned, choice } => {
                // its gate was shut while it was looked at
                if let Some(why) = shut {
                    guest.stage = Stage::Waiting;
                    return guest.wait(why);
                }
                guest.carried = choice.filter(|_| assigned.start != Start::Unspecified);
                (guest.stage, guest.waiting) = (Stage::Begun, None);
                guest.say(Speech::Begin(*assigned));
            }
            Checked::Again(record) => {
                guest.stage = Stage::Waiting;
                if let Some((of, record)) = record {
                    self.records.insert(of, *record);
                }
                self.advance(uid);
            }
            Checked::Foreign(message) => {
                guest.stage = Stage::Foreign;
                guest.wait(WaitingFor::warning("ForeignLineageFound", message));
            }
            Checked::Trouble(message) => {
                guest.stage = Stage::Troubled(again);
                guest.wait(WaitingFor::warning("RepositoryNotReady", message));
            }
            // its watch will say so, too
            Checked::Gone => guest.stage = Stage::Troubled(again),
        }
    }

    /// A person has chosen, or has changed their mind.
    pub(super) fn chosen(&mut self, record: &RecordFacts) {
        let Some(holder) = record.holder.clone() else { return };
        let Some(guest) = self.guests.get_mut(&holder).filter(|guest| guest.slot.as_ref() == Some(&record.slot)) else { return };
        match guest.stage {
            Stage::Foreign | Stage::Troubled(_) => {
                guest.stage = Stage::Waiting;
                self.advance(&holder);
            }
            Stage::Begun if guest.stuck && preflight::start_of(record.choice.as_deref()) != Start::Unspecified => {
                let decided = Problem::new(Reason::Decided, "a decision was made: a new session follows it");
                self.dismiss(&holder, decided.retry_after(Duration::from_millis(100)).into(), false);
                self.feed(&record.workload, Event::Leaves(PodId(holder)));
            }
            _ => {}
        }
    }

    /// Whether a record is being looked at, or made anew, for a pod that has its slot.
    pub(super) fn is_checking(&self, record: &RecordFacts) -> bool {
        let holder = record.holder.as_ref().and_then(|uid| self.guests.get(uid));
        holder.is_some_and(Guest::is_checking)
    }

    fn news(&mut self, key: &WorkloadKey, uid: &str, news: News) {
        self.changed = true;
        let Some(guest) = self.guests.get_mut(uid).filter(|guest| guest.stage == Stage::Begun) else { return };
        let Some(slot) = guest.slot.clone() else { return };
        let of: Named = (key.namespace.clone(), key.lineage(&slot).object());
        guest.stuck = matches!(news, News::Stuck(..));
        match news {
            News::Stuck(reason, message) => {
                guest.waiting = Some(WaitingFor::warning(reason, message));
                // it may have been chosen before it was known
                let carried = guest.carried.clone();
                if let Some(record) = self.records.get(&of).cloned().filter(|record| record.choice != carried) {
                    self.chosen(&record);
                }
            }
            News::Begins => guest.waiting = None,
            News::Goes => {
                guest.waiting = None;
                if let Some(carried) = guest.carried.take() {
                    // before watches tell that it was taken away, another connection must not follow it again
                    if let Some(record) = self.records.get_mut(&of).filter(|record| record.choice.as_ref() == Some(&carried)) {
                        record.choice = None;
                    }
                    let writer = self.writer.clone();
                    self.work.spawn(async move {
                        if let Err(error) = writer.followed(&of).await {
                            tracing::warn!(lineage = of.1, %error, "a choice that was followed could not be taken away");
                        }
                        Done::Nothing
                    });
                }
            }
            News::Ended => self.look_for_seal(key, uid.to_owned(), &slot),
        }
    }

    /// Looks whether a pod's agent has sealed its record.
    fn look_for_seal(&mut self, key: &WorkloadKey, uid: String, slot: &Slot) {
        let of: Named = (key.namespace.clone(), key.lineage(slot).object());
        let Some(record) = self.records.get(&of) else { return };
        let Ok(coordinator) = self.repository(&RepositoryKey::new(&of.0, &record.repository)) else { return };
        let names = preflight::names(&coordinator, &of.0, &record.lineage);
        self.work.spawn(async move {
            for after in SEALED_AFTER {
                tokio::time::sleep(after).await;
                if foreign::is_sealed(coordinator.shared(), &names).await.unwrap_or(false) {
                    return Done::Sealed { uid, is_sealed: true };
                }
            }
            Done::Sealed { uid, is_sealed: false }
        });
    }

    /// What was granted to a pod is void.
    pub(super) fn revoke(&mut self, key: &WorkloadKey, uid: &str, slot: &Slot) {
        let of: Named = (key.namespace.clone(), key.lineage(slot).object());
        if let Some(Ok(coordinator)) =
            self.records.get(&of).map(|record| self.repository(&RepositoryKey::new(&of.0, &record.repository)))
        {
            coordinator.shared().revoke_all(uid);
        }
        let message = format!("slot {slot} of {} {} is not this pod's any more", key.kind, key.name);
        self.dismiss(uid, status::because(Reason::NotYours, message), true);
    }

    pub(super) fn say_why(&mut self, key: &WorkloadKey, uid: &str, why: &Why) {
        let name = |id: &PodId| self.pods.get(&id.0).map_or_else(|| id.0.clone(), |facts| facts.name.clone());
        let of = format!("{} {}", key.kind, key.name);
        let waiting = match why {
            // a moment: not worth a word
            Why::Recording => return,
            Why::Held { slot, by } => WaitingFor::normal(
                "SlotHeld",
                format!("slot {slot} of {of} is held by pod {}, which may still write: waiting until it has ended", name(by)),
            ),
            Why::Replaced { slot, by } => WaitingFor::warning(
                "SlotHeld",
                format!("slot {slot} of {of} was taken over by pod {} while this one was not heard: delete this pod", name(by)),
            ),
            Why::Full { replicas } => WaitingFor::normal(
                "NoFreeSlot",
                format!("{of} has {replicas} replicas, and as many pods hold slots: waiting until one of them has ended"),
            ),
            Why::Ending => WaitingFor::normal("NoFreeSlot", "the pod is being ended, and never had a slot"),
        };
        if let Some(guest) = self.guests.get_mut(uid) {
            guest.wait(waiting);
        }
    }

    /// Looks again at what time alone may have changed.
    pub(super) fn sweep(&mut self, now: Monotonic) {
        let gone: Vec<(String, u64)> = self
            .guests
            .iter()
            .filter(|(_, guest)| guest.said.is_closed())
            .map(|(uid, guest)| (uid.clone(), guest.connection))
            .collect();
        for (uid, connection) in gone {
            self.hear(Ask::Leaves { uid, connection });
        }
        let unseen = |uid: &String, guest: &Guest| !self.pods.contains_key(uid) && now.since(guest.since) >= SEEN_WITHIN;
        let unseen: Vec<String> =
            self.guests.iter().filter(|(uid, guest)| unseen(uid, guest)).map(|(uid, _)| uid.clone()).collect();
        for uid in unseen {
            let problem = Problem::new(Reason::IdentityUnavailable, "the coordinator's watch does not show the pod yet");
            self.dismiss(&uid, problem.retry_after(AGAIN_AFTER).into(), false);
        }
        self.say_who_is_silent(now);
        let due = |guest: &Guest| matches!(guest.stage, Stage::Troubled(until) if until <= now);
        let again: Vec<String> = self.guests.iter().filter(|(_, guest)| due(guest)).map(|(uid, _)| uid.clone()).collect();
        for uid in again {
            if let Some(guest) = self.guests.get_mut(&uid) {
                guest.stage = Stage::Waiting;
            }
            self.advance(&uid);
        }
    }

    /// Agents whose lineages are still being looked at hear that it is the store that keeps them waiting.
    fn say_who_is_silent(&mut self, now: Monotonic) {
        for (uid, guest) in &mut self.guests {
            let (Stage::Checking(since), Some(slot), Some(facts)) = (guest.stage, guest.slot.as_ref(), self.pods.get(uid)) else {
                continue;
            };
            let of: Named = (facts.workload.namespace.clone(), facts.workload.lineage(slot).object());
            let Some(record) = self.records.get(&of).filter(|_| now.since(since) >= SILENT_AFTER) else { continue };
            let message = format!(
                "StateRepository {}/{}: its store does not answer, and whose the history is must be read there first",
                of.0, record.repository
            );
            guest.wait(WaitingFor::warning("RepositoryNotReady", message));
            self.changed = true;
        }
    }
}
