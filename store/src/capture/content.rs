// SPDX-License-Identifier: Apache-2.0
//! Files, links and special files on their way from the disk to the tree.

use super::large::Opened;
use super::look::Early;
use super::op::{Bytes, Op, Target};
use super::walker::{Walk, Walker};
use crate::disk::{Dir, FileInfo, FileKind, info_of, xattr};
use crate::tree::inode::{INLINE_CONTENT, TARGET_MAX};
use crate::tree::{Body, Content, Inode, Name, Xattrs};
use crate::write::Known;
use holdfast_core::time::Timestamp;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

/// Files below this many bytes are one chunk.
pub(super) const SMALL: u64 = 128 << 10;
/// A small file that changes while it is read is read again this often.
const TRIES: usize = 3;

/// The outcome of reading a small file.
struct Small {
    info: FileInfo,
    stable: bool,
    /// When it had not been read yet.
    looked: Timestamp,
}

impl Walker<'_> {
    /// Captures what is not a directory.
    pub(super) fn capture(
        &mut self,
        dir: &Dir,
        name: &Name,
        info: &FileInfo,
        early: Option<Early>,
        old: Option<&Inode>,
        target: Target,
    ) -> Walk<()> {
        let body = match (info.kind, early) {
            (FileKind::File, Some(early)) => return self.capture_early(name, early, old, target),
            (FileKind::File, None) => return self.capture_file(dir, name, old, target),
            (FileKind::Symlink, _) => match dir.read_link(name) {
                Ok(link) if (1..=TARGET_MAX).contains(&link.len()) => Body::Symlink(link.into()),
                Ok(_) => return self.problem(Some(name), &io::Error::other("the target of the link is too long")),
                Err(error) => return self.unreadable(name, &target, &error),
            },
            // recorded, never opened
            (FileKind::Fifo, _) => Body::Fifo,
            (FileKind::Socket, _) => Body::Socket,
            (FileKind::CharDevice, _) => Body::CharDevice(info.numbers.0, info.numbers.1),
            (FileKind::BlockDevice, _) => Body::BlockDevice(info.numbers.0, info.numbers.1),
            (FileKind::Directory, _) => return Ok(()),
        };
        let inode = self.inode(info, Xattrs::None, body);
        self.emit(Op::Put { target, inode: Box::new(inode), bytes: Bytes::Complete, xattrs: None })
    }

    pub(super) fn note_read(&mut self, bytes: u64) {
        self.tally.read_bytes += bytes;
        if let Some(observer) = self.request.observer {
            observer.read(bytes);
        }
    }

    /// A file that can't be read: gone, or a problem. What was captured of it stays.
    fn unreadable(&mut self, name: &Name, target: &Target, error: &io::Error) -> Walk<()> {
        match (error.raw_os_error().map(Errno::from_raw_os_error), target) {
            (Some(Errno::NOENT), Target::Entry { name, was }) if *was != Default::default() => {
                self.emit(Op::Remove { name: name.clone(), was: *was })
            }
            (Some(Errno::NOENT), _) => Ok(()),
            // it became something else between two looks
            (Some(Errno::LOOP | Errno::NXIO | Errno::ISDIR), _) => {
                self.tally.unstable += 1;
                Ok(())
            }
            _ => self.problem(Some(name), error),
        }
    }

    fn capture_file(&mut self, dir: &Dir, name: &Name, old: Option<&Inode>, target: Target) -> Walk<()> {
        let opened = dir.open_file(name).and_then(|fd| Ok((info_of(&fd)?, xattr::read(&fd)?, fd)));
        let (before, list, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(name, &target, &error),
        };
        if before.kind != FileKind::File {
            self.tally.unstable += 1;
            return Ok(());
        }
        let (xattrs, pending) = self.xattrs(&list);
        let path = self.path_of(name.as_bytes());
        if before.size >= SMALL || (before.allocated < before.size && before.size > INLINE_CONTENT as u64) {
            let opened = Opened { dir, fd: &fd, before, path, xattrs: (xattrs, pending) };
            return self.capture_large(opened, old, target);
        }
        let small = match self.read_small(&fd, before) {
            Ok(small) => small,
            Err(error) => return self.unreadable(name, &target, &error),
        };
        let size = self.buffer.len() as u64;
        let is_hole = small.info.allocated == 0 && rustix::fs::seek(&fd, SeekFrom::Data(0)) == Err(Errno::NXIO);
        let buffer = std::mem::take(&mut self.buffer);
        let (content, bytes) = self.small_content(&buffer, is_hole, old);
        self.buffer = buffer;
        let mut inode = self.inode_at(&small.info, xattrs, Body::File { size, content }, small.looked);
        if !small.stable {
            self.tally.unstable += 1;
            inode.stamp.ctime = Default::default(); // to be looked at again
        }
        self.captured(path, small.info, false);
        self.emit(Op::Put { target, inode: Box::new(inode), bytes, xattrs: pending })
    }

    /// Reads a small file into the buffer, again if it changes meanwhile.
    fn read_small(&mut self, fd: &OwnedFd, mut before: FileInfo) -> io::Result<Small> {
        let mut looked = self.request.clock.now();
        for _ in 0..TRIES {
            let len = usize::try_from(before.size.min(SMALL * 2)).unwrap_or(0);
            self.buffer.resize(len, 0);
            let read = read_at(fd, &mut self.buffer, 0)?;
            self.buffer.truncate(read);
            self.note_read(read as u64);
            let after = info_of(fd)?;
            if after.unchanged_since(&before) && read as u64 == before.size {
                return Ok(Small { info: after, stable: true, looked });
            }
            (before, looked) = (after, self.request.clock.now());
        }
        Ok(Small { info: before, stable: false, looked })
    }

    /// A small file that was read along with the directory.
    fn capture_early(&mut self, name: &Name, early: Early, old: Option<&Inode>, target: Target) -> Walk<()> {
        let Early { info, xattrs, bytes, looked } = early;
        let (xattrs, pending) = self.xattrs(&xattrs);
        self.note_read(bytes.len() as u64);
        let (content, stored) = self.small_content(&bytes, false, old);
        let inode = self.inode_at(&info, xattrs, Body::File { size: bytes.len() as u64, content }, looked);
        self.captured(self.path_of(name.as_bytes()), info, false);
        self.emit(Op::Put { target, inode: Box::new(inode), bytes: stored, xattrs: pending })
    }

    fn small_content(&mut self, buffer: &[u8], is_hole: bool, old: Option<&Inode>) -> (Content, Bytes) {
        if buffer.is_empty() || is_hole {
            (Content::None, Bytes::Complete)
        } else if buffer.len() <= INLINE_CONTENT {
            (Content::Inline(buffer.into()), Bytes::Complete)
        } else {
            let known = old.and_then(known_chunk).map(Arc::new);
            let (batch, index) = self.ops.batcher.add(buffer, known.as_ref());
            (Content::None, Bytes::Chunk(batch, index))
        }
    }
}

/// What a small file was: if it is the same again, it is not stored again.
fn known_chunk(old: &Inode) -> Option<Known> {
    match &old.body {
        Body::File { content: Content::Chunk { id, place }, .. } => Some(Known::from([(*id, place.clone())])),
        _ => None,
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let (fd, mut filled) = (fd.as_fd(), 0);
    while filled < buffer.len() {
        match rustix::io::pread(fd, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
