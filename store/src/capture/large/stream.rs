// SPDX-License-Identifier: Apache-2.0
//! Files that are cut by their content: anew from the first difference until a cut falls on an old one.

use super::super::op::Op;
use super::super::prints::Print;
use super::super::walker::Walker;
use super::{Large, Reading, WINDOW};
use crate::chunker::{CDC_MAX, CDC_MIN};
use crate::write::Known;
use holdfast_core::id::ChunkId;
use std::ops::Range;
use std::sync::Arc;

/// Old chunks looked at for bytes that moved.
const KNOWN_MAX: usize = 512;

/// An old extent.
struct Recorded {
    range: Range<u64>,
    is: Is,
}

/// What tells the bytes of an old extent.
#[derive(Clone, Copy)]
enum Is {
    Id(ChunkId),
    Print(Print),
}

impl Recorded {
    fn len(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(0)
    }
}

impl Walker<'_> {
    pub(super) fn stream(&mut self, large: &mut Large<'_>) -> Result<(), Reading> {
        let mut offset = 0;
        loop {
            offset = self.jump(large, offset)?;
            let Some(data) = large.source.next_data(offset).map_err(Reading::Failed)? else { return Ok(()) };
            // what was data and is a hole now
            self.replace(large, data.start)?;
            offset = self.stretch(large, data)?;
            if large.ended.is_some() {
                return Ok(());
            }
        }
    }

    /// Settles a stretch of data, to its end or to where nothing differs any more; returns how far.
    fn stretch(&mut self, large: &mut Large<'_>, data: Range<u64>) -> Result<u64, Reading> {
        let mut known = None;
        let mut position = data.start;
        while position < data.end && large.ended.is_none_or(|ended| position < ended) {
            let settled = match large.changes {
                Some(_) => self.jump(large, position)?,
                None => self.follow(large, position..data.end)?,
            };
            if settled > position {
                position = settled;
                large.done = position;
                known = None;
                if large.changes.is_some() {
                    return Ok(position); // there may be holes on the way
                }
                continue;
            }
            if large.old.cursor.is_some() && known.is_none() {
                large.old.pass(self.reader, position)?;
                known = Some(Arc::new(self.nearby(large)?));
            }
            position = self.cut(large, position..data.end, known.as_ref())?;
            self.maybe_barrier()?;
        }
        Ok(data.end)
    }

    /// From where old and new extents meet to where the next difference may be: what lies between stays as it was. Returns how far; from anywhere
    /// else, and if it isn't known what may differ, that is nowhere.
    fn jump(&mut self, large: &mut Large<'_>, position: u64) -> Result<u64, Reading> {
        let Some(changes) = &large.changes else { return Ok(position) };
        large.old.pass(self.reader, position)?;
        if large.old.peek(self.reader)?.is_some_and(|extent| extent.start < position) {
            return Ok(position); // amid an old extent
        }
        let Some(next) = changes.next(position) else {
            large.done = large.done.max(large.source.size());
            return Ok(large.source.size());
        };
        large.old.pass(self.reader, next.start)?;
        let extent = large.old.peek(self.reader)?.filter(|extent| extent.start < next.start);
        let target = extent.map_or(next.start, |extent| extent.start).max(position);
        large.done = large.done.max(target);
        Ok(target)
    }

    fn replace(&mut self, large: &mut Large<'_>, to: u64) -> Result<(), Reading> {
        if to > large.done && large.old.cursor.is_some() {
            self.ops.send(Op::Replace { after: large.done, to }).map_err(|ended| Reading::Stop(ended.into()))?;
        }
        large.done = large.done.max(to);
        Ok(())
    }

    /// Goes along old extents as long as they hold what is on disk; returns how far.
    fn follow(&mut self, large: &mut Large<'_>, range: Range<u64>) -> Result<u64, Reading> {
        if large.differs == Some(range.start) {
            return Ok(range.start); // that was found out a moment ago
        }
        let recorded = self.recorded(large, &range)?;
        let Some(end) = recorded.last().map(|last| last.range.end) else { return Ok(range.start) };
        let read = self.fill(large, range.start..end)? as u64;
        let whole: Vec<_> = recorded.iter().filter(|recorded| recorded.range.end - range.start <= read).collect();
        let ranges: Vec<_> =
            whole.iter().filter(|recorded| matches!(recorded.is, Is::Id(_))).map(|recorded| recorded.range.clone()).collect();
        let ids = self.ids(range.start, &ranges); // of all of them, or of none
        let print = |range_of| self.prints.as_ref().and_then(|prints| prints.print(self.slice(range.start, range_of)));
        let same = |index: &usize| match whole[*index].is {
            Is::Id(id) => ids.get(*index) == Some(&id),
            Is::Print(known) => print(&whole[*index].range) == Some(known),
        };
        let followed = (0..whole.len()).take_while(same).count();
        let position = if followed == 0 { range.start } else { whole[followed - 1].range.end };
        for recorded in &whole[..followed] {
            match (recorded.is, &mut large.fresh) {
                (Is::Print(print), Some(fresh)) => fresh.add(recorded.range.start, recorded.len(), Some(print)),
                _ => self.note(large, range.start, &recorded.range),
            }
        }
        if followed < recorded.len() {
            large.differs = Some(position);
        }
        Ok(position)
    }

    /// Old extents from here on that are worth comparing in one go. They are not passed.
    fn recorded(&self, large: &mut Large<'_>, range: &Range<u64>) -> Result<Vec<Recorded>, Reading> {
        let (old_size, grown) = (large.old.size, large.source.size() > large.old.size);
        let mut end = range.start;
        let mut fits = |start: u64, len: u32| {
            // the last one was cut by the end of the file: a growing file would collect tiny chunks
            let was_cut_short = start + u64::from(len) == old_size && grown && (len as usize) < CDC_MIN;
            let fits = start == end && start + u64::from(len) <= range.end && start + u64::from(len) - range.start <= WINDOW;
            end = start + u64::from(len);
            fits && !was_cut_short
        };
        if let Some(noted) = &mut large.noted {
            noted.pass(range.start);
            let entries = noted.ahead(range.start + WINDOW).take_while(|entry| fits(entry.start, entry.len));
            return Ok(entries.map(|entry| Recorded { range: entry.start..entry.end(), is: Is::Print(entry.print) }).collect());
        }
        large.old.pass(self.reader, range.start)?;
        let Some(mut cursor) = large.old.cursor.clone() else { return Ok(Vec::new()) };
        let mut recorded = Vec::new();
        while let Some(extent) = cursor.next(self.reader).map_err(|error| Reading::Stop(error.into()))? {
            if !fits(extent.start, extent.len) {
                break;
            }
            recorded.push(Recorded { range: extent.start..extent.end(), is: Is::Id(extent.id) });
        }
        Ok(recorded)
    }

    /// Old chunks from here on, by id: bytes that moved within the file are not stored again.
    fn nearby(&self, large: &Large<'_>) -> Result<Known, Reading> {
        let mut known = Known::new();
        let Some(mut cursor) = large.old.cursor.clone() else { return Ok(known) };
        while known.len() < KNOWN_MAX {
            let Some(extent) = cursor.next(self.reader).map_err(|error| Reading::Stop(error.into()))? else { break };
            known.insert(extent.id, extent.place);
        }
        Ok(known)
    }

    /// Cuts one chunk; returns where it ends.
    fn cut(&mut self, large: &mut Large<'_>, range: Range<u64>, known: Option<&Arc<Known>>) -> Result<u64, Reading> {
        let available = large.held.end.saturating_sub(range.start);
        if available < (CDC_MAX as u64).min(range.end - range.start) {
            let read = self.fill(large, range.start..(range.start + large.ahead(range.start)).min(range.end))?;
            if read == 0 {
                return Ok(range.end);
            }
        }
        let (base, stop) = (large.held.start, large.held.end.min(range.end));
        let bytes = self.slice(base, &(range.start..stop.min(range.start + CDC_MAX as u64)));
        let end = range.start + self.ops.batcher.chunker().cut(bytes) as u64;
        self.replace(large, end)?;
        self.note(large, base, &(range.start..end));
        let chunk = self.new_chunk(base, &(range.start..end), known);
        self.ops.send(Op::Extent { start: range.start, chunk }).map_err(|ended| Reading::Stop(ended.into()))?;
        Ok(end)
    }
}

impl Large<'_> {
    /// How much to read from here on for cutting: no more than what is likely to be cut anew.
    fn ahead(&self, position: u64) -> u64 {
        let changed = self.changes.as_ref().map(|changes| changes.next(position).map_or(position, |next| next.end));
        let likely = changed.map_or(WINDOW, |end| end - position + CDC_MAX as u64);
        likely.clamp(CDC_MAX as u64, WINDOW)
    }
}
