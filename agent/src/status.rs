// SPDX-License-Identifier: Apache-2.0
//! What an agent says of itself.

use crate::history::PassedOver;
use crate::problems::Problems;
use holdfast_core::checkpoint::{Quality, Totals};
use holdfast_core::id::RootId;
use holdfast_core::lag::Peak;
use holdfast_core::time::{Monotonic, Timestamp};
use std::time::Duration;

/// What an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It claims the lineage and looks at the disk.
    #[default]
    Starting,
    /// It restores; the application waits.
    Restoring,
    /// It captures what changes.
    Protecting,
    /// The application has ended; it captures the last of it.
    Ending,
    /// Another holder has taken over: nothing is captured any more.
    Fenced,
    /// It has ended.
    Ended,
}

/// What an agent says of itself.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// When the oldest change was heard of that is not durable; `None`: everything is.
    pub oldest: Option<Monotonic>,
    /// How old such changes were, lately; each when it became durable.
    pub peak: Peak,
    /// Paths known to wait; what is compared as a whole counts as one.
    pub dirty_paths: u64,
    /// The newest checkpoint.
    pub checkpoint: Option<LastCheckpoint>,
    /// What it holds.
    pub totals: Totals,
    /// Bytes handed to the store since the start.
    pub uploaded_bytes: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// What keeps the store from answering.
    pub trouble: Option<String>,
    /// What could not be captured.
    pub problems: Option<Problems>,
    /// Directories that are watched.
    pub watched: u64,
    /// What the start restored.
    pub restored: Option<Brief>,
}

impl Status {
    /// The age of the oldest change that is not durable; `None`: everything is.
    #[must_use]
    pub fn lag(&self, now: Monotonic) -> Option<Duration> {
        self.oldest.map(|oldest| now.since(oldest))
    }

    /// The greatest age of the last 5 to 10 seconds.
    #[must_use]
    pub fn lag_lately(&self, now: Monotonic) -> Duration {
        let mut peak = self.peak;
        peak.with(now, self.lag(now).unwrap_or_default())
    }
}

/// What a start restored, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brief {
    /// The checkpoint.
    pub sequence: u64,
    /// The end of its capture.
    pub last_close: Timestamp,
    /// Newer ones that are not clean, and so were left out.
    pub passed_over: Option<PassedOver>,
}

/// The newest checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCheckpoint {
    /// Its number.
    pub sequence: u64,
    /// The end of its capture.
    pub last_close: Timestamp,
    /// Its quality.
    pub quality: Quality,
    /// Its root id.
    pub root: RootId,
}

/// What was restored before the application started.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The checkpoint.
    pub sequence: u64,
    /// The end of its capture.
    pub last_close: Timestamp,
    /// The root asked for.
    pub root: RootId,
    /// The root computed from disk: the same, or there are deviations.
    pub root_on_disk: RootId,
    /// Entries in place.
    pub entries: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes fetched.
    pub fetched_bytes: u64,
    /// How long it took, until it was proven.
    pub took: Duration,
    /// Newer checkpoints that are not clean, and so were left out.
    pub passed_over: Option<PassedOver>,
    /// What could not be restored as it was.
    pub deviations: Vec<holdfast_store::restore::Deviation>,
}
