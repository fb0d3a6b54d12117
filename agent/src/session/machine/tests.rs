// SPDX-License-Identifier: Apache-2.0

use super::*;

fn at(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

const TERMS: Terms = Terms { report_every: Duration::from_secs(5), granted_for: Some(Duration::from_secs(900)) };

/// A session that was welcomed at time 0.
fn open() -> Machine {
    let mut machine = Machine::new(at(0), 7);
    assert_eq!(machine.step(at(0), Event::Tick), [Action::Connect]);
    assert_eq!(machine.deadline(), None, "the attempt ends by itself");
    assert_eq!(machine.step(at(0), Event::Welcomed(TERMS)), [Action::Report]);
    machine
}

#[test]
fn reports_are_regular_and_changes_are_told_together() {
    let mut machine = open();
    assert_eq!(machine.deadline(), Some(at(5000)));
    assert_eq!(machine.step(at(4999), Event::Tick), []);
    assert_eq!(machine.step(at(5000), Event::Tick), [Action::Report]);
    assert_eq!(machine.step(at(5050), Event::Changed), [], "too soon after the last");
    assert_eq!(machine.step(at(5060), Event::Changed), []);
    assert_eq!(machine.deadline(), Some(at(5200)));
    assert_eq!(machine.step(at(5200), Event::Tick), [Action::Report]);
    assert_eq!(machine.step(at(6000), Event::Changed), [Action::Report], "at once, after a rest");
    assert_eq!(machine.deadline(), Some(at(11_000)));
}

#[test]
fn a_coordinator_that_is_gone_is_looked_for_ever_more_seldom_and_for_ever() {
    let mut machine = Machine::new(at(0), 7);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..40 {
        assert_eq!(machine.step(at(now), Event::Tick), [Action::Connect]);
        assert_eq!(machine.step(at(now), Event::Lost), []);
        let until = machine.deadline().expect("another try");
        pauses.push(until.since(at(now)));
        now = u64::try_from(until.0.as_millis()).expect("soon") + 1;
    }
    assert!(pauses[0] >= PAUSE_MIN / 2 && pauses[0] <= PAUSE_MIN);
    assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX) && pauses[39] >= PAUSE_MAX / 2);
    let mut distinct = pauses[20..].to_vec();
    distinct.dedup();
    assert!(distinct.len() > 15, "they are spread: {distinct:?}");
}

#[test]
fn only_a_session_that_lasted_makes_failures_forgotten() {
    let longest = |lasts: u64| {
        let mut machine = Machine::new(at(0), 7);
        let mut now = 0;
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            let _ = machine.step(at(now), Event::Tick);
            let _ = machine.step(at(now), Event::Welcomed(TERMS));
            now += lasts;
            let _ = machine.step(at(now), Event::Lost);
            let until = machine.deadline().expect("another try");
            longest = longest.max(until.since(at(now)));
            now = u64::try_from(until.0.as_millis()).expect("soon") + 1;
        }
        longest
    };
    assert!(longest(0) > Duration::from_secs(4), "welcomed and dropped, again and again");
    assert!(longest(10_000) <= PAUSE_MIN);
}

#[test]
fn a_flush_is_done_once_answered_once_and_given_up_in_time() {
    let mut machine = open();
    let within = Duration::from_secs(2);
    assert_eq!(machine.step(at(10), Event::Flush { id: 1, within }), [Action::Flush { id: 1, within }]);
    assert_eq!(machine.step(at(20), Event::Flush { id: 1, within }), [], "asked twice");
    let done = Event::Flushed { id: 1, result: Ok(41) };
    assert_eq!(machine.step(at(30), done.clone()), [Action::Answer { id: 1, result: Ok(41) }]);
    assert_eq!(machine.step(at(40), done), []);
    let _ = machine.step(at(50), Event::Flush { id: 2, within });
    assert_eq!(machine.deadline(), Some(at(2050)));
    let given_up = machine.step(at(2050), Event::Tick);
    assert!(matches!(&given_up[..], [Action::Answer { id: 2, result: Err(_) }]), "{given_up:?}");
    assert_eq!(machine.step(at(2060), Event::Flushed { id: 2, result: Ok(42) }), [], "too late");
}

#[test]
fn flushes_are_bounded_and_die_with_their_session() {
    let mut machine = open();
    let within = Duration::from_secs(60);
    for id in 0..FLUSHES_MAX as u64 {
        let _ = machine.step(at(10), Event::Flush { id, within });
    }
    let more = machine.step(at(10), Event::Flush { id: 99, within });
    assert!(matches!(&more[..], [Action::Answer { id: 99, result: Err(_) }]), "{more:?}");
    let _ = machine.step(at(20), Event::Lost);
    let _ = machine.step(machine.deadline().expect("a try"), Event::Tick);
    let _ = machine.step(at(1000), Event::Welcomed(TERMS));
    assert_eq!(machine.step(at(1010), Event::Flushed { id: 0, result: Ok(7) }), [], "nobody waits for it any more");
}

#[test]
fn the_grant_is_renewed_in_time_and_not_in_the_middle_of_a_flush() {
    let mut machine = open();
    let mut seen = Vec::new();
    let mut run = |machine: &mut Machine, until: u64| {
        while let Some(deadline) = machine.deadline().filter(|deadline| *deadline <= at(until)) {
            seen.extend(machine.step(deadline, Event::Tick).into_iter().map(|action| (deadline, action)));
        }
        std::mem::take(&mut seen)
    };
    let actions = run(&mut machine, 599_999);
    assert!(actions.iter().all(|(_, action)| *action == Action::Report));
    let within = Duration::from_secs(3600);
    let _ = machine.step(at(599_999), Event::Flush { id: 5, within });
    let actions = run(&mut machine, 740_000);
    assert!(actions.iter().all(|(_, action)| *action == Action::Report), "it waits for the flush");
    let answered = machine.step(at(740_000), Event::Flushed { id: 5, result: Ok(1) });
    assert_eq!(answered, [Action::Answer { id: 5, result: Ok(1) }, Action::Connect]);
    // a flush that never ends must not cost the grant
    let mut machine = open();
    let _ = machine.step(at(10), Event::Flush { id: 5, within });
    let actions = run(&mut machine, 751_000);
    assert_eq!(actions.last(), Some(&(at(750_000), Action::Connect)));
}

#[test]
fn a_late_welcome_is_not_one() {
    let mut machine = open();
    assert_eq!(machine.step(at(10), Event::Welcomed(TERMS)), []);
    let _ = machine.step(at(20), Event::Lost);
    assert_eq!(machine.step(at(21), Event::Welcomed(TERMS)), []);
}
