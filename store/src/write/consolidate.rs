// SPDX-License-Identifier: Apache-2.0
//! Folds counted like an odometer, and what each sixteenth rewrites: live frames in small young objects, so that a restore never has to
//! gather them from more than a few objects per level.

use super::compose::Composer;
use crate::error::{Result, StoreError};
use crate::frame::{Encoder, TARGET};
use crate::tree::visit::rebuild_node;
use crate::tree::{At, Frame, MapKind, NodeRef, NodeStore, Place, Visitor};
use holdfast_core::id::{ChunkId, LineageId};
use std::sync::Arc;

/// Folds per consolidation of level 1, consolidations per one of the next level.
pub(super) const RADIX: u64 = 16;

/// What the next fold also does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Odometer {
    /// Sequence of the newest consolidation of each level.
    pub(super) levels: Vec<u64>,
    /// Of each level, consolidations of the level below since then.
    pub(super) counts: Vec<u64>,
}

impl Odometer {
    /// Counts a fold with that sequence. `Some(since)`: live frames of small objects younger than this are to be rewritten.
    pub(super) fn fold(&mut self, sequence: u64) -> Option<u64> {
        let mut since = None;
        for level in 0.. {
            if self.counts.len() <= level {
                self.counts.push(0);
                self.levels.push(0);
            }
            self.counts[level] += 1;
            if self.counts[level] < RADIX {
                break;
            }
            since = Some(self.levels[level]);
            self.counts[level] = 0;
            self.levels[level] = sequence;
        }
        since
    }
}

/// Rewrites what lies in small objects of the lineage that are younger than `since`.
pub(super) struct Consolidation<'c> {
    composer: &'c mut Composer,
    lineage: LineageId,
    since: u64,
    frame: Arc<Frame>,
    plaintext: Vec<u8>,
    encoder: Encoder,
}

impl<'c> Consolidation<'c> {
    pub(super) fn new(composer: &'c mut Composer, lineage: LineageId, since: u64) -> Result<Self> {
        let encoder = Encoder::new().map_err(|error| StoreError::damaged("frame", error))?;
        Ok(Self { composer, lineage, since, frame: Frame::pending(), plaintext: Vec::new(), encoder })
    }

    /// Writes the open frame of chunks.
    pub(super) fn close(&mut self) -> Result<()> {
        if self.plaintext.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        let codec = self.encoder.encode(&self.plaintext, &mut payload).map_err(|error| StoreError::damaged("frame", error))?;
        let plain_len = u32::try_from(self.plaintext.len()).unwrap_or(u32::MAX);
        let frame = std::mem::replace(&mut self.frame, Frame::pending());
        frame.store(self.composer.packs.push_chunks(codec, &payload, plain_len)?);
        self.plaintext.clear();
        Ok(())
    }
}

impl Visitor for Consolidation<'_> {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        if matches!(&node.at, At::Stored(stored) if stored.young <= self.since) {
            return Ok(node.clone());
        }
        let loaded = self.composer.reader.load(node)?;
        let rebuilt = rebuild_node(&*loaded, self)?;
        self.close()?; // what the node refers to must have its place
        Ok(NodeRef { at: At::Stored(self.composer.write(&rebuilt)?), ..node.clone() })
    }

    fn chunk(&mut self, place: &Place, len: u32, id: &ChunkId) -> Result<Place> {
        let young = place.young(self.lineage);
        if young <= self.since || young == self.composer.sequence() {
            return Ok(place.clone()); // old enough, or just written beside this
        }
        let bytes = self.composer.reader.chunk(place, len, id)?;
        if !self.plaintext.is_empty() && self.plaintext.len() + bytes.len() > TARGET {
            self.close()?;
        }
        let inner = u32::try_from(self.plaintext.len()).unwrap_or(u32::MAX);
        self.plaintext.extend_from_slice(&bytes);
        Ok(Place { frame: Arc::clone(&self.frame), inner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A year of folds every 26 seconds: how often a byte is rewritten, and how many small objects remain.
    #[test]
    fn rewriting_and_scatter_stay_logarithmic() {
        let mut odometer = Odometer { levels: Vec::new(), counts: Vec::new() };
        // each object with how often its bytes were rewritten
        let mut small: Vec<(u64, u32)> = Vec::new();
        let (mut most_small, mut most_rewritten) = (0, 0);
        for fold in 1..=1_200_000_u64 {
            small.push((fold, 0));
            if let Some(since) = odometer.fold(fold) {
                let times = small.iter().filter(|(sequence, _)| *sequence > since).map(|(_, times)| times + 1).max().unwrap_or(0);
                small.retain(|(sequence, _)| *sequence <= since);
                small.push((fold, times));
                most_rewritten = most_rewritten.max(times);
            }
            most_small = most_small.max(small.len());
        }
        assert!(most_small <= 16 * 6, "{most_small} small objects");
        assert!(most_rewritten <= 6, "rewritten {most_rewritten} times");
    }
}
