// SPDX-License-Identifier: Apache-2.0
//! Writing: from bytes of files to an acknowledged checkpoint.
//!
//! A capture hands chunks to a [`Batcher`], which fills frames and has them hashed and compressed by the [`Encoders`]; the [`Composer`]
//! takes the results in order, keeps what is small in memory or fills packs, and holds the trees that are being edited;
//! [`Session::commit`] turns its outcome into a record. See `docs/rfcs/0001-repository.md`.

mod adopt;
mod batch;
mod budget;
mod compose;
mod consolidate;
mod encoders;
mod nodes;
mod packs;
mod session;

pub use batch::{Batch, Batcher, Known, Stored};
pub use compose::{Composed, Composer};
pub use encoders::Encoders;
pub use session::{Acknowledged, CheckpointMeta, Opening, Session, Takeover};

/// Sizes and counts that a writer works with. None of them is part of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// A pack of chunks is closed at this many bytes.
    pub pack_bytes: usize,
    /// A pack of nodes is closed at this many bytes.
    pub node_pack_bytes: usize,
    /// What changed since the last fold is carried in records up to this many bytes; then it is folded.
    pub fold_bytes: usize,
    /// A fold after this many checkpoints at the latest.
    pub fold_after: u64,
    /// Packs being uploaded at once.
    pub uploads: usize,
    /// Threads that hash and compress.
    pub encoders: usize,
}

impl Default for Tuning {
    /// Within 64 MiB: two packs in flight, one of each kind being filled, and what the encoders hold.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            pack_bytes: 5 << 20,
            node_pack_bytes: 4 << 20,
            fold_bytes: 256 << 10,
            fold_after: 300,
            uploads: 3,
            encoders: cores.min(4),
        }
    }
}

#[cfg(test)]
pub(crate) mod scribe;
#[cfg(test)]
mod tests;
