// SPDX-License-Identifier: Apache-2.0
//! The search space: its candidates, its blocks, and who searches which.
//!
//! The candidates of a number are all numbers from 2 to the number itself, each of which is tried: deliberately the plain
//! way, so that there is work. They are searched *downwards*. The largest proper divisor of a composite number is at most
//! its half, so whatever the number, no solution appears before half of the space has been searched. For the default,
//! 804556097 = 15581 · 51637, it is 51637 that turns up, after 99.99 % of the space: upwards, 15581 would be found within
//! a millisecond.
//!
//! The space is cut into blocks, numbered from the top. A block's size depends on the number alone, and its owner on the
//! block and the number of workers: block `b` belongs to worker `b mod workers`. So the workers move down side by side,
//! and any number of workers can take over from any other.

use std::ops::RangeInclusive;

use crate::blocks::{BlockSet, MAX_BLOCKS};
use crate::{Error, Solution};

/// The number that is factorised unless another one is asked for.
pub const DEFAULT_NUMBER: u64 = 804_556_097;

/// The largest number accepted: trying every candidate of a larger one would take hours for a machine.
pub const MAX_NUMBER: u64 = 1 << 40;

/// The most workers that can share the work.
pub const MAX_WORKERS: u32 = 1024;

/// The candidates of a number, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    number: u64,
    block_size: u64,
}

impl Space {
    /// The space of a number; an error unless it is from 2 to [`MAX_NUMBER`].
    pub const fn new(number: u64) -> Result<Self, Error> {
        if number < 2 || number > MAX_NUMBER {
            return Err(Error::Number(number));
        }
        Ok(Self { number, block_size: (number - 1).div_ceil(MAX_BLOCKS as u64).next_power_of_two() })
    }

    /// The number to be factorised.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Candidates in a block, except that the last block may have fewer.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Candidates in all.
    #[must_use]
    pub const fn candidates(&self) -> u64 {
        self.number - 1
    }

    /// Blocks in all, at most [`MAX_BLOCKS`].
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.candidates().div_ceil(self.block_size) as u32
    }

    /// The candidates of a block; empty for a block that doesn't exist.
    #[must_use]
    pub fn range(&self, block: u32) -> RangeInclusive<u64> {
        let high = self.number.saturating_sub(u64::from(block) * self.block_size);
        let low = (high + 1).saturating_sub(self.block_size).max(2);
        low..=high
    }

    /// How many candidates the blocks of a set have.
    #[must_use]
    pub fn size_of(&self, set: &BlockSet) -> u64 {
        let whole = u64::from(set.len()) * self.block_size;
        let missing = u64::from(self.blocks()) * self.block_size - self.candidates();
        if set.contains(self.blocks() - 1) { whole - missing } else { whole }
    }

    /// Whether every block of the set exists.
    #[must_use]
    pub fn admits(&self, set: &BlockSet) -> bool {
        set.last().is_none_or(|last| last < self.blocks())
    }

    /// All blocks.
    #[must_use]
    pub fn all(&self) -> BlockSet {
        (0..self.blocks()).collect()
    }

    /// The blocks that a worker owns while there are so many workers, in the order in which it searches them.
    pub fn share(&self, index: u32, workers: u32) -> impl Iterator<Item = u32> + use<> {
        (index..self.blocks()).step_by(workers.max(1) as usize)
    }

    /// The same as a set.
    #[must_use]
    pub fn share_set(&self, index: u32, workers: u32) -> BlockSet {
        self.share(index, workers).collect()
    }

    /// The largest of these candidates that properly divides the number.
    #[must_use]
    #[allow(clippy::manual_is_multiple_of, reason = "a call for each candidate, in a program that was not optimised")]
    pub fn search(&self, candidates: RangeInclusive<u64>) -> Option<Solution> {
        let (low, mut candidate) = ((*candidates.start()).max(2), (*candidates.end()).min(self.number - 1));
        // a loop and no iterator: it is as fast in a program that was not optimised, and so in the tests of those who run this one
        while candidate >= low {
            if self.number % candidate == 0 {
                return Solution::new(self.number, candidate);
            }
            candidate -= 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_without_a_search_are_refused() {
        for number in [0, 1, MAX_NUMBER + 1, u64::MAX] {
            assert!(matches!(Space::new(number), Err(Error::Number(n)) if n == number));
        }
        assert_eq!(Space::new(MAX_NUMBER).unwrap().block_size(), 1 << 26);
    }

    #[test]
    fn the_default_number_is_solved_late() {
        let space = Space::new(DEFAULT_NUMBER).unwrap();
        assert_eq!((space.candidates(), space.blocks(), space.block_size()), (804_556_096, 12_277, 65_536));
        let first = (0..space.blocks()).find(|block| space.range(*block).contains(&51_637)).unwrap();
        assert_eq!(first, 12_275);
        let solution = space.search(space.range(first)).unwrap();
        assert_eq!((solution.factor(), solution.cofactor()), (15_581, 51_637));
        // nothing above: 804556097 has no other proper divisors
        assert_eq!(space.search(DEFAULT_NUMBER / 2..=DEFAULT_NUMBER / 2 + 100_000), None);
        assert_eq!([15_581, 51_637].map(|p: u64| (2..p).any(|d| p.is_multiple_of(d))), [false, false]);
    }

    proptest! {
        #[test]
        fn blocks_cover_every_candidate_once(number in prop_oneof![2_u64..100, 2_u64..200_000, 2..=MAX_NUMBER]) {
            let space = Space::new(number).unwrap();
            prop_assert!(space.blocks() >= 1 && space.blocks() <= MAX_BLOCKS);
            let mut next = number;
            for block in 0..space.blocks() {
                let range = space.range(block);
                prop_assert_eq!(*range.end(), next);
                if block == 0 || block + 1 == space.blocks() {
                    prop_assert_eq!(space.size_of(&[block].into_iter().collect()), range.end() - range.start() + 1);
                }
                next = range.start() - 1;
            }
            prop_assert_eq!(next, 1);
            prop_assert!(space.range(space.blocks()).is_empty());
            prop_assert_eq!(space.size_of(&space.all()), space.candidates());
        }

        #[test]
        fn every_block_has_one_owner(number in 2_u64..50_000, workers in 1_u32..40) {
            let space = Space::new(number).unwrap();
            let mut owned: Vec<u32> = (0..workers).flat_map(|index| space.share(index, workers)).collect();
            owned.sort_unstable();
            prop_assert_eq!(owned, (0..space.blocks()).collect::<Vec<_>>());
        }

        #[test]
        fn a_search_finds_the_largest_proper_divisor(number in 2_u64..5_000) {
            let found = Space::new(number).unwrap().search(2..=number).map(Solution::cofactor);
            prop_assert_eq!(found, (2..number).rev().find(|d| number % d == 0));
        }
    }
}
