// SPDX-License-Identifier: Apache-2.0
//! Moments and intervals. Nothing here reads a clock.

use std::fmt;
use std::time::Duration;

mod text;
pub use text::{ParseTimeError, parse};

/// A moment by somebody's clock: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many nanoseconds after 1970.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Time from `earlier` to this moment; zero if this one is earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment `duration` later, at most the last one representable (in the year 2262).
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// This moment for jiff, which formats and computes with calendars.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        // i64 nanoseconds reach from 1677 to 2262, jiff from -9999 to 9999
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(moment: jiff::Timestamp) -> Self {
        let nanos = moment.as_nanosecond();
        Self(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with as many digits of the second as it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_jiff().fmt(f)
    }
}

/// A reading of a monotonic clock: time since some fixed moment of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// Time from `earlier` to this reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The reading `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The pause after a failure that has had `before` others before it: `first`, doubled each time, and no longer than `most`.
#[must_use]
pub fn doubled(first: Duration, before: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << before.min(16)).min(most)
}

/// When a capture happened: from before the first file was opened until after the last was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Before the first open.
    pub first_open: Timestamp,
    /// After the last close.
    pub last_close: Timestamp,
    /// How far the clock may have been from true time.
    pub clock_error: Duration,
}

impl Interval {
    /// This interval, moved so far that neither end lies before `previous`: a clock that stepped back
    /// must not make a later checkpoint look older than an earlier one.
    #[must_use]
    pub fn after(self, previous: Option<Self>) -> Self {
        let Some(previous) = previous else { return self };
        let first_open = self.first_open.max(previous.first_open);
        Self { first_open, last_close: self.last_close.max(previous.last_close).max(first_open), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(first: i64, last: i64) -> Interval {
        Interval { first_open: Timestamp(first), last_close: Timestamp(last), clock_error: Duration::ZERO }
    }

    #[test]
    fn a_clock_that_steps_back_does_not_reorder_checkpoints() {
        let before = interval(100, 200);
        let stepped = interval(50, 60).after(Some(before));
        assert_eq!(stepped, interval(100, 200));
        assert_eq!(interval(150, 260).after(Some(before)), interval(150, 260));
        assert_eq!(interval(250, 260).after(Some(before)), interval(250, 260));
    }
}
