// SPDX-License-Identifier: Apache-2.0
//! Objects that are tried again: each a little later than the last time.

use super::lead::jittered;
use holdfast_core::time::Monotonic;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first pause. Each is twice as long as the one before.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
/// What is remembered of objects that went before they were settled.
const REMEMBERED_MAX: usize = 1024;

/// How often an object was tried, and not before when it is again.
#[derive(Debug, Clone, Copy)]
struct Pause {
    tries: u32,
    until: Monotonic,
}

/// The pauses of a kind's objects, by UID.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, Pause>>);

impl Pauses {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Pause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an object still waits: what it was told of itself must not make it be tried at once.
    pub(crate) fn left(&self, uid: &str, now: Monotonic) -> Option<Duration> {
        let left = self.all().get(uid)?.until.since(now);
        (!left.is_zero()).then_some(left)
    }

    /// After how long to look again: a little longer each time, but no longer than this.
    pub(crate) fn put_off(&self, uid: &str, now: Monotonic, at_most: Duration) -> Duration {
        let mut all = self.all();
        let tries = all.get(uid).map_or(0, |pause| pause.tries);
        let pause = jittered(FIRST.saturating_mul(1 << tries.min(10)).min(LONGEST)).min(at_most);
        if all.len() >= REMEMBERED_MAX {
            all.retain(|_, pause| pause.until > now);
        }
        all.insert(uid.to_owned(), Pause { tries: tries.saturating_add(1), until: now.plus(pause) });
        pause
    }

    /// Nothing is waited for any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.all().remove(uid);
    }
}
