// SPDX-License-Identifier: Apache-2.0
//! Why a server doesn't start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened on: taken by another process, or not one of this machine's.
    #[error("can't listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory of the store can't be made, read or removed.
    #[error("can't use {path:?}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server uses the directory. Two would not see each other's locks, so neither could fence.
    #[error("{directory:?} is in use by another server")]
    InUse {
        /// The directory asked for.
        directory: PathBuf,
    },
    /// A bucket of the configuration is not named as S3 allows: 3 to 63 of a-z, 0-9, `.` and `-`.
    #[error("{0:?} can't be the name of a bucket")]
    BucketName(String),
    /// The configuration and the directory have more buckets than the server keeps: 100.
    #[error("no place for bucket {0:?}")]
    TooManyBuckets(String),
    /// The runtime ended while the server was being started.
    #[error("the runtime is shutting down")]
    Interrupted,
}
