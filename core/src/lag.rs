// SPDX-License-Identifier: Apache-2.0
//! What a machine that is lost costs: the age of the first change that a start elsewhere would not bring back. It comes and goes with each checkpoint, and
//! whoever loses the machine has lost what it was at its worst: so the greatest of a while is what is told.

use crate::time::Monotonic;
use std::time::Duration;

/// One window; what is told is the greatest of the last one to two of them.
pub const WINDOW: Duration = Duration::from_secs(5);

/// The greatest lag of the last 5 to 10 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peak {
    since: Monotonic,
    before: Duration,
    lately: Duration,
}

impl Peak {
    /// Notes what the lag is now, and gives the greatest.
    pub fn with(&mut self, now: Monotonic, lag: Duration) -> Duration {
        let past = now.since(self.since);
        if past >= WINDOW {
            // of what was noted before the last window nothing is left
            let before = if past >= WINDOW * 2 { Duration::ZERO } else { self.lately };
            *self = Self { since: now, before, lately: Duration::ZERO };
        }
        self.lately = self.lately.max(lag);
        self.lately.max(self.before)
    }
}

/// A capture that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// When it began.
    pub began: Monotonic,
    /// Whether it compared everything.
    pub scan: bool,
    /// Whether a start takes its checkpoint; `None`: nothing had changed, and there is none.
    pub taken: Option<bool>,
}

/// What a start would not bring back, beside what was heard of and is not captured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ledger {
    /// When the last capture that compared everything began.
    compared: Option<Monotonic>,
    /// The first change since the last checkpoint that a start takes, if later ones were made.
    passed_over: Option<Monotonic>,
}

impl Ledger {
    /// The first change that a start would not bring back, with the first that was heard of and is not captured.
    #[must_use]
    pub fn oldest(&self, heard: Option<Monotonic>) -> Option<Monotonic> {
        heard.into_iter().chain(self.passed_over).min()
    }

    /// Notes a capture, and gives the first change that waited for it. Of what nobody heard of, as of a write through a mapping, no more is known than that
    /// it came after the last comparison.
    pub fn ended(&mut self, heard: Option<Monotonic>, capture: Ended) -> Option<Monotonic> {
        let unheard = if capture.scan && capture.taken.is_some() { self.compared } else { None };
        let oldest = self.oldest(heard).or(unheard);
        if capture.scan {
            self.compared = Some(capture.began);
        }
        match capture.taken {
            Some(true) => self.passed_over = None,
            Some(false) => self.passed_over = oldest.or(Some(capture.began)),
            None => {}
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn what_a_start_passes_over_is_not_durable() {
        let mut ledger = Ledger::default();
        let capture = |began, taken| Ended { began: at(began), scan: false, taken };
        assert_eq!(ledger.ended(Some(at(10)), capture(11, Some(false))), Some(at(10)));
        assert_eq!(ledger.oldest(None), Some(at(10)), "its checkpoint is fuzzy");
        assert_eq!(ledger.ended(Some(at(12)), capture(13, Some(false))), Some(at(10)));
        assert_eq!(ledger.ended(None, capture(14, None)), Some(at(10)));
        assert_eq!(ledger.oldest(Some(at(15))), Some(at(10)));
        assert_eq!(ledger.ended(Some(at(15)), capture(16, Some(true))), Some(at(10)), "now all of it is");
        assert_eq!(ledger.oldest(None), None);
        // the first of all, of which nothing was heard
        assert_eq!(Ledger::default().ended(None, capture(20, Some(false))), None);
    }

    #[test]
    fn what_nobody_heard_of_is_as_old_as_the_last_comparison() {
        let mut ledger = Ledger::default();
        let scan = |began, taken| Ended { began: at(began), scan: true, taken };
        assert_eq!(ledger.ended(None, scan(1, Some(true))), None, "the first");
        assert_eq!(ledger.ended(None, scan(61, None)), None, "nothing had changed");
        assert_eq!(ledger.ended(None, scan(121, Some(true))), Some(at(61)));
        assert_eq!(ledger.ended(Some(at(180)), scan(181, Some(true))), Some(at(180)));
        assert_eq!(ledger.ended(None, Ended { scan: false, ..scan(190, Some(true)) }), None, "a flush compares nothing else");
    }

    #[test]
    fn the_greatest_of_the_last_seconds_counts() {
        let mut peak = Peak::default();
        let millis = Duration::from_millis;
        assert_eq!(peak.with(at(1), millis(800)), millis(800));
        assert_eq!(peak.with(at(3), Duration::ZERO), millis(800));
        assert_eq!(peak.with(at(6), millis(200)), millis(800));
        assert_eq!(peak.with(at(12), Duration::ZERO), millis(200));
        assert_eq!(peak.with(at(18), Duration::ZERO), Duration::ZERO);
        assert_eq!(peak.with(at(19), millis(300)), millis(300));
        // nobody has asked for a long time
        assert_eq!(peak.with(at(60), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn what_was_once_is_told_for_five_to_ten_seconds() {
        let lag = Duration::from_millis(800);
        for changed in 20..30 {
            let mut peak = Peak::default();
            let mut told = Vec::new();
            for now in 0..60 {
                let lag = if now == changed { lag } else { Duration::ZERO };
                if peak.with(at(now), lag) > Duration::ZERO {
                    told.push(now - changed);
                }
            }
            assert_eq!(told.first(), Some(&0), "at once");
            let last = told.last().copied().unwrap_or_default();
            assert!((4..10).contains(&last), "{told:?}");
            assert_eq!(told.len() as u64, last + 1, "without a gap: {told:?}");
        }
    }
}
