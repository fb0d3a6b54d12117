// SPDX-License-Identifier: Apache-2.0
use super::*;
use holdfast_core::id::{DomainId, LineageId};

const KEY: Key = (DomainId::new([1; 16]), LineageId::new([2; 16]));

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn guest(instance: u8) -> Event {
    let names = v1::LineageRef { domain: "default".to_owned(), lineage: "web-0".to_owned() };
    let holder = format!("holder {instance}");
    Event::Open(Guest { key: KEY, names, instance: [instance; 16], holder, version: "1".to_owned(), barriers: false })
}

fn report(session: u64, lag_ms: u64) -> Event {
    Event::Heard { key: KEY, session, live: Box::new(v1::Live { lag_ms, ..v1::Live::default() }) }
}

fn lag(table: &Table, now: u64) -> u64 {
    table.live(at(now), KEY).expect("a session").0.lag_ms
}

#[test]
fn a_newer_instance_replaces_an_older_one_for_as_long_as_it_is_there() {
    let mut table = Table::default();
    assert_eq!(table.step(at(0), guest(1)), [Action::Admit(1)]);
    let replace = |session, holder: &str| Action::Replace { session, holder: holder.to_owned() };
    assert_eq!(table.step(at(1), guest(2)), [Action::Admit(2), replace(1, "holder 2")]);
    assert_eq!(table.step(at(2), guest(1)), [Action::Refuse("holder 2".to_owned())]);
    // what the older one still says and does counts for nothing
    table.step(at(2), report(1, 5000));
    assert_eq!(lag(&table, 2), 0);
    assert_eq!(table.step(at(3), Event::Close { key: KEY, session: 1 }), []);
    assert!(table.live(at(3), KEY).is_some());
    // the same instance on a new connection
    assert_eq!(table.step(at(4), guest(2)), [Action::Admit(3), replace(2, "holder 2")]);
    assert_eq!(table.step(at(5), guest(1)), [Action::Refuse("holder 2".to_owned())]);
    assert_eq!(table.step(at(6), Event::Close { key: KEY, session: 3 }), []);
    assert_eq!(table.step(at(7), guest(1)), [Action::Admit(4)]);
}

#[test]
fn lag_grows_with_silence() {
    let mut table = Table::default();
    table.step(at(0), guest(1));
    table.step(at(10), report(1, 300));
    assert_eq!(lag(&table, 10), 300);
    assert_eq!(lag(&table, 11), 1300);
    table.step(at(12), report(1, 0));
    assert_eq!((lag(&table, 13), lag(&table, 14)), (0, 0), "within a reporting interval nothing is missing");
    assert_eq!((lag(&table, 15), lag(&table, 40)), (3000, 28_000));
    assert_eq!(table.live(at(40), KEY).expect("a session").1, Duration::from_secs(28));
    // a new connection is no report: the silence goes on
    table.step(at(41), guest(1));
    assert_eq!(lag(&table, 42), 30_000);
}

#[test]
fn flushes_are_asked_answered_and_given_up() {
    let mut table = Table::default();
    let flush = |waiter| Event::Flush { key: KEY, waiter, deadline: at(30) };
    let answer = |waiter, outcome| Action::Answer { waiter, outcome };
    assert_eq!(table.step(at(0), flush(1)), [answer(1, Outcome::Gone)]);
    table.step(at(0), guest(1));
    let ask = |session, flush, within| Action::Ask { session, flush, within: Duration::from_secs(within) };
    assert_eq!(table.step(at(1), flush(2)), [ask(1, 1, 29)]);
    assert_eq!(table.step(at(1), flush(3)), [ask(1, 2, 29)]);
    let flushed = |flush, outcome| Event::Flushed { key: KEY, session: 1, flush, outcome };
    assert_eq!(table.step(at(2), flushed(1, Outcome::Done(7))), [answer(2, Outcome::Done(7))]);
    assert_eq!(table.step(at(2), flushed(1, Outcome::Done(7))), [], "once");
    table.step(at(3), Event::GiveUp { key: KEY, waiter: 3 });
    assert_eq!(table.step(at(4), flushed(2, Outcome::Done(8))), [], "nobody waits");
    // a new connection of the same instance is asked again, another instance is not
    assert_eq!(table.step(at(5), flush(4)), [ask(1, 3, 25)]);
    let again = table.step(at(6), guest(1));
    assert!(again.contains(&ask(2, 3, 24)), "{again:?}");
    let other = table.step(at(7), guest(2));
    assert!(other.contains(&answer(4, Outcome::Gone)), "{other:?}");
    assert_eq!(table.step(at(8), flush(5)), [ask(3, 4, 22)]);
    assert_eq!(table.step(at(9), Event::Close { key: KEY, session: 3 }), [answer(5, Outcome::Gone)]);
}

#[test]
fn an_agent_is_not_asked_for_too_much() {
    let mut table = Table::default();
    table.step(at(0), guest(1));
    let flush = |waiter, deadline| Event::Flush { key: KEY, waiter, deadline: at(deadline) };
    for waiter in 0..FLUSHES_MAX as u64 {
        assert!(matches!(table.step(at(1), flush(waiter, 5))[..], [Action::Ask { .. }]));
    }
    assert_eq!(table.step(at(1), flush(99, 5)), [Action::Answer { waiter: 99, outcome: Outcome::Busy }]);
    // those whose time is up make room
    assert!(matches!(table.step(at(6), flush(99, 9))[..], [Action::Ask { .. }]));
}
