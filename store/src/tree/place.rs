// SPDX-License-Identifier: Apache-2.0
//! Where things are stored.

use holdfast_core::id::{DomainId, LineageId, Nonce};
use std::sync::{Arc, OnceLock};

/// An object that holds frames, of the domain at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A pack.
    Pack {
        /// The lineage it belongs to.
        lineage: LineageId,
        /// The record it was written for.
        sequence: u64,
        /// The epoch it is sealed under.
        epoch: u32,
        /// The end of its name.
        nonce: Nonce,
        /// Whether it is, or was going to be, 4 MiB or larger: consolidation leaves it alone.
        large: bool,
    },
    /// A record, for its inline frames.
    Record {
        /// The lineage.
        lineage: LineageId,
        /// The record's number.
        sequence: u64,
    },
}

impl Object {
    /// The lineage it belongs to.
    #[must_use]
    pub const fn lineage(&self) -> LineageId {
        match self {
            Self::Pack { lineage, .. } | Self::Record { lineage, .. } => *lineage,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, domain: DomainId) -> crate::name::Name {
        match *self {
            Self::Pack { lineage, sequence, nonce, .. } => crate::name::Name::pack(domain, lineage, sequence, nonce),
            Self::Record { lineage, sequence } => crate::name::Name::record(domain, lineage, sequence),
        }
    }

    /// What this object adds to `young` in hints of a node of `lineage`: its sequence, if it is a small object of that lineage.
    #[must_use]
    pub fn young(&self, lineage: LineageId) -> u64 {
        match *self {
            Self::Pack { lineage: own, sequence, large: false, .. } if own == lineage => sequence,
            Self::Record { lineage: own, sequence } if own == lineage => sequence,
            _ => 0,
        }
    }
}

/// A frame's place in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FramePlace {
    /// Which object.
    pub object: Object,
    /// As sealed: from the object's first byte in packs, from the end of the body in records.
    pub offset: u64,
    /// Bytes as stored.
    pub sealed_len: u32,
    /// Bytes of the plaintext.
    pub plain_len: u32,
}

/// A frame that things lie in. Its place becomes known when it is written to a pack; until then it is pending.
#[derive(Debug, Default)]
pub struct Frame {
    place: OnceLock<FramePlace>,
}

impl Frame {
    /// A frame that is not stored yet.
    #[must_use]
    pub fn pending() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A frame that is stored.
    #[must_use]
    pub fn stored(place: FramePlace) -> Arc<Self> {
        Arc::new(Self { place: OnceLock::from(place) })
    }

    /// Its place, if it is stored.
    #[must_use]
    pub fn place(&self) -> Option<&FramePlace> {
        self.place.get()
    }

    /// Records that the frame was stored. A frame is stored once.
    pub fn store(&self, place: FramePlace) {
        let first = self.place.set(place).is_ok();
        debug_assert!(first, "a frame is stored once");
    }
}

/// Where a chunk or a node lies.
#[derive(Debug, Clone)]
pub struct Place {
    /// The frame.
    pub frame: Arc<Frame>,
    /// The offset in the frame's plaintext.
    pub inner: u32,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        let same_frame = Arc::ptr_eq(&self.frame, &other.frame)
            || matches!((self.frame.place(), other.frame.place()), (Some(one), Some(two)) if one == two);
        same_frame && self.inner == other.inner
    }
}

impl Eq for Place {}

impl Place {
    /// What this place adds to `young` in hints of a node of `lineage`; a pending frame is about to be written small.
    #[must_use]
    pub fn young(&self, lineage: LineageId) -> u64 {
        self.frame.place().map_or(0, |place| place.object.young(lineage))
    }
}
