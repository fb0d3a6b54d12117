// SPDX-License-Identifier: Apache-2.0
//! From a disk to a tree: what changed since the last capture, and nothing else, is read.
//!
//! A *walker* (a thread of its own) goes through what may have changed, compares each name with the old tree, reads what differs and cuts it
//! into chunks; the [`Encoders`] hash and compress them; the *applier* (the calling thread) edits the old tree in the order of its keys. So
//! memory holds one path of the tree, a few frames and a bounded queue, whatever the size of the state.

use crate::disk::Dir;
use crate::error::StoreError;
use crate::tree::editor::NodeSink;
use crate::tree::{Name, RootItem};
use crate::write::{Batch, Composed, Encoders, Stored};
use holdfast_core::checkpoint::{Problem, Totals};
use holdfast_core::time::{Interval, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

mod apply;
mod changes;
mod clones;
mod content;
mod filter;
mod inode;
mod large;
mod links;
mod look;
mod op;
mod prints;
mod recheck;
mod scan;
mod session;
mod walker;

pub use clones::Clones;
pub use filter::{Filter, FilterError};
pub use session::Checkpointing;

/// A clock of the wall. The only one in this crate: whoever captures brings it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;
    /// How far that may be from true time.
    fn error(&self) -> Duration;
}

/// One state path on disk.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its label.
    pub label: String,
    /// The directory, held open.
    pub dir: Arc<Dir>,
    /// What of it is state.
    pub filter: Filter,
}

/// What may have changed beneath a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirt {
    /// Anything may: compare everything.
    pub rescan: bool,
    /// These names may; each with what may have changed beneath it. An empty one means the name itself.
    pub names: BTreeMap<Name, Dirt>,
}

impl Dirt {
    /// Everything may have changed.
    #[must_use]
    pub fn all() -> Self {
        Self { rescan: true, names: BTreeMap::new() }
    }

    /// Adds what may have changed at a path beneath.
    pub fn add(&mut self, path: &[Name], rescan: bool) {
        if self.rescan {
            return; // everything is dirty already
        }
        match path.split_first() {
            Some((first, rest)) => self.names.entry(first.clone()).or_default().add(rest, rescan),
            None if rescan => *self = Self::all(),
            None => {}
        }
    }
}

/// What is to be captured.
#[derive(Debug)]
pub struct Request<'a> {
    /// The state paths, sorted by label.
    pub sources: &'a [Source],
    /// What may have changed, by label. A label that is missing is taken over as it was.
    pub dirt: &'a BTreeMap<String, Dirt>,
    /// The old tree's stamps are of another file system (it was restored): they match nothing, and hard links are told by their names.
    pub foreign: bool,
    /// Where lists that are too long for memory go.
    pub scratch: Option<PathBuf>,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// Set from outside to end early.
    pub cancel: &'a AtomicBool,
    /// Hears of each directory before it is listed.
    pub observer: Option<&'a dyn Observer>,
    /// Threads that hash and compress.
    pub encoders: usize,
    /// Clones of large files, where file systems have them.
    pub clones: Option<&'a Clones>,
    /// Somebody stands still until all is read: no clone is made where an older one tells what little has changed, since making one takes the longer
    /// the more the file is scattered.
    pub brief: bool,
    /// A capture that goes on longer than this asks its sink to make what there is durable, again and again.
    pub partial_after: Duration,
}

/// Hears where a capture goes.
pub trait Observer: Sync + fmt::Debug {
    /// All names of the directory at this path below the state path are going to be compared.
    fn entering(&self, label: &str, path: &[u8]);

    /// So many bytes of a file were read. A capture that is to go slower waits here, and where it enters.
    fn read(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// What a capture found.
#[derive(Debug)]
pub struct Outcome {
    /// The new trees.
    pub roots: Composed,
    /// What they hold.
    pub totals: Totals,
    /// What could not be captured, each with the label of its state path; at most 16, the rest is counted in `totals`.
    pub problems: Vec<(String, Problem)>,
    /// When.
    pub interval: Interval,
    /// Files that changed while they were read, or between being read and the end.
    pub unstable: u64,
    /// Entries compared with the disk.
    pub compared: u64,
    /// Files that were read.
    pub read_files: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes of them whose ids were computed to compare them with the tree.
    pub hashed_bytes: u64,
}

/// Why a capture ended early.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A state path itself can't be read.
    #[error("state path {label}: {source}")]
    Source {
        /// Its label.
        label: String,
        /// Why.
        source: std::io::Error,
    },
    /// The agent's own disk space failed.
    #[error("scratch space: {0}")]
    Scratch(std::io::Error),
    /// The repository or its store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was called off.
    #[error("the capture was called off")]
    Cancelled,
}

/// What a capture has so far, for a partial checkpoint.
#[derive(Debug)]
pub struct Progress {
    /// The trees: new where the capture has been, old elsewhere.
    pub roots: Composed,
    /// What they hold.
    pub totals: Totals,
    /// From the first open until now.
    pub interval: Interval,
}

/// Where a capture's results go.
pub trait CaptureSink: NodeSink {
    /// A chunk of a batch, with its place.
    ///
    /// # Errors
    /// If it could not be encoded or stored.
    fn stored(&mut self, encoders: &Encoders, batch: &Batch, index: usize) -> Result<Stored, StoreError>;

    /// Makes what there is durable, if the sink can.
    ///
    /// # Errors
    /// Whatever ends the capture.
    fn partial(&mut self, progress: Progress) -> Result<(), StoreError>;
}

/// Captures.
///
/// # Errors
/// If a state path can't be read at all, the store fails, or it was called off. What can't be read below a state path is a problem, not an error:
/// its last captured state stays.
pub fn capture<S: CaptureSink>(request: &Request<'_>, old: &Old<'_>, sink: &mut S) -> Result<Outcome, CaptureError> {
    apply::run(request, old, sink)
}

/// What the capture continues.
#[derive(Debug, Clone, Copy)]
pub struct Old<'a> {
    /// The old trees, by label.
    pub roots: &'a [RootItem],
    /// What they hold.
    pub totals: &'a Totals,
    /// Reads them.
    pub reader: &'a Arc<crate::reader::Reader>,
}

#[cfg(test)]
mod tests;
