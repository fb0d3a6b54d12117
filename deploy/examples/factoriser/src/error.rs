// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, in one sentence each, and the exit codes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::space::{MAX_NUMBER, MAX_WORKERS};

/// Why a worker or a master can't start or go on. The cause, where there is one, is the error's `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The number is too small or too large.
    #[error("{0} can't be factorised here: numbers from 2 to {MAX_NUMBER} can")]
    Number(u64),
    /// No workers, or too many.
    #[error("{0} workers can't share the work: 1 to {MAX_WORKERS} can")]
    Workers(usize),
    /// The worker isn't one of the workers.
    #[error("there is no worker {index} among {workers} workers, which count from 0")]
    Index {
        /// The index given.
        index: u32,
        /// The number of workers.
        workers: u32,
    },
    /// No index was given and the hostname doesn't tell it.
    #[error("give --index: the hostname {0:?} doesn't end in an ordinal as factoriser-2 does")]
    Hostname(String),
    /// Not a worker's address.
    #[error("{url:?} is not a worker's address: http://host:port is expected, {{index}} in it stands for the worker's index")]
    Url {
        /// The address given.
        url: String,
    },
    /// An address with `{index}` in it, and no number of workers.
    #[error("give --workers: how many workers {url:?} stands for is not known")]
    Pattern {
        /// The address given.
        url: String,
    },
    /// The list of addresses and the number of workers contradict each other.
    #[error("{urls} worker addresses were given for {workers} workers")]
    Urls {
        /// Addresses given.
        urls: usize,
        /// The number of workers.
        workers: usize,
    },
    /// Another process works in the state directory.
    #[error("another process is using the state directory {}", .0.display())]
    InUse(PathBuf),
    /// The state directory belongs to the search for another number's factors.
    #[error("{} keeps progress on the number {found}, not on {number}", path.display())]
    OtherNumber {
        /// The file that says so.
        path: PathBuf,
        /// The number it is about.
        found: u64,
        /// The number asked for.
        number: u64,
    },
    /// A file of the state directory can't be used.
    #[error("can't {action} {}", path.display())]
    File {
        /// What was to be done: "read", "write" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The HTTP server ended by itself.
    #[error("the HTTP server failed")]
    Serve(#[source] io::Error),
    /// SIGTERM and SIGINT can't be waited for.
    #[error("can't wait for signals")]
    Signals(#[source] io::Error),
    /// A task ended abnormally.
    #[error("a task of the process was lost")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    /// The exit code of a process that ends with this error: 2 when it was called wrongly (as for an unusable command
    /// line), 3 when the state directory is in use or belongs to another number, 4 when its address can't be listened
    /// on, and 1 for every other failure.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Number(_)
            | Self::Workers(_)
            | Self::Index { .. }
            | Self::Hostname(_)
            | Self::Url { .. }
            | Self::Pattern { .. }
            | Self::Urls { .. } => 2,
            Self::InUse(_) | Self::OtherNumber { .. } => 3,
            Self::Listen { .. } => 4,
            Self::File { .. } | Self::Serve(_) | Self::Signals(_) | Self::Task(_) => 1,
        }
    }
}
