// SPDX-License-Identifier: Apache-2.0

use crate::barrier::*;
use crate::time::Monotonic;
use std::time::Duration;

const LIMITS: Limits = Limits { prepare: Duration::from_secs(10), pause: Duration::from_secs(2), seal: Duration::from_secs(60) };
const ID: BarrierId = BarrierId { epoch: 1, number: 7 };

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

fn barrier() -> Barrier<&'static str> {
    let (barrier, actions) = Barrier::begin(at(0), ID, ["a", "b"], LIMITS);
    assert_eq!(actions, [Action::Tell("a", ID, Order::Prepare), Action::Tell("b", ID, Order::Prepare)]);
    barrier
}

fn hear(barrier: &mut Barrier<&'static str>, millis: u64, answer: Answer) -> Vec<Action<&'static str>> {
    let first = barrier.step(at(millis), Event::Heard("a", ID, answer));
    assert!(first.is_empty(), "one of two is not all: {first:?}");
    barrier.step(at(millis + 10), Event::Heard("b", ID, answer))
}

#[test]
fn all_rest_before_any_is_cut_and_all_are_sealed_before_any_is_seen() {
    let mut barrier = barrier();
    let budget = LIMITS.pause;
    let freeze = Order::Freeze { budget };
    assert_eq!(hear(&mut barrier, 100, Answer::Prepared), [Action::Tell("a", ID, freeze), Action::Tell("b", ID, freeze)]);
    let cut = hear(&mut barrier, 200, Answer::Frozen(Rest::Frozen));
    assert_eq!(cut, [Action::Tell("a", ID, Order::Cut), Action::Tell("b", ID, Order::Cut)]);
    assert_eq!(hear(&mut barrier, 300, Answer::Cut), [Action::Tell("a", ID, Order::Thaw), Action::Tell("b", ID, Order::Thaw)]);
    assert_eq!(hear(&mut barrier, 400, Answer::Thawed(Duration::from_millis(150))), []);
    let commit = hear(&mut barrier, 500, Answer::Sealed(12));
    assert_eq!(commit, [Action::Commit([("a", 12), ("b", 12)].into())]);
    let end = barrier.step(at(600), Event::Committed(true));
    let [Action::End(Outcome::Taken { reached, .. })] = &end[..] else { panic!("{end:?}") };
    assert_eq!(reached.rest, Rest::Frozen);
    assert_eq!(reached.skew, Duration::from_millis(100), "from the first freeze to the last rest");
    assert_eq!(barrier.deadline(), None);
}

#[test]
fn one_that_refuses_sends_everybody_on() {
    let mut barrier = barrier();
    let refused = Answer::Refused(Refusal::NotPrepared);
    let told = barrier.step(at(5), Event::Heard("b", ID, refused));
    assert_eq!(told, [Action::Tell("a", ID, Order::Thaw), Action::Tell("b", ID, Order::Thaw)]);
    let end = barrier.step(at(6), Event::Heard("a", ID, Answer::Thawed(Duration::ZERO)));
    assert_eq!(end, [Action::End(Outcome::Aborted(Why::Refused("b", Refusal::NotPrepared)))]);
}

#[test]
fn who_is_late_is_named() {
    let mut barrier = barrier();
    assert_eq!(barrier.step(at(1), Event::Heard("a", ID, Answer::Prepared)), []);
    assert_eq!(barrier.step(at(9_999), Event::Tick), []);
    assert_eq!(barrier.step(at(10_000), Event::Tick).len(), 2);
    let end = barrier.step(at(12_000), Event::Tick);
    assert_eq!(end, [Action::End(Outcome::Aborted(Why::Late(vec!["b"])))]);
}

#[test]
fn a_member_goes_on_by_its_own_clock() {
    let (mut member, first) = Member::begin();
    assert_eq!(first, Deed::Thaw, "a process before it may have left the application at rest");
    assert_eq!(member.done(at(0), Done::Thawed), []);
    assert_eq!(member.order(at(1), ID, Order::Prepare), [Deed::PreCopy(ID)]);
    assert_eq!(member.done(at(2), Done::Prepared(ID, true)), [Deed::Say(ID, Answer::Prepared)]);
    let budget = Duration::from_millis(500);
    assert_eq!(member.order(at(3), ID, Order::Freeze { budget }), [Deed::Freeze(ID, budget)]);
    assert_eq!(member.deadline(), Some(at(503)));
    assert_eq!(member.done(at(4), Done::Frozen(ID, Some(Rest::Frozen))), [Deed::Say(ID, Answer::Frozen(Rest::Frozen))]);
    assert_eq!(member.tick(at(502)), []);
    assert_eq!(member.tick(at(503)), [Deed::Thaw]);
    let refused = Deed::Say(ID, Answer::Refused(Refusal::BudgetSpent));
    assert_eq!(member.order(at(504), ID, Order::Cut), [refused], "its state is no longer of the moment of the others");
}

#[test]
fn a_freeze_that_ends_after_its_time_is_thawed_again() {
    let (mut member, _) = Member::begin();
    let _ = member.done(at(0), Done::Thawed);
    let _ = member.order(at(1), ID, Order::Prepare);
    let _ = member.done(at(2), Done::Prepared(ID, true));
    let _ = member.order(at(3), ID, Order::Freeze { budget: Duration::from_millis(10) });
    assert_eq!(member.tick(at(13)), [Deed::Thaw]);
    assert_eq!(member.done(at(14), Done::Thawed), []);
    assert_eq!(member.done(at(15), Done::Frozen(ID, Some(Rest::Frozen))), [Deed::Thaw]);
}

#[test]
fn orders_of_a_replaced_coordinator_are_refused() {
    let (mut member, _) = Member::begin();
    let newer = BarrierId { epoch: 2, number: 1 };
    assert_eq!(member.order(at(1), newer, Order::Prepare), [Deed::PreCopy(newer)]);
    let stale = Deed::Say(ID, Answer::Refused(Refusal::Stale));
    assert_eq!(member.order(at(2), ID, Order::Freeze { budget: Duration::from_secs(9) }), [stale]);
}
