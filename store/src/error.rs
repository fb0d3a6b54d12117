// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a repository. Every error keeps its side: the store's errors never look like a file's.

use crate::transport::TransportError;

/// A failure of the repository or its store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store did not do what it was asked.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An object is not what it should be: damaged, truncated, exchanged, or never Holdfast's.
    #[error("object {object} is damaged: {what}")]
    Damaged {
        /// Its name.
        object: String,
        /// What was found.
        what: String,
    },
    /// An object that something refers to does not exist.
    #[error("object {object} is missing, and with it {what}")]
    Missing {
        /// Its name.
        object: String,
        /// What it held.
        what: String,
    },
    /// The key does not open it. Nothing is wrong with the object.
    #[error("the key does not open {object}: it was sealed under another one")]
    WrongKey {
        /// Its name.
        object: String,
    },
    /// None of the key slots opens with this passphrase.
    #[error(
        "wrong passphrase: none of the repository's {slots} key slots opens with it; check HOLDFAST_PASSPHRASE or --passphrase-file"
    )]
    WrongPassphrase {
        /// How many were tried.
        slots: u64,
    },
    /// A newer program wrote it.
    #[error("{object} needs {needs}, which this version of Holdfast doesn't know: use a newer holdfast")]
    Unsupported {
        /// Its name.
        object: String,
        /// The format version or the feature.
        needs: String,
    },
    /// There is no repository under the prefix.
    #[error("there is no Holdfast repository at {location}; `holdfast run` and `holdfast repo init` create one")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// Another holder has taken the lineage.
    #[error("lineage {lineage} was taken over by another holder; this one must not write any more")]
    Fenced {
        /// Its name.
        lineage: String,
    },
    /// The store shows an older history than was seen before.
    #[error(
        "the log of lineage {lineage} ends at {found}, but {seen} was seen earlier: the store was rolled back or has lost data; nothing was written"
    )]
    RolledBack {
        /// Its name.
        lineage: String,
        /// The head found.
        found: u64,
        /// The head remembered.
        seen: u64,
    },
    /// The lineage belongs to another cluster or machine.
    #[error(
        "lineage {lineage} belongs to {owner} (held by {holder}); it is read-only here until it is taken over explicitly: --take-over"
    )]
    ForeignOwner {
        /// Its name.
        lineage: String,
        /// The owner's id.
        owner: String,
        /// Its last holder.
        holder: String,
    },
    /// Another holder has the lineage, or had it when it was last heard of.
    #[error("lineage {lineage} is held by {holder} and was not closed; if that holder is gone, take it over: --take-over")]
    Held {
        /// Its name.
        lineage: String,
        /// Its last holder.
        holder: String,
    },
    /// A checkpoint may not be made needed any more: it is about to be deleted, or was left behind by a replaced writer.
    #[error("checkpoint {sequence} of lineage {lineage} {why}: choose another one")]
    Leaving {
        /// The lineage's name, or its id.
        lineage: String,
        /// Its number.
        sequence: u64,
        /// What keeps it from staying.
        why: &'static str,
    },
    /// There is a snapshot of that name.
    #[error("there is a snapshot called {name:?} already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The request made a snapshot, and somebody has deleted it since.
    #[error("this request made snapshot {id}, which was deleted since")]
    Withdrawn {
        /// Its id.
        id: String,
    },
    /// A writer failed before and must be opened anew.
    #[error("the session has ended with an earlier error")]
    Ended,
    /// The agent's own disk space failed.
    #[error("scratch space {path}: {source}")]
    Scratch {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Work was called off.
    #[error("cancelled")]
    Cancelled,
}

impl StoreError {
    /// Damage found in an object.
    pub(crate) fn damaged(object: impl ToString, what: impl ToString) -> Self {
        Self::Damaged { object: object.to_string(), what: what.to_string() }
    }

    /// Whether an object that was asked for does not exist.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. }) || matches!(self, Self::Transport(error) if error.is_not_found())
    }

    /// Whether trying again later may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_retryable())
    }
}

/// A result with the repository's error.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
