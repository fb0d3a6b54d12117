// SPDX-License-Identifier: Apache-2.0
//! Large files: only what differs from the recorded extents becomes new ones.
//!
//! A file that was captured before is read *along its extents*: each range is hashed and compared. Page-structured files keep their blocks;
//! others are cut anew from the first difference until a cut falls on an old one. What is equal causes no step at all.

use super::content::read_at;
use super::op::{Bytes, ChunkRef, Op, Preview, Target};
use super::walker::{PendingXattrs, Walk, Walker};
use crate::chunker::{CDC_MAX, CDC_MIN, block_for, has_outgrown, is_page_structured};
use crate::disk::{FileInfo, info_of};
use crate::reader::Reader;
use crate::tree::{Body, Content, ContentMap, Cursor, Extent, Inode, MapRef, Xattrs};
use crate::write::Known;
use rustix::fd::OwnedFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes read and compared at a time; a multiple of every block.
const WINDOW: u64 = 2 << 20;
/// Old chunks looked at for bytes that moved.
const KNOWN_MAX: usize = 512;

/// A large file being read.
pub(super) struct Large<'f> {
    fd: &'f OwnedFd,
    size: u64,
    sparse: bool,
    /// Old extents that were not passed yet.
    old: Old,
    /// Up to here the new extents are settled.
    done: u64,
    /// Where the file turned out to end before its size.
    ended: Option<u64>,
}

/// The old extents, one ahead.
struct Old {
    cursor: Option<Cursor<ContentMap>>,
    size: u64,
}

impl Old {
    fn peek(&mut self, reader: &Reader) -> Walk<Option<Extent>> {
        Ok(match &mut self.cursor {
            Some(cursor) => cursor.peek(reader)?.cloned(),
            None => None,
        })
    }

    fn skip(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.skip();
        }
    }

    /// Passes all that end at or before `offset`.
    fn pass(&mut self, reader: &Reader, offset: u64) -> Walk<()> {
        if let Some(cursor) = &mut self.cursor {
            cursor.seek(reader, &(offset + 1).to_be_bytes())?;
        }
        Ok(())
    }
}

impl Walker<'_> {
    pub(super) fn capture_large(
        &mut self,
        fd: &OwnedFd,
        before: &FileInfo,
        old: Option<&Inode>,
        (xattrs, pending): (Xattrs, PendingXattrs),
        target: Target,
        path: Vec<u8>,
    ) -> Walk<()> {
        let (map, old_block, old_size) = old.map_or((MapRef::Empty, None, 0), extents_of);
        let block = match old_block {
            Some(block) if block == 0 || !has_outgrown(block, before.size) => block,
            _ => choose_block(fd, before.size),
        };
        let map = if old_block == Some(block) { map } else { MapRef::Empty };
        let cursor = if map == MapRef::Empty { None } else { Some(Cursor::new(self.reader, &map)?) };
        let preview = match &target {
            Target::Entry { name, was } => {
                let body = Body::File { size: before.size.max(old_size), content: Content::None };
                let mut inode = self.inode(before, xattrs.clone(), body);
                inode.stamp.ctime = Default::default();
                Some(Preview { name: name.clone(), inode: Box::new(inode), block, was: *was })
            }
            Target::Link { .. } => None,
        };
        self.emit(Op::Content { map, preview })?;
        let old = Old { cursor, size: old_size };
        let sparse = before.allocated < before.size;
        let mut large = Large { fd, size: before.size, sparse, old, done: 0, ended: None };
        let read = if block == 0 { self.stream(&mut large) } else { self.blocks(&mut large, 1 << block) };
        let failure = match read {
            Ok(()) => None,
            Err(Reading::Stop(stop)) => return Err(stop),
            Err(Reading::Failed(error)) => Some(error),
        };
        let size = large.ended.unwrap_or(before.size);
        self.ops.send(Op::Replace { after: large.done.min(size), to: u64::MAX })?;
        let after = info_of(fd).unwrap_or(*before);
        let mut inode = self.inode(&after, xattrs, Body::File { size, content: Content::None });
        if failure.is_some() || !after.unchanged_since(before) || size != before.size {
            self.tally.unstable += 1;
            inode.stamp.ctime = Default::default();
        }
        if let Some(error) = failure {
            self.ops.send(Op::Problem(holdfast_core::checkpoint::Problem { path: path.clone(), what: error.to_string() }))?;
        }
        self.captured(path, after);
        self.emit(Op::Put { target, inode: Box::new(inode), bytes: Bytes::Extents { block }, xattrs: pending })
    }

    /// Reads into the buffer; notes where the file ended if it is shorter than it was.
    fn fill(&mut self, large: &mut Large<'_>, range: Range<u64>) -> Result<usize, Reading> {
        self.check_cancelled()?;
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        self.buffer.resize(len, 0);
        let read = read_at(large.fd, &mut self.buffer, range.start).map_err(Reading::Failed)?;
        self.tally.read_bytes += read as u64;
        if read < len {
            large.ended = Some(range.start + read as u64);
        }
        self.buffer.truncate(read);
        Ok(read)
    }

    /// Page-structured: aligned blocks, cut at holes.
    fn blocks(&mut self, large: &mut Large<'_>, block: u64) -> Result<(), Reading> {
        let mut start = 0;
        while start < large.size && large.ended.is_none() {
            let end = (start + WINDOW).min(large.size);
            self.block_window(large, block, start..end)?;
            self.maybe_barrier()?;
            start = end;
        }
        Ok(())
    }

    fn block_window(&mut self, large: &mut Large<'_>, block: u64, window: Range<u64>) -> Result<(), Reading> {
        let mut old = Vec::new();
        while let Some(extent) = large.old.peek(self.reader)?.filter(|extent| extent.start < window.end) {
            old.push(extent);
            large.old.skip();
        }
        let data = large.data(window.clone()).map_err(Reading::Failed)?;
        let read = if data.is_empty() { 0 } else { self.fill(large, window.clone())? };
        let end = window.start + read as u64;
        let wanted: Vec<_> = data.iter().flat_map(|data| cut_at_blocks(data.start..data.end.min(end), block)).collect();
        let same = self.compare(window.start, &wanted, &old);
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

    fn slice(&self, base: u64, range: &Range<u64>) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset - base).unwrap_or(0);
        &self.buffer[at(range.start)..at(range.end)]
    }

    fn new_chunk(&mut self, base: u64, range: &Range<u64>, known: Option<&Arc<Known>>) -> ChunkRef {
        let buffer = std::mem::take(&mut self.buffer);
        let at = |offset: u64| usize::try_from(offset - base).unwrap_or(0);
        let (batch, index) = self.ops.batcher.add(&buffer[at(range.start)..at(range.end)], known);
        self.buffer = buffer;
        ChunkRef::New(batch, index)
    }

    /// For each range, the old extent that has just its bytes.
    fn compare(&self, base: u64, wanted: &[Range<u64>], old: &[Extent]) -> Vec<Option<Extent>> {
        let counterpart = |range: &Range<u64>| {
            let index = old.binary_search_by_key(&range.start, |extent| extent.start).ok()?;
            (old[index].end() == range.end).then(|| &old[index])
        };
        let candidates: Vec<_> = wanted.iter().map(counterpart).collect();
        let slices: Vec<_> =
            wanted.iter().zip(&candidates).filter(|(_, old)| old.is_some()).map(|(range, _)| self.slice(base, range)).collect();
        let mut ids = self.ops.batcher.ids(&slices).into_iter();
        candidates.into_iter().map(|old| old.and_then(|old| ids.next().filter(|id| *id == old.id).map(|_| old.clone()))).collect()
    }

    /// Cut by content.
    fn stream(&mut self, large: &mut Large<'_>) -> Result<(), Reading> {
        let mut offset = 0;
        while let Some(data) = large.next_data(offset).map_err(Reading::Failed)? {
            // what was data and is a hole now
            self.replace(large, data.start)?;
            let mut ahead = Ahead { start: data.start, len: 0 };
            let mut known = None;
            let mut position = data.start;
            while position < data.end && large.ended.is_none_or(|ended| position < ended) {
                large.old.pass(self.reader, position)?;
                let followed = self.follow(large, position..data.end)?;
                if followed > position {
                    position = followed;
                    large.done = position;
                    (ahead, known) = (Ahead { start: position, len: 0 }, None);
                    continue;
                }
                if large.old.cursor.is_some() && known.is_none() {
                    known = Some(Arc::new(self.nearby(large)?));
                }
                position = self.cut(large, position..data.end, &mut ahead, known.as_ref())?;
                self.maybe_barrier()?;
            }
            offset = data.end;
            if large.ended.is_some() {
                break;
            }
        }
        Ok(())
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
        let mut extents: Vec<Extent> = Vec::new();
        let mut end = range.start;
        while let Some(extent) = large.old.peek(self.reader)? {
            let fits = extent.start == end && extent.end() <= range.end && extent.end() - range.start <= WINDOW;
            // the last one was cut by the end of the file: a growing file would collect tiny chunks
            let was_cut_short = extent.end() == large.old.size && large.size > large.old.size && (extent.len as usize) < CDC_MIN;
            if !fits || was_cut_short {
                break;
            }
            end = extent.end();
            extents.push(extent);
            large.old.skip();
        }
        if extents.is_empty() {
            return Ok(range.start);
        }
        let read = self.fill(large, range.start..end)? as u64;
        let ranges: Vec<_> =
            extents.iter().map(|extent| extent.start..extent.end()).filter(|r| r.end - range.start <= read).collect();
        let same = self.compare(range.start, &ranges, &extents);
        let followed = same.iter().take_while(|same| same.is_some()).count();
        Ok(if followed == 0 { range.start } else { ranges[followed - 1].end })
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
    fn cut(
        &mut self,
        large: &mut Large<'_>,
        range: Range<u64>,
        ahead: &mut Ahead,
        known: Option<&Arc<Known>>,
    ) -> Result<u64, Reading> {
        let available = (ahead.start + ahead.len).saturating_sub(range.start);
        if available < (CDC_MAX as u64).min(range.end - range.start) {
            let read = self.fill(large, range.start..(range.start + WINDOW).min(range.end))?;
            *ahead = Ahead { start: range.start, len: read as u64 };
            if read == 0 {
                return Ok(range.end);
            }
        }
        let stop = (ahead.start + ahead.len).min(range.end);
        let bytes = self.slice(ahead.start, &(range.start..stop.min(range.start + CDC_MAX as u64)));
        let end = range.start + self.ops.batcher.chunker().cut(bytes) as u64;
        self.replace(large, end)?;
        let chunk = self.new_chunk(ahead.start, &(range.start..end), known);
        self.ops.send(Op::Extent { start: range.start, chunk }).map_err(|ended| Reading::Stop(ended.into()))?;
        Ok(end)
    }
}

/// What of the file the buffer holds.
struct Ahead {
    start: u64,
    len: u64,
}

/// Why reading a large file ended.
pub(super) enum Reading {
    Stop(super::walker::Stop),
    Failed(io::Error),
}

impl From<super::walker::Stop> for Reading {
    fn from(stop: super::walker::Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Large<'_> {
    /// The next stretch of data at or after an offset.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.size {
            return Ok(None);
        }
        if !self.sparse {
            return Ok(Some(offset..self.size));
        }
        let start = match rustix::fs::seek(self.fd, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL) => offset, // a file system that doesn't tell
            Err(error) => return Err(error.into()),
        };
        if start >= self.size {
            return Ok(None);
        }
        let end = rustix::fs::seek(self.fd, SeekFrom::Hole(start)).unwrap_or(self.size);
        Ok(Some(start..end.clamp(start + 1, self.size)))
    }

    /// The stretches of data in a window.
    fn data(&self, window: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let mut stretches = Vec::new();
        let mut offset = window.start;
        while let Some(data) = self.next_data(offset)?.filter(|data| data.start < window.end) {
            stretches.push(data.start..data.end.min(window.end));
            offset = data.end;
            if offset >= window.end {
                break;
            }
        }
        Ok(stretches)
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

fn extents_of(inode: &Inode) -> (MapRef<ContentMap>, Option<u8>, u64) {
    match &inode.body {
        Body::File { size, content: Content::Extents { map, block } } => (map.clone(), Some(*block), *size),
        _ => (MapRef::Empty, None, 0),
    }
}

fn choose_block(fd: &OwnedFd, size: u64) -> u8 {
    let mut beginning = [0; 16];
    let read = read_at(fd, &mut beginning, 0).unwrap_or(0);
    if is_page_structured(size, &beginning[..read]) { block_for(size) } else { 0 }
}
