// SPDX-License-Identifier: Apache-2.0
//! The shell of the sessions' table: carries what it says to connections and to those who wait.

use super::enlisted::Told;
use super::{Action, Event, Guest, Instance, Outcome, Table};
use crate::catalog::Key;
use crate::clock::Clock;
use crate::{convert, status};
use holdfast_core::barrier::{Answer, BarrierId, Order};
use holdfast_core::time::Monotonic;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Commands that wait for a connection; more means that it is dead.
const QUEUE: usize = 64;

/// What a session's connection is to do.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Send the command.
    Flush { flush: u64, within: Duration },
    /// Send the order.
    Barrier(BarrierId, Order),
    /// Another has taken the place: say who, and end.
    Replaced(String),
}

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    wires: HashMap<u64, mpsc::Sender<Wire>>,
    waiters: HashMap<u64, oneshot::Sender<Outcome>>,
    numbers: u64,
    /// The barrier that is under way: whose answers it waits for, and where they go.
    barrier: Option<Listening>,
}

#[derive(Debug)]
struct Listening {
    members: BTreeMap<Key, Instance>,
    /// Lineages that belong to it and have no agent that takes part, with the process of one that was there: another comes into the middle of it.
    others: BTreeMap<Key, Option<Instance>>,
    told: mpsc::Sender<(Key, Told)>,
}

impl Listening {
    /// A queue that is full belongs to a barrier that has ended: it has room for all that its members may say.
    fn tell(&self, key: Key, told: Told) {
        if self.members.contains_key(&key) {
            self.told.try_send((key, told)).ok();
        }
    }

    /// An agent has opened a session.
    fn came(&self, key: Key, instance: Instance) {
        let (told, known) = match (self.members.get(&key), self.others.get(&key)) {
            (Some(member), _) if *member == instance => (Told::Back, true),
            (Some(_), _) => (Told::Another, true),
            (None, Some(before)) => (Told::Another, *before != Some(instance)),
            (None, None) => return,
        };
        if known {
            self.told.try_send((key, told)).ok();
        }
    }
}

/// All sessions, and whoever waits for them.
#[derive(Debug)]
pub(crate) struct Desk {
    clock: Clock,
    inner: Mutex<Inner>,
}

/// An open session; dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Seat {
    desk: Arc<Desk>,
    key: Key,
    pub(crate) session: u64,
    pub(crate) wires: mpsc::Receiver<Wire>,
}

impl Desk {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, event: Event) -> Vec<Action> {
        let mut inner = self.inner();
        let actions = inner.table.step(self.clock.monotonic(), event);
        inner.perform(actions)
    }

    /// Opens a session.
    pub(crate) fn open(self: &Arc<Self>, guest: Guest) -> Result<Seat, Status> {
        let (key, name, instance) = (guest.key, crate::catalog::text(&guest.names), guest.instance);
        let (sender, wires) = mpsc::channel(QUEUE);
        let mut inner = self.inner();
        let mut actions = inner.table.step(self.clock.monotonic(), Event::Open(guest));
        let session = match actions.first() {
            Some(Action::Admit(session)) => *session,
            Some(Action::Refuse(holder)) => {
                let message = format!("lineage {name} has a newer agent: {holder}");
                let problem = Problem::new(Reason::SessionReplaced, message).resource("lineage", name);
                return Err(problem.retry_after(super::SILENCE_MAX).into());
            }
            _ => return Err(status::busy("sessions")),
        };
        actions.remove(0);
        inner.wires.insert(session, sender);
        inner.perform(actions);
        if let Some(listening) = &inner.barrier {
            listening.came(key, instance);
        }
        Ok(Seat { desk: Arc::clone(self), key, session, wires })
    }

    /// Has the agent of a lineage make durable what is dirty, and says with which checkpoint it is.
    ///
    /// Cancel-safe: whoever stops waiting is forgotten.
    pub(crate) async fn flush(&self, key: Key, within: Duration) -> Result<u64, Outcome> {
        let deadline = self.clock.monotonic().plus(within);
        let (sender, answer) = oneshot::channel();
        let waiter = {
            let mut inner = self.inner();
            inner.numbers += 1;
            let waiter = inner.numbers;
            inner.waiters.insert(waiter, sender);
            let actions = inner.table.step(self.clock.monotonic(), Event::Flush { key, waiter, deadline });
            inner.perform(actions);
            Waiter { desk: self, key, waiter }
        };
        let answer = tokio::time::timeout_at(self.clock.instant(deadline), answer).await;
        drop(waiter);
        match answer {
            Ok(Ok(Outcome::Done(sequence))) => Ok(sequence),
            Ok(Ok(other)) => Err(other),
            Ok(Err(_)) => Err(Outcome::Gone),
            Err(_) => Err(Outcome::Failed(format!("it took longer than {} s", within.as_secs_f32()))),
        }
    }

    /// Takes those of some lineages' agents that are here, and can take part, into a barrier that hears of them and of those who come.
    pub(super) fn enlist(&self, keys: &BTreeSet<Key>, told: &mpsc::Sender<(Key, Told)>) -> BTreeSet<Key> {
        let mut inner = self.inner();
        let members: BTreeMap<Key, Instance> = keys.iter().filter_map(|key| Some((*key, inner.table.member(*key)?))).collect();
        let taken: BTreeSet<Key> = members.keys().copied().collect();
        let others = (keys - &taken).into_iter().map(|key| (key, inner.table.instance(key))).collect();
        inner.barrier = Some(Listening { members, others, told: told.clone() });
        taken
    }

    /// Nobody listens any more.
    pub(super) fn dismiss(&self) {
        self.inner().barrier = None;
    }

    /// Tells a member of a barrier. One that is not there will be told when it is back.
    pub(super) fn order(&self, key: Key, id: BarrierId, order: Order) {
        let inner = self.inner();
        if let Some(session) = inner.table.session(key)
            && let Some(wire) = inner.wires.get(&session)
        {
            wire.try_send(Wire::Barrier(id, order)).ok();
        }
    }

    /// What the agent of a lineage says now.
    pub(crate) fn live(&self, key: Key) -> Option<v1::Live> {
        let (live, silence) = self.inner().table.live(self.clock.monotonic(), key)?;
        let heard = convert::time(self.clock.now().minus(silence));
        Some(v1::Live { heard: Some(heard), ..live })
    }

    /// What the agent of a lineage last said of itself and of what is durable; and whether it said that something was not.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn report(&self, key: Key) -> Option<(v1::StatusReport, bool)> {
        self.inner().table.report(self.clock.monotonic(), key)
    }

    /// Whether a lineage has an agent.
    pub(crate) fn is_live(&self, key: Key) -> bool {
        self.inner().table.live(Monotonic::default(), key).is_some()
    }

    /// The live lineages and their holders.
    pub(crate) fn guests(&self) -> Vec<Guest> {
        self.inner().table.guests().cloned().collect()
    }
}

impl Inner {
    /// Performs what can be done here; what is left is for the caller.
    fn perform(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut left = Vec::new();
        for action in actions {
            match action {
                Action::Replace { session, holder } => {
                    // the end comes after what is queued; a connection that takes nothing is told by its own end
                    if let Some(wire) = self.wires.remove(&session) {
                        wire.try_send(Wire::Replaced(holder)).ok();
                    }
                }
                Action::Ask { session, flush, within } => {
                    // a full queue belongs to a dead connection: whoever waits has a deadline
                    if let Some(wire) = self.wires.get(&session) {
                        wire.try_send(Wire::Flush { flush, within }).ok();
                    }
                }
                Action::Answer { waiter, outcome } => {
                    if let Some(sender) = self.waiters.remove(&waiter) {
                        sender.send(outcome).ok();
                    }
                }
                other => left.push(other),
            }
        }
        left
    }
}

impl Seat {
    /// The agent has reported.
    pub(crate) fn heard(&self, live: v1::Live) {
        self.desk.step(Event::Heard { key: self.key, session: self.session, live: Box::new(live) });
    }

    /// The agent has reported what is durable.
    pub(crate) fn stored(&self, report: v1::StatusReport) {
        self.desk.step(Event::Stored { key: self.key, session: self.session, report: Box::new(report) });
    }

    /// The agent has answered in a barrier.
    pub(crate) fn answered(&self, id: BarrierId, answer: Answer) {
        self.tell(Told::Answer(id, answer));
    }

    /// Tells the barrier that is under way, unless another session is there in this one's place.
    fn tell(&self, told: Told) {
        let inner = self.desk.inner();
        if inner.table.session(self.key) == Some(self.session)
            && let Some(listening) = &inner.barrier
        {
            listening.tell(self.key, told);
        }
    }

    /// The agent has answered a flush.
    pub(crate) fn flushed(&self, flush: u64, outcome: Outcome) {
        self.desk.step(Event::Flushed { key: self.key, session: self.session, flush, outcome });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.tell(Told::Gone);
        self.desk.step(Event::Close { key: self.key, session: self.session });
        self.desk.inner().wires.remove(&self.session);
    }
}

/// Somebody who waits; dropped, nobody does.
struct Waiter<'a> {
    desk: &'a Desk,
    key: Key,
    waiter: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.desk.step(Event::GiveUp { key: self.key, waiter: self.waiter });
        self.desk.inner().waiters.remove(&self.waiter);
    }
}
