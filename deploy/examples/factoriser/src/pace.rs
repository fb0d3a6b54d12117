// SPDX-License-Identifier: Apache-2.0
//! Keeping to a rate.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// How late a search may be and still catch up: what one slow write costs. Longer pauses don't end in a sprint.
const SLACK: Duration = Duration::from_millis(100);

/// Candidates searched between two looks at the clock and at what was asked of the worker.
const SLICE: u64 = 1 << 16;

/// When the next candidates may be searched, so that there are no more than so many in a second.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<NonZeroU64>,
    next: Option<Instant>,
}

impl Pace {
    /// A pace of so many candidates per second; `None` is as fast as possible.
    pub(crate) const fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, next: None }
    }

    /// How many candidates to search at a time: 20 ms' worth at most.
    pub(crate) fn slice(&self) -> u64 {
        self.rate.map_or(SLICE, |rate| (rate.get() / 50).clamp(1, SLICE))
    }

    /// When the next so many candidates may be searched, which are then taken as searched; `None` is at once.
    pub(crate) fn spend(&mut self, now: Instant, candidates: u64) -> Option<Instant> {
        let rate = self.rate?.get();
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        let start = self.next.map_or(now, |next| next.max(earliest));
        let nanos = u128::from(candidates) * 1_000_000_000 / u128::from(rate);
        self.next = start.checked_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        (start > now).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_spread_over_time() {
        let start = Instant::now();
        let mut pace = Pace::new(NonZeroU64::new(1000));
        assert_eq!(pace.slice(), 20);
        assert_eq!(pace.spend(start, 20), None);
        assert_eq!(pace.spend(start, 20), Some(start + Duration::from_millis(20)));
        // 15 ms late: the next slice is due as if it hadn't been
        assert_eq!(pace.spend(start + Duration::from_millis(55), 20), None);
        assert_eq!(pace.spend(start + Duration::from_millis(55), 1), Some(start + Duration::from_millis(60)));
    }

    #[test]
    fn a_long_pause_isnt_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(NonZeroU64::new(1000));
        pace.spend(start, 20);
        let late = start + Duration::from_secs(10);
        assert_eq!(pace.spend(late, 120), None);
        assert_eq!(pace.spend(late, 1), Some(late + Duration::from_millis(20)));
    }

    #[test]
    fn no_rate_is_no_wait() {
        let mut pace = Pace::new(None);
        assert_eq!((pace.slice(), pace.spend(Instant::now(), u64::MAX)), (SLICE, None));
        let mut slow = Pace::new(NonZeroU64::new(1));
        assert_eq!((slow.slice(), slow.spend(Instant::now(), u64::MAX)), (1, None));
    }
}
