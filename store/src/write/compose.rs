// SPDX-License-Identifier: Apache-2.0
//! What a checkpoint is composed of: frames that are held in memory while they are few, packs when they are many.

use super::batch::{Batch, EncodedChunk, Stored};
use super::nodes::NodeFrames;
use super::packs::Packs;
use super::{Encoders, Tuning};
use crate::error::{Result, StoreError};
use crate::key::Identity;
use crate::reader::Reader;
use crate::tree::editor::NodeSink;
use crate::tree::visit::rebuild_node;
use crate::tree::{At, Frame, MapKind, MapRef, Node, NodeRef, NodeStore, Place, RootItem, StoredNode, Visitor};
use holdfast_core::id::{ChunkId, LineageId};
use std::collections::HashSet;
use std::sync::Arc;

/// A frame of chunks that is not in a pack yet.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Arc<Frame>,
    pub(super) codec: u8,
    pub(super) payload: Vec<u8>,
    pub(super) plain_len: u32,
}

/// The state paths of a checkpoint that is being composed.
pub type Composed = Vec<RootItem>;

/// Takes chunks and nodes, in the order in which a restore will want them.
///
/// A small change stays in memory, to be carried in the record. From a certain size on everything goes to packs as it comes, so that memory
/// does not grow with the size of a capture.
#[derive(Debug)]
pub struct Composer {
    pub(super) reader: Arc<Reader>,
    pub(super) packs: Packs,
    pub(super) nodes: NodeFrames,
    pub(super) held: Vec<Held>,
    held_bytes: usize,
    node_bytes: usize,
    pub(super) streaming: bool,
    tuning: Tuning,
    /// Bytes of chunks that were new.
    pub(super) new_bytes: u64,
}

impl Composer {
    pub(super) fn new(reader: Arc<Reader>, lineage: LineageId, sequence: u64, tuning: Tuning) -> Result<Self> {
        let packs = Packs::new(Arc::clone(&reader), lineage, sequence, tuning.clone());
        let nodes = NodeFrames::new()?;
        Ok(Self { reader, packs, nodes, held: Vec::new(), held_bytes: 0, node_bytes: 0, streaming: false, tuning, new_bytes: 0 })
    }

    /// Begins the next checkpoint.
    pub(super) fn advance(&mut self, sequence: u64) {
        self.packs.advance(sequence);
        self.held_bytes = self.held.iter().map(|held| held.payload.len()).sum();
        self.node_bytes = 0;
        self.new_bytes = 0;
    }

    /// The number of the record that is being composed.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.packs.sequence()
    }

    /// Bytes of packs handed to the store for this record so far.
    #[must_use]
    pub const fn uploaded_bytes(&self) -> u64 {
        self.packs.uploaded_bytes
    }

    /// Whether the capture has outgrown memory and goes to packs as it comes.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// A chunk of a batch: waits until it is encoded, and gives it its place.
    ///
    /// # Errors
    /// If it could not be encoded or a pack not be uploaded.
    pub fn stored(&mut self, encoders: &Encoders, batch: &Batch, index: usize) -> Result<Stored> {
        if let Some(encoded) = batch.take()? {
            let frame = Frame::pending();
            let chunks: Vec<_> = encoded
                .chunks
                .into_iter()
                .map(|chunk| match chunk {
                    EncodedChunk::Known(stored) => stored,
                    EncodedChunk::New { id, inner, len } => {
                        self.new_bytes += u64::from(len);
                        Stored { id, len, place: Place { frame: Arc::clone(&frame), inner }, known: false }
                    }
                })
                .collect();
            if encoded.plain_len > 0 {
                let held = Held { frame, codec: encoded.codec, payload: encoded.payload, plain_len: encoded.plain_len };
                if let Some(payload) = self.hold(held)? {
                    encoders.done_with(payload);
                }
            }
            encoders.remember(encoded.epoch, chunks.iter().filter(|chunk| !chunk.known));
            batch.place(chunks);
        }
        batch.stored(index).ok_or_else(|| StoreError::damaged("frame", "it has no such chunk"))
    }

    /// Keeps a frame or places it; then its payload is not needed any more.
    fn hold(&mut self, mut held: Held) -> Result<Option<Vec<u8>>> {
        if self.streaming {
            self.place(&held)?;
            return Ok(Some(held.payload));
        }
        held.payload.shrink_to_fit();
        self.held_bytes += held.payload.len();
        self.held.push(held);
        self.stream_if_large()?;
        Ok(None)
    }

    fn place(&mut self, held: &Held) -> Result<()> {
        held.frame.store(self.packs.push_chunks(held.codec, &held.payload, held.plain_len)?);
        Ok(())
    }

    fn stream_if_large(&mut self) -> Result<()> {
        if self.streaming || self.held_bytes.max(self.node_bytes) <= self.tuning.fold_bytes {
            return Ok(());
        }
        self.streaming = true;
        self.place_held()
    }

    /// Writes everything held to packs.
    pub(super) fn place_held(&mut self) -> Result<()> {
        for held in std::mem::take(&mut self.held) {
            self.place(&held)?;
        }
        self.held_bytes = 0;
        Ok(())
    }

    /// Drops held frames that nothing in these trees refers to any more.
    pub(super) fn drop_dead(&mut self, roots: &[RootItem]) -> Result<()> {
        let mut live = LiveFrames { frames: HashSet::new() };
        for root in roots {
            live.map(&root.entries())?;
            live.map(&root.links)?;
            crate::tree::visit::rebuild_inode(&root.directory, &mut live)?;
        }
        self.held.retain(|held| live.frames.contains(&Arc::as_ptr(&held.frame)));
        Ok(())
    }

    /// The trees with every node in a pack.
    pub(super) fn store_roots(&mut self, roots: &[RootItem]) -> Result<Vec<RootItem>> {
        let store = |root: &RootItem, sink: &mut Self| <crate::tree::Roots as MapKind>::rebuild(root, sink);
        roots.iter().map(|root| store(root, self)).collect()
    }

    /// Finishes the open frame of nodes and both packs, and waits until they are durable.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.nodes.close(&mut self.packs)?;
        self.packs.flush()
    }

    pub(super) fn write<K: MapKind>(&mut self, node: &Node<K>) -> Result<StoredNode> {
        self.nodes.write(node, &mut self.packs)
    }
}

impl NodeStore for Composer {
    fn identity(&self) -> &Identity {
        self.reader.identity()
    }

    fn load<K: MapKind>(&self, node: &NodeRef<K>) -> Result<Arc<Node<K>>> {
        if let At::Stored(stored) = &node.at
            && stored.place.frame.place().is_none()
        {
            return Err(StoreError::damaged("node", "it is read back before its frame was finished"));
        }
        self.reader.load(node)
    }
}

impl NodeSink for Composer {
    fn save<K: MapKind>(&mut self, node: &Arc<Node<K>>) -> Result<NodeRef<K>> {
        let canonical = node.canonical();
        let id = self.identity().node_id(&canonical);
        let (level, entries) = (node.level(), node.entries());
        if !self.streaming {
            self.node_bytes += canonical.len();
            self.stream_if_large()?;
        }
        let at = if self.streaming {
            let node = rebuild_node(&**node, self)?;
            At::Stored(self.write(&node)?)
        } else {
            At::Memory(Arc::clone(node))
        };
        Ok(NodeRef { id, level, entries, at })
    }
}

/// Storing: nodes in memory are written, children first; everything else stays where it is.
impl Visitor for Composer {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        let At::Memory(loaded) = &node.at else { return Ok(node.clone()) };
        let rebuilt = rebuild_node(&**loaded, self)?;
        Ok(NodeRef { at: At::Stored(self.write(&rebuilt)?), ..node.clone() })
    }

    fn chunk(&mut self, place: &Place, _: u32, _: &ChunkId) -> Result<Place> {
        Ok(place.clone())
    }
}

/// Which pending frames the nodes in memory refer to. Stored nodes can't refer to any.
struct LiveFrames {
    frames: HashSet<*const Frame>,
}

impl Visitor for LiveFrames {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        if let At::Memory(loaded) = &node.at {
            rebuild_node(&**loaded, self)?;
        }
        Ok(node.clone())
    }

    fn chunk(&mut self, place: &Place, _: u32, _: &ChunkId) -> Result<Place> {
        if place.frame.place().is_none() {
            self.frames.insert(Arc::as_ptr(&place.frame));
        }
        Ok(place.clone())
    }

    fn map<K: MapKind>(&mut self, map: &MapRef<K>) -> Result<MapRef<K>> {
        match map {
            MapRef::Empty => {}
            MapRef::Inline(node) => drop(rebuild_node(&**node, self)?),
            MapRef::Node(node) => drop(self.node(node)?),
        }
        Ok(MapRef::Empty)
    }
}
