// SPDX-License-Identifier: Apache-2.0
//! What the walker tells the applier to do.

use super::clones::Captured;
use super::prints;
use crate::tree::{ContentMap, Directory, Extent, Inode, Links, MapRef, Name};
use crate::write::{Batch, Batcher};
use holdfast_core::checkpoint::{Problem, Totals};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

/// A chunk: stored already, or on its way.
#[derive(Debug)]
pub(super) enum ChunkRef {
    Known(Extent),
    New(Arc<Batch>, usize),
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Bytes {
    /// It has none, or what it has is in the inode already.
    Complete,
    /// One chunk.
    Chunk(Arc<Batch>, usize),
    /// The extents that were sent since `Op::Content`.
    Extents { block: u8, witness: Option<Box<Witness>> },
}

/// What will tell at the next capture how a file differs from its extents.
#[derive(Debug)]
pub(super) enum Witness {
    /// A clone that holds just their bytes.
    Clone(Captured),
    /// Fingerprints of all of them.
    Prints(prints::Writer),
}

/// Where an inode goes.
#[derive(Debug)]
pub(super) enum Target {
    /// A name in the open directory; what it counted for before.
    Entry { name: Name, was: Totals },
    /// A group of hard links; how many bytes it counted for before.
    Link { group: u64, names: u64, path: Box<[u8]>, was_bytes: u64 },
}

/// A large file as a partial checkpoint shows it: what was read so far, and what it was beyond.
#[derive(Debug, Clone)]
pub(super) struct Preview {
    pub(super) name: Name,
    pub(super) inode: Box<Inode>,
    pub(super) block: u8,
    pub(super) was: Totals,
}

/// A step. They come in the order in which the tree is written.
#[derive(Debug)]
pub(super) enum Op {
    /// A state path begins. `directory` is the directory itself, with the old entries; `old_links` its hard links.
    Root { index: usize, directory: Box<Inode>, xattrs: Option<(Arc<Batch>, usize)> },
    /// A state path is as it was.
    KeepRoot { index: usize },
    /// A directory beneath the open one begins, with the entries it had.
    Enter {
        name: Name,
        directory: Box<Inode>,
        old: MapRef<Directory>,
        sums: Totals,
        was: Totals,
        xattrs: Option<(Arc<Batch>, usize)>,
    },
    /// The open directory ends.
    Leave,
    /// An inode, with its bytes.
    Put { target: Target, inode: Box<Inode>, bytes: Bytes, xattrs: Option<(Arc<Batch>, usize)> },
    /// A name of a group of hard links.
    PutLink { name: Name, group: u64, was: Totals },
    /// A name is gone.
    Remove { name: Name, was: Totals },
    /// A large file begins, with the extents it had, and what to show of it while it is not finished.
    Content { map: MapRef<ContentMap>, preview: Option<Preview> },
    /// The extents that end in this range are replaced by those that follow.
    Replace { after: u64, to: u64 },
    /// The large file could not be read to its end: it stays as it was.
    Abandon,
    /// An extent of the large file.
    Extent { start: u64, chunk: ChunkRef },
    /// A group of hard links has no name any more.
    RemoveLink { group: u64, was_bytes: u64 },
    /// The open state path ends.
    EndRoot,
    /// Everything before this may be made durable. The answer is the hard links of the open state path as they are then.
    Barrier(SyncSender<MapRef<Links>>),
    /// Something could not be captured.
    Problem { label: String, problem: Problem },
}

/// The walker's end of the queue. When it is full, the open frame is sent on its way first: the applier may be waiting for just that.
pub(super) struct Ops<'e> {
    sender: SyncSender<Op>,
    pub(super) batcher: Batcher<'e>,
}

/// The applier has ended; so must the walker.
#[derive(Debug)]
pub(super) struct Ended;

impl<'e> Ops<'e> {
    pub(super) const fn new(sender: SyncSender<Op>, batcher: Batcher<'e>) -> Self {
        Self { sender, batcher }
    }

    pub(super) fn send(&mut self, op: Op) -> Result<(), Ended> {
        match self.sender.try_send(op) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Ended),
            Err(TrySendError::Full(op)) => {
                self.batcher.flush();
                self.sender.send(op).map_err(|_| Ended)
            }
        }
    }
}
