// SPDX-License-Identifier: Apache-2.0
//! When certificates are made, and in which order: a new authority is trusted everywhere before it signs anything, and an old one is trusted for as
//! long as something that it signed may be shown. Plain functions of what there is and of the time.

use holdfast_core::time::{Monotonic, Timestamp};
use std::time::Duration;

/// How long things are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lives {
    /// An authority.
    pub(crate) authority: Duration,
    /// What it signs.
    pub(crate) leaf: Duration,
    /// From when a bundle was written until whoever reads it has it: a kubelet's period, with room.
    pub(crate) spread: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        let [authority, leaf, spread] = [365 * 24 * HOUR, 7 * 24 * HOUR, HOUR].map(Duration::from_secs);
        Self { authority, leaf, spread }
    }
}

/// Certificates count from before they were made: other machines' clocks may be behind.
pub(crate) const BACKDATED: Duration = Duration::from_secs(600);

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Life {
    /// One that is made now.
    pub(crate) fn of(now: Timestamp, life: Duration) -> Self {
        Self { from: now.minus(BACKDATED), until: now.plus(life) }
    }

    /// Whether it is valid.
    pub(crate) fn holds(self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    /// Whether two thirds of it are over. What is not valid yet is due, too: the clock was set back.
    fn is_due(self, now: Timestamp) -> bool {
        !self.holds(now) || now.since(self.from) >= self.until.since(self.from) * 2 / 3
    }
}

/// Both readings of the clock: the day, and time that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) day: Timestamp,
    pub(crate) steady: Monotonic,
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The authority that signs.
    pub(crate) current: Option<Life>,
    /// Since when it does.
    pub(crate) since: Option<Timestamp>,
    /// The authority that will sign next, trusted already.
    pub(crate) next: Option<Life>,
    /// Others that are trusted.
    pub(crate) old: Vec<Life>,
    /// Since when every place has been seen to have all of these, as this process has seen it.
    pub(crate) published: Option<Monotonic>,
    /// Of everything that is signed: until when it is valid, if it is there and signed by the current authority.
    pub(crate) leaves: Vec<Option<Life>>,
}

/// The next thing to do. After each, look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is no authority: make one.
    Begin,
    /// Make the next authority, and trust it.
    Stage,
    /// Let the next one sign from now on; go on trusting the one before.
    Promote,
    /// Trust the old one with this index no more.
    Forget(usize),
    /// Sign the leaf with this index anew.
    Sign(usize),
}

/// What is to be done first, if anything.
pub(crate) fn step(now: Now, lives: Lives, known: &Known) -> Option<Step> {
    let Some(current) = known.current else { return Some(Step::Begin) };
    let spread = known.published.is_some_and(|since| now.steady.since(since) >= lives.spread);
    match known.next {
        // one that can't be used any more is worth nothing, however few know the next
        Some(next) if next.holds(now.day) && (spread || !current.holds(now.day)) => return Some(Step::Promote),
        // one that ran out while it waited
        Some(next) if next.is_due(now.day) => return Some(Step::Stage),
        None if current.is_due(now.day) => return Some(Step::Stage),
        _ => {}
    }
    let unsigned = known.leaves.iter().position(|leaf| leaf.is_none_or(|life| life.is_due(now.day)));
    if let Some(unsigned) = unsigned.filter(|_| current.holds(now.day)) {
        return Some(Step::Sign(unsigned));
    }
    // what the old ones signed has run out, or was replaced where it was shown long ago
    let replaced = spread && known.since.is_some_and(|since| now.day >= since.plus(lives.leaf));
    known.old.iter().position(|old| replaced || now.day >= old.until).map(Step::Forget)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;

    fn day(days: u64) -> Timestamp {
        Timestamp::from_nanos(1_800_000_000_000_000_000).plus(Duration::from_secs(days * DAY))
    }

    fn now(days: u64, steady_hours: u64) -> Now {
        Now { day: day(days), steady: Monotonic(Duration::from_secs(steady_hours * 3600)) }
    }

    fn settled(since: u64) -> Known {
        let lives = Lives::default();
        Known {
            current: Some(Life::of(day(since), lives.authority)),
            since: Some(day(since)),
            published: Some(Monotonic(Duration::ZERO)),
            leaves: vec![Some(Life::of(day(since), lives.leaf)); 2],
            ..Known::default()
        }
    }

    fn first(now: Now, known: &Known) -> Option<Step> {
        step(now, Lives::default(), known)
    }

    #[test]
    fn what_is_settled_is_left_alone() {
        assert_eq!(first(now(0, 0), &Known::default()), Some(Step::Begin));
        assert_eq!(first(now(0, 0), &settled(0)), None);
        assert_eq!(first(now(4, 96), &settled(0)), None);
        assert_eq!(first(now(5, 120), &settled(0)), Some(Step::Sign(0)), "two thirds of seven days");
    }

    #[test]
    fn the_next_is_known_everywhere_before_it_signs() {
        let mut known = settled(0);
        known.leaves = vec![Some(Life::of(day(244), Lives::default().leaf)); 2];
        assert_eq!(first(now(244, 0), &known), Some(Step::Stage), "two thirds of a year");
        known.next = Some(Life::of(day(244), Lives::default().authority));
        known.published = None;
        assert_eq!(first(now(244, 9), &known), None, "not everywhere yet");
        known.published = Some(Monotonic(Duration::from_secs(9 * 3600)));
        assert_eq!(first(now(244, 9), &known), None, "written, and not read yet");
        assert_eq!(first(now(400, 9), &Known { leaves: vec![], ..known.clone() }), Some(Step::Promote), "too late for care");
        assert_eq!(first(now(244, 10), &known), Some(Step::Promote));
    }

    #[test]
    fn the_old_one_is_trusted_while_it_may_be_shown() {
        let mut known = settled(244);
        known.old = vec![Life::of(day(0), Lives::default().authority)];
        assert_eq!(first(now(248, 96), &known), None);
        known.leaves = vec![Some(Life::of(day(249), Lives::default().leaf)); 2];
        assert_eq!(first(now(251, 168), &known), Some(Step::Forget(0)));
        known.published = None;
        assert_eq!(first(now(251, 168), &known), None, "not before everybody knows the new one");
        assert_eq!(first(now(365, 168), &Known { leaves: vec![], ..known }), Some(Step::Forget(0)), "it has run out");
    }

    #[test]
    fn a_clock_that_jumps_costs_no_more_than_new_certificates() {
        let known = settled(0);
        assert_eq!(first(now(30, 0), &known), Some(Step::Sign(0)), "a month ahead");
        assert_eq!(first(now(250, 0), &known), Some(Step::Stage));
        assert_eq!(first(now(400, 0), &known), Some(Step::Stage), "nothing is valid any more");
        let known = settled(30);
        assert_eq!(first(now(0, 0), &known), Some(Step::Stage), "a month back: the authority is of the future");
        let known = Known { next: Some(Life::of(day(0), Lives::default().authority)), published: None, ..known };
        assert_eq!(first(now(0, 0), &known), Some(Step::Promote));
    }
}
