// SPDX-License-Identifier: Apache-2.0
//! What is said of a checkpoint besides its tree.

use crate::time::Timestamp;

/// How far a checkpoint can be trusted to be one moment of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// The capture was not finished: it only keeps what was uploaded reachable.
    Partial,
    /// Something that was captured changed while it was.
    Fuzzy,
    /// Nothing did.
    Clean,
}

impl std::fmt::Display for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Partial => "partial",
            Self::Fuzzy => "fuzzy",
            Self::Clean => "clean",
        })
    }
}

/// What a checkpoint holds, counted by entries of directories: a hard link counts once for each name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files with one name.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links, pipes, sockets, devices.
    pub others: u64,
    /// Names of inodes with several links.
    pub links: u64,
    /// Sum of the lengths of files, in bytes; an inode with several names counts once.
    pub bytes: u64,
    /// What could not be captured.
    pub problems: u64,
}

impl Totals {
    /// Entries of all directories together.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.files.saturating_add(self.directories).saturating_add(self.others).saturating_add(self.links)
    }
}

/// A state path of a checkpoint, and what of it is state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeRoot {
    /// Its name inside the lineage.
    pub label: String,
    /// Where it was captured, for people.
    pub path: String,
    /// Globs of what is state; empty: everything.
    pub include: Vec<String>,
    /// Globs of what is not.
    pub exclude: Vec<String>,
}

/// The paths, includes and excludes that a checkpoint covers. A restore deletes nothing outside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// By label.
    pub roots: Vec<ScopeRoot>,
}

/// Something that could not be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its path below the label, as bytes.
    pub path: Vec<u8>,
    /// Why.
    pub what: String,
}

/// One line of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// The checkpoint's number.
    pub sequence: u64,
    /// The end of its capture.
    pub last_close: Timestamp,
    /// Its quality.
    pub quality: Quality,
}

/// Why a lineage was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A holder started.
    Start,
    /// The state goes back to an older checkpoint.
    Restore,
    /// A restore is taken back.
    Undo,
    /// The lineage begins with a checkpoint of another.
    Fork,
    /// Somebody asked to take over another owner's lineage.
    Adopt,
    /// Somebody asked to pass a head that can't be read.
    Repair,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Restore => "restore",
            Self::Undo => "undo",
            Self::Fork => "fork",
            Self::Adopt => "adopt",
            Self::Repair => "repair",
        })
    }
}
