// SPDX-License-Identifier: Apache-2.0
//! Page-structured files: aligned blocks, cut at holes.

use super::super::op::{ChunkRef, Op};
use super::super::prints::{Entry, Print};
use super::super::walker::Walker;
use super::{Large, Reading, WINDOW};
use crate::tree::Extent;
use std::ops::Range;

/// Ranges that are announced before they are read: a distant disk brings them side by side.
const AHEAD: usize = 32;

impl Walker<'_> {
    pub(super) fn blocks(&mut self, large: &mut Large<'_>, block: u64) -> Result<(), Reading> {
        let mut announced = 0;
        let mut start = 0;
        while let Some(window) = large.window(start, block).filter(|_| large.ended.is_none()) {
            if large.changes.is_some() {
                announced = large.announce(announced.max(window.start), &window, block);
            }
            self.block_window(large, block, window.clone())?;
            self.maybe_barrier()?;
            start = window.end;
        }
        // what no window held is as it was
        large.done = large.source.size();
        Ok(())
    }

    fn block_window(&mut self, large: &mut Large<'_>, block: u64, window: Range<u64>) -> Result<(), Reading> {
        let data = large.source.data(window.clone()).map_err(Reading::Failed)?;
        let read = if data.is_empty() { 0 } else { self.fill(large, window.clone())? };
        let end = window.start + read as u64;
        let wanted: Vec<_> = data.iter().flat_map(|data| cut_at_blocks(data.start..data.end.min(end), block)).collect();
        let prints = self.prints(large, window.start, &wanted);
        let noted = large.noted(&window, &wanted, &prints);
        if noted.as_ref().is_some_and(|noted| noted.all) {
            large.done = window.end;
            return Ok(());
        }
        let mut old = Vec::new();
        large.old.pass(self.reader, window.start)?;
        while let Some(extent) = large.old.peek(self.reader)?.filter(|extent| extent.start < window.end) {
            old.push(extent);
            large.old.skip();
        }
        let same = self.compare(window.start, &wanted, &old, noted.as_ref());
        // what is equal at both ends of the window stays untouched
        let unmatched = |index: &usize| same[*index].is_none();
        let (first, last) = match ((0..wanted.len()).find(unmatched), (0..wanted.len()).rfind(unmatched)) {
            (Some(first), Some(last)) => (first, last + 1),
            _ => (wanted.len(), wanted.len()),
        };
        let matched = same.iter().flatten().count();
        if first == wanted.len() && matched == old.len() {
            large.done = window.end;
            return Ok(());
        }
        // an old extent without a counterpart may lie anywhere in the window
        let (first, last) = if matched == old.len() { (first, last) } else { (0, wanted.len()) };
        let after = if first == 0 { window.start } else { wanted[first - 1].end };
        let to = wanted.get(last).map_or(window.end, |next| next.start.max(after));
        self.ops.send(Op::Replace { after, to }).map_err(|ended| Reading::Stop(ended.into()))?;
        for (range, same) in wanted[first..last].iter().zip(&same[first..last]) {
            let chunk = match same {
                Some(extent) => ChunkRef::Known(extent.clone()),
                None => self.new_chunk(window.start, range, None),
            };
            self.ops.send(Op::Extent { start: range.start, chunk }).map_err(|ended| Reading::Stop(ended.into()))?;
        }
        large.done = window.end;
        Ok(())
    }

    /// The fingerprints of these ranges, which lie in the buffer; none if nobody wants them.
    fn prints(&self, large: &mut Large<'_>, base: u64, wanted: &[Range<u64>]) -> Vec<Option<Print>> {
        let (Some(prints), Some(fresh)) = (&self.prints, &mut large.fresh) else { return Vec::new() };
        let print = |range: &Range<u64>| {
            let text = self.slice(base, range);
            let print = prints.print(text);
            fresh.add(range.start, text.len(), print);
            print
        };
        wanted.iter().map(print).collect()
    }

    /// For each range, the old extent that has just its bytes.
    fn compare(&mut self, base: u64, wanted: &[Range<u64>], old: &[Extent], noted: Option<&Same>) -> Vec<Option<Extent>> {
        let counterpart = |range: &Range<u64>| {
            let index = old.binary_search_by_key(&range.start, |extent| extent.start).ok()?;
            (old[index].end() == range.end).then(|| &old[index])
        };
        let is_noted = |index: usize| noted.is_some_and(|noted| noted.each[index]);
        let candidates: Vec<_> = wanted.iter().map(counterpart).collect();
        let unsure = |index: &usize| candidates[*index].is_some() && !is_noted(*index);
        let unsure: Vec<_> = (0..wanted.len()).filter(unsure).map(|index| wanted[index].clone()).collect();
        let mut ids = self.ids(base, &unsure).into_iter();
        let same = |(index, old): (usize, Option<&Extent>)| {
            old.filter(|old| is_noted(index) || ids.next().is_some_and(|id| id == old.id)).cloned()
        };
        candidates.iter().copied().enumerate().map(same).collect()
    }
}

/// What fingerprints tell of the extents of a window.
struct Same {
    /// Which of them are as they were.
    each: Vec<bool>,
    /// All of them, and there were no others.
    all: bool,
}

impl Large<'_> {
    /// Compares fingerprints with those of the old extents, if there are any.
    fn noted(&mut self, window: &Range<u64>, wanted: &[Range<u64>], prints: &[Option<Print>]) -> Option<Same> {
        let noted = self.noted.as_mut().filter(|_| prints.len() == wanted.len())?;
        noted.pass(window.start);
        let old: Vec<Entry> = noted.ahead(window.end).copied().collect();
        let same = |(range, print): (&Range<u64>, &Option<Print>)| {
            let found = old.binary_search_by_key(&range.start, |entry| entry.start).ok().map(|index| old[index]);
            found.is_some_and(|entry| entry.end() == range.end && Some(entry.print) == *print)
        };
        let each: Vec<_> = wanted.iter().zip(prints).map(same).collect();
        let all = each.len() == old.len() && each.iter().all(|same| *same);
        Some(Same { each, all })
    }

    /// The next window at or after `start`, which lies between two blocks: of what may differ, if that is known.
    fn window(&self, start: u64, block: u64) -> Option<Range<u64>> {
        let size = self.source.size();
        let range = match &self.changes {
            None => start..size,
            Some(changes) => changes.next(start)?,
        };
        let start = start.max(range.start / block * block);
        let end = range.end.div_ceil(block).saturating_mul(block).min(start + WINDOW).min(size);
        (start < end).then_some(start..end)
    }

    /// Announces the windows after `from`, unless they were; returns up to where.
    fn announce(&self, from: u64, current: &Range<u64>, block: u64) -> u64 {
        if from > current.end {
            return from; // some that were announced are still to come
        }
        let mut upto = current.end;
        for _ in 0..AHEAD {
            let Some(window) = self.window(upto, block) else { break };
            self.source.announce(&window);
            upto = window.end;
            if window.end - window.start == WINDOW {
                break; // long ranges are read ahead by the system
            }
        }
        upto + 1
    }
}

/// A stretch of data in aligned blocks.
fn cut_at_blocks(data: Range<u64>, block: u64) -> impl Iterator<Item = Range<u64>> {
    let mut start = data.start;
    std::iter::from_fn(move || {
        let end = ((start / block + 1) * block).min(data.end);
        let range = start..end;
        start = end;
        (range.start < range.end).then_some(range)
    })
}
