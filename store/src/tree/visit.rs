// SPDX-License-Identifier: Apache-2.0
//! Walking what a tree refers to, and replacing it: how nodes are stored, adopted and consolidated.

use super::inode::{Body, Content, Inode, Xattrs};
use super::kind::MapKind;
use super::node::{Child, MapRef, Node, NodeRef};
use super::place::Place;
use crate::error::Result;
use holdfast_core::id::ChunkId;
use std::sync::Arc;

/// Decides about nodes and chunks on the way through a tree.
pub trait Visitor: Sized {
    /// What stands in the place of a node.
    ///
    /// # Errors
    /// The visitor's own.
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>>;

    /// Where a chunk lies from now on.
    ///
    /// # Errors
    /// The visitor's own.
    fn chunk(&mut self, place: &Place, len: u32, id: &ChunkId) -> Result<Place>;

    /// What stands in the place of a map: inlined ones are gone through here.
    ///
    /// # Errors
    /// The visitor's own.
    fn map<K: MapKind>(&mut self, map: &MapRef<K>) -> Result<MapRef<K>> {
        Ok(match map {
            MapRef::Empty => MapRef::Empty,
            MapRef::Inline(node) => MapRef::Inline(Arc::new(rebuild_node(node, self)?)),
            MapRef::Node(node) => MapRef::Node(self.node(node)?),
        })
    }
}

/// A node with everything it refers to passed through a visitor.
///
/// # Errors
/// The visitor's.
pub fn rebuild_node<K: MapKind, V: Visitor>(node: &Node<K>, visitor: &mut V) -> Result<Node<K>> {
    Ok(match node {
        Node::Leaf(items) => Node::Leaf(items.iter().map(|item| K::rebuild(item, visitor)).collect::<Result<_>>()?),
        Node::Inner(level, children) => {
            let child = |child: &Child<K>| Ok(Child { key: child.key.clone(), node: visitor.node(&child.node)? });
            Node::Inner(*level, children.iter().map(child).collect::<Result<_>>()?)
        }
    })
}

/// An inode with everything it refers to passed through a visitor.
///
/// # Errors
/// The visitor's.
pub fn rebuild_inode<V: Visitor>(inode: &Inode, visitor: &mut V) -> Result<Inode> {
    let xattrs = match &inode.xattrs {
        Xattrs::Chunk { len, id, place } => Xattrs::Chunk { len: *len, id: *id, place: visitor.chunk(place, *len, id)? },
        other => other.clone(),
    };
    let body = match &inode.body {
        Body::Directory { map, sums } => Body::Directory { map: visitor.map(map)?, sums: *sums },
        Body::File { size, content } => Body::File { size: *size, content: rebuild_content(*size, content, visitor)? },
        other => other.clone(),
    };
    Ok(Inode { xattrs, body, ..inode.clone() })
}

fn rebuild_content<V: Visitor>(size: u64, content: &Content, visitor: &mut V) -> Result<Content> {
    Ok(match content {
        Content::None | Content::Inline(_) => content.clone(),
        Content::Chunk { id, place } => {
            // a file of one chunk is at most 1 MiB long
            let len = u32::try_from(size).unwrap_or(u32::MAX);
            Content::Chunk { id: *id, place: visitor.chunk(place, len, id)? }
        }
        Content::Extents { map, block } => Content::Extents { map: visitor.map(map)?, block: *block },
    })
}
