// SPDX-License-Identifier: Apache-2.0
//! What agents do as they are told, and what their applications make of it.

use super::*;

impl World {
    pub(super) fn perform(&mut self, member: usize, deeds: Vec<Deed>) -> Checked {
        let life = self.agents[member].life;
        for deed in deeds {
            match deed {
                Deed::Say(id, answer) => {
                    let what = What::Answer(id.epoch, member, id, answer);
                    self.send(what, member);
                }
                Deed::PreCopy(id) => {
                    let ok = !self.goes_wrong(20, Fault::PreCopyFails);
                    self.soon(500, What::Done(member, life, Done::Prepared(id, ok)));
                }
                Deed::Freeze(id, budget) => {
                    let until = Monotonic(Duration::from_millis(self.now)).plus(budget);
                    self.agents[member].watch = Some(until);
                    let sure = !self.goes_wrong(20, Fault::FreezeFails);
                    let takes = if self.calm || self.dice.hits(500) { 50 } else { 1700 };
                    self.soon(takes, What::Stop(member, life, id, sure));
                }
                Deed::Cut(id) => self.soon(300, What::Look(member, life, id)),
                Deed::Thaw => {
                    self.soon(THAW_MILLIS, What::Go(member, life));
                    // some can't wait
                    if self.dice.hits(100) {
                        self.soon(THAW_MILLIS, What::Rest(member));
                    }
                }
                Deed::Seal(id) if id.is_own() => {
                    let agent = &mut self.agents[member];
                    if agent.own.remove(&id) != agent.held.remove(&id) {
                        return Err(format!("member {member} has a checkpoint of itself that is not of its rest"));
                    }
                    self.report.own += 1;
                }
                Deed::Seal(id) => {
                    let state = self.agents[member].held.remove(&id).filter(|_| !self.goes_wrong(20, Fault::SealFails));
                    let sequence = state.map(|state| {
                        let sealed = &mut self.agents[member].sealed;
                        let sequence = sealed.last_key_value().map_or(1, |(last, _)| last + 1);
                        sealed.insert(sequence, (state, id));
                        sequence
                    });
                    self.soon(900, What::Done(member, life, Done::Sealed(id, sequence)));
                }
                Deed::Forget(id) => drop(self.agents[member].held.remove(&id)),
                Deed::Pass(_) => self.report.passed += 1,
            }
        }
        Ok(())
    }

    pub(super) fn rest(&mut self, member: usize) -> Checked {
        let now = self.time();
        if !self.agents[member].alive {
            return Ok(());
        }
        let deeds = self.agents[member].machine.rest(now, PAUSE);
        self.perform(member, deeds)
    }

    pub(super) fn done(&mut self, member: usize, life: u64, done: Done) -> Checked {
        let now = self.time();
        if self.agents[member].alive && self.agents[member].life == life {
            let deeds = self.agents[member].machine.done(now, done);
            self.perform(member, deeds)?;
        }
        Ok(())
    }

    /// A freeze takes effect. What a process had begun ends with it.
    pub(super) fn stop(&mut self, member: usize, life: u64, id: BarrierId, sure: bool) -> Checked {
        if self.agents[member].life != life {
            return Ok(());
        }
        if self.planted != Planted::NoRest {
            let now = self.time();
            self.agents[member].stopped.get_or_insert(now);
            self.after(0, What::Watchdog(member));
        }
        if id.is_own() {
            let state = self.bank.state(member);
            self.agents[member].own.insert(id, state);
        }
        self.done(member, life, Done::Frozen(id, sure.then_some(Rest::Frozen)))?;
        if self.planted == Planted::GoEarly && sure {
            self.happen_order(member, id, Order::Cut)?;
        }
        Ok(())
    }

    fn happen_order(&mut self, member: usize, id: BarrierId, order: Order) -> Checked {
        let now = self.time();
        let deeds = self.agents[member].machine.order(now, id, order);
        self.perform(member, deeds)
    }

    /// The process beside the agent: from the deadline on, it lets the application go on until nobody may be stopping it any more.
    pub(super) fn watchdog(&mut self, member: usize) -> Checked {
        let Some(until) = self.agents[member].watch.filter(|_| self.planted != Planted::NoClock) else { return Ok(()) };
        if self.agents[member].stopped.is_none() {
            return Ok(());
        }
        if self.time() >= until {
            self.go(member)?;
        } else {
            self.after(5, What::Watchdog(member));
        }
        Ok(())
    }

    pub(super) fn go(&mut self, member: usize) -> Checked {
        if let Some(since) = self.agents[member].stopped.take() {
            let rested = self.time().since(since);
            if rested > PAUSE + Duration::from_millis(2 * THAW_MILLIS) {
                return Err(format!("member {member} was at rest for {rested:?}"));
            }
        }
        Ok(())
    }

    pub(super) fn look(&mut self, member: usize, life: u64, id: BarrierId) -> Checked {
        let ok = !self.goes_wrong(20, Fault::CutFails);
        if ok && self.agents[member].life == life {
            let state = self.bank.state(member);
            self.agents[member].held.insert(id, state);
        }
        self.done(member, life, Done::Cut(id, ok))?;
        if self.planted == Planted::GoEarly {
            self.agents[member].stopped = None;
        }
        Ok(())
    }
}
