// SPDX-License-Identifier: Apache-2.0
//! Files that are there already: what is right stays, what differs is fetched.

use super::plan::{Planner, Stop};
use super::window::OpenFile;
use crate::disk::{Dir, FileInfo};
use crate::error::StoreError;
use crate::frame::PLAIN_MAX;
use crate::tree::{Body, Content, Cursor, Inode, Name};
use holdfast_core::id::ChunkId;
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Stop>;

impl Planner<'_> {
    /// Brings an existing file to what it should be, if that can be done in place. `false`: it must be made anew.
    pub(super) fn settle_existing(&mut self, dir: &Dir, name: &Name, inode: &Inode, info: &FileInfo) -> Result<bool> {
        let Body::File { size, content } = &inode.body else { return Ok(false) };
        let fd = match dir.open(name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(error) if is_this_process(&error) => return Err(self.failed(error)),
            Err(_) => return Ok(false),
        };
        let same = match content {
            Content::None => *size == info.size && info.allocated == 0,
            Content::Inline(bytes) => *size == info.size && self.holds(&fd, 0, bytes.len(), |found| found == &bytes[..])?,
            Content::Chunk { id, .. } => {
                *size == info.size && self.holds_chunk(&fd, 0, usize::try_from(*size).unwrap_or(0), id)?
            }
            Content::Extents { .. } => return self.patch(fd, inode, info),
        };
        if !same {
            return Ok(false);
        }
        self.stats.kept_files += 1;
        self.window.file_bytes += size;
        // it has all its bytes: it need not be held open until others have theirs
        self.writers.describe(&fd, &self.path, inode, &mut self.stats)?;
        Ok(true)
    }

    fn holds(&self, fd: &OwnedFd, offset: u64, len: usize, is: impl FnOnce(&[u8]) -> bool) -> Result<bool> {
        let mut buffer = vec![0; len.min(PLAIN_MAX)];
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(fd, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => return Ok(false),
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error.into())),
            }
        }
        Ok(is(&buffer))
    }

    fn holds_chunk(&self, fd: &OwnedFd, offset: u64, len: usize, id: &ChunkId) -> Result<bool> {
        let identity = &self.request.reader.domain().keys.identity;
        self.holds(fd, offset, len, |found| identity.chunk_id(found) == *id)
    }

    /// Compares a large file extent by extent and plans what differs.
    fn patch(&mut self, fd: OwnedFd, inode: &Inode, info: &FileInfo) -> Result<bool> {
        let Body::File { size, content: Content::Extents { map, .. } } = &inode.body else { return Ok(false) };
        let reader = self.request.reader;
        let mut cursor = Cursor::new(&**reader, map)?;
        let mut wrong = std::collections::BTreeSet::new();
        let mut end = 0;
        while let Some(extent) = cursor.next(&**reader)? {
            if !punch(&fd, end, extent.start).map_err(|error| self.failed(error))? {
                return Ok(false);
            }
            end = extent.end();
            let beyond = end > info.size;
            if beyond || !self.holds_chunk(&fd, extent.start, extent.len as usize, &extent.id)? {
                wrong.insert(extent.start);
            }
        }
        if end > *size {
            return Err(StoreError::damaged("tree", "an extent ends beyond its file").into());
        }
        // also beyond the file's present end: its last block, half used, would stay
        if !punch(&fd, end, *size).map_err(|error| self.failed(error))? {
            return Ok(false);
        }
        if wrong.is_empty() && info.size == *size {
            self.stats.kept_files += 1;
        }
        let file = Arc::new(OpenFile::new(fd, self.here()));
        self.fill(&file, inode, |start| !wrong.contains(&start))?;
        Ok(true)
    }
}

/// Whether what failed is this process or its disk, and not the file: then nothing may be removed for it.
fn is_this_process(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::INTR].contains(&errno))
}

/// Makes a stretch a hole. `false`: the file system can't.
fn punch(fd: &OwnedFd, start: u64, end: u64) -> io::Result<bool> {
    if start >= end {
        return Ok(true);
    }
    match rustix::fs::seek(fd, SeekFrom::Data(start)) {
        Ok(data) if data >= end => return Ok(true), // it is one
        Err(Errno::NXIO) => return Ok(true),
        _ => {}
    }
    match rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, end - start) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
