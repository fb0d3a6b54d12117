// SPDX-License-Identifier: Apache-2.0
//! A clock that goes a second further whenever it is read: so what a test writes doesn't depend on when it ran.

use holdfast_core::time::Timestamp;
use holdfast_store::capture::Clock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock that nobody has to wait for.
#[derive(Debug)]
pub struct Steps(AtomicI64);

impl Steps {
    /// A clock whose first reading is `seconds` after 1970.
    #[must_use]
    pub const fn from(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds))
    }
}

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.fetch_add(1, Ordering::Relaxed).saturating_mul(1_000_000_000))
    }

    fn error(&self) -> Duration {
        Duration::from_millis(3)
    }
}
