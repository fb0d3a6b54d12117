// SPDX-License-Identifier: Apache-2.0
//! The agent's clocks: the one place where they are read.

use holdfast_core::time::{Monotonic, Timestamp};
use holdfast_store::capture::Clock;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// Time since the machine started, suspended or not: so that a machine that slept knows it.
    #[must_use]
    pub fn monotonic(self) -> Monotonic {
        let now = clock_gettime(ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Monotonic(Duration::new(seconds, nanos))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = clock_gettime(ClockId::Realtime);
        Timestamp::from_nanos(now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec))
    }

    /// Not known: zero says so.
    fn error(&self) -> Duration {
        Duration::ZERO
    }
}
