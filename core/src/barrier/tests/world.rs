// SPDX-License-Identifier: Apache-2.0
//! One coordinator after another, agents, their applications and everything that can go wrong, in virtual time and by a seed.

use super::bank::{Bank, State};
use crate::barrier::*;
use crate::time::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod pods;

/// Steele, Lea and Flood's SplitMix64 ("Fast splittable pseudorandom number generators", 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn hits(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    Nothing,
    /// Applications are said to rest and do not.
    NoRest,
    /// A member is cut as soon as it rests, and goes on, whether the others rest or not.
    GoEarly,
    /// Nobody keeps a clock in the pod.
    NoClock,
    /// A set is made visible without its last member.
    OneShort,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    CoordinatorDies,
    AgentDies,
    SessionBreaks,
    MessageLost,
    MessageTwice,
    PreCopyFails,
    FreezeFails,
    CutFails,
    SealFails,
    Cancelled,
}

pub(super) const PAUSE: Duration = Duration::from_millis(1500);
const LIMITS: Limits = Limits { prepare: Duration::from_secs(5), pause: PAUSE, seal: Duration::from_secs(20) };
/// Until a thaw that was decided has happened.
const THAW_MILLIS: u64 = 20;

#[derive(Debug, Clone)]
enum What {
    Order(usize, BarrierId, Order),
    Answer(u64, usize, BarrierId, Answer),
    Done(usize, u64, Done),
    /// The application is stopped now, by the freeze of this barrier.
    Stop(usize, u64, BarrierId, bool),
    Go(usize, u64),
    Look(usize, u64, BarrierId),
    Tick,
    App,
    Deliver(u64),
    Visible(u64, BarrierId, BTreeMap<usize, u64>),
    NewCoordinator,
    Back(usize),
    AgentStarts(usize),
    Watchdog(usize),
    /// An agent wants to rest for itself.
    Rest(usize),
}

struct Agent {
    machine: Member,
    alive: bool,
    /// Counts the agent's processes: what one began, the next knows nothing of.
    life: u64,
    stopped: Option<Monotonic>,
    watch: Option<Monotonic>,
    held: BTreeMap<BarrierId, State>,
    /// What it was when each rest of its own began.
    own: BTreeMap<BarrierId, State>,
    sealed: BTreeMap<u64, (State, BarrierId)>,
}

/// What came of one world.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) taken: u64,
    pub(super) aborted: u64,
    /// Rests that agents asked for themselves, and those of them that did not come.
    pub(super) own: u64,
    pub(super) passed: u64,
    pub(super) cells: BTreeSet<(&'static str, Fault)>,
}

pub(super) struct World {
    dice: Dice,
    now: u64,
    order: u64,
    queue: BTreeMap<(u64, u64), What>,
    agents: Vec<Agent>,
    bank: Bank,
    barrier: Option<Barrier<usize>>,
    epoch: u64,
    number: u64,
    alive: bool,
    calm: bool,
    planted: Planted,
    report: Report,
}

type Checked = Result<(), String>;

impl World {
    /// A world with so many members; `calm`: nothing goes wrong.
    pub(super) fn new(seed: u64, calm: bool, planted: Planted) -> Self {
        let mut dice = Dice(seed);
        let count = usize::try_from(1 + dice.below(4)).unwrap_or(1) + usize::from(planted != Planted::Nothing);
        let agent = || {
            let mut machine = Member::begin().0;
            let _ = machine.done(Monotonic::default(), Done::Thawed);
            let (held, sealed) = (BTreeMap::new(), BTreeMap::new());
            Agent { machine, alive: true, life: 0, stopped: None, watch: None, held, own: BTreeMap::new(), sealed }
        };
        let agents = (0..count).map(|_| agent()).collect();
        let report = Report::default();
        let mut world = Self {
            dice,
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            agents,
            bank: Bank::new(count),
            barrier: None,
            epoch: 1,
            number: 0,
            alive: true,
            calm,
            planted,
            report,
        };
        world.after(0, What::NewCoordinator);
        world.after(1, What::App);
        world.after(1, What::Tick);
        world
    }

    /// Lives for so many milliseconds.
    pub(super) fn run(mut self, millis: u64) -> Result<Report, String> {
        while let Some(((at, _), what)) = self.queue.pop_first() {
            if at > millis {
                break;
            }
            self.now = at;
            self.happen(what)?;
        }
        Ok(self.report)
    }

    fn time(&self) -> Monotonic {
        Monotonic(Duration::from_millis(self.now))
    }

    fn after(&mut self, millis: u64, what: What) {
        self.order += 1;
        self.queue.insert((self.now + millis, self.order), what);
    }

    fn soon(&mut self, below: u64, what: What) {
        let millis = self.dice.below(below);
        self.after(millis, what);
    }

    fn goes_wrong(&mut self, per_mille: u64, fault: Fault) -> bool {
        let wrong = !self.calm && self.dice.hits(per_mille);
        if wrong && let Some(barrier) = &self.barrier {
            self.report.cells.insert((barrier.phase(), fault));
        }
        wrong
    }

    fn happen(&mut self, what: What) -> Checked {
        match what {
            What::Tick => self.tick()?,
            What::App => {
                self.bank.act(&mut self.dice, |member| self.agents[member].stopped.is_none());
                for id in self.bank.sent_now() {
                    self.soon(80, What::Deliver(id));
                }
                self.soon(8, What::App);
            }
            What::Deliver(id) => {
                if self.agents[self.bank.receiver(id)].stopped.is_none() {
                    self.bank.receive(id);
                } else {
                    self.after(5, What::Deliver(id));
                }
            }
            What::NewCoordinator => self.new_barrier()?,
            What::Order(member, id, order) => {
                let now = self.time();
                if self.agents[member].alive {
                    let deeds = self.agents[member].machine.order(now, id, order);
                    self.perform(member, deeds)?;
                }
            }
            What::Answer(epoch, member, id, answer) if self.alive && epoch == self.epoch => {
                self.coordinate(Event::Heard(member, id, answer))?;
            }
            What::Back(member) if self.alive => self.coordinate(Event::Back(member))?,
            What::Visible(epoch, id, set) => self.visible(epoch, id, &set)?,
            What::Done(member, life, done) => self.done(member, life, done)?,
            What::Stop(member, life, id, sure) => self.stop(member, life, id, sure)?,
            What::Go(member, life) => {
                self.go(member)?;
                self.done(member, life, Done::Thawed)?;
            }
            What::Look(member, life, id) => self.look(member, life, id)?,
            What::AgentStarts(member) => {
                let (machine, first) = Member::begin();
                self.agents[member].machine = machine;
                self.agents[member].alive = true;
                self.perform(member, vec![first])?;
                self.soon(200, What::Back(member));
            }
            What::Watchdog(member) => self.watchdog(member)?,
            What::Rest(member) => self.rest(member)?,
            What::Answer(..) | What::Back(_) => {}
        }
        Ok(())
    }

    /// Clocks go on, and things break.
    fn tick(&mut self) -> Checked {
        self.after(7, What::Tick);
        if self.alive && self.barrier.is_some() {
            if self.goes_wrong(1, Fault::Cancelled) {
                self.coordinate(Event::Cancelled)?;
            }
            self.coordinate(Event::Tick)?;
        }
        for member in 0..self.agents.len() {
            let now = self.time();
            if self.planted != Planted::NoClock && self.agents[member].alive {
                let deeds = self.agents[member].machine.tick(now);
                self.perform(member, deeds)?;
            }
            if self.dice.hits(5) {
                self.rest(member)?;
            }
            if self.agents[member].alive && self.goes_wrong(1, Fault::AgentDies) {
                let agent = &mut self.agents[member];
                agent.alive = false;
                agent.life += 1;
                agent.held.clear();
                self.soon(4000, What::AgentStarts(member));
            }
            if self.agents[member].alive && self.goes_wrong(1, Fault::SessionBreaks) {
                let deeds = self.agents[member].machine.lost(now);
                self.perform(member, deeds)?;
                self.soon(300, What::Back(member));
            }
        }
        if self.alive && self.goes_wrong(1, Fault::CoordinatorDies) {
            self.alive = false;
            for member in 0..self.agents.len() {
                let now = self.time();
                // some notice soon, some never
                if self.agents[member].alive && self.dice.hits(700) {
                    let deeds = self.agents[member].machine.lost(now);
                    self.perform(member, deeds)?;
                }
            }
            self.soon(3000, What::NewCoordinator);
        }
        Ok(())
    }

    fn new_barrier(&mut self) -> Checked {
        if !self.alive {
            self.alive = true;
            self.epoch += 1;
            self.barrier = None;
        }
        if self.barrier.is_some() {
            return Ok(());
        }
        self.number += 1;
        let id = BarrierId { epoch: self.epoch, number: self.number };
        let (barrier, actions) = Barrier::begin(self.time(), id, 0..self.agents.len(), LIMITS);
        self.barrier = Some(barrier);
        self.act(actions)
    }

    fn coordinate(&mut self, event: Event<usize>) -> Checked {
        let now = self.time();
        let actions = self.barrier.as_mut().map(|barrier| barrier.step(now, event)).unwrap_or_default();
        self.act(actions)
    }

    fn act(&mut self, actions: Vec<Action<usize>>) -> Checked {
        for action in actions {
            match action {
                Action::Tell(member, id, order) => self.send(What::Order(member, id, order), member),
                Action::Commit(mut set) => {
                    if self.planted == Planted::OneShort {
                        set.pop_last();
                    }
                    let id = BarrierId { epoch: self.epoch, number: self.number };
                    self.soon(100, What::Visible(self.epoch, id, set));
                }
                Action::End(outcome) => {
                    match outcome {
                        Outcome::Taken { .. } => self.report.taken += 1,
                        Outcome::Aborted(_) => self.report.aborted += 1,
                    }
                    self.barrier = None;
                    self.soon(300, What::NewCoordinator);
                }
            }
        }
        Ok(())
    }

    /// A message on its way: it may be lost, come twice, and overtake others. What is lost breaks the session.
    fn send(&mut self, what: What, member: usize) {
        if self.goes_wrong(15, Fault::MessageLost) {
            return self.soon(400, What::Back(member));
        }
        if self.goes_wrong(30, Fault::MessageTwice) {
            self.soon(if self.calm { 40 } else { 3000 }, what.clone());
        }
        self.soon(40, what);
    }

    /// A set becomes visible: also after its coordinator has died.
    fn visible(&mut self, epoch: u64, id: BarrierId, set: &BTreeMap<usize, u64>) -> Checked {
        if set.len() != self.agents.len() {
            return Err(format!("a set of {} of {} members is visible", set.len(), self.agents.len()));
        }
        let mut states = Vec::new();
        for (member, sequence) in set {
            match self.agents[*member].sealed.get(sequence) {
                Some((state, of)) if *of == id => states.push(state.clone()),
                other => return Err(format!("member {member} has no checkpoint {sequence} of {id}: {:?}", other.map(|x| x.1))),
            }
        }
        self.bank.check(&states)?;
        if self.alive && epoch == self.epoch {
            self.coordinate(Event::Committed(true))?;
        }
        Ok(())
    }
}
