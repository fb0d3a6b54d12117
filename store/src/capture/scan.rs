// SPDX-License-Identifier: Apache-2.0
//! Directories compared with the old tree: all their names, or those that may have changed.

use super::look::{self, Look};
use super::walker::{Stop, VANISHED_MAX, Walk, Walker};
use super::{CaptureError, Dirt};
use crate::disk::Dir;
use crate::disk::sorter::{Sorted, Sorter};
use crate::tree::cursor::{self, Cursor};
use crate::tree::{Directory, Entry, MapRef, Name};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Names sorted in memory, in bytes; more go to runs on disk.
const NAMES_BYTES: usize = 4 << 20;

impl Walker<'_> {
    /// Compares every name of a directory with the old tree.
    pub(super) fn scan(&mut self, dir: &Arc<Dir>, old: &MapRef<Directory>) -> Walk<()> {
        // watched first, then listed: whatever happens between the two is heard of
        if let Some(observer) = self.request.observer {
            observer.entering(&self.source.label, &self.path);
        }
        let Some(mut names) = self.list(dir)? else { return Ok(()) };
        let mut cursor = Cursor::new(self.reader, old)?;
        let mut looked_for_vanished = false;
        // everything is going to be captured: small files are read along
        let eager = (self.request.foreign || *old == MapRef::Empty) && self.source.filter.is_everything();
        let mut looked = VecDeque::new();
        let mut on_disk = self.next_look(dir, &mut names, &mut looked, eager)?;
        loop {
            let in_tree = cursor.peek(self.reader)?;
            match (on_disk.take(), in_tree) {
                (None, None) => return Ok(()),
                (Some(look), Some((known, entry))) if look.name == *known => {
                    let entry = entry.clone();
                    self.visit(dir, look, Some(&entry), &Dirt::all())?;
                    cursor.skip();
                    on_disk = self.next_look(dir, &mut names, &mut looked, eager)?;
                }
                (Some(look), Some((known, _))) if look.name > *known => {
                    on_disk = Some(look);
                    self.forget_next(&mut cursor)?;
                }
                (Some(look), _) => {
                    if !looked_for_vanished {
                        looked_for_vanished = true;
                        self.find_vanished(old, &names)?;
                    }
                    self.visit(dir, look, None, &Dirt::all())?;
                    on_disk = self.next_look(dir, &mut names, &mut looked, eager)?;
                }
                (None, Some(_)) => self.forget_next(&mut cursor)?,
            }
            self.maybe_barrier()?;
        }
    }

    fn forget_next(&mut self, cursor: &mut Cursor<Directory>) -> Walk<()> {
        if let Some((name, entry)) = cursor.next(self.reader)? {
            self.remove(&name, &entry)?;
        }
        Ok(())
    }

    /// The names of a directory; `None` if it is gone or can't be read. Trouble in scratch space is not the directory's.
    fn list(&mut self, dir: &Dir) -> Walk<Option<Sorted>> {
        let spilled = |error| Stop::Failed(CaptureError::Scratch(error));
        let mut sorter = Sorter::new(NAMES_BYTES, self.request.scratch.clone());
        let mut failed = None;
        let listed = dir.names(|name| {
            sorter.push(name).map_err(|error| {
                failed = Some(error);
                io::Error::from(io::ErrorKind::Other)
            })
        });
        match (failed, listed) {
            (Some(error), _) => Err(spilled(error)),
            (None, Ok(())) => sorter.finish().map(Some).map_err(spilled),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None), // removed meanwhile; its parent will notice
            (None, Err(error)) => self.problem(None, &error).map(|()| None),
        }
    }

    /// The next name of a directory with what it stands for; many are looked at together.
    fn next_look(&mut self, dir: &Arc<Dir>, names: &mut Sorted, looked: &mut VecDeque<Look>, eager: bool) -> Walk<Option<Look>> {
        if looked.is_empty() {
            let mut batch = Vec::new();
            while batch.len() < look::BATCH
                && let Some(name) = self.next_name(names)?
            {
                batch.push(name);
            }
            let read = eager.then(|| self.request.clock.now());
            looked.extend(self.lookout.look(dir, batch, read));
        }
        Ok(looked.pop_front())
    }

    /// The next name of a directory that a tree can hold.
    fn next_name(&mut self, names: &mut Sorted) -> Walk<Option<Name>> {
        for name in names {
            let name = name.map_err(|error| Stop::Failed(CaptureError::Scratch(error)))?;
            match Name::new(&name) {
                Some(name) => return Ok(Some(name)),
                None => {
                    let what = "its name is longer than 1023 bytes".to_owned();
                    self.uncaptured(self.path_of(&name), what)?;
                }
            }
        }
        Ok(None)
    }

    /// Remembers old entries whose names a directory no longer has: a new name may be one of them.
    fn find_vanished(&mut self, old: &MapRef<Directory>, names: &Sorted) -> Walk<()> {
        let mut cursor = Cursor::new(self.reader, old)?;
        while let Some((name, entry)) = cursor.next(self.reader)? {
            if names.had(name.as_bytes()) == Some(false) {
                self.remember_vanished(entry);
            }
        }
        Ok(())
    }

    fn remember_vanished(&mut self, entry: Entry) {
        if let Entry::Inode(inode) = &entry
            && !self.request.foreign
            && self.vanished.len() < VANISHED_MAX
        {
            self.vanished.insert(inode.stamp.inode, entry);
        }
    }

    /// Compares only the names that may have changed.
    pub(super) fn check(&mut self, dir: &Dir, old: &MapRef<Directory>, dirt: &Dirt) -> Walk<()> {
        // what is gone first: what is new may be the same under another name
        let gone: Vec<_> = dirt.names.keys().filter(|name| dir.info(name).is_err()).collect();
        for name in gone {
            if let Some((_, entry)) = cursor::get(self.reader, old, name.as_bytes())? {
                self.remember_vanished(entry);
            }
        }
        let mut cursor = Cursor::new(self.reader, old)?;
        for (name, dirt) in &dirt.names {
            cursor.seek(self.reader, name.as_bytes())?;
            let known = cursor.peek(self.reader)?.filter(|(known, _)| known == name).map(|(_, entry)| entry.clone());
            let look = Look { name: name.clone(), info: dir.info(name), early: None };
            self.visit(dir, look, known.as_ref(), dirt)?;
            self.maybe_barrier()?;
        }
        Ok(())
    }
}
