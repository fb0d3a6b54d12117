// SPDX-License-Identifier: Apache-2.0
//! Captures that become checkpoints of a session.

use super::{CaptureSink, Progress};
use crate::error::{Result, StoreError};
use crate::key::Identity;
use crate::tree::editor::NodeSink;
use crate::tree::{MapKind, Node, NodeRef, NodeStore};
use crate::write::{Batch, CheckpointMeta, Encoders, Session, Stored};
use holdfast_core::checkpoint::{Quality, Scope};
use holdfast_core::id::VolumeId;
use std::sync::Arc;

/// Puts a capture's results into a session; what takes long is committed on the way.
#[derive(Debug)]
pub struct Checkpointing<'s> {
    /// The session.
    pub session: &'s mut Session,
    /// What the capture covers.
    pub scope: Scope,
    /// The volume of the first state path.
    pub volume: Option<VolumeId>,
    /// Partial checkpoints made so far.
    pub partials: u64,
}

impl NodeStore for Checkpointing<'_> {
    fn identity(&self) -> &Identity {
        self.session.reader().identity()
    }

    fn load<K: MapKind>(&self, node: &NodeRef<K>) -> Result<Arc<Node<K>>> {
        self.session.reader().load(node)
    }
}

impl NodeSink for Checkpointing<'_> {
    fn save<K: MapKind>(&mut self, node: &Arc<Node<K>>) -> Result<NodeRef<K>> {
        self.session.composer().save(node)
    }
}

impl CaptureSink for Checkpointing<'_> {
    fn stored(&mut self, encoders: &Encoders, batch: &Batch, index: usize) -> Result<Stored, StoreError> {
        self.session.composer().stored(encoders, batch, index)
    }

    fn partial(&mut self, progress: Progress) -> Result<(), StoreError> {
        if !self.session.composer().is_streaming() {
            return Ok(()); // nothing was uploaded that could be lost
        }
        let meta = CheckpointMeta {
            interval: progress.interval,
            quality: Quality::Partial,
            scope: self.scope.clone(),
            totals: progress.totals,
            volume: self.volume,
            problems: Vec::new(),
            now: progress.interval.last_close,
        };
        let done = self.session.commit(&progress.roots, meta)?;
        self.partials += 1;
        tracing::info!(sequence = done.sequence, entries = progress.totals.entries(), "committed what was captured so far");
        Ok(())
    }
}
