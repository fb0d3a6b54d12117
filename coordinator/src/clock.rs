// SPDX-License-Identifier: Apache-2.0
//! The coordinator's clocks: the one place where they are read.

use holdfast_core::time::{Monotonic, Timestamp};
use tokio::time::Instant;

/// The process's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since this clock was made: what silences and deadlines are measured with.
    pub(crate) fn monotonic(self) -> Monotonic {
        Monotonic(self.start.elapsed())
    }

    /// When that reading will be.
    pub(crate) fn instant(self, reading: Monotonic) -> Instant {
        self.start + reading.0
    }

    /// The time of day, for people and for what is recorded.
    #[allow(clippy::disallowed_methods, reason = "this is the process's one clock")]
    pub(crate) fn now(self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}
