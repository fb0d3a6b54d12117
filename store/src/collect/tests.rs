// SPDX-License-Identifier: Apache-2.0
//! Collections: one by one, and beside everybody else ([`sim`]).

use super::frames::Frames;
use super::*;
use crate::error::StoreError;
use crate::log::{Entry, Log};
use crate::tree::visit::{rebuild_inode, rebuild_node};
use crate::tree::{Directory, MapKind, NodeRef, Object, Place, Visitor};
use holdfast_core::id::ChunkId;
use std::any::Any;
use std::sync::Arc;

mod real;
mod sim;

/// What a checkpoint of a [`Scribe`](crate::write::scribe::Scribe) holds, file by file.
async fn contents(log: &Log, entry: &Entry) -> Result<Vec<Vec<u8>>> {
    let checkpoint = entry.record.checkpoint().ok_or(StoreError::Ended)?;
    let mut frames = Frames::new(&**log.transport(), log.domain())?;
    let object = Object::Record { lineage: log.lineage(), sequence: entry.record.sequence };
    frames.know_record(object, Arc::clone(&entry.document));
    let mut found = Found::default();
    for root in &checkpoint.roots {
        rebuild_inode(&root.directory, &mut found)?;
    }
    while let Some(node) = found.nodes.pop() {
        let (_, loaded) = frames.node(&node).await?;
        rebuild_node(&loaded, &mut found)?;
    }
    let mut files = Vec::new();
    for (place, len, id) in &found.chunks {
        let frame = place.frame.place().ok_or(StoreError::Ended)?;
        let plaintext = frames.plaintext(frame).await?;
        let start = place.inner as usize;
        let bytes = plaintext.get(start..start + *len as usize).ok_or(StoreError::Ended)?;
        assert_eq!(log.domain().keys.identity.chunk_id(bytes), *id);
        files.push(bytes.to_vec());
    }
    Ok(files)
}

#[derive(Default)]
struct Found {
    nodes: Vec<NodeRef<Directory>>,
    chunks: Vec<(Place, u32, ChunkId)>,
}

impl Visitor for Found {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        let any: &dyn Any = node;
        self.nodes.extend(any.downcast_ref::<NodeRef<Directory>>().cloned());
        Ok(node.clone())
    }

    fn chunk(&mut self, place: &Place, len: u32, id: &ChunkId) -> Result<Place> {
        self.chunks.push((place.clone(), len, *id));
        Ok(place.clone())
    }
}
