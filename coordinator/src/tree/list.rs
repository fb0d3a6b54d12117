// SPDX-License-Identifier: Apache-2.0
//! Walking a state in the order of its paths, from anywhere.

use super::{DEPTH_MAX, Item, Path, State, entries, join, wrong_kind};
use crate::status;
use crate::stream::Halt;
use holdfast_proto::v1;
use holdfast_store::StoreError;
use holdfast_store::tree::{Cursor, Directory, Name};

/// A walk over the entries of a directory, and of those beneath it if it is recursive.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    state: &'a State,
    recursive: bool,
    /// The next label, where the labels themselves are listed.
    label: Option<usize>,
    levels: Vec<Level>,
    seen: u64,
}

#[derive(Debug)]
struct Level {
    root: usize,
    path: Vec<u8>,
    cursor: Cursor<Directory>,
}

impl<'a> Walk<'a> {
    /// A walk over what lies in a directory, after a path that the same walk told before (empty: from the beginning).
    pub(crate) fn new(state: &'a State, base: &Path, recursive: bool, after: &Path) -> Result<Self, Halt> {
        let mut walk = Self { state, recursive, label: None, levels: Vec::new(), seen: 0 };
        if base.names.is_empty() {
            walk.label = Some(0);
            if let Some((label, names)) = after.names.split_first() {
                walk.skip_label(label, names)?;
            }
            return Ok(walk);
        }
        let item = state.find(base)?;
        if entries(&item.inode).is_none() {
            return Err(wrong_kind(base, "a directory").into());
        }
        walk.enter(&item, base.text.clone())?;
        if let Some(names) = after.names.get(base.names.len()..) {
            walk.skip(names)?;
        }
        Ok(walk)
    }

    fn enter(&mut self, item: &Item, path: Vec<u8>) -> Result<(), Halt> {
        let Some(map) = entries(&item.inode) else { return Ok(()) };
        if self.levels.len() >= DEPTH_MAX {
            return Err(damaged("its directories lie too deep inside one another").into());
        }
        let cursor = Cursor::new(&*self.state.reader, map)?;
        self.levels.push(Level { root: item.root, path, cursor });
        Ok(())
    }

    fn skip_label(&mut self, label: &Name, names: &[Name]) -> Result<(), Halt> {
        let stale = || status::invalid("page_token", "leads nowhere");
        let root = self.state.roots.iter().position(|root| root.label.as_bytes() == label.as_bytes()).ok_or_else(stale)?;
        self.label = Some(root + 1);
        if self.recursive {
            self.enter(&self.state.root(root), label.as_bytes().to_vec())?;
            self.skip(names)?;
        }
        Ok(())
    }

    /// Moves behind a path below the innermost level, and into it if it is a directory.
    fn skip(&mut self, names: &[Name]) -> Result<(), Halt> {
        for (index, name) in names.iter().enumerate() {
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            level.cursor.seek(&*self.state.reader, name.as_bytes())?;
            let here = level.cursor.peek(&*self.state.reader)?.is_some_and(|(found, _)| found == name);
            if !here {
                return Err(status::invalid("page_token", "leads nowhere").into());
            }
            let (root, path) = (level.root, join(&level.path, name.as_bytes()));
            let Some((_, entry)) = level.cursor.next(&*self.state.reader)? else { return Ok(()) };
            let item = self.state.item(root, entry)?;
            if self.recursive || index + 1 < names.len() {
                self.enter(&item, path)?;
            }
        }
        Ok(())
    }

    /// The next file.
    pub(crate) fn next(&mut self) -> Result<Option<v1::File>, Halt> {
        let Some((path, item)) = self.step()? else { return Ok(None) };
        self.seen += 1;
        if self.seen > self.state.entries_max() {
            return Err(damaged("it has more entries than it says").into());
        }
        let file = self.state.describe(path.clone(), &item)?;
        if self.recursive {
            self.enter(&item, path)?;
        }
        Ok(Some(file))
    }

    fn step(&mut self) -> Result<Option<(Vec<u8>, Item)>, Halt> {
        while let Some(level) = self.levels.last_mut() {
            if let Some((name, entry)) = level.cursor.next(&*self.state.reader)? {
                let path = join(&level.path, name.as_bytes());
                let root = level.root;
                return Ok(Some((path, self.state.item(root, entry)?)));
            }
            self.levels.pop();
        }
        let Some(label) = self.label.filter(|label| *label < self.state.roots.len()) else { return Ok(None) };
        self.label = Some(label + 1);
        Ok(Some((self.state.roots[label].label.clone().into_bytes(), self.state.root(label))))
    }
}

pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged { object: "a checkpoint's tree".to_owned(), what: what.to_owned() }
}
