// SPDX-License-Identifier: Apache-2.0
//! A window: what is fetched and written together.

use crate::disk::Dir;
use crate::tree::{FramePlace, Inode, Name, Place};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Sealed bytes of a window's frames: a little more than a usual pack's, so that one request fetches one.
const WINDOW_BYTES: u64 = 6 << 20;
/// Plaintext of a window's frames, in bytes: what little there is to fetch may be much to write.
const WINDOW_PLAIN_BYTES: u64 = 16 << 20;
/// A window of so many sealed bytes ends where a pack does.
const WINDOW_BYTES_MIN: u64 = 2 << 20;
/// Files of a window.
const WINDOW_JOBS: usize = 4096;
/// Directories and files that a window holds open.
const WINDOW_HELD: usize = 200;

/// A part of a frame that goes to an offset of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) frame: usize,
    pub(super) inner: u32,
    pub(super) len: u32,
    pub(super) offset: u64,
}

/// A file that is open while its pieces arrive.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) fd: OwnedFd,
    pub(super) path: Vec<u8>,
    /// File systems let one write to a file at a time, and burn processor time in those that wait.
    pub(super) writing: Mutex<()>,
}

impl OpenFile {
    pub(super) const fn new(fd: OwnedFd, path: Vec<u8>) -> Self {
        Self { fd, path, writing: Mutex::new(()) }
    }
}

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    /// A file that does not exist yet, whole.
    Create { dir: Arc<Dir>, name: Name, path: Vec<u8>, inode: Box<Inode>, pieces: Vec<Piece> },
    /// Parts of an open file.
    Patch { file: Arc<OpenFile>, pieces: Vec<Piece> },
}

impl Job {
    /// What it wants of frames.
    pub(super) fn pieces(&self) -> &[Piece] {
        match self {
            Self::Create { pieces, .. } | Self::Patch { pieces, .. } => pieces,
        }
    }
}

/// Something to do after all jobs of this window and those before it.
#[derive(Debug)]
pub(super) enum Finish {
    /// An open file has all its bytes.
    File { file: Arc<OpenFile>, inode: Box<Inode> },
    /// A directory has all its entries.
    Directory { dir: Arc<Dir>, path: Vec<u8>, inode: Box<Inode> },
    /// All names of inodes with several are in place: the directory that held them goes.
    Unstage { dir: Arc<Dir>, staging: Name },
    /// A name for an inode with several.
    Link { dir: Arc<Dir>, name: Name, path: Vec<u8>, staging: Arc<Dir>, group: Name },
}

/// What is fetched and written together.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) frames: Vec<FramePlace>,
    index: HashMap<FramePlace, usize>,
    pub(super) jobs: Vec<Job>,
    pub(super) finishes: Vec<Finish>,
    sealed_bytes: u64,
    plain_bytes: u64,
    held: usize,
    /// Bytes of files that this window puts in place.
    pub(super) file_bytes: u64,
    /// Entries that this window finishes.
    pub(super) entries: u64,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.finishes.is_empty() && self.entries == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.sealed_bytes >= WINDOW_BYTES
            || self.plain_bytes >= WINDOW_PLAIN_BYTES
            || self.jobs.len() + self.finishes.len() >= WINDOW_JOBS
            || self.held >= WINDOW_HELD
    }

    /// Whether the window had better end before what lies at this place: it is in another object than all before it.
    pub(super) fn ends_before(&self, place: &Place) -> bool {
        let last = self.frames.last().map(|frame| frame.object);
        self.sealed_bytes >= WINDOW_BYTES_MIN && last.is_some() && last != place.frame.place().map(|stored| stored.object)
    }

    /// A piece of a stored frame. `None` if the place is not a stored one.
    pub(super) fn piece(&mut self, place: &Place, len: u32, offset: u64) -> Option<Piece> {
        let stored = *place.frame.place()?;
        let next = self.frames.len();
        let frame = *self.index.entry(stored).or_insert(next);
        if frame == next {
            self.frames.push(stored);
            self.sealed_bytes += u64::from(stored.sealed_len);
            self.plain_bytes += u64::from(stored.plain_len);
        }
        Some(Piece { frame, inner: place.inner, len, offset })
    }

    /// Something stays open for this window.
    pub(super) const fn hold(&mut self) {
        self.held += 1;
    }
}
