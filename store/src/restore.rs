// SPDX-License-Identifier: Apache-2.0
//! From a tree to a disk: contained, parallel, and only what differs.
//!
//! A *planner* walks the tree in its order, makes directories, compares what is there already, and gathers what must be fetched into windows;
//! a *fetcher* reads each window's frames with few ranged requests; the *writers* decode them and write the files. Two windows are under way at
//! a time, so memory does not grow with the size of the state. Everything is done from open directories to single names: nothing outside the
//! target is ever touched, whatever lies in it and whatever the repository says.

use crate::disk::{Dir, display};
use crate::error::StoreError;
use crate::reader::Reader;
use crate::tree::{Name, RootItem};
use holdfast_core::checkpoint::Totals;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

mod attributes;
mod compare;
mod existing;
mod fetch;
mod frames;
mod plan;
mod proof;
mod verify;
mod window;
mod writers;

pub use compare::{Comparison, Deviation, compare};
pub use proof::{Proof, prove};
pub use verify::{Chosen, Verified, verify};

/// A directory to restore into.
#[derive(Debug, Clone)]
pub struct Target {
    /// The label of the state path that goes there.
    pub label: String,
    /// The directory, held open.
    pub dir: Arc<Dir>,
    /// What of it is state: nothing else is removed.
    pub filter: crate::capture::Filter,
}

/// What becomes of what the target holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// What the checkpoint doesn't have stays.
    Keep,
    /// The target becomes just what the checkpoint was.
    Remove,
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct Options {
    /// What becomes of names that the checkpoint doesn't have.
    pub extra: Extra,
    /// Restore set-id bits and file capabilities, and make devices. Whoever wrote the repository could plant them.
    pub special: bool,
    /// Give files to their recorded owners, where this process may.
    pub owners: bool,
    /// Threads that decode and write.
    pub writers: usize,
    /// Only these paths (a label, and names beneath it), with what lies beneath them; empty: everything.
    pub select: Vec<(String, Vec<Name>)>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { extra: Extra::Keep, special: false, owners: true, writers: cores.clamp(2, 4), select: Vec::new() }
    }
}

/// How far a restore is; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entries finished.
    pub entries: AtomicU64,
    /// Bytes of files that are in place.
    pub bytes: AtomicU64,
    /// Bytes fetched from the store.
    pub fetched_bytes: AtomicU64,
}

impl Progress {
    fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// What a restore did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Entries restored or found right.
    pub entries: u64,
    /// Files that were as they should be already.
    pub kept_files: u64,
    /// Entries removed because the checkpoint doesn't have them.
    pub removed: u64,
    /// Bytes of files written.
    pub written_bytes: u64,
    /// Bytes fetched from the store.
    pub fetched_bytes: u64,
    /// What could not be restored as it was; at most 10,000 are remembered.
    pub deviations: Vec<Deviation>,
    /// How many there are.
    pub deviation_count: u64,
}

/// Most deviations that are listed.
pub const DEVIATIONS_MAX: usize = 100;
/// Most that a restore remembers, so that a proof knows them again.
const DEVIATIONS_KNOWN: usize = 10_000;

impl Stats {
    fn deviate(&mut self, path: &[u8], what: impl fmt::Display) {
        self.deviation_count += 1;
        if self.deviations.len() < DEVIATIONS_KNOWN {
            self.deviations.push(Deviation { path: path.to_vec(), what: what.to_string() });
        }
    }

    fn merge(&mut self, other: Self) {
        self.entries += other.entries;
        self.kept_files += other.kept_files;
        self.removed += other.removed;
        self.written_bytes += other.written_bytes;
        self.fetched_bytes += other.fetched_bytes;
        self.deviation_count += other.deviation_count;
        let room = DEVIATIONS_KNOWN.saturating_sub(self.deviations.len());
        self.deviations.extend(other.deviations.into_iter().take(room));
    }
}

/// Why a restore ended early. What it wrote stays, and the target is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target refused.
    #[error("target {}: {source}", display(path))]
    Target {
        /// Where, relative to the target.
        path: Vec<u8>,
        /// Why.
        source: io::Error,
    },
    /// The repository or its store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A path was asked for that the checkpoint doesn't have.
    #[error("the checkpoint has no {}", display(.0))]
    NoSuchPath(Vec<u8>),
    /// A label of the checkpoint has no target.
    #[error("the checkpoint has a state path {0:?}, and no directory was given for it")]
    NoTarget(String),
    /// It was called off.
    #[error("the restore was called off; the target is incomplete")]
    Cancelled,
}

impl RestoreError {
    fn target(path: &[u8]) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_vec();
        move |source| Self::Target { path, source }
    }
}

/// What is to be restored.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Reads the repository.
    pub reader: &'a Arc<Reader>,
    /// The trees.
    pub roots: &'a [RootItem],
    /// What they hold: a walk that finds more is stopped.
    pub totals: &'a Totals,
    /// Where they go.
    pub targets: &'a [Target],
    /// How.
    pub options: &'a Options,
    /// Set from outside to end early.
    pub cancel: &'a AtomicBool,
    /// Kept up to date for whoever shows it.
    pub progress: &'a Progress,
}

/// Restores. Must not be called from a thread that drives asynchronous tasks.
///
/// # Errors
/// If the target or the store fails, or something in the repository is damaged: then the target is incomplete.
pub fn restore(request: &Restore<'_>) -> Result<Stats, RestoreError> {
    for root in request.roots {
        if !request.targets.iter().any(|target| target.label == root.label) && request.options.select.is_empty() {
            return Err(RestoreError::NoTarget(root.label.clone()));
        }
    }
    plan::run(request)
}

#[cfg(test)]
mod tests;
