// SPDX-License-Identifier: Apache-2.0
//! What an agent is told, resolved: no further defaults, nothing left to parse.

use holdfast_core::cadence::Paces;
use holdfast_core::disk::Choices;
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_store::capture::Filter;
use holdfast_store::write::{Takeover, Tuning};
use std::path::PathBuf;
use std::time::Duration;

/// One directory that is state.
#[derive(Debug, Clone)]
pub struct StatePath {
    /// Its name inside the lineage.
    pub label: String,
    /// Where it is.
    pub path: PathBuf,
    /// Globs of what is state; empty: everything.
    pub include: Vec<String>,
    /// Globs of what is not.
    pub exclude: Vec<String>,
    /// Both, compiled.
    pub filter: Filter,
    /// It is captured and never written: nothing is restored to it, and it is not marked.
    pub read_only: bool,
}

/// What an agent is told.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The lineage's name.
    pub lineage: String,
    /// The state paths, sorted by label.
    pub paths: Vec<StatePath>,
    /// The cluster or machine that this is.
    pub owner: OwnerId,
    /// Who this is, for people.
    pub holder: String,
    /// Whom the lineage may be taken from, if it was not this place's last holder.
    pub takeover: Takeover,
    /// What was decided beforehand about the disk.
    pub choices: Choices,
    /// An automatic restore takes clean checkpoints only.
    pub clean_only: bool,
    /// Set-id bits, file capabilities and devices are restored, too.
    pub special: bool,
    /// When to capture.
    pub paces: Paces,
    /// A capture that goes on longer than this commits what it has.
    pub partial_after: Duration,
    /// Scratch space of all lineages on this machine.
    pub scratch: PathBuf,
    /// Its limit for this lineage, in bytes.
    pub scratch_bytes: u64,
    /// Directories watched at most; the rest is scanned.
    pub watches_max: usize,
    /// Large files are cloned where the file system can do that, to find what changed in them without reading them.
    pub reflink: bool,
    /// Sizes.
    pub tuning: Tuning,
    /// Who this is for programs, if that is the same after a restart; `None`: another one each time.
    pub holder_key: Option<HolderKey>,
    /// What may be used of a processor and of disks.
    pub budget: Budget,
}

/// What may be used of a processor and of disks. The default is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Reading the application's files, in bytes a second.
    pub read_bytes_per_second: Option<u64>,
}

impl AgentConfig {
    /// A capture that goes on longer than this commits what it has.
    pub const PARTIAL_AFTER: Duration = Duration::from_secs(60);
    /// Scratch space, in bytes.
    pub const SCRATCH_BYTES: u64 = 1 << 30;
    /// Directories watched: about 1 KiB of kernel memory and 500 bytes of the agent's each.
    pub const WATCHES_MAX: usize = 16_384;
}
