// SPDX-License-Identifier: Apache-2.0
//! What of a log is history: everything from the newest boundary on, and below it what the boundary lists.

use super::Log;
use crate::error::{Result, StoreError};
use crate::record::wire;
use crate::register::Register;
use holdfast_core::checkpoint::Quality;
use holdfast_core::collection::{Kept, Look, Looks};
use holdfast_core::id::RecordHash;
use holdfast_core::time::Timestamp;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The newest boundary of a lineage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boundary {
    /// Its number in the register; 0: there is none, and everything is history.
    pub entry: u64,
    /// From this number on every record is history.
    pub sequence: u64,
    /// What is below it.
    pub kept: BTreeMap<u64, (RecordHash, Kept)>,
    /// Heads that collectors saw.
    pub looks: Looks,
}

impl Boundary {
    /// Whether the record with that number is history, if it exists.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        sequence >= self.sequence || self.kept.contains_key(&sequence)
    }

    /// Whether that record with that hash is history.
    #[must_use]
    pub fn is_history(&self, sequence: u64, hash: RecordHash) -> bool {
        sequence >= self.sequence || self.kept.get(&sequence).is_some_and(|(kept, _)| *kept == hash)
    }

    /// The body of the register's entry.
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let kept = |(sequence, (hash, kept)): (&u64, &(RecordHash, Kept))| wire::Kept {
            sequence: *sequence,
            record: hash.as_bytes().to_vec(),
            seen_ns: kept.time.nanos(),
            quality: kept.quality.map_or(0, wire::quality_code),
        };
        let look = |look: &Look| wire::Look { head: look.head, seen_ns: look.at.nanos() };
        wire::Boundary {
            sequence: self.sequence,
            kept: self.kept.iter().map(kept).collect(),
            looks: self.looks.all().iter().map(look).collect(),
        }
        .encode_to_vec()
    }

    fn from_body(entry: u64, body: &[u8]) -> std::result::Result<Self, String> {
        let wire = wire::Boundary::decode(body).map_err(|error| error.to_string())?;
        let mut kept = BTreeMap::new();
        for one in wire.kept.iter().filter(|one| one.sequence < wire.sequence) {
            let hash = RecordHash::try_from(&*one.record).map_err(|error| error.to_string())?;
            let quality: Option<Quality> = wire::quality(one.quality);
            let time = Timestamp::from_nanos(one.seen_ns);
            kept.insert(one.sequence, (hash, Kept { sequence: one.sequence, time, quality }));
        }
        let looks = wire.looks.iter().map(|look| Look { head: look.head, at: Timestamp::from_nanos(look.seen_ns) });
        Ok(Self { entry, sequence: wire.sequence, kept, looks: Looks::new(looks.collect()) })
    }
}

impl Log {
    pub(crate) fn boundaries(&self) -> Register<'_> {
        Register::boundaries(&**self.transport(), self.domain(), self.lineage())
    }

    /// The newest boundary.
    ///
    /// # Errors
    /// If the store fails or the entry is damaged.
    pub async fn boundary(&self) -> Result<Boundary> {
        let register = self.boundaries();
        let entry = register.last(self.known_boundary.load(Ordering::Relaxed)).await?;
        if entry == 0 {
            return Ok(Boundary::default());
        }
        self.knows_boundary(entry);
        let body = register.read(entry).await?;
        Boundary::from_body(entry, &body).map_err(|what| StoreError::damaged(register.name(entry), what))
    }

    /// Entries are never removed: the search for the newest goes on from here.
    pub(super) fn knows_boundary(&self, entry: u64) {
        self.known_boundary.fetch_max(entry, Ordering::Relaxed);
    }
}
