// SPDX-License-Identifier: Apache-2.0
//! The seam between the repository and what stores it. Small on purpose: objects are bounded, created once, and read by ranges.

use crate::name::Name;
use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;

pub mod memory;
pub mod retry;
#[cfg(feature = "s3")]
pub mod s3;
pub mod settle;

pub use retry::{Retries, Retrying};

/// The bytes of an object to create, and their SHA-256, which the store checks.
#[derive(Clone)]
pub struct Body {
    /// The whole object.
    pub bytes: Bytes,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}

impl Body {
    /// A body of these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let sha256 = Sha256::digest(&bytes).into();
        Self { bytes, sha256 }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.bytes.len())
    }
}

/// Which bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// All of them.
    All,
    /// So many from an offset on, or as many as there are.
    From {
        /// The first byte's offset.
        offset: u64,
        /// How many at most; not 0.
        len: u64,
    },
}

/// What a creation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was created.
    Yes,
    /// There was one of that name; nothing was changed.
    Exists,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects, in the order of their names, with their sizes in bytes.
    pub objects: Vec<(Name, u64)>,
    /// Common prefixes, if the listing was by level; each ends with `/`.
    pub prefixes: Vec<String>,
    /// Where the next page begins: pass it as `after`. `None` if this was the last.
    pub next: Option<String>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There is no object of that name.
    NotFound,
    /// The range lies beyond the object's end.
    BeyondEnd,
    /// The store understood and refused: rights, a bucket that does not exist, a checksum, a limit.
    Refused,
    /// No answer, a lost connection, 5xx, 409, 429: it may have been done, and may work later.
    Unavailable,
    /// The request could not be made at all.
    Unusable,
}

/// A request that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} {object}: {message}")]
pub struct TransportError {
    /// What was asked, as a verb.
    pub operation: &'static str,
    /// Of which object or prefix.
    pub object: String,
    /// What the store or the network said.
    pub message: String,
    /// What that means.
    pub failure: Failure,
}

impl TransportError {
    /// Whether the object does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self.failure, Failure::NotFound)
    }

    /// Whether trying again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.failure, Failure::Unavailable)
    }
}

/// A store of objects.
///
/// Implementations make one attempt per call, bounded by time-outs of their own, and contain no decisions; [`Retrying`] tries again, and
/// [`settle`] brings creations to a definite end. All must pass the conformance suite in `tests/tests/conformance.rs`.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Creates an object if there is none of that name.
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError>;

    /// Reads an object or a range of it.
    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError>;

    /// The size of an object in bytes, `None` if it doesn't exist.
    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError>;

    /// Lists names that begin with `prefix` and sort after `after`, at most `limit` (and at most 1000). By level: only up to the next `/`.
    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError>;

    /// Removes an object; that it did not exist is no error.
    async fn delete(&self, name: &Name) -> Result<(), TransportError>;

    /// Where the objects are, for people.
    fn location(&self) -> String;
}
