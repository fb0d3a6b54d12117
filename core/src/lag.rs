// SPDX-License-Identifier: Apache-2.0
//! The greatest lag of a while: a lag comes and goes with each checkpoint, and whoever loses a machine then has lost what it was at its worst.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_of_the_last_seconds_counts() {
        let (mut peak, at) = (Peak::default(), |seconds| Monotonic(Duration::from_secs(seconds)));
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
}
