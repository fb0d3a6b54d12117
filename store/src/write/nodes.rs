// SPDX-License-Identifier: Apache-2.0
//! Nodes on their way into frames.

use super::packs::Packs;
use crate::codec::Write;
use crate::document::DocumentBuilder;
use crate::error::{Result, StoreError};
use crate::frame::{Encoder, PLAIN_MAX, TARGET};
use crate::tree::hints::Home;
use crate::tree::visit::rebuild_node;
use crate::tree::{At, Frame, FramePlace, MapKind, Node, NodeRef, Object, Place, RootItem, Roots, StoredNode, Visitor};
use holdfast_core::id::ChunkId;
use std::collections::HashMap;
use std::sync::Arc;

/// Where frames go: packs, or a record.
pub(super) trait FrameTarget {
    /// The object that the next frame of nodes will lie in.
    fn object(&mut self) -> Result<Object>;
    /// Takes a frame of nodes.
    fn push(&mut self, frame: &Arc<Frame>, codec: u8, payload: &[u8], plain_len: u32) -> Result<()>;
    /// The place of a frame, if nodes written here may refer to it.
    fn resolve(&self, frame: &Arc<Frame>) -> Option<FramePlace>;
}

/// Fills frames with nodes, children before parents.
pub(super) struct NodeFrames {
    frame: Arc<Frame>,
    plaintext: Vec<u8>,
    encoder: Encoder,
}

impl std::fmt::Debug for NodeFrames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeFrames({} bytes open)", self.plaintext.len())
    }
}

impl NodeFrames {
    pub(super) fn new() -> Result<Self> {
        let encoder = Encoder::new().map_err(|error| StoreError::damaged("frame", error))?;
        Ok(Self { frame: Frame::pending(), plaintext: Vec::new(), encoder })
    }

    /// Appends a node whose children and chunks have places.
    pub(super) fn write<K: MapKind, T: FrameTarget>(&mut self, node: &Node<K>, target: &mut T) -> Result<StoredNode> {
        let canonical = node.canonical();
        let mut object = target.object()?;
        let mut bytes = Vec::with_capacity(canonical.len() + canonical.len() / 3);
        let mut young = self.encode(node, &canonical, object, target, &mut bytes)?;
        if !self.plaintext.is_empty() && self.plaintext.len() + bytes.len() > TARGET {
            // what it refers to in the open frame is no longer in its own frame
            self.close(target)?;
            object = target.object()?;
            young = self.encode(node, &canonical, object, target, &mut bytes)?;
        }
        if bytes.len() > PLAIN_MAX {
            return Err(StoreError::damaged("node", format_args!("it would have {} bytes, more than a frame may", bytes.len())));
        }
        // what a reader would refuse must not leave
        let mut prefix = Vec::new();
        prefix.put_varint(canonical.len() as u64);
        let hints = bytes.get(prefix.len() + canonical.len()..).unwrap_or_default();
        Node::<K>::decode(&canonical, hints, object, &self.frame)
            .map_err(|error| StoreError::damaged("node", format_args!("it would not be read back: {error}")))?;
        let inner = u32::try_from(self.plaintext.len()).unwrap_or(u32::MAX);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.plaintext.extend_from_slice(&bytes);
        Ok(StoredNode { place: Place { frame: Arc::clone(&self.frame), inner }, len, young })
    }

    fn encode<K: MapKind, T: FrameTarget>(
        &self,
        node: &Node<K>,
        canonical: &[u8],
        object: Object,
        target: &T,
        bytes: &mut Vec<u8>,
    ) -> Result<u64> {
        bytes.clear();
        bytes.put_prefixed(canonical);
        let resolve = |frame: &Arc<Frame>| target.resolve(frame);
        let beneath = node.hints(Home { object, frame: &self.frame, resolve: &resolve }, bytes);
        let beneath = beneath.ok_or_else(|| StoreError::damaged("node", "it refers to something that has no place yet"))?;
        Ok(beneath.max(object.young(object.lineage())))
    }

    /// Finishes the open frame.
    pub(super) fn close<T: FrameTarget>(&mut self, target: &mut T) -> Result<()> {
        if self.plaintext.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        let codec = self.encoder.encode(&self.plaintext, &mut payload).map_err(|error| StoreError::damaged("frame", error))?;
        let frame = std::mem::replace(&mut self.frame, Frame::pending());
        target.push(&frame, codec, &payload, u32::try_from(self.plaintext.len()).unwrap_or(u32::MAX))?;
        self.plaintext.clear();
        Ok(())
    }
}

impl FrameTarget for Packs {
    fn object(&mut self) -> Result<Object> {
        self.node_object()
    }

    fn push(&mut self, frame: &Arc<Frame>, codec: u8, payload: &[u8], plain_len: u32) -> Result<()> {
        frame.store(self.push_nodes(codec, payload, plain_len)?);
        Ok(())
    }

    fn resolve(&self, frame: &Arc<Frame>) -> Option<FramePlace> {
        // what lies in a record must never be referred to from a pack
        frame.place().filter(|place| matches!(place.object, Object::Pack { .. })).copied()
    }
}

/// A record's inline frames. Their places hold for this record only, so they are kept here and not in the frames.
#[derive(Debug)]
pub(super) struct Inline {
    pub(super) document: DocumentBuilder,
    object: Object,
    places: HashMap<*const Frame, FramePlace>,
    /// Keeps the frames alive whose addresses are keys above.
    frames: Vec<Arc<Frame>>,
}

impl Inline {
    pub(super) fn new(document: DocumentBuilder, object: Object) -> Self {
        Self { document, object, places: HashMap::new(), frames: Vec::new() }
    }

    pub(super) fn push_frame(&mut self, frame: &Arc<Frame>, codec: u8, payload: &[u8], plain_len: u32) -> Result<()> {
        let (offset, sealed_len) = self.document.inline(codec, payload)?;
        self.places.insert(Arc::as_ptr(frame), FramePlace { object: self.object, offset, sealed_len, plain_len });
        self.frames.push(Arc::clone(frame));
        Ok(())
    }
}

impl FrameTarget for Inline {
    fn object(&mut self) -> Result<Object> {
        Ok(self.object)
    }

    fn push(&mut self, frame: &Arc<Frame>, codec: u8, payload: &[u8], plain_len: u32) -> Result<()> {
        self.push_frame(frame, codec, payload, plain_len)
    }

    fn resolve(&self, frame: &Arc<Frame>) -> Option<FramePlace> {
        self.places
            .get(&Arc::as_ptr(frame))
            .copied()
            .or_else(|| frame.place().filter(|place| matches!(place.object, Object::Pack { .. })).copied())
    }
}

/// Writes every node that is in memory into a record, and returns the trees as they refer to it, for the record's own use.
pub(super) fn write_inline(roots: &[RootItem], target: Inline) -> Result<(Vec<RootItem>, Inline)> {
    let mut writer = InlineWriter { target, nodes: NodeFrames::new()? };
    let roots = roots.iter().map(|root| Roots::rebuild(root, &mut writer)).collect::<Result<_>>()?;
    writer.nodes.close(&mut writer.target)?;
    Ok((roots, writer.target))
}

struct InlineWriter {
    target: Inline,
    nodes: NodeFrames,
}

impl Visitor for InlineWriter {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        let At::Memory(loaded) = &node.at else { return Ok(node.clone()) };
        let rebuilt = rebuild_node(&**loaded, self)?;
        let stored = self.nodes.write(&rebuilt, &mut self.target)?;
        Ok(NodeRef { at: At::Stored(stored), ..node.clone() })
    }

    fn chunk(&mut self, place: &Place, _: u32, _: &ChunkId) -> Result<Place> {
        Ok(place.clone())
    }
}
