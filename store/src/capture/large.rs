// SPDX-License-Identifier: Apache-2.0
//! Large files: only what differs from the recorded extents becomes new ones.
//!
//! A file that was captured before is captured *along its extents*. Where a clone tells what may differ, only that is read; otherwise all of it is
//! read, and each range hashed and compared. Page-structured files keep their blocks; others are cut anew from the first difference until a cut
//! falls on an old one. What is equal causes no step at all.

use super::changes::Changes;
use super::clones::{Captured, FileClone, Version};
use super::content::read_at;
use super::inode::PendingXattrs;
use super::op::{Bytes, ChunkRef, Op, Preview, Target, Witness};
use super::prints::{self, Noted};
use super::walker::{Walk, Walker};
use crate::chunker::{block_for, has_outgrown, is_page_structured};
use crate::disk::{Dir, FileInfo, info_of};
use crate::tree::{Body, Content, ContentMap, Cursor, Inode, MapRef, NodeStore, Xattrs};
use crate::write::Known;
use holdfast_core::id::ChunkId;
use rustix::fd::OwnedFd;
use std::io;
use std::ops::Range;
use std::sync::Arc;

mod blocks;
mod old;
pub(super) mod source;
mod stream;

use old::Old;
use source::Source;

/// Bytes read and compared at a time; a multiple of every block.
const WINDOW: u64 = 2 << 20;

/// If more than this has changed since a clone, in bytes, or more than a share of the file, a new one is worth the wait.
const BRIEF_MAX: u64 = 16 << 20;
const BRIEF_SHARE: u64 = 8;

/// A large file being read.
struct Large<'f> {
    source: Source<'f>,
    old: Old,
    /// What may differ from the old extents; `None`: anything.
    changes: Option<Changes>,
    /// Fingerprints of the old extents.
    noted: Option<Noted>,
    /// Those of the new ones.
    fresh: Option<prints::Writer>,
    /// Here the file is known to differ from its old extents.
    differs: Option<u64>,
    /// What the buffer holds of the file.
    held: Range<u64>,
    /// Up to here the new extents are settled.
    done: u64,
    /// Where the file turned out to end before its size.
    ended: Option<u64>,
}

/// An open file, and what to make of it.
pub(super) struct Opened<'a> {
    pub(super) dir: &'a Dir,
    pub(super) fd: &'a OwnedFd,
    pub(super) before: FileInfo,
    pub(super) path: Vec<u8>,
    pub(super) xattrs: (Xattrs, PendingXattrs),
}

/// What has changed of a file since a clone was made of it.
struct Since {
    clone: Arc<FileClone>,
    changes: Changes,
    /// What the tree has, which was captured from the clone.
    version: Version,
}

/// What a file was when it was captured before.
struct Before {
    map: MapRef<ContentMap>,
    block: u8,
    size: u64,
    /// Its version, if extents can be kept from it.
    version: Option<Version>,
}

impl Walker<'_> {
    pub(super) fn capture_large(&mut self, opened: Opened<'_>, old: Option<&Inode>, target: Target) -> Walk<()> {
        let Opened { dir, fd, mut before, path, xattrs: (xattrs, pending) } = opened;
        // what changes from now on may go unseen within a tick of the file's clock
        let looked = self.request.clock.now();
        let since = self.since_a_clone(fd, &before, old);
        let clone = if since.is_some() { None } else { self.clone_of(dir, fd, &mut before) };
        let was = self.before(fd, before.size, old);
        let block = was.block;
        let preview = match &target {
            Target::Entry { name, was: counted } => {
                let body = Body::File { size: before.size.max(was.size), content: Content::None };
                let mut inode = self.inode(&before, xattrs.clone(), body);
                inode.stamp.ctime = Default::default();
                Some(Preview { name: name.clone(), inode: Box::new(inode), block, was: *counted })
            }
            Target::Link { .. } => None,
        };
        let cursor = if was.map == MapRef::Empty { None } else { Some(Cursor::new(self.reader, &was.map)?) };
        self.emit(Op::Content { map: was.map, preview })?;
        let has_clone = clone.is_some() || since.is_some();
        let (noted, fresh) = if has_clone { (None, None) } else { self.prints_for(&before, was.version.as_ref()) };
        let (standing, (changes, base)) = match since {
            Some(Since { clone, changes, version }) => (Some((clone, changes.clone())), (Some(changes), Some(version))),
            None => (None, self.changes(&before, clone.as_ref(), was.version)),
        };
        let old = Old { cursor, size: was.size };
        let source = match clone {
            Some(clone) => Source::clone(fd, clone),
            None => Source::file(fd, before.size, before.allocated < before.size),
        };
        let mut large = Large { source, old, changes, noted, fresh, differs: None, held: 0..0, done: 0, ended: None };
        let read = if block == 0 { self.stream(&mut large) } else { self.blocks(&mut large, 1 << block) };
        match read {
            Ok(()) => {}
            Err(Reading::Stop(stop)) => return Err(stop),
            Err(Reading::Failed(error)) => {
                // what lies behind was good when it was captured: it must not become a hole
                self.ops.send(Op::Abandon)?;
                return self.uncaptured(path, error.to_string());
            }
        }
        let size = large.ended.unwrap_or(before.size);
        self.ops.send(Op::Replace { after: large.done.min(size), to: u64::MAX })?;
        let was_lost = large.source.was_lost();
        let whole = size == before.size;
        let clone = large.source.into_clone().filter(|_| whole);
        let fresh = large.fresh.filter(|_| whole);
        // a clone is as the file was; what happened to the file since is for the next capture
        let after = if clone.is_some() { before } else { info_of(fd).unwrap_or(before) };
        let mut inode = self.inode(&after, xattrs, Body::File { size, content: Content::None });
        inode.stamp = self.trusted_stamp(&after, looked);
        if was_lost || !after.unchanged_since(&before) || size != before.size {
            self.tally.unstable += 1;
            inode.stamp.ctime = Default::default();
        }
        self.captured(path.clone(), after, clone.is_some());
        let own = clone.map(|clone| (clone, Changes::default()));
        let witness = match own.or(standing.filter(|_| whole)) {
            Some((clone, apart)) => Some(Witness::Clone(Captured { clone, apart, label: self.source.label.clone(), path, base })),
            None => fresh.map(Witness::Prints),
        };
        let bytes = Bytes::Extents { block, witness: witness.map(Box::new) };
        self.emit(Op::Put { target, inode: Box::new(inode), bytes, xattrs: pending })
    }

    /// A clone of an open file, if there can be one. Then `before` says what the file was at that moment.
    fn clone_of(&self, dir: &Dir, fd: &OwnedFd, before: &mut FileInfo) -> Option<Arc<FileClone>> {
        // nothing writes to what was just restored, and reading a clone means reading from the disk again
        let clones = self.request.clones.filter(|_| !self.request.foreign)?;
        let clone = clones.make(dir, fd, before)?;
        let mut after = info_of(fd).ok()?;
        if !after.unchanged_since(before) {
            after.ctime = Default::default(); // written just then: to be looked at again
        }
        *before = FileInfo { size: clone.size(), ..after };
        Some(clone)
    }

    /// What little has changed since the clone that the tree's version was captured from, if nobody shall wait for another clone. What comes next is
    /// compared with that clone, too: a block that is written once more lies elsewhere than the clone's all the same.
    fn since_a_clone(&self, fd: &OwnedFd, info: &FileInfo, old: Option<&Inode>) -> Option<Since> {
        let clones = self.request.clones.filter(|_| !self.request.foreign)?;
        let limit = match (clones.is_slow_to_clone(info), self.request.brief) {
            (true, _) => info.size / BRIEF_SHARE,
            (false, true) => BRIEF_MAX.min(info.size / BRIEF_SHARE),
            (false, false) => return None,
        };
        let version = self.before(fd, info.size, old).version?;
        let (clone, apart) = clones.base(info, &version)?;
        let changes = clone.compared_with(fd, info.size)?.or(&apart);
        if changes.bytes() > limit {
            return None;
        }
        tracing::debug!(inode = info.inode, bytes = info.size, changed = changes.bytes(), "captured since a clone");
        Some(Since { clone, changes, version })
    }

    /// What the tree has of a file, as far as it is of use now that the file has this size.
    fn before(&self, fd: &OwnedFd, size: u64, old: Option<&Inode>) -> Before {
        let Some(Body::File { size: old_size, content }) = old.map(|old| &old.body) else {
            return Before { map: MapRef::Empty, block: choose_block(fd, size), size: 0, version: None };
        };
        let version = || Version::of(self.reader.identity(), *old_size, content);
        match content {
            Content::Extents { map, block } => {
                let chosen = if *block == 0 || !has_outgrown(*block, size) { *block } else { choose_block(fd, size) };
                // blocks of another length match none of the old ones
                let kept = chosen == *block;
                let map = if kept { map.clone() } else { MapRef::Empty };
                Before { map, block: chosen, size: *old_size, version: kept.then(version).flatten() }
            }
            _ => Before { map: MapRef::Empty, block: choose_block(fd, size), size: 0, version: version() },
        }
    }

    /// What may differ from the version that the tree has; also returns the version, if the clone was compared with it.
    fn changes(
        &self,
        info: &FileInfo,
        clone: Option<&Arc<FileClone>>,
        version: Option<Version>,
    ) -> (Option<Changes>, Option<Version>) {
        let (Some(clone), Some(version), Some(clones)) = (clone, version, self.request.clones) else { return (None, None) };
        let changes = clones.base(info, &version).and_then(|(base, apart)| Some(clone.compare(&base)?.or(&apart)));
        tracing::debug!(
            inode = info.inode,
            bytes = info.size,
            changed = changes.as_ref().map(Changes::bytes),
            "captured from a clone"
        );
        let version = changes.is_some().then_some(version);
        (changes, version)
    }

    /// The fingerprints of a version, and room for the next one's: where there is no clone.
    fn prints_for(&self, info: &FileInfo, version: Option<&Version>) -> (Option<Noted>, Option<prints::Writer>) {
        let Some(prints) = self.prints.as_ref() else { return (None, None) };
        (version.and_then(|version| prints.known(info, version)), prints.begin(info))
    }

    /// Notes the fingerprint of an extent that lies in the buffer.
    fn note(&self, large: &mut Large<'_>, base: u64, range: &Range<u64>) {
        if let Some(fresh) = &mut large.fresh {
            let text = self.slice(base, range);
            fresh.add(range.start, text.len(), self.prints.as_ref().and_then(|prints| prints.print(text)));
        }
    }

    /// The ids of these ranges, which lie in the buffer.
    fn ids(&mut self, base: u64, ranges: &[Range<u64>]) -> Vec<ChunkId> {
        let slices: Vec<_> = ranges.iter().map(|range| self.slice(base, range)).collect();
        let ids = self.ops.batcher.ids(&slices);
        self.tally.hashed_bytes += ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        ids
    }

    /// Reads into the buffer; notes where the file ended if it is shorter than it was.
    fn fill(&mut self, large: &mut Large<'_>, range: Range<u64>) -> Result<usize, Reading> {
        self.check_cancelled()?;
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        self.buffer.resize(len, 0);
        let read = large.source.read(&mut self.buffer, range.start).map_err(Reading::Failed)?;
        self.note_read(read as u64);
        if read < len {
            large.ended = Some(range.start + read as u64);
        }
        self.buffer.truncate(read);
        large.held = range.start..range.start + read as u64;
        Ok(read)
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

fn choose_block(fd: &OwnedFd, size: u64) -> u8 {
    let mut beginning = [0; 16];
    let read = read_at(fd, &mut beginning, 0).unwrap_or(0);
    if is_page_structured(size, &beginning[..read]) { block_for(size) } else { 0 }
}
