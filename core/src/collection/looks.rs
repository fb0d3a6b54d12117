// SPDX-License-Identifier: Apache-2.0
//! When was that? A collector believes no single clock, its own included.

use crate::time::Timestamp;
use std::time::Duration;

/// A head that a collector saw, and when, by the collector's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The newest record then.
    pub head: u64,
    /// When.
    pub at: Timestamp,
}

/// Looks that are remembered.
const LOOKS_MAX: usize = 512;
/// A writer's clock that is so far ahead of the collector's says nothing against the collector's.
const DISAGREEMENT: Duration = Duration::from_hours(1);

/// The heads that a lineage's collectors saw, oldest first.
///
/// A record was made after the last look that did not see it and before the first that did. So a writer's clock counts only as far as it
/// fits between two readings of the collector's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks(Vec<Look>);

impl Looks {
    /// Looks as they were recorded.
    #[must_use]
    pub fn new(mut looks: Vec<Look>) -> Self {
        looks.sort_by_key(|look| look.head);
        Self(looks)
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> &[Look] {
        &self.0
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<Look> {
        self.0.last().copied()
    }

    /// Adds a look. `newest` is what the lineage's writer said of its newest checkpoint's time. `false`: this clock has gone back,
    /// and the writer's does not take its side: nothing may be decided by it.
    #[must_use]
    pub fn add(&mut self, head: u64, now: Timestamp, newest: Timestamp) -> bool {
        if self.0.iter().any(|look| look.at > now) {
            if newest > now.plus(DISAGREEMENT) {
                return false;
            }
            // two of three say that the earlier readings were wrong
            self.0.retain(|look| look.at <= now);
        }
        match self.0.last_mut() {
            Some(last) if last.head >= head => {}
            _ => self.0.push(Look { head, at: now }),
        }
        if self.0.len() > LOOKS_MAX {
            // fewer looks are wider intervals, not wrong ones
            let mut index = 0;
            self.0.retain(|_| {
                index += 1;
                index % 2 == 0 || index + 64 > LOOKS_MAX
            });
        }
        true
    }

    /// Forgets what says nothing about records from `sequence` on.
    pub fn forget_before(&mut self, sequence: u64) {
        let before = self.0.iter().rposition(|look| look.head < sequence).unwrap_or(0);
        self.0.drain(..before);
    }

    /// When a record was made: the middle one of what its writer said, of the look before it and of the look after it; never after `now`.
    #[must_use]
    pub fn time_of(&self, sequence: u64, said: Timestamp, now: Timestamp) -> Timestamp {
        let seen = self.0.partition_point(|look| look.head < sequence);
        let after = self.0.get(seen).map_or(now, |look| look.at);
        let before = seen.checked_sub(1).and_then(|last| self.0.get(last)).map_or(said.min(after), |look| look.at);
        let mut three = [before, said, after];
        three.sort_unstable();
        three[1].min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn looks() -> Looks {
        Looks::new(vec![Look { head: 10, at: at(1000) }, Look { head: 20, at: at(2000) }])
    }

    #[test]
    fn a_writers_clock_counts_between_two_looks() {
        let (looks, now) = (looks(), at(3000));
        assert_eq!(looks.time_of(15, at(1500), now), at(1500));
        assert_eq!(looks.time_of(15, at(10), now), at(1000), "it was not there at the first look");
        assert_eq!(looks.time_of(15, at(99_999), now), at(2000), "it was there at the second");
        assert_eq!(looks.time_of(5, at(10), now), at(10), "before the first look only the writer knows");
        assert_eq!(looks.time_of(5, at(1700), now), at(1000));
        assert_eq!(looks.time_of(25, at(99_999), now), now, "nothing is from the future");
    }

    #[test]
    fn of_three_clocks_one_may_be_wrong() {
        let mut ahead = looks();
        assert!(ahead.add(30, at(900_000), at(2900)), "a clock that leaps ahead is not noticed yet");
        assert!(ahead.add(40, at(4000), at(3900)), "the writer takes the side of the later, lower reading");
        assert_eq!(ahead.all().iter().map(|look| look.head).collect::<Vec<_>>(), [10, 20, 40]);
        assert_eq!(ahead.time_of(25, at(2500), at(4000)), at(2500));
        let mut back = looks();
        assert!(!back.add(30, at(5), at(7200)), "the writer takes the side of the earlier readings");
        assert_eq!(back, looks());
    }

    #[test]
    fn memory_is_bounded_and_the_newest_looks_stay() {
        let mut looks = Looks::default();
        for look in 1..5000_i64 {
            assert!(looks.add(look.unsigned_abs(), at(look), at(look)));
        }
        assert!(looks.all().len() <= LOOKS_MAX);
        assert!(looks.all().is_sorted_by_key(|look| look.head));
        assert_eq!(looks.last().map(|look| look.head), Some(4999));
        looks.forget_before(4990);
        assert_eq!(looks.all().first().map(|look| look.head), Some(4989));
    }
}
