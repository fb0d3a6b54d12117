// SPDX-License-Identifier: Apache-2.0
//! Walking a map in order, without loading what is skipped.

use super::kind::MapKind;
use super::node::{Child, MapRef, Node, NodeStore};
use crate::error::{Result, StoreError};
use std::sync::Arc;

/// A position in a map: at an item, or before a subtree that was not entered yet.
#[derive(Debug, Clone)]
pub struct Cursor<K: MapKind> {
    stack: Vec<(Arc<Node<K>>, usize)>,
}

/// What lies at a cursor.
#[derive(Debug)]
pub enum At<'a, K: MapKind> {
    /// An item.
    Item(&'a K::Item),
    /// A subtree; enter it or skip it.
    Subtree(&'a Child<K>),
    /// Nothing: the end.
    End,
}

impl<K: MapKind> Cursor<K> {
    /// A cursor at the beginning.
    ///
    /// # Errors
    /// If the root can't be loaded.
    pub fn new<S: NodeStore>(store: &S, map: &MapRef<K>) -> Result<Self> {
        Ok(Self { stack: store.root(map)?.map(|root| (root, 0)).into_iter().collect() })
    }

    /// What lies here.
    #[must_use]
    pub fn at(&self) -> At<'_, K> {
        match self.stack.last() {
            None => At::End,
            Some((node, index)) => match &**node {
                Node::Leaf(items) => items.get(*index).map_or(At::End, At::Item),
                Node::Inner(_, children) => children.get(*index).map_or(At::End, At::Subtree),
            },
        }
    }

    /// The nodes on the way to here, from the root, each with the index taken in it.
    #[must_use]
    pub fn path(&self) -> &[(Arc<Node<K>>, usize)] {
        &self.stack
    }

    /// Whether the subtree or item here is the last of the whole map.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.stack.iter().all(|(node, index)| index + 1 == node.len())
    }

    /// Enters the subtree here.
    ///
    /// # Errors
    /// If it can't be loaded, or isn't what its parent says.
    pub fn enter<S: NodeStore>(&mut self, store: &S) -> Result<()> {
        if let At::Subtree(child) = self.at() {
            let node = store.load(&child.node)?;
            let before = self.key_before();
            let in_place = node.last_key().is_some_and(|last| last.as_ref() == &*child.key)
                && node.key(0).is_some_and(|first| before.is_none_or(|before| before < first.as_ref()));
            if !in_place {
                return Err(StoreError::damaged(
                    format_args!("node {}", child.node.id),
                    "its keys are not where its parent puts it",
                ));
            }
            self.stack.push((node, 0));
        }
        Ok(())
    }

    /// The last key of what lies before the subtree here.
    fn key_before(&self) -> Option<&[u8]> {
        let (node, index) = self.stack.iter().rev().find(|(_, index)| *index > 0)?;
        match &**node {
            Node::Inner(_, children) => children.get(index - 1).map(|child| &*child.key),
            Node::Leaf(_) => None,
        }
    }

    /// Leaves the item or subtree here behind.
    pub fn skip(&mut self) {
        while let Some((node, index)) = self.stack.last_mut() {
            *index += 1;
            if *index < node.len() {
                return;
            }
            self.stack.pop();
        }
    }

    /// The next item, entering subtrees; the cursor moves behind it.
    ///
    /// # Errors
    /// If a node can't be loaded.
    pub fn next<S: NodeStore>(&mut self, store: &S) -> Result<Option<K::Item>> {
        let item = self.peek(store)?.cloned();
        if item.is_some() {
            self.skip();
        }
        Ok(item)
    }

    /// The next item, entering subtrees; the cursor stays before it.
    ///
    /// # Errors
    /// If a node can't be loaded.
    pub fn peek<S: NodeStore>(&mut self, store: &S) -> Result<Option<&K::Item>> {
        while matches!(self.at(), At::Subtree(_)) {
            self.enter(store)?;
        }
        Ok(match self.at() {
            At::Item(item) => Some(item),
            At::Subtree(_) | At::End => None,
        })
    }

    /// Moves forward to the first item whose key is `key` or greater. Skips whole subtrees; never moves back.
    ///
    /// # Errors
    /// If a node can't be loaded.
    pub fn seek<S: NodeStore>(&mut self, store: &S, key: &[u8]) -> Result<()> {
        loop {
            // what ends before the key is left at the highest level that still contains it
            while self.stack.len() > 1
                && self.stack.last().is_some_and(|(node, _)| node.last_key().is_some_and(|k| k.as_ref() < key))
            {
                self.stack.pop();
                self.skip();
            }
            let Some((node, index)) = self.stack.last_mut() else { return Ok(()) };
            *index = first_at_or_after(node, *index, key);
            if *index == node.len() {
                self.stack.pop();
                self.skip();
                continue;
            }
            if node.level() == 0 {
                return Ok(());
            }
            self.enter(store)?;
        }
    }
}

/// The index of the first entry from `from` on whose key is `key` or greater.
fn first_at_or_after<K: MapKind>(node: &Node<K>, from: usize, key: &[u8]) -> usize {
    let (mut low, mut high) = (from, node.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if node.key(middle).is_some_and(|k| k.as_ref() < key) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The item with this key.
///
/// # Errors
/// If a node can't be loaded.
pub fn get<K: MapKind, S: NodeStore>(store: &S, map: &MapRef<K>, key: &[u8]) -> Result<Option<K::Item>> {
    let mut cursor = Cursor::new(store, map)?;
    cursor.seek(store, key)?;
    Ok(cursor.peek(store)?.filter(|item| K::key(item).as_ref() == key).cloned())
}
