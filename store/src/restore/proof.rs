// SPDX-License-Identifier: Apache-2.0
//! What is on disk, as a root id: computed along the recorded extents, by the same code that captures.

use super::Target;
use crate::capture::{CaptureError, CaptureSink, Clock, Dirt, Old, Outcome, Progress, Request, Source, capture};
use crate::error::{Result, StoreError};
use crate::key::Identity;
use crate::reader::Reader;
use crate::record::root_id;
use crate::tree::editor::NodeSink;
use crate::tree::{At, Frame, MapKind, Node, NodeRef, NodeStore, Place, RootItem, Roots, StoredNode};
use crate::write::{Batch, Encoders, Stored};
use holdfast_core::checkpoint::Totals;
use holdfast_core::id::RootId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What a disk holds.
#[derive(Debug)]
pub struct Proof {
    /// The root id of what is there.
    pub root: RootId,
    /// What was counted on the way.
    pub outcome: Outcome,
}

/// Keeps ids and nothing else.
struct IdsOnly<'a> {
    reader: &'a Reader,
    nowhere: Arc<Frame>,
}

impl NodeStore for IdsOnly<'_> {
    fn identity(&self) -> &Identity {
        self.reader.identity()
    }

    fn load<K: MapKind>(&self, node: &NodeRef<K>) -> Result<Arc<Node<K>>> {
        self.reader.load(node)
    }
}

impl NodeSink for IdsOnly<'_> {
    fn save<K: MapKind>(&mut self, node: &Arc<Node<K>>) -> Result<NodeRef<K>> {
        let id = self.identity().node_id(&node.canonical());
        let place = Place { frame: Arc::clone(&self.nowhere), inner: 0 };
        Ok(NodeRef { id, level: node.level(), entries: node.entries(), at: At::Stored(StoredNode { place, len: 0, young: 0 }) })
    }
}

impl CaptureSink for IdsOnly<'_> {
    fn stored(&mut self, _: &Encoders, batch: &Batch, index: usize) -> Result<Stored, StoreError> {
        batch.identify(index, &self.nowhere)
    }

    fn partial(&mut self, _: Progress) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Computes the root id of what the targets hold, along the extents of these trees. Must not be called from a thread that drives asynchronous
/// tasks.
///
/// # Errors
/// If a target can't be read, or the trees can't.
pub fn prove(
    reader: &Arc<Reader>,
    roots: &[RootItem],
    totals: &Totals,
    targets: &[Target],
    scratch: Option<PathBuf>,
    clock: &dyn Clock,
    cancel: &AtomicBool,
) -> Result<Proof, CaptureError> {
    let source =
        |target: &Target| Source { label: target.label.clone(), dir: Arc::clone(&target.dir), filter: target.filter.clone() };
    let mut sources: Vec<_> = targets.iter().map(source).collect();
    sources.sort_by(|one, two| one.label.cmp(&two.label));
    let dirt: BTreeMap<_, _> = sources.iter().map(|source| (source.label.clone(), Dirt::all())).collect();
    let request = Request {
        sources: &sources,
        dirt: &dirt,
        foreign: true,
        scratch,
        clock,
        cancel,
        observer: None,
        encoders: 2,
        clones: None,
        brief: false,
        partial_after: Duration::MAX,
    };
    let mut sink = IdsOnly { reader, nowhere: Frame::pending() };
    let outcome = capture(&request, &Old { roots, totals, reader }, &mut sink)?;
    let root = root_id(reader.domain(), &Node::<Roots>::Leaf(outcome.roots.clone()));
    Ok(Proof { root, outcome })
}
