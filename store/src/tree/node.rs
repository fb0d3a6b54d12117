// SPDX-License-Identifier: Apache-2.0
//! Nodes of maps: in memory, and as bytes.

use super::hints::{HintReader, HintWriter, Home};
use super::kind::{Key, MapKind, NAME_MAX, Roots};
use super::place::{Frame, Object, Place};
use crate::codec::{Malformed, Reader, Write};
use crate::error::Result;
use crate::key::Identity;
use holdfast_core::id::NodeId;
use std::sync::Arc;

/// A map of one leaf of at most this many canonical bytes lies in its parent.
pub const INLINE_MAP: usize = 256;
/// Most entries of a node: the cut is certain here.
pub const COUNT_MAX: usize = 184;
/// Highest level of a node.
pub const LEVEL_MAX: u8 = 15;

/// A map: nothing, a small leaf, or a reference to its root node.
#[derive(Debug, Clone, PartialEq)]
pub enum MapRef<K: MapKind> {
    /// No entries.
    Empty,
    /// A small leaf, inlined.
    Inline(Arc<Node<K>>),
    /// A node.
    Node(NodeRef<K>),
}

/// A reference to a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRef<K: MapKind> {
    /// Its id.
    pub id: NodeId,
    /// Its level.
    pub level: u8,
    /// Entries of level 0 beneath it.
    pub entries: u64,
    /// Where it is.
    pub at: At<K>,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum At<K: MapKind> {
    /// In memory only: not written yet.
    Memory(Arc<Node<K>>),
    /// Stored.
    Stored(StoredNode),
}

/// Where a stored node lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNode {
    /// Its place.
    pub place: Place,
    /// Its length in the frame's plaintext.
    pub len: u32,
    /// An upper bound of the sequences of small objects beneath it.
    pub young: u64,
}

/// A child of an inner node.
#[derive(Debug, Clone, PartialEq)]
pub struct Child<K: MapKind> {
    /// The last key beneath it.
    pub key: Box<[u8]>,
    /// The node.
    pub node: NodeRef<K>,
}

/// A node.
#[derive(Debug, PartialEq)]
pub enum Node<K: MapKind> {
    /// Level 0.
    Leaf(Vec<K::Item>),
    /// Above.
    Inner(u8, Vec<Child<K>>),
}

/// Loads nodes. What a reader and a writer have in common.
pub trait NodeStore {
    /// The keys that ids and cuts come from.
    fn identity(&self) -> &Identity;

    /// The node that is referred to, with its id checked.
    ///
    /// # Errors
    /// If it can't be had, or isn't what the reference says.
    fn load<K: MapKind>(&self, node: &NodeRef<K>) -> Result<Arc<Node<K>>>;

    /// The entries of a map at the level of its root.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn root<K: MapKind>(&self, map: &MapRef<K>) -> Result<Option<Arc<Node<K>>>> {
        match map {
            MapRef::Empty => Ok(None),
            MapRef::Inline(node) => Ok(Some(Arc::clone(node))),
            MapRef::Node(node) => self.load(node).map(Some),
        }
    }
}

impl<K: MapKind> Node<K> {
    /// The items of a leaf; none of an inner node.
    #[must_use]
    pub fn items(&self) -> &[K::Item] {
        match self {
            Self::Leaf(items) => items,
            Self::Inner(..) => &[],
        }
    }

    /// Level: 0 for leaves.
    #[must_use]
    pub const fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(level, _) => *level,
        }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(_, children) => children.len(),
        }
    }

    /// Whether it has none; no stored node has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries of level 0 beneath.
    #[must_use]
    pub fn entries(&self) -> u64 {
        match self {
            Self::Leaf(items) => items.len() as u64,
            Self::Inner(_, children) => children.iter().map(|child| child.node.entries).sum(),
        }
    }

    /// The key of the entry at an index.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<Key<'_>> {
        match self {
            Self::Leaf(items) => items.get(index).map(K::key),
            Self::Inner(_, children) => children.get(index).map(|child| Key::Bytes(&child.key)),
        }
    }

    /// The last key.
    #[must_use]
    pub fn last_key(&self) -> Option<Key<'_>> {
        self.key(self.len().checked_sub(1)?)
    }

    /// The canonical bytes: what the id covers.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * 80);
        out.put_u8(K::CODE);
        out.put_u8(self.level());
        out.put_varint(self.len() as u64);
        match self {
            Self::Leaf(items) => {
                let mut previous = None;
                for item in items {
                    K::encode(item, previous, &mut out);
                    previous = Some(item);
                }
            }
            Self::Inner(_, children) => {
                for child in children {
                    out.put_prefixed(&child.key);
                    out.put_bytes(child.node.id.as_bytes());
                    out.put_varint(child.node.entries);
                }
            }
        }
        out
    }

    /// Appends the hints to `out`; returns the largest sequence of a small object beneath it. `None` is a fault of the writer.
    #[must_use]
    pub fn hints(&self, home: Home<'_>, out: &mut Vec<u8>) -> Option<u64> {
        let mut hints = HintWriter::new(home);
        match self {
            Self::Leaf(items) => items.iter().for_each(|item| K::encode_hints(item, &mut hints)),
            Self::Inner(_, children) => children.iter().for_each(|child| child.node.encode_hints(&mut hints)),
        }
        hints.finish(out)
    }

    /// Reads a node from canonical bytes and hints. The caller has checked, or will check, the id.
    pub fn decode(canonical: &[u8], hints: &[u8], object: Object, frame: &Arc<Frame>) -> std::result::Result<Self, Malformed> {
        let mut hints = HintReader::new(hints, object, Arc::clone(frame))?;
        let mut reader = Reader::new(canonical);
        let node = Self::decode_from(&mut reader, &mut hints)?;
        reader.finish("node")?;
        hints.finish()?;
        Ok(node)
    }

    fn decode_from(reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> std::result::Result<Self, Malformed> {
        if reader.u8("kind of a node")? != K::CODE {
            return Err(Malformed("kind of a node"));
        }
        let level = reader.u8("level")?;
        let count = reader.len(if K::CODE == Roots::CODE { 64 } else { COUNT_MAX }, "count")?;
        if count == 0 || level > LEVEL_MAX || (K::CODE == Roots::CODE && level > 0) {
            return Err(Malformed("count"));
        }
        let node = if level == 0 {
            let mut items: Vec<K::Item> = Vec::with_capacity(count);
            for _ in 0..count {
                items.push(K::decode(items.last(), reader, hints)?);
            }
            Self::Leaf(items)
        } else {
            let children = (0..count).map(|_| Child::decode(level, reader, hints)).collect::<std::result::Result<_, _>>()?;
            Self::Inner(level, children)
        };
        let ascending = (1..node.len()).all(|i| match (node.key(i - 1), node.key(i)) {
            (Some(one), Some(two)) => one.as_ref() < two.as_ref(),
            _ => false,
        });
        if ascending { Ok(node) } else { Err(Malformed("order of keys")) }
    }
}

impl<K: MapKind> Child<K> {
    fn decode(level: u8, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> std::result::Result<Self, Malformed> {
        let key = reader.prefixed(NAME_MAX, "key")?.into();
        let id = NodeId::new(reader.array("node id")?);
        let entries = reader.varint("number of entries")?;
        let at = At::Stored(StoredNode::decode(hints)?);
        Ok(Self { key, node: NodeRef { id, level: level - 1, entries, at } })
    }
}

impl StoredNode {
    fn decode(hints: &mut HintReader<'_>) -> std::result::Result<Self, Malformed> {
        let place = hints.place()?;
        let len = hints.reader().u32("length of a node")?;
        let young = hints.reader().varint("youngest sequence")?;
        Ok(Self { place, len, young })
    }
}

impl<K: MapKind> NodeRef<K> {
    fn encode_hints(&self, hints: &mut HintWriter<'_>) {
        // a node in memory is written before what refers to it; reaching this is a fault that `unresolved` reports
        let pending = StoredNode { place: Place { frame: Frame::pending(), inner: 0 }, len: 0, young: 0 };
        let stored = match &self.at {
            At::Stored(stored) => stored,
            At::Memory(_) => &pending,
        };
        hints.place(&stored.place);
        hints.out().put_varint(stored.len.into());
        hints.out().put_varint(stored.young);
        hints.beneath(stored.young);
    }
}

impl<K: MapKind> MapRef<K> {
    /// Entries of the map.
    #[must_use]
    pub fn entries(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Inline(node) => node.entries(),
            Self::Node(node) => node.entries,
        }
    }

    /// Whether two maps hold the same, as far as ids can tell.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::Inline(one), Self::Inline(two)) => Arc::ptr_eq(one, two) || one.canonical() == two.canonical(),
            (Self::Node(one), Self::Node(two)) => one.id == two.id,
            _ => false,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => out.put_u8(0),
            Self::Inline(node) => {
                out.put_u8(1);
                out.put_prefixed(&node.canonical());
            }
            Self::Node(node) => {
                out.put_u8(2);
                out.put_u8(node.level);
                out.put_bytes(node.id.as_bytes());
                out.put_varint(node.entries);
            }
        }
    }

    pub(super) fn encode_hints(&self, hints: &mut HintWriter<'_>) {
        match self {
            Self::Empty => {}
            Self::Inline(node) => node.items().iter().for_each(|item| K::encode_hints(item, hints)),
            Self::Node(node) => node.encode_hints(hints),
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> std::result::Result<Self, Malformed> {
        match reader.u8("map")? {
            0 => Ok(Self::Empty),
            1 => {
                let bytes = reader.prefixed(INLINE_MAP, "inlined map")?;
                let mut inlined = Reader::new(bytes);
                let node = Node::decode_from(&mut inlined, hints)?;
                inlined.finish("inlined map")?;
                if node.level() > 0 {
                    return Err(Malformed("inlined map"));
                }
                Ok(Self::Inline(Arc::new(node)))
            }
            2 => {
                let level = reader.u8("level")?;
                if level > LEVEL_MAX {
                    return Err(Malformed("level"));
                }
                let id = NodeId::new(reader.array("node id")?);
                let entries = reader.varint("number of entries")?;
                Ok(Self::Node(NodeRef { id, level, entries, at: At::Stored(StoredNode::decode(hints)?) }))
            }
            _ => Err(Malformed("map")),
        }
    }
}

/// Whether a map is cut after its c-th entry since the last cut, given the key's hash: a Weibull distribution of shape 4 with mean 64.
#[must_use]
pub const fn is_cut(count: usize, hash: u32) -> bool {
    let c = count as u64;
    (hash as u64) < 692 * c * c * c
}
