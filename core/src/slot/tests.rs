// SPDX-License-Identifier: Apache-2.0
use super::*;

const PATIENCE: Duration = Duration::from_secs(40);

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn id(name: &str) -> PodId {
    PodId(name.to_owned())
}

fn slot(name: &str) -> Slot {
    Slot(name.to_owned())
}

fn alike() -> Pod {
    Pod { wish: Wish::Numbered, had: None, life: Life::Alive, lost: false, patience: PATIENCE }
}

fn named(name: &str) -> Pod {
    Pod { wish: Wish::Named(slot(name)), ..alike() }
}

/// A workload whose writes all succeed at once; it notes what agents are told.
#[derive(Default)]
struct Desk {
    workload: Workload,
    now: u64,
    written: BTreeMap<Slot, Option<PodId>>,
    granted: BTreeMap<PodId, Slot>,
    told: BTreeMap<PodId, Why>,
}

impl Desk {
    fn of(replicas: u32) -> Self {
        let mut desk = Self::default();
        desk.event(Event::Replicas(Some(replicas)));
        desk
    }

    fn event(&mut self, event: Event) {
        let mut actions = self.workload.step(at(self.now), event);
        while let Some(action) = (!actions.is_empty()).then(|| actions.remove(0)) {
            match action {
                Action::Record(slot, holder) => {
                    self.written.insert(slot.clone(), holder.clone());
                    if let Some(holder) = holder {
                        actions.extend(self.workload.step(at(self.now), Event::Recorded(slot, holder)));
                    }
                }
                Action::Grant(id, slot) => {
                    self.told.remove(&id);
                    self.granted.insert(id, slot);
                }
                Action::Wait(id, why) => drop(self.told.insert(id, why)),
                Action::Revoke(id, _) => drop(self.granted.remove(&id)),
            }
        }
    }

    fn start(&mut self, name: &str, pod: Pod) -> Option<&Slot> {
        self.event(Event::Pod(id(name), pod));
        self.event(Event::Wants(id(name)));
        self.granted.get(&id(name))
    }

    fn slot_of(&self, name: &str) -> Option<&str> {
        self.granted.get(&id(name)).map(|slot| slot.0.as_str())
    }

    fn why(&self, name: &str) -> Option<&Why> {
        self.told.get(&id(name))
    }
}

#[test]
fn a_replacement_gets_the_slot_of_the_dead() {
    let mut desk = Desk::of(3);
    for name in ["a", "b", "c"] {
        desk.start(name, alike());
    }
    assert_eq!([desk.slot_of("a"), desk.slot_of("b"), desk.slot_of("c")], [Some("0"), Some("1"), Some("2")]);
    desk.event(Event::Pod(id("b"), Pod { life: Life::Ending, ..alike() }));
    assert_eq!(desk.start("d", alike()), None);
    assert_eq!(desk.why("d"), Some(&Why::Full { replicas: 3 }));
    desk.event(Event::Gone(id("b")));
    assert_eq!(desk.slot_of("d"), Some("1"), "as soon as it is free, and without asking again");
    assert_eq!(desk.written[&slot("1")], Some(id("d")));
}

#[test]
fn a_slot_is_free_once_its_record_is_sealed_by_a_pod_on_its_way_out() {
    let mut desk = Desk::of(1);
    desk.start("a", alike());
    desk.event(Event::Sealed(id("a")));
    desk.start("b", alike());
    assert_eq!(desk.slot_of("b"), None, "the pod stays: its agent may only be starting again");
    desk.event(Event::Pod(id("a"), Pod { life: Life::Ending, ..alike() }));
    assert_eq!((desk.slot_of("a"), desk.slot_of("b")), (None, Some("0")));
    // and the other way round, and not by a seal that a newer agent has gone beyond
    let mut desk = Desk::of(1);
    desk.start("a", alike());
    desk.event(Event::Sealed(id("a")));
    desk.event(Event::Wants(id("a")));
    desk.event(Event::Pod(id("a"), Pod { life: Life::Ending, ..alike() }));
    desk.start("b", alike());
    assert_eq!(desk.slot_of("b"), None);
    desk.event(Event::Sealed(id("a")));
    assert_eq!(desk.slot_of("b"), Some("0"));
}

#[test]
fn a_lost_node_gives_up_its_slots_only_after_silence() {
    let mut desk = Desk::of(1);
    desk.start("a", alike());
    let lost = |life| Pod { lost: true, life, ..alike() };
    desk.now = 10;
    desk.event(Event::Pod(id("a"), lost(Life::Ending)));
    desk.start("b", alike());
    desk.now = 30;
    desk.event(Event::Heard(id("a")));
    assert_eq!(desk.workload.deadline(), Some(at(70)));
    desk.now = 69;
    desk.event(Event::Tick);
    assert_eq!(desk.slot_of("b"), None, "its agent was heard");
    desk.now = 70;
    desk.event(Event::Tick);
    assert_eq!((desk.slot_of("a"), desk.slot_of("b")), (None, Some("0")));
    // it comes back, and gets no other slot: its disk holds that one's state
    desk.event(Event::Replicas(Some(3)));
    desk.event(Event::Pod(id("a"), alike()));
    desk.event(Event::Wants(id("a")));
    assert_eq!(desk.why("a"), Some(&Why::Replaced { slot: slot("0"), by: id("b") }));
    desk.event(Event::Gone(id("b")));
    assert_eq!(desk.slot_of("a"), Some("0"));
}

#[test]
fn a_node_that_is_ready_is_never_given_up() {
    let mut desk = Desk::of(1);
    desk.start("a", alike());
    desk.now = 100_000;
    desk.event(Event::Tick);
    desk.start("b", alike());
    assert_eq!((desk.slot_of("a"), desk.workload.deadline()), (Some("0"), None));
}

#[test]
fn a_pod_gets_its_own_slot_again() {
    let mut desk = Desk::of(3);
    for name in ["a", "b"] {
        desk.start(name, alike());
    }
    // its agent starts anew
    desk.event(Event::Leaves(id("b")));
    desk.granted.remove(&id("b"));
    desk.event(Event::Wants(id("b")));
    assert_eq!(desk.slot_of("b"), Some("1"));
    // a new leader knows what is written, and what the pods themselves say
    let mut next = Desk::of(3);
    next.event(Event::Pod(id("a"), alike()));
    next.event(Event::Pod(id("b"), Pod { had: Some(slot("1")), ..alike() }));
    next.event(Event::Known { slot: slot("0"), holder: Some(id("a")) });
    assert_eq!(next.start("c", alike()), Some(&slot("2")), "1 is awaited by its pod");
    next.event(Event::Wants(id("b")));
    next.event(Event::Wants(id("a")));
    assert_eq!((next.slot_of("a"), next.slot_of("b")), (Some("0"), Some("1")));
}

#[test]
fn who_was_given_up_and_is_back_has_its_last_word() {
    let given_up = || {
        let mut desk = Desk::of(1);
        assert_eq!(desk.start("a", alike()), Some(&slot("0")));
        desk.event(Event::Pod(id("a"), Pod { lost: true, ..alike() }));
        desk.now += PATIENCE.as_secs() + 1;
        desk.event(Event::Tick);
        assert_eq!(desk.slot_of("a"), None);
        // its node is back, and it is deleted before its agent has found a coordinator
        desk.event(Event::Pod(id("a"), Pod { life: Life::Ending, ..alike() }));
        assert_eq!(desk.start("b", alike()), None, "what its predecessor has on disk is not durable yet");
        desk
    };
    let mut desk = given_up();
    desk.event(Event::Wants(id("a")));
    assert_eq!((desk.slot_of("a"), desk.slot_of("b")), (Some("0"), None));
    desk.event(Event::Sealed(id("a")));
    assert_eq!(desk.slot_of("b"), Some("0"));
    // should it not find one, its successor waits until it has ended, or until its node is lost again
    let mut desk = given_up();
    desk.event(Event::Pod(id("a"), Pod { life: Life::Ended, ..alike() }));
    assert_eq!(desk.slot_of("b"), Some("0"));
    let mut desk = given_up();
    desk.event(Event::Pod(id("a"), Pod { life: Life::Ending, lost: true, ..alike() }));
    assert_eq!(desk.slot_of("b"), Some("0"));
}

#[test]
fn what_a_scale_down_ends_comes_back_with_a_scale_up() {
    let mut desk = Desk::of(3);
    for name in ["a", "b", "c"] {
        desk.start(name, alike());
    }
    desk.event(Event::Replicas(Some(1)));
    // not ours to choose: the one with the highest number stays
    for name in ["a", "b"] {
        desk.event(Event::Gone(id(name)));
    }
    assert_eq!((&desk.written[&slot("0")], &desk.written[&slot("1")]), (&None, &None), "nobody replaces them");
    desk.event(Event::Gone(id("c")));
    desk.start("d", alike());
    assert_eq!(desk.slot_of("d"), Some("2"), "the only replica's state goes on");
    desk.event(Event::Replicas(Some(3)));
    desk.start("e", alike());
    desk.start("f", alike());
    assert_eq!([desk.slot_of("e"), desk.slot_of("f")], [Some("0"), Some("1")]);
}

#[test]
fn named_slots_wait_for_their_own() {
    let mut desk = Desk::default();
    desk.start("a", named("shared"));
    desk.start("b", named("shared"));
    desk.start("c", named("other"));
    assert_eq!([desk.slot_of("a"), desk.slot_of("b"), desk.slot_of("c")], [Some("shared"), None, Some("other")]);
    assert_eq!(desk.why("b"), Some(&Why::Held { slot: slot("shared"), by: id("a") }));
    desk.event(Event::Pod(id("a"), Pod { life: Life::Ended, ..named("shared") }));
    assert_eq!(desk.slot_of("b"), Some("shared"));
}

#[test]
fn nothing_is_granted_before_it_is_written_down() {
    let mut workload = Workload::default();
    let _ = workload.step(at(0), Event::Pod(id("a"), alike()));
    let record = Action::Record(slot("0"), Some(id("a")));
    assert_eq!(workload.step(at(0), Event::Wants(id("a"))), [record.clone(), Action::Wait(id("a"), Why::Recording)]);
    // it could not be written: tried again at once, and another may come first
    let again = workload.step(at(1), Event::NotRecorded(slot("0"), id("a")));
    assert_eq!(again, [record]);
    assert_eq!(workload.step(at(2), Event::Recorded(slot("0"), id("b"))), [], "another's");
    assert_eq!(workload.step(at(2), Event::Recorded(slot("0"), id("a"))), [Action::Grant(id("a"), slot("0"))]);
}

#[test]
fn a_record_that_somebody_deleted_is_written_again() {
    let mut desk = Desk::of(1);
    desk.start("a", alike());
    desk.written.clear();
    desk.event(Event::Forgotten(slot("0")));
    assert_eq!(desk.written[&slot("0")], Some(id("a")));
    assert_eq!(desk.slot_of("a"), Some("0"), "and it keeps it");
    desk.event(Event::Gone(id("a")));
    desk.event(Event::Forgotten(slot("0")));
    assert!(desk.workload.slots().next().is_none() && desk.workload.is_idle());
}

#[test]
fn who_is_being_ended_and_never_had_a_slot_gets_none() {
    let mut desk = Desk::of(1);
    desk.start("a", Pod { life: Life::Ending, ..alike() });
    assert_eq!((desk.slot_of("a"), desk.why("a")), (None, Some(&Why::Ending)));
}
