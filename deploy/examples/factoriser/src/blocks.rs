// SPDX-License-Identifier: Apache-2.0
//! Sets of blocks, and their compact text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most blocks that a search space is cut into.
pub const MAX_BLOCKS: u32 = 16_384;

const WORDS: usize = MAX_BLOCKS as usize / 64;

/// A set of block numbers below [`MAX_BLOCKS`].
///
/// Its text, also in JSON, is a list of runs: `0-2997/3,3000,3005-3040/5`. A worker's own blocks lie as far apart as there
/// are workers, so a run has a step; the step 1 isn't written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlockSet(Vec<u64>);

/// A text isn't a set of blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a run of blocks below {MAX_BLOCKS}, such as 7, 0-9 or 0-9/3")]
pub struct ParseBlocksError(String);

impl BlockSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; WORDS])
    }

    /// Adds a block; whether it is a block and wasn't in the set.
    pub fn insert(&mut self, block: u32) -> bool {
        let Some(word) = self.0.get_mut(block as usize / 64) else { return false };
        let bit = 1 << (block % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Whether the block is in the set.
    #[must_use]
    pub fn contains(&self, block: u32) -> bool {
        self.0.get(block as usize / 64).is_some_and(|word| word & 1 << (block % 64) != 0)
    }

    /// Blocks in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The largest block in the set.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        let (word, bits) = self.0.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        Some(word as u32 * 64 + 63 - bits.leading_zeros())
    }

    /// The blocks in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..MAX_BLOCKS).filter(|block| self.contains(*block))
    }

    fn zip(&self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| with(*a, *b)).collect())
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in this one only.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }
}

impl Default for BlockSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<u32> for BlockSet {
    fn from_iter<I: IntoIterator<Item = u32>>(blocks: I) -> Self {
        let mut set = Self::new();
        for block in blocks {
            set.insert(block);
        }
        set
    }
}

impl fmt::Display for BlockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks: Vec<u32> = self.iter().collect();
        let mut rest = blocks.as_slice();
        while let [first, tail @ ..] = rest {
            if rest.len() < blocks.len() {
                f.write_str(",")?;
            }
            let step = tail.first().map_or(0, |next| next - first);
            let more = tail.iter().zip(rest).take_while(|(next, one)| *next - *one == step).count();
            // two blocks with a gap between them are no run yet: the second may begin one
            let more = if more == 1 && step > 1 { 0 } else { more };
            match (more, step) {
                (0, _) => write!(f, "{first}")?,
                (_, 1) => write!(f, "{first}-{}", rest[more])?,
                _ => write!(f, "{first}-{}/{step}", rest[more])?,
            }
            rest = &rest[more + 1..];
        }
        Ok(())
    }
}

impl fmt::Debug for BlockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSet({self})")
    }
}

fn parse_run(run: &str) -> Option<(u32, u32, u32)> {
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let (ends, step) = run.split_once('/').unwrap_or((run, "1"));
    let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    (first <= last && last < MAX_BLOCKS && step > 0 && (last - first).is_multiple_of(step)).then_some((first, last, step))
}

impl FromStr for BlockSet {
    type Err = ParseBlocksError;

    fn from_str(text: &str) -> Result<Self, ParseBlocksError> {
        let mut set = Self::new();
        for run in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last, step) = parse_run(run).ok_or_else(|| ParseBlocksError(run.to_owned()))?;
            (first..=last).step_by(step as usize).for_each(|block| {
                set.insert(block);
            });
        }
        Ok(set)
    }
}

impl TryFrom<String> for BlockSet {
    type Error = ParseBlocksError;

    fn try_from(text: String) -> Result<Self, ParseBlocksError> {
        text.parse()
    }
}

impl From<BlockSet> for String {
    fn from(set: BlockSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_compact() {
        let text = |blocks: Vec<u32>| blocks.into_iter().collect::<BlockSet>().to_string();
        assert_eq!(text(vec![]), "");
        assert_eq!(text(vec![7]), "7");
        assert_eq!(text(vec![7, 8]), "7-8");
        assert_eq!(text(vec![1, 5]), "1,5");
        assert_eq!(text((0..3000).step_by(3).chain([3000, 3001]).collect()), "0-3000/3,3001");
        assert_eq!(text((2..MAX_BLOCKS).step_by(5).collect()), "2-16382/5");
        assert_eq!(text((0..MAX_BLOCKS).collect()), "0-16383");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [",", "1,", "-1", "+1", "1-", "2-1", "1-3/0", "1-4/2", "16384", "0-16384", "1 2", "a", "1-2-3", "99999999999"]
        {
            assert!(text.parse::<BlockSet>().is_err(), "{text:?}");
        }
    }

    fn sets() -> impl Strategy<Value = BlockSet> {
        let runs = proptest::collection::vec((0..MAX_BLOCKS, 0_usize..200, 1_usize..9), 0..8);
        runs.prop_map(|runs| runs.into_iter().flat_map(|(first, n, step)| (first..MAX_BLOCKS).step_by(step).take(n)).collect())
    }

    proptest! {
        #[test]
        fn text_and_set_agree(set in sets()) {
            prop_assert_eq!(set.to_string().parse::<BlockSet>(), Ok(set.clone()));
            prop_assert_eq!(set.iter().count(), set.len() as usize);
            prop_assert_eq!(set.iter().last(), set.last());
        }

        #[test]
        fn set_operations_agree_with_membership(a in sets(), b in sets()) {
            let (union, intersection, without) = (a.union(&b), a.intersection(&b), a.without(&b));
            for block in 0..MAX_BLOCKS {
                let (in_a, in_b) = (a.contains(block), b.contains(block));
                prop_assert_eq!(union.contains(block), in_a || in_b);
                prop_assert_eq!(intersection.contains(block), in_a && in_b);
                prop_assert_eq!(without.contains(block), in_a && !in_b);
            }
        }
    }
}
