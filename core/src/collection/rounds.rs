// SPDX-License-Identifier: Apache-2.0
//! When to collect.

use crate::time::{Monotonic, doubled};
use std::time::Duration;

/// After a failure the next try waits at least this long, then twice as long, up to the usual pace.
const RETRY_MIN: Duration = Duration::from_mins(1);

/// The pace of a collector that runs for long: thinning often, since it is cheap; looking for packs seldom, since that reads trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounds {
    every: Duration,
    packs_every: Duration,
    next: Monotonic,
    packs_next: Monotonic,
    failures: u32,
}

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It did all there was.
    Done,
    /// There is more of the same.
    More,
    /// It failed, or another collector was faster.
    Failed,
}

impl Rounds {
    /// A collector that begins at `now`: the first round, packs included, comes after one pace, so that a process that starts again and again
    /// does not collect each time.
    #[must_use]
    pub fn new(now: Monotonic, every: Duration, packs_every: Duration) -> Self {
        let packs_every = packs_every.max(every);
        Self { every, packs_every, next: now.plus(every), packs_next: now.plus(every), failures: 0 }
    }

    /// How long until the next round.
    #[must_use]
    pub fn wait(&self, now: Monotonic) -> Duration {
        self.next.since(now)
    }

    /// When the next round is due.
    #[must_use]
    pub const fn due(&self) -> Monotonic {
        self.next
    }

    /// Whether a round that begins now looks for packs, too.
    #[must_use]
    pub fn with_packs(&self, now: Monotonic) -> bool {
        now >= self.packs_next
    }

    /// A round has ended.
    pub fn ended(&mut self, now: Monotonic, packs: bool, went: Went) {
        match went {
            Went::Done => {
                self.failures = 0;
                self.next = now.plus(self.every);
                if packs {
                    self.packs_next = now.plus(self.packs_every);
                }
            }
            Went::More => {
                self.failures = 0;
                self.next = now;
            }
            Went::Failed => {
                let pause = doubled(RETRY_MIN, self.failures.min(10), self.every);
                self.failures += 1;
                self.next = now.plus(pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Monotonic {
        Monotonic(Duration::from_mins(minutes))
    }

    #[test]
    fn thinning_often_and_packs_seldom() {
        let mut rounds = Rounds::new(at(0), Duration::from_mins(60), Duration::from_hours(24));
        assert_eq!(rounds.wait(at(10)), Duration::from_mins(50));
        assert!(rounds.with_packs(at(60)));
        rounds.ended(at(61), true, Went::Done);
        assert_eq!(rounds.wait(at(61)), Duration::from_mins(60));
        assert!(!rounds.with_packs(at(121)));
        rounds.ended(at(121), false, Went::More);
        assert_eq!(rounds.wait(at(121)), Duration::ZERO);
        assert!(rounds.with_packs(at(61 + 24 * 60)));
    }

    #[test]
    fn failures_are_tried_again_soon_and_then_later() {
        let mut rounds = Rounds::new(at(0), Duration::from_mins(5), Duration::from_mins(1));
        let mut pauses = Vec::new();
        for _ in 0..5 {
            rounds.ended(at(5), true, Went::Failed);
            pauses.push(rounds.wait(at(5)).as_secs() / 60);
        }
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        assert!(rounds.with_packs(at(5)), "what failed is still to be done");
    }
}
