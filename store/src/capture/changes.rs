// SPDX-License-Identifier: Apache-2.0
//! Which ranges of a file may differ from what was captured of it.

use std::ops::Range;

/// Ranges kept; when there are more, those that are closest to each other become one.
const RANGES_MAX: usize = 32_768;

/// Ranges that may differ, ascending and apart. Everything else, holes included, is as it was.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    ranges: Vec<Range<u64>>,
    /// Ranges closer than this are one.
    gap: u64,
}

impl Changes {
    /// Adds a range. It must not begin before one that was added earlier.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(self.gap) => last.end = last.end.max(range.end),
            _ => self.ranges.push(range),
        }
        if self.ranges.len() > RANGES_MAX {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        while self.ranges.len() > RANGES_MAX / 2 {
            self.gap = (self.gap * 2).max(4096);
            for range in std::mem::take(&mut self.ranges) {
                self.add(range);
            }
        }
    }

    /// What either of two says.
    pub(super) fn or(self, other: &Self) -> Self {
        if other.ranges.is_empty() {
            return self;
        }
        let mut both = Self { ranges: Vec::new(), gap: self.gap.max(other.gap) };
        let (mut one, mut two) = (self.ranges.into_iter().peekable(), other.ranges.iter().cloned().peekable());
        loop {
            let first = match (one.peek(), two.peek()) {
                (Some(a), Some(b)) if a.start <= b.start => one.next(),
                (_, Some(_)) => two.next(),
                (_, None) => one.next(),
            };
            let Some(range) = first else { return both };
            both.add(range);
        }
    }

    /// Adds everything from `start` to `end`, whatever was added before; nothing may lie beyond `end`.
    pub(super) fn add_tail(&mut self, mut start: u64, end: u64) {
        while let Some(last) = self.ranges.pop_if(|last| last.end >= start) {
            start = start.min(last.start);
        }
        self.add(start..end);
    }

    /// The first range that ends after `offset`, from there on.
    pub(super) fn next(&self, offset: u64) -> Option<Range<u64>> {
        let range = self.ranges.get(self.ranges.partition_point(|range| range.end <= offset))?;
        Some(range.start.max(offset)..range.end)
    }

    /// How many bytes they cover.
    pub(super) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[Range<u64>]) -> Changes {
        let mut changes = Changes::default();
        ranges.iter().for_each(|range| changes.add(range.clone()));
        changes
    }

    #[test]
    fn neighbours_become_one_and_the_next_is_found() {
        let changes = of(&[0..4, 4..8, 20..24, 22..30, 40..40]);
        assert_eq!(changes.ranges, [0..8, 20..30]);
        assert_eq!((changes.next(0), changes.next(7), changes.next(8)), (Some(0..8), Some(7..8), Some(20..30)));
        assert_eq!((changes.next(25), changes.next(30), changes.bytes()), (Some(25..30), None, 18));
    }

    #[test]
    fn a_tail_swallows_what_it_meets() {
        let mut changes = of(&[0..4, 20..30, 40..50]);
        changes.add_tail(25, 60);
        assert_eq!(changes.ranges, [0..4, 20..60]);
        let mut changes = of(&[Range { start: 0, end: 4 }]);
        changes.add_tail(10, 12);
        assert_eq!(changes.ranges, [0..4, 10..12]);
    }

    #[test]
    fn either_of_two_is_enough() {
        let both = of(&[0..4, 10..12, 40..50]).or(&of(&[2..6, 20..24, 45..46]));
        assert_eq!(both.ranges, [0..6, 10..12, 20..24, 40..50]);
        assert_eq!(of(&[]).or(&both).ranges, both.ranges);
        assert_eq!(both.clone().or(&of(&[])), both);
    }

    #[test]
    fn too_many_ranges_become_fewer_and_none_is_lost() {
        let mut changes = Changes::default();
        let place = |index: u64| index * 12_288 + index / 100 * 1_000_000;
        for index in 0..200_000 {
            changes.add(place(index)..place(index) + 4096);
            assert!(changes.ranges.len() <= RANGES_MAX);
        }
        for index in 0..200_000 {
            assert_eq!(changes.next(place(index)).map(|range| range.start), Some(place(index)));
            assert!(changes.next(place(index)).is_some_and(|range| range.end >= place(index) + 4096));
        }
        assert!(changes.ranges.is_sorted_by(|one, two| one.end < two.start));
    }
}
