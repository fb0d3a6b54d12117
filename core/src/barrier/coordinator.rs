// SPDX-License-Identifier: Apache-2.0
//! The coordinator's part in a barrier.

use super::{Answer, BarrierId, Order, Refusal, Rest};
use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long each step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until little is dirty everywhere.
    pub prepare: Duration,
    /// From the first freeze until the last member is told to go on; a member's own clock ends its rest after this, too.
    pub pause: Duration,
    /// From the thaw until everything is durable.
    pub seal: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<M> {
    /// A member answers.
    Heard(M, BarrierId, Answer),
    /// A member's session was renewed: what it was told last may not have reached it.
    Back(M),
    /// A member is gone for good, or somebody who should have been a member has appeared.
    Changed(M),
    /// A member's session has ended: it goes on, if it was at rest. What it has taken hold of it still makes durable, and says so when it is back.
    Gone(M),
    /// The set was made visible, or it certainly was not.
    Committed(bool),
    /// Nobody wants the snapshot any more.
    Cancelled,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action<M> {
    /// Tell a member.
    Tell(M, BarrierId, Order),
    /// Make the set visible with one conditional creation. [`Event::Committed`] follows, when the outcome is definite.
    Commit(BTreeMap<M, u64>),
    /// That's all.
    End(Outcome<M>),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<M> {
    /// The snapshot exists.
    Taken {
        /// Each member's checkpoint.
        checkpoints: BTreeMap<M, u64>,
        /// What was reached by all.
        reached: Reached<M>,
    },
    /// It does not, and everybody goes on.
    Aborted(Why<M>),
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached<M> {
    /// The weakest rest of any member.
    pub rest: Rest,
    /// Each member's time at rest, by its own clock.
    pub pauses: BTreeMap<M, Duration>,
    /// From the first freeze to the last member's being at rest: the moments of any two members are no farther apart.
    pub skew: Duration,
}

/// Why there is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why<M> {
    /// A member would not, or could not.
    Refused(M, Refusal),
    /// These had not answered in time.
    Late(Vec<M>),
    /// Who belongs to it has changed.
    Changed(M),
    /// It was called off.
    Cancelled,
    /// The set could not be made visible.
    NotCommitted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase<M> {
    Preparing,
    Freezing,
    Cutting,
    /// All go on; those that were cut make it durable.
    Sealing,
    Committing,
    /// All are told to go on. Ends when all said so, or their own clocks have.
    Aborting(Why<M>),
    Ended,
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    prepared: bool,
    frozen: Option<Rest>,
    cut: bool,
    thawed: Option<Duration>,
    sealed: Option<u64>,
}

/// One barrier, from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Barrier<M> {
    id: BarrierId,
    limits: Limits,
    members: BTreeMap<M, Progress>,
    phase: Phase<M>,
    deadline: Monotonic,
    froze: Monotonic,
    skew: Duration,
}

impl<M: Ord + Clone> Barrier<M> {
    /// A barrier over these members: from now on, nobody else belongs to it. There must be one at least.
    pub fn begin(now: Monotonic, id: BarrierId, members: impl IntoIterator<Item = M>, limits: Limits) -> (Self, Vec<Action<M>>) {
        let members = members.into_iter().map(|member| (member, Progress::default())).collect();
        let deadline = now.plus(limits.prepare);
        let barrier = Self { id, limits, members, phase: Phase::Preparing, deadline, froze: now, skew: Duration::ZERO };
        let actions = barrier.tell_all(Order::Prepare);
        (barrier, actions)
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> BarrierId {
        self.id
    }

    /// When [`Event::Tick`] must come at the latest. `None`: it waits for the store, or has ended.
    #[must_use]
    pub const fn deadline(&self) -> Option<Monotonic> {
        match self.phase {
            Phase::Committing | Phase::Ended => None,
            _ => Some(self.deadline),
        }
    }

    /// Whether [`Action::End`] was said.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// A word for the phase, for people.
    #[must_use]
    pub const fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Preparing => "Preparing",
            Phase::Freezing => "Freezing",
            Phase::Cutting => "Cutting",
            Phase::Sealing => "Sealing",
            Phase::Committing => "Committing",
            Phase::Aborting(_) => "Aborting",
            Phase::Ended => "Ended",
        }
    }

    /// What follows from an event.
    pub fn step(&mut self, now: Monotonic, event: Event<M>) -> Vec<Action<M>> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        let mut actions = match event {
            Event::Heard(member, id, answer) if id == self.id => self.heard(now, member, answer),
            Event::Heard(..) | Event::Tick => Vec::new(),
            Event::Gone(_) if self.phase == Phase::Sealing => Vec::new(),
            Event::Back(member) => self.repeat(now, &member),
            Event::Changed(member) | Event::Gone(member) => self.changed(now, member),
            Event::Cancelled => self.cancelled(now),
            Event::Committed(visible) => self.committed(visible),
        };
        actions.extend(self.overdue(now));
        actions
    }

    fn heard(&mut self, now: Monotonic, member: M, answer: Answer) -> Vec<Action<M>> {
        let Some(progress) = self.members.get_mut(&member) else { return Vec::new() };
        match answer {
            Answer::Prepared => progress.prepared = true,
            Answer::Frozen(rest) if self.phase == Phase::Freezing => progress.frozen = Some(rest),
            Answer::Cut if self.phase == Phase::Cutting => progress.cut = true,
            Answer::Thawed(pause) => progress.thawed = Some(pause),
            Answer::Sealed(sequence) if progress.cut => progress.sealed = Some(sequence),
            // whoever refuses is not at rest; a stale answer to a thaw is no news
            Answer::Refused(why) => {
                progress.thawed = progress.thawed.or(Some(Duration::ZERO));
                return self.abort(now, Why::Refused(member, why));
            }
            Answer::Frozen(_) | Answer::Cut | Answer::Sealed(_) => {}
        }
        self.advance(now)
    }

    fn all(&self, is: impl Fn(&Progress) -> bool) -> bool {
        self.members.values().all(is)
    }

    /// Goes on to the next phase when every member is ready for it.
    fn advance(&mut self, now: Monotonic) -> Vec<Action<M>> {
        match self.phase {
            Phase::Preparing if self.all(|member| member.prepared) => {
                self.phase = Phase::Freezing;
                self.froze = now;
                self.deadline = now.plus(self.limits.pause);
                self.tell_all(Order::Freeze { budget: self.limits.pause })
            }
            Phase::Freezing if self.all(|member| member.frozen.is_some()) => {
                self.phase = Phase::Cutting;
                self.skew = now.since(self.froze);
                self.tell_all(Order::Cut)
            }
            Phase::Cutting if self.all(|member| member.cut) => {
                self.phase = Phase::Sealing;
                self.deadline = now.plus(self.limits.seal);
                self.tell_all(Order::Thaw)
            }
            Phase::Sealing if self.all(|member| member.sealed.is_some() && member.thawed.is_some()) => {
                self.phase = Phase::Committing;
                vec![Action::Commit(self.checkpoints())]
            }
            Phase::Aborting(ref why) if self.all(|member| member.thawed.is_some()) => {
                let why = why.clone();
                self.phase = Phase::Ended;
                vec![Action::End(Outcome::Aborted(why))]
            }
            _ => Vec::new(),
        }
    }

    /// A member that is back is told again where everybody is.
    fn repeat(&mut self, now: Monotonic, member: &M) -> Vec<Action<M>> {
        let Some(progress) = self.members.get(member) else { return Vec::new() };
        let order = match self.phase {
            Phase::Preparing if !progress.prepared => Order::Prepare,
            Phase::Sealing | Phase::Aborting(_) => Order::Thaw,
            // it went on when it lost its session: its state and the others' are no longer of one moment
            Phase::Freezing if progress.frozen.is_some() => return self.abort(now, Why::Changed(member.clone())),
            Phase::Cutting if !progress.cut => return self.abort(now, Why::Changed(member.clone())),
            Phase::Freezing => Order::Freeze { budget: self.limits.pause },
            _ => return Vec::new(),
        };
        vec![Action::Tell(member.clone(), self.id, order)]
    }

    fn changed(&mut self, now: Monotonic, member: M) -> Vec<Action<M>> {
        if let Some(progress) = self.members.get_mut(&member) {
            progress.thawed = Some(progress.thawed.unwrap_or_default());
            if progress.sealed.is_some() {
                // what it had to give is durable
                return self.advance(now);
            }
        } else if !matches!(self.phase, Phase::Preparing | Phase::Freezing | Phase::Cutting) {
            return Vec::new();
        }
        self.abort(now, Why::Changed(member))
    }

    fn cancelled(&mut self, now: Monotonic) -> Vec<Action<M>> {
        // what is being made visible can't be called back
        if self.phase == Phase::Committing { Vec::new() } else { self.abort(now, Why::Cancelled) }
    }

    fn committed(&mut self, visible: bool) -> Vec<Action<M>> {
        if self.phase != Phase::Committing {
            return Vec::new();
        }
        self.phase = Phase::Ended;
        if !visible {
            return vec![Action::End(Outcome::Aborted(Why::NotCommitted))];
        }
        vec![Action::End(Outcome::Taken { checkpoints: self.checkpoints(), reached: self.reached() })]
    }

    /// What was measured; all of it once [`Action::Commit`] was said.
    #[must_use]
    pub fn reached(&self) -> Reached<M> {
        let rest = self.members.values().filter_map(|member| member.frozen).min().unwrap_or(Rest::Crash);
        let pauses = self.members.iter().map(|(name, member)| (name.clone(), member.thawed.unwrap_or_default())).collect();
        Reached { rest, pauses, skew: self.skew }
    }

    fn checkpoints(&self) -> BTreeMap<M, u64> {
        self.members.iter().filter_map(|(name, member)| Some((name.clone(), member.sealed?))).collect()
    }

    fn overdue(&mut self, now: Monotonic) -> Vec<Action<M>> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        if let Phase::Aborting(why) = &self.phase {
            // each member's own clock has ended its rest by now
            let why = why.clone();
            self.phase = Phase::Ended;
            return vec![Action::End(Outcome::Aborted(why))];
        }
        let late = |member: &Progress| match self.phase {
            Phase::Preparing => !member.prepared,
            Phase::Freezing => member.frozen.is_none(),
            Phase::Cutting => !member.cut,
            _ => member.sealed.is_none() || member.thawed.is_none(),
        };
        let late = self.members.iter().filter(|(_, member)| late(member)).map(|(name, _)| name.clone()).collect();
        self.abort(now, Why::Late(late))
    }

    /// Everybody goes on, whoever was told to rest and whoever wasn't; the first reason is the one that counts.
    fn abort(&mut self, now: Monotonic, why: Why<M>) -> Vec<Action<M>> {
        if matches!(self.phase, Phase::Committing | Phase::Ended) {
            return Vec::new();
        }
        if matches!(self.phase, Phase::Aborting(_)) {
            return self.advance(now);
        }
        self.phase = Phase::Aborting(why);
        self.deadline = now.plus(self.limits.pause);
        let told = self.tell_all(Order::Thaw);
        told.into_iter().chain(self.advance(now)).collect()
    }

    fn tell_all(&self, order: Order) -> Vec<Action<M>> {
        self.members.keys().map(|member| Action::Tell(member.clone(), self.id, order)).collect()
    }
}
