// SPDX-License-Identifier: Apache-2.0
//! What a team says about its state: which paths, how often, how consistent, how long, and what a start may do.
//!
//! These are resolved values: every default is filled in, every text is parsed. What a person writes, and how it is
//! told what is wrong with it, is the business of the API types; what the values must obey is in [`rules`].

pub mod consistency;
pub mod finding;
pub mod pattern;
pub mod retention;
pub mod rules;
pub mod schedule;

pub use consistency::{Call, Consistency, Hook, Hooks, Quiesce, Signal, When};
pub use finding::{Finding, Severity};
pub use retention::{Retention, Tier, Window};
pub use schedule::{Schedule, Turn};

use crate::cadence::Paces;

/// How one application's state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The name of the repository the state goes to.
    pub repository: String,
    /// Whose state it is.
    pub scope: Scope,
    /// The directories that are state.
    pub paths: Vec<StatePath>,
    /// When to capture.
    pub paces: Paces,
    /// When to take snapshots; `None`: when somebody asks.
    pub snapshots: Option<Schedule>,
    /// How the application is brought to rest for a capture.
    pub consistency: Consistency,
    /// Which checkpoints remain as they age.
    pub retention: Retention,
    /// What a start may do with the disk.
    pub restore: Restore,
    /// What the agent may use.
    pub budgets: Budgets,
    /// As whom the agent runs.
    pub user: User,
}

impl Policy {
    /// Everything that is wrong with this policy, or questionable, in the order of its fields.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        rules::findings(rules::RULES, self)
    }
}

/// Whose state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every replica has its own: one lineage each.
    Replica,
    /// All replicas share one volume: one lineage, one writer.
    Shared,
}

/// One directory that is state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePath {
    /// Its name inside the lineage: it stays when the directory moves.
    pub label: String,
    /// Where the application sees it: absolute, without `.` and `..`.
    pub path: String,
    /// Patterns of what is state; none: everything.
    pub include: Vec<String>,
    /// Patterns of what is not.
    pub exclude: Vec<String>,
    /// The volume to add where none covers the path.
    pub provision: Option<Provision>,
}

/// A volume that comes and goes with the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provision {
    /// A generic ephemeral volume.
    EphemeralVolume {
        /// What to ask for.
        size_bytes: u64,
        /// Of which class; `None`: the cluster's default.
        storage_class: Option<String>,
    },
    /// A directory of the node.
    EmptyDir {
        /// At most this much; `None`: whatever the node has.
        size_limit_bytes: Option<u64>,
    },
}

/// What a start may do with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// When to restore.
    pub mode: RestoreMode,
    /// What to restore.
    pub take: Take,
    /// Who wins when another volume holds a state while the store's is newer.
    pub on_divergence: Divergence,
    /// What to do while no coordinator answers.
    pub without_coordinator: WithoutCoordinator,
    /// Set-id bits, file capabilities and devices are restored, too.
    pub special_files: bool,
}

/// When a start restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreMode {
    /// If the state paths are empty.
    IfEmpty,
    /// Whatever the disk holds.
    Always,
    /// Only when somebody asks.
    Never,
}

/// Which checkpoint an automatic restore takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The newest that nothing changed under.
    Clean,
    /// The newest, even if files changed while they were read.
    Newest,
}

/// Who wins when disk and store disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divergence {
    /// Nobody until a person has decided.
    Wait,
    /// What is on the disk; what the store has stays as a branch.
    PreferDisk,
    /// What is in the store; what is on the disk is captured as a branch first.
    PreferStore,
}

/// What a start does while no coordinator answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutCoordinator {
    /// It waits.
    Wait,
    /// It goes on if the disk is the very volume that the last checkpoint was made of.
    SameVolume,
}

/// What the agent may use. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Its own disk space.
    pub scratch_bytes: u64,
    /// Reading the application's files.
    pub read_bytes_per_second: Option<u64>,
    /// Sending to the store.
    pub upload_bytes_per_second: Option<u64>,
}

/// As whom the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// As the application's containers are declared to run.
    Application,
    /// As this user and group: for images that choose or switch their user themselves.
    RunAs {
        /// Numeric user.
        user: u32,
        /// Numeric group; `None`: the pod's.
        group: Option<u32>,
    },
    /// As root with the few capabilities that restoring every owner takes.
    PreserveOwner,
}

#[cfg(test)]
mod tests;
