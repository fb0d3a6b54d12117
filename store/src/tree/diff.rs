// SPDX-License-Identifier: Apache-2.0
//! Comparing two maps: reads only what differs.

use super::cursor::{At, Cursor};
use super::kind::MapKind;
use super::node::{MapRef, NodeStore};
use crate::error::Result;
use std::cmp::Ordering;

/// One key on which two maps differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference<T> {
    /// Only the second has it.
    Added(T),
    /// Only the first has it.
    Removed(T),
    /// Both have it, with different values (or the same with different hints).
    Changed(T, T),
}

/// Walks two maps side by side and yields where they differ, in the order of keys.
#[derive(Debug)]
pub struct Diff<K: MapKind> {
    one: Cursor<K>,
    two: Cursor<K>,
}

impl<K: MapKind> Diff<K> {
    /// A comparison of two maps.
    ///
    /// # Errors
    /// If a root can't be loaded.
    pub fn new<S: NodeStore>(store: &S, one: &MapRef<K>, two: &MapRef<K>) -> Result<Self> {
        let mut diff = Self { one: Cursor::new(store, one)?, two: Cursor::new(store, two)? };
        if one.same(two) {
            diff = Self { one: Cursor::new(store, &MapRef::Empty)?, two: Cursor::new(store, &MapRef::Empty)? };
        }
        Ok(diff)
    }

    /// The next difference.
    ///
    /// # Errors
    /// If a node can't be loaded.
    pub fn next<S: NodeStore>(&mut self, store: &S) -> Result<Option<Difference<K::Item>>> {
        loop {
            match (self.one.at(), self.two.at()) {
                (At::End, At::End) => return Ok(None),
                (At::Subtree(a), At::Subtree(b)) if a.node.id == b.node.id => {
                    self.one.skip();
                    self.two.skip();
                }
                // enter the higher of the two first, so that equal subtrees meet
                (At::Subtree(a), At::Subtree(b)) => match a.node.level.cmp(&b.node.level) {
                    Ordering::Greater => self.one.enter(store)?,
                    Ordering::Less => self.two.enter(store)?,
                    Ordering::Equal => {
                        self.one.enter(store)?;
                        self.two.enter(store)?;
                    }
                },
                (At::Subtree(_), _) => self.one.enter(store)?,
                (_, At::Subtree(_)) => self.two.enter(store)?,
                _ => {
                    if let Some(found) = self.compare_items() {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    fn compare_items(&mut self) -> Option<Difference<K::Item>> {
        let order = match (self.one.at(), self.two.at()) {
            (At::Item(a), At::Item(b)) => K::key(a).as_ref().cmp(K::key(b).as_ref()),
            (At::Item(_), _) => Ordering::Less,
            _ => Ordering::Greater,
        };
        let item = |cursor: &Cursor<K>| match cursor.at() {
            At::Item(item) => Some(item.clone()),
            _ => None,
        };
        let (one, two) = (item(&self.one), item(&self.two));
        if order != Ordering::Greater {
            self.one.skip();
        }
        if order != Ordering::Less {
            self.two.skip();
        }
        match order {
            Ordering::Less => one.map(Difference::Removed),
            Ordering::Greater => two.map(Difference::Added),
            Ordering::Equal => one.zip(two).filter(|(a, b)| a != b).map(|(a, b)| Difference::Changed(a, b)),
        }
    }
}
