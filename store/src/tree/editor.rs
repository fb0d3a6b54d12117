// SPDX-License-Identifier: Apache-2.0
//! Changing a map: a new map that shares every node it can with the old one.
//!
//! Edits come in the order of their keys. Between them the editor copies from the old map, by whole subtrees wherever both maps are cut at
//! the same places. Where a map is cut depends on its keys alone, counted from the last cut; so after an edit the two fall into step again
//! within a node or two.

use super::cursor::{At, Cursor};
use super::kind::MapKind;
use super::node::{self, COUNT_MAX, Child, INLINE_MAP, LEVEL_MAX, MapRef, Node, NodeRef, NodeStore};
use crate::error::Result;
use holdfast_core::id::NodeId;
use std::sync::Arc;

/// Takes finished nodes: keeps them in memory, or writes them.
pub trait NodeSink: NodeStore {
    /// Takes a node.
    ///
    /// # Errors
    /// If it can't be written.
    fn save<K: MapKind>(&mut self, node: &Arc<Node<K>>) -> Result<NodeRef<K>>;
}

/// One map being changed.
#[derive(Debug, Clone)]
pub struct Editor<K: MapKind> {
    old: MapRef<K>,
    /// The rest of the old map; `None` before the first edit.
    rest: Option<Cursor<K>>,
    /// Items since the last cut.
    items: Vec<K::Item>,
    /// Children since the last cut, of each level from 1.
    levels: Vec<Vec<Child<K>>>,
    /// Old nodes on the way here, so that a node that comes out as it was is not written again.
    entered: Vec<(NodeRef<K>, Arc<Node<K>>)>,
    /// The last new node of each level: the root may turn out to be one of them, and a node can't be read back while it is being written.
    closed: Vec<(NodeId, Arc<Node<K>>)>,
}

/// Old nodes remembered for comparison.
const ENTERED_MAX: usize = 12;

impl<K: MapKind> Editor<K> {
    /// An editor of this map.
    #[must_use]
    pub const fn new(old: MapRef<K>) -> Self {
        Self { old, rest: None, items: Vec::new(), levels: Vec::new(), entered: Vec::new(), closed: Vec::new() }
    }

    /// Adds an item, or replaces the one with its key. Keys must ascend from edit to edit.
    ///
    /// # Errors
    /// If an old node can't be loaded or a new one not be written.
    pub fn put<S: NodeSink>(&mut self, sink: &mut S, item: K::Item) -> Result<()> {
        self.advance(sink, Some(K::key(&item).as_ref()))?;
        self.drop_old(K::key(&item).as_ref());
        self.push(sink, item)
    }

    /// Removes the item with this key, if there is one.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn remove<S: NodeSink>(&mut self, sink: &mut S, key: &[u8]) -> Result<()> {
        self.advance(sink, Some(key))?;
        self.drop_old(key);
        Ok(())
    }

    /// Removes all items whose keys are at least `from` and less than `to`.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn remove_range<S: NodeSink>(&mut self, sink: &mut S, from: &[u8], to: &[u8]) -> Result<()> {
        self.advance(sink, Some(from))?;
        if let Some(rest) = &mut self.rest {
            rest.seek(sink, to)?;
        }
        Ok(())
    }

    /// The changed map.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn finish<S: NodeSink>(mut self, sink: &mut S) -> Result<MapRef<K>> {
        if self.rest.is_none() {
            return Ok(self.old);
        }
        self.advance(sink, None)?;
        self.close(sink)
    }

    /// Copies the old items with keys less than `key` (all, if `None`).
    fn advance<S: NodeSink>(&mut self, sink: &mut S, key: Option<&[u8]>) -> Result<()> {
        let mut rest = match self.rest.take() {
            Some(rest) => rest,
            None => {
                let rest = Cursor::new(sink, &self.old)?;
                if let MapRef::Node(root) = self.old.clone() {
                    self.remember(root, &rest);
                }
                rest
            }
        };
        let before = |other: &[u8]| key.is_none_or(|key| other < key);
        loop {
            match rest.at() {
                At::Item(item) if before(K::key(item).as_ref()) => {
                    let item = item.clone();
                    rest.skip();
                    self.push(sink, item)?;
                }
                // The last subtree may have ended without a cut; it can only be kept as the last.
                At::Subtree(child)
                    if before(&child.key) && self.in_step(child.node.level) && (key.is_none() || !rest.is_last()) =>
                {
                    let child = child.clone();
                    rest.skip();
                    self.push_child(sink, child)?;
                }
                At::Subtree(child) => {
                    let entered = child.node.clone();
                    rest.enter(sink)?;
                    self.remember(entered, &rest);
                }
                At::Item(_) | At::End => break,
            }
        }
        self.rest = Some(rest);
        Ok(())
    }

    fn remember(&mut self, entered: NodeRef<K>, rest: &Cursor<K>) {
        if let Some((node, _)) = rest.path().last() {
            if self.entered.len() == ENTERED_MAX {
                self.entered.remove(0);
            }
            self.entered.push((entered, Arc::clone(node)));
        }
    }

    /// Whether the new map was cut just here, at this level and all below: then what follows is cut as it was in the old one.
    fn in_step(&self, level: u8) -> bool {
        self.items.is_empty() && self.levels.iter().take(level.into()).all(Vec::is_empty)
    }

    /// Skips the old item with this key, if the cursor is at it.
    fn drop_old(&mut self, key: &[u8]) {
        if let Some(rest) = &mut self.rest
            && matches!(rest.at(), At::Item(item) if K::key(item).as_ref() == key)
        {
            rest.skip();
        }
    }

    fn push<S: NodeSink>(&mut self, sink: &mut S, item: K::Item) -> Result<()> {
        let hash = sink.identity().cut_hash(K::CODE, 0, K::key(&item).as_ref());
        self.items.push(item);
        if !node::is_cut(self.items.len(), hash) {
            return Ok(());
        }
        let leaf = Node::Leaf(std::mem::take(&mut self.items));
        self.push_closed(sink, leaf)
    }

    fn push_closed<S: NodeSink>(&mut self, sink: &mut S, node: Node<K>) -> Result<()> {
        let key = node.last_key().map(|key| key.as_ref().into()).unwrap_or_default();
        let node = self.save(sink, node)?;
        self.push_child(sink, Child { key, node })
    }

    fn push_child<S: NodeSink>(&mut self, sink: &mut S, child: Child<K>) -> Result<()> {
        let level = child.node.level + 1;
        let index = usize::from(level) - 1;
        if self.levels.len() <= index {
            self.levels.resize_with(index + 1, Vec::new);
        }
        let hash = sink.identity().cut_hash(K::CODE, level, &child.key);
        let children = &mut self.levels[index];
        children.push(child);
        debug_assert!(children.len() <= COUNT_MAX);
        if !node::is_cut(children.len(), hash) || level == LEVEL_MAX {
            return Ok(());
        }
        let inner = Node::Inner(level, std::mem::take(children));
        self.push_closed(sink, inner)
    }

    fn save<S: NodeSink>(&mut self, sink: &mut S, node: Node<K>) -> Result<NodeRef<K>> {
        if let Some((unchanged, _)) = self.entered.iter().find(|(_, old)| **old == node) {
            return Ok(unchanged.clone());
        }
        let node = Arc::new(node);
        let saved = sink.save(&node)?;
        self.closed.retain(|(_, other)| other.level() != node.level());
        self.closed.push((saved.id, node));
        Ok(saved)
    }

    fn read_back<S: NodeSink>(&self, sink: &S, node: &NodeRef<K>) -> Result<Arc<Node<K>>> {
        match self.closed.iter().find(|(id, _)| *id == node.id) {
            Some((_, closed)) => Ok(Arc::clone(closed)),
            None => sink.load(node),
        }
    }

    fn nothing_above(&self, level: usize) -> bool {
        self.levels.iter().skip(level).all(Vec::is_empty)
    }

    /// Closes what is open from the leaf up: the lowest level with a single node is the root.
    fn close<S: NodeSink>(mut self, sink: &mut S) -> Result<MapRef<K>> {
        if !self.items.is_empty() {
            let leaf = Node::Leaf(std::mem::take(&mut self.items));
            if self.nothing_above(0) {
                return self.root(sink, leaf);
            }
            self.push_closed(sink, leaf)?;
        }
        let mut level = 0;
        while level < self.levels.len() {
            let children = std::mem::take(&mut self.levels[level]);
            if self.nothing_above(level) {
                return self.lowest_root(sink, level, children);
            }
            level += 1;
            if let Ok(closed) = u8::try_from(level)
                && !children.is_empty()
            {
                self.push_closed(sink, Node::Inner(closed, children))?;
            }
        }
        Ok(MapRef::Empty)
    }

    /// The map whose topmost nodes are these.
    fn lowest_root<S: NodeSink>(&mut self, sink: &mut S, level: usize, mut children: Vec<Child<K>>) -> Result<MapRef<K>> {
        if children.len() > 1 {
            let level = u8::try_from(level + 1).unwrap_or(LEVEL_MAX);
            return self.root(sink, Node::Inner(level, children));
        }
        let Some(mut only) = children.pop() else { return Ok(MapRef::Empty) };
        loop {
            // A node kept from the old map may have a single child itself, and a leaf that had neighbours may be small.
            if only.node.level == 0 && only.node.entries > (INLINE_MAP / 2) as u64 {
                return Ok(MapRef::Node(only.node));
            }
            let node = self.read_back(sink, &only.node)?;
            match &*node {
                Node::Inner(_, children) if children.len() == 1 => only = children[0].clone(),
                Node::Leaf(_) if node.canonical().len() <= INLINE_MAP => return Ok(MapRef::Inline(node)),
                _ => return Ok(MapRef::Node(only.node)),
            }
        }
    }

    fn root<S: NodeSink>(&mut self, sink: &mut S, node: Node<K>) -> Result<MapRef<K>> {
        if node.level() == 0 && node.canonical().len() <= INLINE_MAP {
            return Ok(MapRef::Inline(Arc::new(node)));
        }
        self.save(sink, node).map(MapRef::Node)
    }
}
