// SPDX-License-Identifier: Apache-2.0
//! Sessions of agents: which lineages are live, what their agents say, and what they are asked. A plain state machine.

use crate::catalog::Key;
use holdfast_core::time::Monotonic;
use holdfast_proto::v1;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

mod desk;
mod enlisted;
#[cfg(test)]
mod tests;
pub(crate) mod usher;

pub(crate) use desk::{Desk, Seat, Wire};
pub(crate) use enlisted::{Enlisted, Told};

/// An agent reports at least so often.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(2);
/// A session that says nothing for so long has ended.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Sessions at once.
pub(crate) const SESSIONS_MAX: usize = 10_000;
/// Flushes that one agent is asked for at once.
const FLUSHES_MAX: usize = 16;
/// Replaced instances that are remembered of a lineage.
const REPLACED_MAX: usize = 16;

/// The process of an agent.
pub(crate) type Instance = [u8; 16];

/// Who opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) key: Key,
    pub(crate) names: v1::LineageRef,
    pub(crate) instance: Instance,
    pub(crate) holder: String,
    pub(crate) version: String,
    /// It follows the orders of a barrier.
    pub(crate) barriers: bool,
}

/// What happens to the table.
#[derive(Debug)]
pub(crate) enum Event {
    /// An agent says hello.
    Open(Guest),
    /// An agent reports.
    Heard { key: Key, session: u64, live: Box<v1::Live> },
    /// An agent reports what is durable.
    Stored { key: Key, session: u64, report: Box<v1::StatusReport> },
    /// An agent answers a flush.
    Flushed { key: Key, session: u64, flush: u64, outcome: Outcome },
    /// A session's connection is gone.
    Close { key: Key, session: u64 },
    /// Somebody wants a lineage to be flushed.
    Flush { key: Key, waiter: u64, deadline: Monotonic },
    /// Whoever waited for a flush doesn't any more.
    GiveUp { key: Key, waiter: u64 },
}

/// How a flush ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was dirty is in this checkpoint.
    Done(u64),
    /// The agent said why not.
    Failed(String),
    /// There is no agent, or it went away.
    Gone,
    /// The agent is asked for too much at once.
    Busy,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The session is open under this number.
    Admit(u64),
    /// The instance was replaced by one that is still there.
    Refuse(String),
    /// There are too many sessions.
    Full,
    /// Tell a session that another has taken its place.
    Replace { session: u64, holder: String },
    /// Ask a session's agent to flush.
    Ask { session: u64, flush: u64, within: Duration },
    /// Tell whoever waits.
    Answer { waiter: u64, outcome: Outcome },
}

#[derive(Debug)]
struct Session {
    number: u64,
    guest: Guest,
    heard: Monotonic,
    live: v1::Live,
    /// Of the last report what is not live: the newest checkpoint.
    stored: v1::StatusReport,
    flushes: BTreeMap<u64, (u64, Monotonic)>,
    /// Instances that this lineage's newer ones have replaced: while the newer is there they don't come back.
    replaced: VecDeque<Instance>,
}

/// All sessions. A lineage has at most one.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sessions: BTreeMap<Key, Session>,
    numbers: u64,
    flushes: u64,
}

impl Table {
    /// Takes an event and says what follows from it.
    pub(crate) fn step(&mut self, now: Monotonic, event: Event) -> Vec<Action> {
        match event {
            Event::Open(guest) => self.open(now, guest),
            Event::Heard { key, session, live } => {
                if let Some(open) = self.current(key, session) {
                    open.heard = now;
                    open.live = *live;
                }
                Vec::new()
            }
            Event::Stored { key, session, report } => {
                if let Some(open) = self.current(key, session) {
                    open.stored = *report;
                }
                Vec::new()
            }
            Event::Flushed { key, session, flush, outcome } => {
                let waiting = self.current(key, session).and_then(|open| open.flushes.remove(&flush));
                waiting.map(|(waiter, _)| Action::Answer { waiter, outcome }).into_iter().collect()
            }
            Event::Close { key, session } => match self.current(key, session).is_some() {
                true => self.sessions.remove(&key).map(|closed| gone(&closed)).unwrap_or_default(),
                false => Vec::new(),
            },
            Event::Flush { key, waiter, deadline } => self.flush(now, key, waiter, deadline),
            Event::GiveUp { key, waiter } => {
                if let Some(open) = self.sessions.get_mut(&key) {
                    open.flushes.retain(|_, (waiting, _)| *waiting != waiter);
                }
                Vec::new()
            }
        }
    }

    fn current(&mut self, key: Key, session: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&key).filter(|open| open.number == session)
    }

    fn open(&mut self, now: Monotonic, guest: Guest) -> Vec<Action> {
        let key = guest.key;
        if let Some(open) = self.sessions.get(&key).filter(|open| open.replaced.contains(&guest.instance)) {
            return vec![Action::Refuse(open.guest.holder.clone())];
        }
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&key) {
            return vec![Action::Full];
        }
        self.numbers += 1;
        let number = self.numbers;
        let mut actions = vec![Action::Admit(number)];
        let live = v1::Live { agent_version: guest.version.clone(), ..v1::Live::default() };
        let stored = v1::StatusReport::default();
        let mut session =
            Session { number, heard: now, live, stored, flushes: BTreeMap::new(), replaced: VecDeque::new(), guest };
        if let Some(old) = self.sessions.remove(&key) {
            actions.push(Action::Replace { session: old.number, holder: session.guest.holder.clone() });
            if old.guest.instance == session.guest.instance {
                // the same agent on a new connection: what it was asked may have got lost with the old one
                let again = old.flushes.iter().map(|(flush, (_, deadline))| Action::Ask {
                    session: number,
                    flush: *flush,
                    within: deadline.since(now),
                });
                actions.extend(again);
                (session.live, session.stored, session.heard) = (old.live, old.stored, old.heard);
                (session.flushes, session.replaced) = (old.flushes, old.replaced);
            } else {
                actions.extend(gone(&old));
                session.replaced = old.replaced;
                session.replaced.push_front(old.guest.instance);
                session.replaced.truncate(REPLACED_MAX);
            }
        }
        self.sessions.insert(key, session);
        actions
    }

    fn flush(&mut self, now: Monotonic, key: Key, waiter: u64, deadline: Monotonic) -> Vec<Action> {
        let Some(open) = self.sessions.get_mut(&key) else { return vec![Action::Answer { waiter, outcome: Outcome::Gone }] };
        open.flushes.retain(|_, (_, deadline)| *deadline > now);
        if open.flushes.len() >= FLUSHES_MAX {
            return vec![Action::Answer { waiter, outcome: Outcome::Busy }];
        }
        self.flushes += 1;
        open.flushes.insert(self.flushes, (waiter, deadline));
        vec![Action::Ask { session: open.number, flush: self.flushes, within: deadline.since(now) }]
    }

    /// What the agent of a lineage says, made older by its silence; the age of the last report besides.
    pub(crate) fn live(&self, now: Monotonic, key: Key) -> Option<(v1::Live, Duration)> {
        let open = self.sessions.get(&key)?;
        let silence = now.since(open.heard);
        let mut live = open.live.clone();
        // what was dirty then has not become durable as far as anybody knows; and of an agent that should have spoken nothing is known at all
        if live.lag_ms > 0 || silence > REPORT_EVERY {
            live.lag_ms = live.lag_ms.saturating_add(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX));
        }
        Some((live, silence))
    }

    /// What the agent of a lineage last said, with its silence since; and whether it said that changes were not durable, which silence does not say.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn report(&self, now: Monotonic, key: Key) -> Option<(v1::StatusReport, bool)> {
        let (live, _) = self.live(now, key)?;
        let open = self.sessions.get(&key)?;
        // what is seeded is not stored yet, whether it changes or not
        let dirty = open.live.lag_ms > 0 || open.live.dirty_paths > 0 || open.live.phase() == v1::Phase::Seeding;
        Some((v1::StatusReport { live: Some(live), ..open.stored.clone() }, dirty))
    }

    /// The process of a lineage's agent, if it can take part in a barrier.
    pub(crate) fn member(&self, key: Key) -> Option<Instance> {
        let open = self.sessions.get(&key).filter(|open| open.guest.barriers)?;
        let protects = matches!(open.live.phase(), v1::Phase::Streaming | v1::Phase::Seeding);
        protects.then_some(open.guest.instance)
    }

    /// The process of a lineage's agent.
    pub(crate) fn instance(&self, key: Key) -> Option<Instance> {
        self.sessions.get(&key).map(|open| open.guest.instance)
    }

    /// The session of a lineage's agent.
    pub(crate) fn session(&self, key: Key) -> Option<u64> {
        self.sessions.get(&key).map(|open| open.number)
    }

    /// The live lineages and their holders.
    pub(crate) fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.sessions.values().map(|open| &open.guest)
    }
}

/// Everybody who waited for a session that has ended.
fn gone(session: &Session) -> Vec<Action> {
    session.flushes.values().map(|(waiter, _)| Action::Answer { waiter: *waiter, outcome: Outcome::Gone }).collect()
}
