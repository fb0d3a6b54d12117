// SPDX-License-Identifier: Apache-2.0
//! Why an agent can't do its work.

use holdfast_core::disk::Refusal;
use holdfast_store::StoreError;
use holdfast_store::capture::CaptureError;
use holdfast_store::restore::RestoreError;
use std::path::PathBuf;

/// A failure, with its side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A person must decide.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A state path can't be used.
    #[error("state path {path}: {source}")]
    StatePath {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A state path is no longer the directory that it was.
    #[error(
        "state path {path} is another directory than it was when this agent started: it was unmounted, moved or replaced; nothing is captured"
    )]
    Replaced {
        /// Which.
        path: PathBuf,
    },
    /// The agent's own disk space failed.
    #[error("scratch space {path}: {source}")]
    Scratch {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The agent's own disk space would be captured.
    #[error(
        "scratch space {scratch} lies inside the state path {path}: each capture would cause the next; choose another place, or exclude it"
    )]
    ScratchIsState {
        /// Where.
        scratch: PathBuf,
        /// In what.
        path: PathBuf,
    },
    /// Another agent on this machine has the lineage.
    #[error("lineage {lineage} is in use on this machine: another process protects it, or was killed and has left its program running (fuser {} shows which)", .lock.display())]
    Locked {
        /// Its name.
        lineage: String,
        /// The lock.
        lock: PathBuf,
    },
    /// The repository or its store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lineage goes on from a checkpoint that can't be found.
    #[error(
        "lineage {lineage} goes on from checkpoint {sequence}, and the store shows no state of it: nothing may start on less"
    )]
    Vanished {
        /// Its name.
        lineage: String,
        /// The checkpoint.
        sequence: u64,
    },
    /// Restoring failed.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Capturing failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// What was restored is not what was asked for.
    #[error(
        "the restored state is not checkpoint {sequence}: root {found} on disk, {asked} asked for; first difference: {first}"
    )]
    NotProven {
        /// The checkpoint.
        sequence: u64,
        /// Its root.
        asked: String,
        /// The root on disk.
        found: String,
        /// Where they differ.
        first: String,
    },
    /// The coordinator refused.
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    /// A thread could not be started, or ended by itself.
    #[error("a thread could not be run: {0}")]
    Thread(String),
}

impl AgentError {
    /// Whether another holder has the lineage now, or is known to have taken it over.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fenced { .. }) | Self::Refused(Refusal::Overtaken { .. }))
    }
}
