// SPDX-License-Identifier: Apache-2.0
//! The task itself: gathers, steps the machines, performs what they say.

use super::Ask;
use super::facts::{Named, PodFacts, PolicyFacts, RecordFacts, WorkloadKey};
use super::guests::Guest;
use super::lookout::{KINDS, Sight, look};
use super::preflight::Checked;
use super::records::{Records, Slip, WriteError};
use crate::clock::Clock;
use crate::cluster::table::Unready;
use crate::cluster::{ClusterConfig, Holds, Repositories, RepositoryKey, Rests, SlotView, WaitingFor};
use crate::status;
use futures::StreamExt;
use holdfast_core::slot::{Action, Event, Pod, PodId, Slot, Wish, Workload};
use holdfast_proto::problem::Reason;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::Status;

/// Time passes in steps of this.
const TICK: Duration = Duration::from_secs(1);
/// What could not be written is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Pods that are remembered when they are gone: more than go within the time that verdicts about tokens are believed.
const DEPARTED_MAX: usize = 4096;

/// What came of work that was begun.
#[derive(Debug)]
pub(super) enum Done {
    /// A record was written, or not.
    Written { of: Named, slip: Box<Slip>, result: Result<RecordFacts, WriteError> },
    /// A lineage was looked at before it is granted.
    Checked { uid: String, connection: u64, slot: Slot, outcome: Checked },
    /// A holder's log was looked at.
    Sealed { uid: String, is_sealed: bool },
    /// It needs no answer.
    Nothing,
}

/// What an agent is told whose pod is gone.
pub(super) fn pod_is_gone() -> Status {
    status::because(Reason::NotYours, "the pod is gone")
}

pub(super) struct Actor {
    pub(super) clock: Clock,
    pub(super) repositories: watch::Receiver<Repositories>,
    pub(super) holds: watch::Receiver<Holds>,
    pub(super) rests: watch::Receiver<Rests>,
    pub(super) told: watch::Sender<Arc<Vec<SlotView>>>,
    pub(super) client: kube::Client,
    pub(super) writer: Records,
    pub(super) pods: HashMap<String, PodFacts>,
    pub(super) policies: HashMap<Named, PolicyFacts>,
    pub(super) records: BTreeMap<Named, RecordFacts>,
    pub(super) workloads: BTreeMap<WorkloadKey, Workload>,
    pub(super) guests: HashMap<String, Guest>,
    pub(super) work: JoinSet<Done>,
    pub(super) changed: bool,
    /// UIDs of pods that went lately: whoever still comes with the token of one is late.
    pub(super) departed: VecDeque<String>,
    nodes: HashMap<String, bool>,
    replicas: HashMap<Named, u32>,
    /// Kinds that were not listed yet.
    unlisted: usize,
    /// What this leader has written, which watches tell later.
    written: HashMap<Named, Option<String>>,
    /// What is to be written, of each record one after the other; the first is under way.
    writes: HashMap<Named, VecDeque<Slip>>,
}

impl Actor {
    pub(super) fn new(config: ClusterConfig, told: watch::Sender<Arc<Vec<SlotView>>>) -> Self {
        Self {
            clock: Clock::new(),
            repositories: config.repositories,
            holds: config.holds,
            rests: config.rests,
            told,
            writer: Records::new(config.client.clone()),
            client: config.client,
            pods: HashMap::new(),
            policies: HashMap::new(),
            records: BTreeMap::new(),
            workloads: BTreeMap::new(),
            guests: HashMap::new(),
            work: JoinSet::new(),
            changed: true,
            departed: VecDeque::new(),
            nodes: HashMap::new(),
            replicas: HashMap::new(),
            unlisted: KINDS,
            written: HashMap::new(),
            writes: HashMap::new(),
        }
    }

    /// Goes on until nobody can ask any more.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        let mut sights = look(&self.client);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut repositories, mut holds, mut rests) = (self.repositories.clone(), self.holds.clone(), self.rests.clone());
        loop {
            tokio::select! {
                Some(sight) = sights.next() => self.see(sight),
                ask = asked.recv(), if self.unlisted == 0 => match ask {
                    Some(ask) => self.hear(ask),
                    None => return,
                },
                Some(done) = self.work.join_next() => self.done(done.unwrap_or(Done::Nothing)),
                Ok(()) = repositories.changed() => self.go_on(),
                Ok(()) = holds.changed() => self.go_on(),
                Ok(()) = rests.changed() => self.go_on(),
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Feeds a workload's machine and performs what it says.
    pub(super) fn feed(&mut self, key: &WorkloadKey, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if !self.workloads.contains_key(key) {
                let replicas = self.replicas_of(key);
                // a machine that knows nothing has nothing to say
                let _ = self.workloads.entry(key.clone()).or_default().step(self.clock.monotonic(), Event::Replicas(replicas));
            }
            let Some(workload) = self.workloads.get_mut(key) else { return };
            let actions = workload.step(self.clock.monotonic(), event);
            self.changed |= !actions.is_empty();
            for action in actions {
                events.extend(self.perform(key, action));
            }
        }
    }

    fn replicas_of(&self, key: &WorkloadKey) -> Option<u32> {
        let of = (key.namespace.clone(), key.name.clone());
        // of one that is gone none are wanted: its pods are being ended, too, and must not begin lineages meanwhile
        (key.kind == "Deployment").then(|| self.replicas.get(&of).copied().unwrap_or(0))
    }

    fn perform(&mut self, key: &WorkloadKey, action: Action) -> Option<Event> {
        match action {
            Action::Record(slot, holder) => return self.write(key, &slot, holder),
            Action::Grant(id, slot) => {
                if let Some(guest) = self.guests.get_mut(&id.0) {
                    guest.granted(slot);
                    self.advance(&id.0);
                }
            }
            Action::Wait(id, why) => self.say_why(key, &id.0, &why),
            Action::Revoke(id, slot) => {
                tracing::info!(workload = %key.name, %slot, pod = id.0, "the pod does not have the slot any more");
                self.revoke(key, &id.0, &slot);
                return Some(Event::Leaves(id));
            }
        }
        None
    }

    fn write(&mut self, key: &WorkloadKey, slot: &Slot, holder: Option<PodId>) -> Option<Event> {
        let name = key.lineage(slot);
        let of = (key.namespace.clone(), name.object());
        let record = self.records.get(&of);
        let facts = holder.as_ref().and_then(|id| self.pods.get(&id.0));
        let policy = facts.and_then(|facts| self.policies.get(&(key.namespace.clone(), facts.policy.clone())));
        let repository =
            policy.map(|policy| policy.repository.clone()).or_else(|| record.map(|record| record.repository.clone()));
        let (Some(repository), true) = (repository, facts.is_some() || holder.is_none()) else {
            // the pod or its policy went meanwhile
            return holder.map(|id| Event::NotRecorded(slot.clone(), id));
        };
        let lineage = record
            .filter(|record| record.repository == repository)
            .map_or_else(|| name.lineage(), |record| record.lineage.clone());
        let policy =
            facts.map(|facts| &facts.policy).or_else(|| record.map(|record| &record.policy)).cloned().unwrap_or_default();
        let holder = facts.zip(holder).map(|(facts, id)| (facts.name.clone(), id.0));
        let slip = Slip { namespace: key.namespace.clone(), name, policy, repository, lineage, holder, before: None };
        let queue = self.writes.entry(of.clone()).or_default();
        queue.push_back(slip);
        if queue.len() == 1 {
            self.write_next(&of);
        }
        None
    }

    /// Begins the next write of a record.
    fn write_next(&mut self, of: &Named) {
        let Some(mut slip) = self.writes.get(of).and_then(|queue| queue.front().cloned()) else { return };
        let known = || self.records.get(of).and_then(|record| record.holder.clone());
        slip.before = self.written.get(of).cloned().unwrap_or_else(known);
        let (writer, of) = (self.writer.clone(), of.clone());
        self.work.spawn(async move {
            let result = writer.write(&slip).await;
            if let Err(error) = &result {
                tracing::warn!(lineage = of.1, namespace = of.0, %error, source = ?std::error::Error::source(error), "a slot's holder was not written down");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Done::Written { of, slip: Box::new(slip), result }
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Checked { uid, connection, slot, outcome } => self.checked(&uid, connection, &slot, outcome),
            Done::Sealed { uid, is_sealed } => {
                if let Some(key) = self.pods.get(&uid).map(|facts| facts.workload.clone()).filter(|_| is_sealed) {
                    self.feed(&key, Event::Sealed(PodId(uid)));
                }
            }
            Done::Written { of, slip, result } => {
                let key = WorkloadKey { namespace: of.0.clone(), kind: slip.name.kind.clone(), name: slip.name.name.clone() };
                let slot = Slot(slip.name.slot.clone());
                let event = match result {
                    Ok(record) => {
                        self.written.insert(of.clone(), record.holder.clone());
                        self.records.insert(of.clone(), record);
                        slip.holder.map(|(_, uid)| Event::Recorded(slot, PodId(uid)))
                    }
                    Err(error) => {
                        if let WriteError::Taken { uid } = error
                            && !self.pods.contains_key(&uid)
                        {
                            // whoever wrote that, the pod is none that lives
                            self.written.insert(of.clone(), Some(uid));
                        }
                        slip.holder.map(|(_, uid)| Event::NotRecorded(slot, PodId(uid)))
                    }
                };
                if let Some(queue) = self.writes.get_mut(&of) {
                    queue.pop_front();
                    if queue.is_empty() {
                        self.writes.remove(&of);
                    } else {
                        self.write_next(&of);
                    }
                }
                if let Some(event) = event {
                    self.feed(&key, event);
                }
            }
        }
    }

    fn see(&mut self, sight: Sight) {
        self.changed = true;
        let early = self.unlisted > 0;
        match sight {
            Sight::Listed => {
                self.unlisted = self.unlisted.saturating_sub(1);
                if early && self.unlisted == 0 {
                    self.begin();
                }
            }
            Sight::Pod(uid, Some(mut facts)) => {
                if let Some(before) = self.pods.get(&uid) {
                    facts.stay(&before.workload, before.wish.as_ref());
                }
                let is_new = self.pods.insert(uid.clone(), facts).is_none();
                if !early {
                    self.show(&uid);
                    if is_new {
                        self.consider(&uid);
                    }
                }
            }
            Sight::Pod(uid, None) => self.pod_gone(&uid),
            Sight::Node(node, ready) => {
                match ready {
                    Some(ready) => drop(self.nodes.insert(node.clone(), ready)),
                    None => drop(self.nodes.remove(&node)),
                }
                let on_it = self.pods.iter().filter(|(_, facts)| !early && facts.node.as_deref() == Some(&node));
                for uid in on_it.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
                    self.show(&uid);
                }
            }
            Sight::Policy(of, policy) => {
                match policy {
                    Some(policy) => drop(self.policies.insert(of, policy)),
                    None => drop(self.policies.remove(&of)),
                }
                if !early {
                    self.go_on();
                }
            }
            Sight::Replicas(of, replicas) => {
                match replicas {
                    Some(replicas) => drop(self.replicas.insert(of.clone(), replicas)),
                    None => drop(self.replicas.remove(&of)),
                }
                let key = WorkloadKey { namespace: of.0, kind: "Deployment".to_owned(), name: of.1 };
                if self.workloads.contains_key(&key) {
                    let replicas = self.replicas_of(&key);
                    self.feed(&key, Event::Replicas(replicas));
                }
            }
            Sight::Record(of, record) => self.record(of, record, early),
        }
    }

    /// Everything there is has been told: what stands written is taken over.
    fn begin(&mut self) {
        let held: HashMap<&String, &RecordFacts> =
            self.records.values().filter_map(|record| Some((record.holder.as_ref()?, record))).collect();
        for (uid, facts) in &mut self.pods {
            if let Some(record) = held.get(uid) {
                facts.stay(&record.workload, Some(&Wish::Named(record.slot.clone())));
            }
        }
        for uid in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.show(&uid);
        }
        let mut known: Vec<RecordFacts> = self.records.values().cloned().collect();
        // of several whose holders died the one with the newest state is continued first
        known.sort_by(|one, two| one.checkpoint.cmp(&two.checkpoint).then_with(|| two.slot.cmp(&one.slot)));
        tracing::info!(pods = self.pods.len(), slots = known.len(), "took over what stands written of slots");
        for record in known {
            self.feed(&record.workload, Event::Known { slot: record.slot, holder: record.holder.map(PodId) });
        }
    }

    fn record(&mut self, of: Named, record: Option<RecordFacts>, early: bool) {
        let before = match record.clone() {
            Some(record) => self.records.insert(of.clone(), record),
            None => self.records.remove(&of),
        };
        if early {
            return;
        }
        match (before, record) {
            (Some(before), None) => {
                self.written.remove(&of);
                // while it is made anew, that is no loss
                if !self.writes.contains_key(&of) && !self.is_checking(&before) {
                    self.feed(&before.workload, Event::Forgotten(before.slot));
                }
            }
            (before, Some(now)) => {
                if before.and_then(|before| before.choice) != now.choice {
                    self.chosen(&now);
                }
            }
            (None, None) => {}
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        let Some(facts) = self.pods.remove(uid) else { return };
        self.departed.truncate(DEPARTED_MAX - 1);
        self.departed.push_front(uid.to_owned());
        if self.unlisted == 0 {
            self.feed(&facts.workload, Event::Gone(PodId(uid.to_owned())));
            self.dismiss(uid, pod_is_gone(), true);
        }
    }

    /// Tells the machine of a pod what is known of it.
    pub(super) fn show(&mut self, uid: &str) {
        let Some(facts) = self.pods.get(uid) else { return };
        let namespace = &facts.workload.namespace;
        let policy = self.policies.get(&(namespace.clone(), facts.policy.clone()));
        let Some(wish) = policy.and_then(|policy| facts.wish_under(policy)).or_else(|| facts.wish.clone()) else { return };
        let record = facts.label.as_ref().and_then(|label| self.records.get(&(namespace.clone(), label.clone())));
        let lost = facts.node.as_ref().is_some_and(|node| !self.nodes.get(node).copied().unwrap_or(false));
        let pod = Pod { wish, had: facts.had(record), life: facts.life, lost, patience: facts.patience };
        let key = facts.workload.clone();
        self.feed(&key, Event::Pod(PodId(uid.to_owned()), pod));
    }

    /// The coordinator of a repository, or why there is none.
    pub(super) fn repository(&self, key: &RepositoryKey) -> Result<crate::Coordinator, WaitingFor> {
        const REASON: &str = "RepositoryNotReady";
        let not_ready = |why: &dyn std::fmt::Display| format!("StateRepository {key} is not ready: {why}");
        self.repositories.borrow().coordinator(key).cloned().map_err(|unready| match &unready {
            Unready::Missing => WaitingFor::warning(
                REASON,
                format!("there is no StateRepository {key}: create it, or name another in the policy"),
            ),
            // a leader that has just begun opens them one after the other
            Unready::Untried(_) => WaitingFor::normal(REASON, not_ready(&unready)),
            Unready::Away(_) => WaitingFor::warning(REASON, not_ready(&unready)),
        })
    }

    fn tick(&mut self) {
        let now = self.clock.monotonic();
        let due = self.workloads.iter().filter(|(_, workload)| workload.deadline().is_some_and(|deadline| deadline <= now));
        for key in due.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.feed(&key, Event::Tick);
        }
        self.workloads.retain(|_, workload| !workload.is_idle() || workload.slots().next().is_some());
        // before everything was listed nobody holds anything, as far as is known here
        if self.unlisted == 0 {
            self.sweep(now);
            self.publish();
        }
    }
}
