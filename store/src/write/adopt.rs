// SPDX-License-Identifier: Apache-2.0
//! Going on from a record: what lies inside it moves into memory, since nothing else may refer to it.

use super::compose::Held;
use crate::document::Document;
use crate::error::{Result, StoreError};
use crate::reader::Reader;
use crate::tree::visit::rebuild_node;
use crate::tree::{At, Frame, FramePlace, MapKind, NodeRef, NodeStore, Object, Place, RootItem, Roots, Visitor};
use holdfast_core::id::ChunkId;
use std::collections::HashMap;
use std::sync::Arc;

/// Takes what lies in one record.
pub(super) struct Adoption<'a> {
    reader: &'a Reader,
    document: &'a Document,
    record: Object,
    frames: HashMap<u64, Arc<Frame>>,
    held: Vec<Held>,
}

impl<'a> Adoption<'a> {
    /// The trees of a record with everything that lies inside it in memory, and the frames of its chunks.
    pub(super) fn adopt(
        reader: &'a Reader,
        document: &'a Arc<Document>,
        record: Object,
        roots: &[RootItem],
    ) -> Result<(Vec<RootItem>, Vec<Held>)> {
        reader.know_record(record, Arc::clone(document));
        let mut adoption = Self { reader, document, record, frames: HashMap::new(), held: Vec::new() };
        let roots = roots.iter().map(|root| Roots::rebuild(root, &mut adoption)).collect::<Result<_>>()?;
        Ok((roots, adoption.held))
    }

    fn frame(&mut self, place: &FramePlace) -> Result<Arc<Frame>> {
        if let Some(frame) = self.frames.get(&place.offset) {
            return Ok(Arc::clone(frame));
        }
        let (codec, payload) = self.document.inline(place.offset, place.sealed_len)?;
        let frame = Frame::pending();
        self.held.push(Held { frame: Arc::clone(&frame), codec, payload, plain_len: place.plain_len });
        self.frames.insert(place.offset, Arc::clone(&frame));
        Ok(frame)
    }

    fn is_here(&self, place: &Place) -> Result<Option<FramePlace>> {
        let stored = place.frame.place().ok_or_else(|| StoreError::damaged(self.document.name(), "it refers to nowhere"))?;
        match stored.object {
            object if object == self.record => Ok(Some(*stored)),
            Object::Pack { .. } => Ok(None),
            Object::Record { .. } => Err(StoreError::damaged(self.document.name(), "it refers to another record")),
        }
    }
}

impl Visitor for Adoption<'_> {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        let At::Stored(stored) = &node.at else { return Ok(node.clone()) };
        if self.is_here(&stored.place)?.is_none() {
            return Ok(node.clone());
        }
        let loaded = self.reader.load(node)?;
        Ok(NodeRef { at: At::Memory(Arc::new(rebuild_node(&*loaded, self)?)), ..node.clone() })
    }

    fn chunk(&mut self, place: &Place, _: u32, _: &ChunkId) -> Result<Place> {
        match self.is_here(place)? {
            None => Ok(place.clone()),
            Some(stored) => Ok(Place { frame: self.frame(&stored)?, inner: place.inner }),
        }
    }
}
