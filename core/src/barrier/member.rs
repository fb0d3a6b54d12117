// SPDX-License-Identifier: Apache-2.0
//! An agent's part in a barrier. Its clock alone decides how long the application rests.

use super::{Answer, BarrierId, Order, Refusal, Rest};
use crate::time::Monotonic;
use own::Own;
use std::time::Duration;

mod own;

/// What the agent must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Deed {
    /// Make durable what is dirty. [`Done::Prepared`] follows.
    PreCopy(BarrierId),
    /// Bring the application to rest. [`Done::Frozen`] follows. Whoever keeps watch beside the agent is told first, with this deadline.
    Freeze(BarrierId, Duration),
    /// Take hold of the state. [`Done::Cut`] follows.
    Cut(BarrierId),
    /// Let the application go on, whatever is known of its rest. [`Done::Thawed`] follows; until then it is tried again.
    Thaw,
    /// Make durable what was taken hold of. [`Done::Sealed`] follows.
    Seal(BarrierId),
    /// Let go of what was taken hold of.
    Forget(BarrierId),
    /// The agent's own rest, which has this id, does not come: its capture is made without.
    Pass(BarrierId),
    /// Tell the coordinator.
    Say(BarrierId, Answer),
}

/// What the agent has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Everything that was dirty is durable, or could not be made so.
    Prepared(BarrierId, bool),
    /// The application is at rest in this way; `None`: that is not certain.
    Frozen(BarrierId, Option<Rest>),
    /// The state is taken hold of, or can't be.
    Cut(BarrierId, bool),
    /// The application goes on.
    Thawed,
    /// The checkpoint; `None`: it could not be made.
    Sealed(BarrierId, Option<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preparing,
    /// Little is dirty, and a thaw is under way: it could undo a freeze.
    Settling,
    Prepared,
    Freezing,
    Resting(Rest),
    Cutting(Rest),
    /// Taken hold of, and still at rest.
    Held,
    /// Taken hold of, and going on.
    Sealing,
    Sealed(u64),
    Over(Refusal),
}

/// When the rest began and when it ends at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    since: Monotonic,
    until: Monotonic,
}

/// An agent's part.
#[derive(Debug, Clone)]
pub struct Member {
    /// The greatest id that was heard of.
    id: BarrierId,
    stage: Stage,
    lease: Option<Lease>,
    /// Thaws that were asked for and have not been confirmed: any of them could undo a freeze.
    thaws: u32,
    /// How long the last rest for a barrier was.
    rested: Duration,
    /// A rest that no coordinator has asked for. While there is one, the lease is its own.
    own: Option<Own>,
    /// How many of those there were.
    owned: u64,
}

impl Default for Member {
    fn default() -> Self {
        let (id, stage) = (BarrierId::default(), Stage::Over(Refusal::OutOfTurn));
        Self { id, stage, lease: None, thaws: 0, rested: Duration::ZERO, own: None, owned: 0 }
    }
}

impl Member {
    /// A member that knows of no barrier. Whether its application is at rest is unknown: a process before it may have left it so. The first thing to
    /// do is to let it go on.
    pub fn begin() -> (Self, Deed) {
        (Self { thaws: 1, ..Self::default() }, Deed::Thaw)
    }

    /// When [`tick`](Self::tick) must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        self.lease.map(|lease| lease.until)
    }

    /// Whether the application is, or may be, at rest.
    #[must_use]
    pub const fn may_rest(&self) -> bool {
        self.lease.is_some() || self.thaws > 0
    }

    /// The coordinator says something.
    pub fn order(&mut self, now: Monotonic, id: BarrierId, order: Order) -> Vec<Deed> {
        let mut deeds = self.tick(now);
        if id < self.id || id.is_own() {
            deeds.push(Deed::Say(id, Answer::Refused(Refusal::Stale)));
            return deeds;
        }
        if id > self.id {
            deeds.extend(self.turn_to(now, id));
        }
        match order {
            Order::Prepare => self.prepare(now, &mut deeds),
            Order::Freeze { budget } => self.freeze(now, budget, &mut deeds),
            Order::Cut => self.cut(&mut deeds),
            Order::Thaw => self.thaw(now, &mut deeds),
        }
        deeds
    }

    /// The session with the coordinator is lost: nobody can say any more when to go on.
    pub fn lost(&mut self, now: Monotonic) -> Vec<Deed> {
        let mut deeds = self.tick(now);
        if !matches!(self.stage, Stage::Held | Stage::Sealing | Stage::Sealed(_)) {
            self.stage = Stage::Over(Refusal::OutOfTurn);
        }
        deeds.extend(self.go_on_unless_own(now));
        deeds
    }

    /// The agent ends: nobody is left to say when to go on.
    pub fn end(&mut self, now: Monotonic) -> Vec<Deed> {
        let mut deeds = self.lost(now);
        deeds.extend(self.go_on(now));
        deeds
    }

    /// Time has passed: an application whose time at rest is over goes on.
    pub fn tick(&mut self, now: Monotonic) -> Vec<Deed> {
        if self.lease.is_none_or(|lease| lease.until > now) {
            return Vec::new();
        }
        match self.stage {
            _ if self.own.is_some() => self.go_on(now),
            // its state was taken hold of in time
            Stage::Held => self.seal(now),
            _ => {
                self.stage = Stage::Over(Refusal::BudgetSpent);
                self.go_on(now)
            }
        }
    }

    /// Something is done.
    pub fn done(&mut self, now: Monotonic, done: Done) -> Vec<Deed> {
        let mut deeds = self.tick(now);
        match done {
            Done::Thawed => {
                self.thaws = self.thaws.saturating_sub(1);
                deeds.extend(self.settle());
            }
            Done::Frozen(id, rest) if self.own == Some(Own::Freezing(id)) => deeds.extend(self.own_rests(now, id, rest)),
            Done::Cut(id, ok) if self.own == Some(Own::Cutting(id)) => deeds.extend(self.own_is_cut(now, id, ok)),
            Done::Prepared(id, ok) if id == self.id && self.stage == Stage::Preparing => {
                self.stage = if ok { Stage::Settling } else { Stage::Over(Refusal::NotPrepared) };
                deeds.extend(if ok { self.settle() } else { Some(self.say(Answer::Refused(Refusal::NotPrepared))) });
            }
            Done::Frozen(id, rest) if id == self.id && self.stage == Stage::Freezing => match rest {
                // a thaw that is under way may have been in vain, or may not
                Some(rest) if self.thaws == 0 => {
                    self.stage = Stage::Resting(rest);
                    deeds.push(self.say(Answer::Frozen(rest)));
                }
                _ => deeds.extend(self.fail(now, Refusal::NotFrozen)),
            },
            Done::Cut(id, ok) => match self.stage {
                Stage::Cutting(_) if id == self.id && ok => {
                    self.stage = Stage::Held;
                    deeds.push(self.say(Answer::Cut));
                }
                Stage::Cutting(_) if id == self.id => deeds.extend(self.fail(now, Refusal::NotCut)),
                // it came too late: what moved meanwhile is in it
                _ if ok => deeds.push(Deed::Forget(id)),
                _ => {}
            },
            Done::Sealed(id, sequence) if id == self.id && self.stage == Stage::Sealing => {
                self.stage = sequence.map_or(Stage::Over(Refusal::NotSealed), Stage::Sealed);
                deeds.push(self.say(sequence.map_or(Answer::Refused(Refusal::NotSealed), Answer::Sealed)));
            }
            // too late: a thaw may have come before it, and was in vain. While there is a lease, the end of that ends this rest, too
            Done::Frozen(..) if self.lease.is_none() => {
                self.thaws += 1;
                deeds.push(Deed::Thaw);
            }
            Done::Frozen(..) => {}
            Done::Prepared(..) | Done::Sealed(..) => {}
        }
        deeds
    }

    /// Leaves whatever barrier there was for a later one.
    fn turn_to(&mut self, now: Monotonic, id: BarrierId) -> Vec<Deed> {
        let mut deeds = self.go_on(now);
        if matches!(self.stage, Stage::Held) {
            deeds.push(Deed::Forget(self.id));
        }
        self.id = id;
        self.stage = Stage::Over(Refusal::OutOfTurn);
        deeds
    }

    fn prepare(&mut self, now: Monotonic, deeds: &mut Vec<Deed>) {
        if self.own.is_some() {
            deeds.extend(self.go_on(now));
        }
        match self.stage {
            // for the first time: `turn_to` has just come here
            Stage::Over(Refusal::OutOfTurn) if self.lease.is_none() => {
                self.stage = Stage::Preparing;
                deeds.push(Deed::PreCopy(self.id));
            }
            Stage::Preparing | Stage::Settling => {}
            Stage::Prepared => deeds.push(self.say(Answer::Prepared)),
            Stage::Over(why) => deeds.push(self.say(Answer::Refused(why))),
            _ => deeds.push(self.say(Answer::Refused(Refusal::OutOfTurn))),
        }
    }

    fn settle(&mut self) -> Option<Deed> {
        if self.stage != Stage::Settling || self.thaws > 0 {
            return None;
        }
        self.stage = Stage::Prepared;
        Some(self.say(Answer::Prepared))
    }

    fn freeze(&mut self, now: Monotonic, budget: Duration, deeds: &mut Vec<Deed>) {
        match self.stage {
            // a thaw that is under way could undo the freeze
            Stage::Prepared if self.thaws > 0 => deeds.extend(self.fail(now, Refusal::NotFrozen)),
            Stage::Prepared => {
                // the clock runs from before the first process is stopped
                self.lease = Some(Lease { since: now, until: now.plus(budget) });
                self.stage = Stage::Freezing;
                deeds.push(Deed::Freeze(self.id, budget));
            }
            Stage::Freezing => {}
            Stage::Resting(rest) => deeds.push(self.say(Answer::Frozen(rest))),
            Stage::Over(why) => deeds.push(self.say(Answer::Refused(why))),
            _ => deeds.push(self.say(Answer::Refused(Refusal::OutOfTurn))),
        }
    }

    fn cut(&mut self, deeds: &mut Vec<Deed>) {
        match self.stage {
            Stage::Resting(rest) => {
                self.stage = Stage::Cutting(rest);
                deeds.push(Deed::Cut(self.id));
            }
            Stage::Cutting(_) => {}
            Stage::Held | Stage::Sealing => deeds.push(self.say(Answer::Cut)),
            Stage::Sealed(sequence) => deeds.push(self.say(Answer::Sealed(sequence))),
            Stage::Over(why) => deeds.push(self.say(Answer::Refused(why))),
            _ => deeds.push(self.say(Answer::Refused(Refusal::OutOfTurn))),
        }
    }

    fn thaw(&mut self, now: Monotonic, deeds: &mut Vec<Deed>) {
        match self.stage {
            Stage::Held => deeds.extend(self.seal(now)),
            Stage::Sealing | Stage::Sealed(_) | Stage::Over(_) => {}
            _ => self.stage = Stage::Over(Refusal::OutOfTurn),
        }
        deeds.extend(self.go_on_unless_own(now));
        deeds.push(self.say(Answer::Thawed(self.rested)));
        if let Stage::Sealed(sequence) = self.stage {
            deeds.push(self.say(Answer::Sealed(sequence)));
        }
    }

    /// Goes on, and makes durable what was taken hold of.
    fn seal(&mut self, now: Monotonic) -> Vec<Deed> {
        self.stage = Stage::Sealing;
        let mut deeds = self.go_on(now);
        deeds.push(Deed::Seal(self.id));
        deeds
    }

    fn fail(&mut self, now: Monotonic, why: Refusal) -> Vec<Deed> {
        self.stage = Stage::Over(why);
        let mut deeds = self.go_on(now);
        deeds.push(self.say(Answer::Refused(why)));
        deeds
    }

    /// Lets the application go on, if it may be at rest.
    fn go_on(&mut self, now: Monotonic) -> Vec<Deed> {
        let Some(lease) = self.lease.take() else { return Vec::new() };
        self.thaws += 1;
        match self.own.take() {
            Some(Own::Freezing(id)) => vec![Deed::Thaw, Deed::Pass(id)],
            // what is being taken hold of comes too late
            Some(Own::Cutting(_)) => vec![Deed::Thaw],
            None => {
                self.rested = now.since(lease.since);
                vec![Deed::Thaw]
            }
        }
    }

    /// The same, as far as it is for a coordinator to say.
    fn go_on_unless_own(&mut self, now: Monotonic) -> Vec<Deed> {
        if self.own.is_some() { Vec::new() } else { self.go_on(now) }
    }

    const fn say(&self, answer: Answer) -> Deed {
        Deed::Say(self.id, answer)
    }
}
