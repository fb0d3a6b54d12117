// SPDX-License-Identifier: Apache-2.0
//! Where a file is cut. None of it is part of the format: readers follow the extents.

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

/// Smallest chunk that content decides on, in bytes.
pub const CDC_MIN: usize = 16 << 10;
const CDC_AVERAGE: usize = 64 << 10;
/// Largest chunk that content decides on, in bytes.
pub const CDC_MAX: usize = 256 << 10;

/// Cuts by content: FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", 2020)
/// with the table keyed by the domain, and nothing remembered from chunk to chunk.
#[derive(Debug, Clone)]
pub struct Chunker {
    masks: (u64, u64),
    gear: Vec<u64>,
    gear_shifted: Vec<u64>,
}

impl Chunker {
    /// A chunker with the domain's seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        Self { masks: select_masks(CDC_AVERAGE, Normalization::Level1), gear: gear.into(), gear_shifted: gear_shifted.into() }
    }

    /// The length of the first chunk. `bytes` must be [`CDC_MAX`] long, or all there is.
    #[must_use]
    pub fn cut(&self, bytes: &[u8]) -> usize {
        let (strict, loose) = self.masks;
        let (min, average, max) = (CDC_MIN, CDC_AVERAGE, CDC_MAX);
        let (_, len) = cut_gear(bytes, min, average, max, strict, loose, strict << 1, loose << 1, &self.gear, &self.gear_shifted);
        len
    }
}

/// Files from this size on may be page-structured, in bytes.
const PAGES_MIN: u64 = 128 << 10;
const PAGE: u64 = 4096;

/// Whether a file is written in place, page by page: its length says so, or its first bytes do.
#[must_use]
pub fn is_page_structured(size: u64, beginning: &[u8]) -> bool {
    size >= PAGES_MIN && (size.is_multiple_of(PAGE) || beginning.starts_with(b"SQLite format 3\0"))
}

/// log2 of the block for a page-structured file of this size: smaller blocks upload less per page, larger ones keep the map of a large file small.
#[must_use]
pub const fn block_for(size: u64) -> u8 {
    match size {
        0..0x100_0000 => 12,
        0x100_0000..0x8_0000_0000 => 14,
        0x8_0000_0000..0x100_0000_0000 => 16,
        _ => 18,
    }
}

/// Whether a file has so outgrown its blocks that cutting it anew is worth storing it anew.
#[must_use]
pub const fn has_outgrown(block: u8, size: u64) -> bool {
    block_for(size / 4) > block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[2]
        };
        (0..len).map(next).collect()
    }

    fn cuts(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !bytes.is_empty() {
            let len = chunker.cut(&bytes[..bytes.len().min(CDC_MAX)]);
            lens.push(len);
            bytes = &bytes[len..];
        }
        lens
    }

    /// The library has moved its cuts before; a move would store every large file anew.
    #[test]
    fn cuts_are_where_they_always_were() {
        let chunker = Chunker::new(0xfeed);
        let found = cuts(&chunker, &bytes(1 << 20));
        assert_eq!(found[..4], [113_110, 42_724, 110_935, 70_946]);
        assert!(found[..found.len() - 1].iter().all(|len| (CDC_MIN..=CDC_MAX).contains(len)));
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let chunker = Chunker::new(1);
        let original = bytes(4 << 20);
        let mut changed = original.clone();
        changed.insert(2_000_000, 7);
        let ends = |lens: Vec<usize>, shift: usize| {
            lens.iter()
                .scan(0, |end, len| {
                    *end += len;
                    Some(*end)
                })
                .map(|end| end - shift)
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (before, after) = (ends(cuts(&chunker, &original), 0), ends(cuts(&chunker, &changed), 1));
        assert!(after.iter().filter(|end| **end > 2_100_000 && !before.contains(end)).count() <= 4);
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let data = bytes(1 << 20);
        assert_ne!(cuts(&Chunker::new(1), &data), cuts(&Chunker::new(2), &data));
    }

    #[test]
    fn blocks_grow_with_the_file() {
        assert_eq!([1 << 20, 16 << 20, 2 << 30, 100 << 30, 2 << 40].map(block_for), [12, 14, 14, 16, 18]);
        assert!(
            !has_outgrown(12, 17 << 20)
                && has_outgrown(12, 64 << 20)
                && !has_outgrown(14, 64 << 30)
                && has_outgrown(14, 128 << 30)
        );
        assert!(is_page_structured(1 << 20, b"") && !is_page_structured(4096, b"") && !is_page_structured((1 << 20) + 1, b"x"));
        assert!(is_page_structured((1 << 20) + 1024, b"SQLite format 3\0..."));
    }
}
