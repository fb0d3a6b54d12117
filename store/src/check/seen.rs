// SPDX-License-Identifier: Apache-2.0
//! Nodes that were gone through already.
//!
//! Neighbouring checkpoints share nearly all of their trees, so that a hundred of them cost little more than one. What is remembered is bounded:
//! when it is full, the older half is forgotten, and what lies there is gone through again if it is met again.

use crate::tree::{FramePlace, Place};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Nodes remembered: 16 bytes each, and as many again for the tables.
const NODES: usize = 1 << 21;

#[derive(Debug)]
pub(crate) struct Seen {
    hasher: RandomState,
    young: HashSet<u128>,
    old: HashSet<u128>,
    limit: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self::new(NODES)
    }
}

impl Seen {
    fn new(limit: usize) -> Self {
        Self { hasher: RandomState::new(), young: HashSet::new(), old: HashSet::new(), limit }
    }

    /// What stands for a place: 128 bits under a random key, so that nobody who writes a repository can make two places look like one.
    pub(crate) fn key(&self, place: &FramePlace, inner: u32) -> u128 {
        let half = |salt: u8| u128::from(self.hasher.hash_one((salt, place, inner)));
        half(0) << 64 | half(1)
    }

    /// What stands for a place, if it is one.
    pub(crate) fn key_of(&self, place: &Place) -> Option<u128> {
        Some(self.key(place.frame.place()?, place.inner))
    }

    pub(crate) fn has(&self, key: u128) -> bool {
        self.young.contains(&key) || self.old.contains(&key)
    }

    pub(crate) fn add(&mut self, key: u128) {
        if self.young.len() >= self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_half_is_forgotten() {
        let mut seen = Seen::new(8);
        for key in 0..6 {
            seen.add(key);
        }
        assert!((0..6).all(|key| seen.has(key)));
        for key in 6..9 {
            seen.add(key);
        }
        assert!(!seen.has(0) && seen.has(4) && seen.has(8));
        assert!(seen.young.len() + seen.old.len() <= 8);
    }
}
