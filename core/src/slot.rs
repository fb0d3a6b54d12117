// SPDX-License-Identifier: Apache-2.0
//! Which pod of a workload may have which slot, and so which lineage. One machine for each workload.
//!
//! A slot has at most one holder. It is written down before it is granted, so that whoever decides next knows it; and it is free again only when
//! its holder can't be writing any more, as far as anybody can tell: its pod has ended or is gone, or has sealed its record on its way out, or its
//! node is lost and the pod was silent beyond its patience. That a pod which was given up may still run is the log's business: it is fenced there.
//!
//! Slots by number are a workload's whose pods are all alike (a Deployment's). As many are given out as replicas are wanted: first those whose
//! pods died, the newest death first, so that a replacement continues what it replaces; then the lowest that are free. Which pods a scale-down
//! ends is not ours to say, so the numbers in use may have gaps, until the workload grows again.

use crate::time::Monotonic;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// A pod, by its UID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub String);

/// A slot: an ordinal, a number, a node, a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub String);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which slot a pod should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// This one.
    Named(Slot),
    /// Any by number.
    Numbered,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs, or will.
    Alive,
    /// It is being ended.
    Ending,
    /// Its containers have ended.
    Ended,
}

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Which slot it should have.
    pub wish: Wish,
    /// The slot it had before, as the pod itself says.
    pub had: Option<Slot>,
    /// How far it is.
    pub life: Life,
    /// Nothing is known of its node.
    pub lost: bool,
    /// While its node is lost: given up after so long a silence of its agent.
    pub patience: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time.
    Tick,
    /// So many replicas are wanted; `None`: nobody says.
    Replicas(Option<u32>),
    /// It was written down earlier that this slot exists, and who held it last.
    Known {
        /// The slot.
        slot: Slot,
        /// Its holder; `None`: it was free.
        holder: Option<PodId>,
    },
    /// What was written down of a slot is gone.
    Forgotten(Slot),
    /// A pod is there, or has changed.
    Pod(PodId, Pod),
    /// A pod is gone.
    Gone(PodId),
    /// A pod's agent asks for its slot.
    Wants(PodId),
    /// A pod's agent doesn't listen any more. It keeps what it has.
    Leaves(PodId),
    /// A pod's agent has said something.
    Heard(PodId),
    /// A pod's agent has sealed its lineage's record.
    Sealed(PodId),
    /// It is written down that this pod holds the slot.
    Recorded(Slot, PodId),
    /// It could not be written down, or nobody knows.
    NotRecorded(Slot, PodId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Write down who holds a slot, and answer with [`Event::Recorded`] or [`Event::NotRecorded`]; `None`: nobody does, which needs no answer.
    Record(Slot, Option<PodId>),
    /// The pod has the slot: tell its agent.
    Grant(PodId, Slot),
    /// The pod has to wait: tell its agent.
    Wait(PodId, Why),
    /// The pod doesn't have the slot any more: what was granted to it is void.
    Revoke(PodId, Slot),
}

/// Why a pod waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The slot that it should have is another's.
    Held {
        /// Which.
        slot: Slot,
        /// Whose.
        by: PodId,
    },
    /// As many pods have slots as replicas are wanted.
    Full {
        /// How many are wanted.
        replicas: u32,
    },
    /// It was given up and another has its slot: it will not get any other, since its disk holds that one's state.
    Replaced {
        /// Which.
        slot: Slot,
        /// Whose it is now.
        by: PodId,
    },
    /// It is being ended, and never had one.
    Ending,
    /// It is being written down.
    Recording,
}

#[derive(Debug)]
struct Known {
    pod: Pod,
    heard: Monotonic,
    sealed: bool,
    /// Since when it waits for an answer, as a number that grows.
    asked: Option<u64>,
    told: Option<Why>,
}

#[derive(Debug, Default)]
struct Place {
    holder: Option<PodId>,
    /// It is written down that the holder has it.
    recorded: bool,
    /// The holder was told.
    granted: bool,
    /// Its last holder died and was not replaced yet: when, as a number that grows.
    owed: Option<u64>,
}

/// The slots of one workload.
#[derive(Debug, Default)]
pub struct Workload {
    replicas: Option<u32>,
    pods: BTreeMap<PodId, Known>,
    slots: BTreeMap<Slot, Place>,
    count: u64,
}

impl Workload {
    /// Takes what happened and says what to do.
    pub fn step(&mut self, now: Monotonic, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Replicas(replicas) => self.replicas = replicas,
            Event::Known { slot, holder } => self.known(slot, holder),
            Event::Forgotten(slot) => self.forgotten(slot, &mut actions),
            Event::Pod(id, pod) => self.pod(now, id, pod),
            Event::Gone(id) => drop(self.pods.remove(&id)),
            Event::Wants(id) => self.wants(now, &id),
            Event::Leaves(id) => {
                if let Some(known) = self.pods.get_mut(&id) {
                    (known.asked, known.told) = (None, None);
                }
            }
            Event::Heard(id) => self.heard(now, &id),
            Event::Sealed(id) => {
                if let Some(known) = self.pods.get_mut(&id) {
                    known.sealed = true;
                }
            }
            Event::Recorded(slot, id) => {
                if let Some(place) = self.slots.get_mut(&slot).filter(|place| place.holder.as_ref() == Some(&id)) {
                    place.recorded = true;
                }
            }
            Event::NotRecorded(slot, id) => {
                // nobody was told, so nobody has it; what may stand written is overwritten by the next
                if let Some(place) =
                    self.slots.get_mut(&slot).filter(|place| place.holder.as_ref() == Some(&id) && !place.recorded)
                {
                    *place = Place { owed: place.owed, ..Place::default() };
                }
            }
        }
        self.release(now, &mut actions);
        self.assign(&mut actions);
        self.answer(&mut actions);
        actions
    }

    /// When to be called again even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let holders = self.slots.values().filter_map(|place| self.pods.get(place.holder.as_ref()?));
        holders.filter(|known| known.pod.lost).map(|known| known.heard.plus(known.pod.patience)).min()
    }

    /// The slots, and who holds each.
    pub fn slots(&self) -> impl Iterator<Item = (&Slot, Option<&PodId>)> {
        self.slots.iter().map(|(slot, place)| (slot, place.holder.as_ref()))
    }

    /// The slot that a pod holds.
    #[must_use]
    pub fn held_by(&self, id: &PodId) -> Option<&Slot> {
        self.slots.iter().find(|(_, place)| place.holder.as_ref() == Some(id)).map(|(slot, _)| slot)
    }

    /// Whether nothing is known of it any more that isn't written down.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pods.is_empty() && self.slots.values().all(|place| place.holder.is_none())
    }

    fn known(&mut self, slot: Slot, holder: Option<PodId>) {
        self.count += 1;
        // a write that seemed to fail may stand: what a pod says itself counts, and what it was given first
        let holder = holder.filter(|id| {
            let had = self.pods.get(id).and_then(|known| known.pod.had.as_ref());
            had.is_none_or(|had| *had == slot) && self.held_by(id).is_none()
        });
        let owed = holder.is_some().then_some(self.count);
        let place = self.slots.entry(slot).or_default();
        if place.holder.is_none() {
            // a pod that is gone is found out when slots are released
            *place = Place { recorded: holder.is_some(), granted: holder.is_some(), owed, holder };
        }
    }

    fn forgotten(&mut self, slot: Slot, actions: &mut Vec<Action>) {
        match self.slots.get(&slot).map(|place| place.holder.clone()) {
            // it must stand written for whoever decides next
            Some(Some(holder)) => actions.push(Action::Record(slot, Some(holder))),
            Some(None) => drop(self.slots.remove(&slot)),
            None => {}
        }
    }

    fn pod(&mut self, now: Monotonic, id: PodId, pod: Pod) {
        match self.pods.get_mut(&id) {
            Some(known) => {
                // the slot that it has, or had, is not taken back by what it doesn't say yet
                let had = pod.had.clone().or_else(|| known.pod.had.take());
                known.pod = Pod { had, ..pod };
            }
            None => drop(self.pods.insert(id, Known { pod, heard: now, sealed: false, asked: None, told: None })),
        }
    }

    fn wants(&mut self, now: Monotonic, id: &PodId) {
        self.count += 1;
        let count = self.count;
        self.heard(now, id);
        if let Some(known) = self.pods.get_mut(id) {
            known.asked = known.asked.or(Some(count));
            // a new agent of it writes again
            (known.told, known.sealed) = (None, false);
        }
        if let Some(place) = self.slots.values_mut().find(|place| place.holder.as_ref() == Some(id)) {
            // granted again: whatever it has, this agent doesn't know of it
            place.granted = false;
        }
    }

    fn heard(&mut self, now: Monotonic, id: &PodId) {
        if let Some(known) = self.pods.get_mut(id) {
            known.heard = now;
        }
    }

    /// Takes slots from those who can't be writing any more.
    fn release(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        let done = |known: Option<&Known>| {
            known.is_none_or(|known| match known.pod.life {
                Life::Ended => true,
                Life::Ending if known.sealed => true,
                _ => known.pod.lost && now.since(known.heard) >= known.pod.patience,
            })
        };
        let held = self.slots.values().filter(|place| place.holder.is_some()).count();
        // a workload that has become smaller gives some up: those are not replaced
        let mut surplus =
            self.replicas.map_or(0, |replicas| held.saturating_sub(usize::try_from(replicas).unwrap_or(usize::MAX)));
        for (slot, place) in &mut self.slots {
            let Some(id) = place.holder.take_if(|id| done(self.pods.get(id))) else { continue };
            if let Some(known) = self.pods.get_mut(&id) {
                if place.granted {
                    known.pod.had = Some(slot.clone());
                }
                // its session ends with it: whoever still wants it asks again
                (known.asked, known.told) = (None, None);
            }
            self.count += 1;
            place.owed = Some(self.count);
            if surplus > 0 {
                (surplus, place.owed) = (surplus - 1, None);
                actions.push(Action::Record(slot.clone(), None));
            }
            (place.recorded, place.granted) = (false, false);
            actions.push(Action::Revoke(id, slot.clone()));
        }
    }

    /// Gives free slots to those who wait, the longest wait first.
    fn assign(&mut self, actions: &mut Vec<Action>) {
        let mut waiting: Vec<(u64, PodId)> = Vec::new();
        for (id, known) in &self.pods {
            if let Some(asked) = known.asked.filter(|_| self.held_by(id).is_none()) {
                waiting.push((asked, id.clone()));
            }
        }
        // who had a slot goes first: nobody else may have that one
        waiting.sort_by_key(|(asked, id)| (self.pods.get(id).is_some_and(|known| known.pod.had.is_none()), *asked));
        for (_, id) in waiting {
            let Some(slot) = self.choose(&id) else { continue };
            let place = self.slots.entry(slot.clone()).or_default();
            *place = Place { holder: Some(id.clone()), ..Place::default() };
            actions.push(Action::Record(slot, Some(id)));
        }
    }

    /// The slot that a waiting pod may have now.
    fn choose(&self, id: &PodId) -> Option<Slot> {
        let known = self.pods.get(id)?;
        let free = |slot: &Slot| self.slots.get(slot).is_none_or(|place| place.holder.is_none()) && !self.is_awaited(slot, id);
        match (&known.pod.had, &known.pod.wish) {
            _ if known.pod.life == Life::Ended => None,
            (Some(slot), _) => Some(slot.clone()).filter(|slot| self.holder(slot).is_none()),
            // it never ran: there is nothing to be saved
            _ if known.pod.life == Life::Ending => None,
            (None, Wish::Named(slot)) => Some(slot.clone()).filter(free),
            (None, Wish::Numbered) => {
                if self.replicas.is_some_and(|replicas| self.taken() >= usize::try_from(replicas).unwrap_or(usize::MAX)) {
                    return None;
                }
                let owed = self.slots.iter().filter_map(|(slot, place)| place.owed.map(|when| (when, slot)));
                let newest = owed.filter(|(_, slot)| free(slot)).max().map(|(_, slot)| slot.clone());
                // fewer are taken than there are names here, so one of them is free
                newest.or_else(|| {
                    (0..=self.slots.len() + self.pods.len()).map(|number| Slot(number.to_string())).find(|slot| free(slot))
                })
            }
        }
    }

    /// Slots that have a holder, or that their pods will come back for.
    fn taken(&self) -> usize {
        let awaited = |slot: &Slot| self.pods.iter().any(|(_, known)| known.pod.had.as_ref() == Some(slot) && comes_back(known));
        let held = self.slots.values().filter(|place| place.holder.is_some()).count();
        let absent: std::collections::BTreeSet<&Slot> = self.pods.values().filter_map(|known| known.pod.had.as_ref()).collect();
        held + absent.into_iter().filter(|slot| self.holder(slot).is_none() && awaited(slot)).count()
    }

    fn holder(&self, slot: &Slot) -> Option<&PodId> {
        self.slots.get(slot)?.holder.as_ref()
    }

    /// Whether another pod had this slot and will come back for it: what was written down of that may have been lost.
    fn is_awaited(&self, slot: &Slot, except: &PodId) -> bool {
        self.pods.iter().any(|(id, known)| id != except && known.pod.had.as_ref() == Some(slot) && comes_back(known))
    }

    /// Tells those who wait what they have, or why not.
    fn answer(&mut self, actions: &mut Vec<Action>) {
        let asking: Vec<PodId> = self.pods.iter().filter(|(_, known)| known.asked.is_some()).map(|(id, _)| id.clone()).collect();
        for id in asking {
            let held = self.slots.iter_mut().find(|(_, place)| place.holder.as_ref() == Some(&id));
            let why = match held {
                Some((slot, place)) if place.recorded => {
                    if !std::mem::replace(&mut place.granted, true) {
                        actions.push(Action::Grant(id.clone(), slot.clone()));
                    }
                    if let Some(known) = self.pods.get_mut(&id) {
                        known.pod.had = Some(slot.clone());
                    }
                    None
                }
                Some(_) => Some(Why::Recording),
                None => self.why(&id),
            };
            if let Some(known) = self.pods.get_mut(&id).filter(|known| known.told != why) {
                known.told.clone_from(&why);
                actions.extend(why.map(|why| Action::Wait(id, why)));
            }
        }
    }

    fn why(&self, id: &PodId) -> Option<Why> {
        let known = self.pods.get(id)?;
        let by = |slot: &Slot| {
            let awaited =
                self.pods.iter().find(|(other, known)| *other != id && known.pod.had.as_ref() == Some(slot) && comes_back(known));
            self.holder(slot).or(awaited.map(|(other, _)| other)).cloned()
        };
        Some(match (&known.pod.had, &known.pod.wish) {
            (Some(slot), _) if by(slot).is_some() => Why::Replaced { slot: slot.clone(), by: by(slot)? },
            _ if known.pod.life != Life::Alive => Why::Ending,
            (None, Wish::Named(slot)) if by(slot).is_some() => Why::Held { slot: slot.clone(), by: by(slot)? },
            (None, Wish::Numbered) => Why::Full { replicas: self.replicas.unwrap_or(u32::MAX) },
            _ => Why::Recording,
        })
    }
}

/// Whether a pod that had a slot and doesn't hold it may still ask for it again: also one that is being ended, for its last checkpoint.
fn comes_back(known: &Known) -> bool {
    let has_more = match known.pod.life {
        Life::Alive => true,
        Life::Ending => !known.sealed,
        Life::Ended => false,
    };
    has_more && !known.pod.lost
}
