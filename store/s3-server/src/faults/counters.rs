// SPDX-License-Identifier: Apache-2.0
//! How often what was asked for: cost is a contract, and tests hold the client to it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;

/// Pairs of method and key that are counted one by one. A test has fewer; a demo may run for days.
const PAIRS: usize = 65_536;

#[derive(Debug, Default)]
struct Counts {
    objects: HashMap<(Method, String), u64>,
    lists: u64,
    total: u64,
    overflowed: bool,
}

/// Requests that arrived, by method and key, whether or not they were allowed or went wrong.
///
/// Buckets are not told apart. Holds 65 536 pairs of method and key; requests for further ones count in the
/// [`total`](Self::total) only, and [`overflowed`](Self::overflowed) says so.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<Counts>,
}

impl Counters {
    /// Requests with this method for this key.
    #[must_use]
    pub fn count(&self, method: &Method, key: &str) -> u64 {
        self.lock().objects.get(&(method.clone(), key.to_owned())).copied().unwrap_or(0)
    }

    /// Requests with this method for keys that start so.
    #[must_use]
    pub fn count_prefix(&self, method: &Method, prefix: &str) -> u64 {
        let counts = self.lock();
        let matching = counts.objects.iter().filter(|((m, key), _)| m == method && key.starts_with(prefix));
        matching.map(|(_, count)| count).sum()
    }

    /// Pages of listings asked for.
    #[must_use]
    pub fn lists(&self) -> u64 {
        self.lock().lists
    }

    /// All requests, those to buckets and to the service included.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// Whether there were more pairs of method and key than are counted one by one.
    #[must_use]
    pub fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    /// Starts again from nothing.
    pub fn reset(&self) {
        *self.lock() = Counts::default();
    }

    /// Counts a request for a key; how many there were so far, this one included, or 0 if no pair is left.
    pub(crate) fn object(&self, method: &Method, key: &str) -> u64 {
        let mut counts = self.lock();
        counts.total += 1;
        let full = counts.objects.len() >= PAIRS;
        let pair = (method.clone(), key.to_owned());
        if full && !counts.objects.contains_key(&pair) {
            counts.overflowed = true;
            return 0;
        }
        let count = counts.objects.entry(pair).or_default();
        *count += 1;
        *count
    }

    /// Counts a page of a listing; how many there were so far, this one included.
    pub(crate) fn list(&self) -> u64 {
        let mut counts = self.lock();
        counts.total += 1;
        counts.lists += 1;
        counts.lists
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_method_and_key() {
        let counters = Counters::default();
        assert_eq!(counters.object(&Method::PUT, "a/1"), 1);
        assert_eq!(counters.object(&Method::PUT, "a/1"), 2);
        assert_eq!(counters.object(&Method::PUT, "a/2"), 1);
        assert_eq!(counters.object(&Method::GET, "a/1"), 1);
        assert_eq!(counters.list(), 1);
        assert_eq!(counters.count(&Method::PUT, "a/1"), 2);
        assert_eq!(counters.count_prefix(&Method::PUT, "a/"), 3);
        assert_eq!((counters.lists(), counters.total()), (1, 5));
        counters.reset();
        assert_eq!((counters.count(&Method::PUT, "a/1"), counters.total()), (0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let counters = Counters::default();
        for n in 0..PAIRS {
            counters.object(&Method::PUT, &n.to_string());
        }
        assert!(!counters.overflowed());
        assert_eq!(counters.object(&Method::PUT, "one more"), 0);
        assert!(counters.overflowed());
        assert_eq!(counters.object(&Method::PUT, "0"), 2, "known keys are still counted");
        assert_eq!(counters.total(), PAIRS as u64 + 2);
    }
}
