// SPDX-License-Identifier: Apache-2.0
//! Hard links: names are noted as they are met; their inodes follow when the directories are done, each captured once.

use super::CaptureError;
use super::inode::{counts, directory_of, unchanged};
use super::op::{Op, Target};
use super::walker::{Stop, Walk, Walker};
use crate::disk::FileInfo;
use crate::disk::sorter::Sorter;
use crate::tree::cursor::{self, Cursor};
use crate::tree::{Body, Directory, Entry, Inode, LinkItem, MapRef, Name};
use std::collections::HashMap;
use std::path::PathBuf;

/// Notes kept in memory, in bytes; more go to runs on disk.
const NOTES_BYTES: usize = 1 << 20;
/// Inodes that were captured with a single name and have several now.
const FORMER_MAX: usize = 10_000;

const ADDED: u8 = 0;
const GONE: u8 = 1;
const LOOK: u8 = 2;

/// What was noted about groups: group (8 bytes, big-endian), what, and a path.
#[derive(Debug)]
pub(super) struct Spool {
    notes: Sorter,
    count: u64,
    scratch: Option<PathBuf>,
    /// Groups given to inodes in this capture, and the other way round.
    given: HashMap<u64, u64>,
    taken: HashMap<u64, u64>,
    former: HashMap<u64, Inode>,
}

impl Spool {
    pub(super) fn new(scratch: Option<PathBuf>) -> Self {
        Self {
            notes: Sorter::new(NOTES_BYTES, scratch.clone()),
            count: 0,
            scratch,
            given: HashMap::new(),
            taken: HashMap::new(),
            former: HashMap::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn note(&mut self, group: u64, what: u8, path: &[u8]) -> Walk<()> {
        let mut note = group.to_be_bytes().to_vec();
        note.push(what);
        note.extend_from_slice(path);
        self.count += 1;
        self.notes.push(&note).map_err(|error| Stop::Failed(CaptureError::Scratch(error)))
    }
}

/// What was noted about one group.
#[derive(Debug, Default)]
struct Notes {
    added: u64,
    gone: u64,
    paths: Vec<Vec<u8>>,
}

impl Walker<'_> {
    /// A name of an inode that has several.
    pub(super) fn visit_link(&mut self, name: &Name, info: &FileInfo, old: Option<&Entry>) -> Walk<()> {
        let old_group = match old {
            Some(Entry::Link(group)) => Some(*group),
            _ => None,
        };
        let (group, item) = self.group_of(info, old_group)?;
        let path = self.path_of(name.as_bytes());
        if item.as_ref().is_none_or(|item| self.request.foreign || !unchanged(&item.inode, info)) {
            self.spool.note(group, LOOK, &path)?;
        }
        if old_group == Some(group) {
            return Ok(());
        }
        if let Some(inode) = old.and_then(Entry::as_inode).filter(|inode| inode.stamp.inode == info.inode)
            && self.spool.former.len() < FORMER_MAX
        {
            self.spool.former.insert(group, inode.clone());
        }
        if let Some(entry) = old {
            self.forget_links(entry)?;
        }
        self.spool.note(group, ADDED, &path)?;
        self.emit(Op::PutLink { name: name.clone(), group, was: counts(old) })
    }

    /// The group of an inode: the one its name had, if that is still the same inode; otherwise one that nobody has.
    fn group_of(&mut self, info: &FileInfo, old_group: Option<u64>) -> Walk<(u64, Option<LinkItem>)> {
        let known = match old_group {
            Some(group) => cursor::get(self.reader, &self.old_links, &group.to_be_bytes())?,
            None => None,
        };
        if let Some(group) = self.spool.given.get(&info.inode) {
            let group = *group;
            let item = cursor::get(self.reader, &self.old_links, &group.to_be_bytes())?;
            return Ok((group, item));
        }
        if let (Some(group), Some(item)) = (old_group, &known) {
            // after a restore every inode has another number; the names tell which belong together
            let same =
                if self.request.foreign { !self.spool.taken.contains_key(&group) } else { item.inode.stamp.inode == info.inode };
            if same {
                self.give(info.inode, group, self.request.foreign);
                return Ok((group, known));
            }
        }
        let mut group = info.inode;
        loop {
            let item = cursor::get(self.reader, &self.old_links, &group.to_be_bytes())?;
            match item {
                None if !self.spool.taken.contains_key(&group) => break,
                Some(item) if item.inode.stamp.inode == info.inode && !self.request.foreign => return Ok((group, Some(item))),
                _ => group = group.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1),
            }
        }
        self.give(info.inode, group, group != info.inode || self.request.foreign);
        Ok((group, None))
    }

    fn give(&mut self, inode: u64, group: u64, remember: bool) {
        if remember {
            self.spool.given.insert(inode, group);
            self.spool.taken.insert(group, inode);
        }
    }

    /// A name of the group is gone.
    pub(super) fn spool_gone(&mut self, group: u64) -> Walk<()> {
        self.spool.note(group, GONE, &[])
    }

    /// All names of groups beneath an old entry are gone.
    pub(super) fn forget_links(&mut self, entry: &Entry) -> Walk<()> {
        let inode = match entry {
            Entry::Link(group) => return self.spool_gone(*group),
            Entry::Inode(inode) => inode,
        };
        let (map, sums) = directory_of(inode);
        if sums.links == 0 {
            return Ok(());
        }
        let mut cursor = Cursor::new(self.reader, &map)?;
        while let Some((_, entry)) = cursor.next(self.reader)? {
            self.forget_links(&entry)?;
        }
        Ok(())
    }

    /// All names of groups beneath a directory that was renamed are there again: the counterpart of [`Self::forget_links`].
    pub(super) fn found_links(&mut self, map: &MapRef<Directory>) -> Walk<()> {
        let mut cursor = Cursor::new(self.reader, map)?;
        while let Some((_, entry)) = cursor.next(self.reader)? {
            match &entry {
                Entry::Link(group) => self.spool.note(*group, ADDED, &[])?,
                Entry::Inode(inode) => match directory_of(inode) {
                    (_, sums) if sums.links == 0 => {}
                    (map, _) => self.found_links(&map)?,
                },
            }
        }
        Ok(())
    }

    /// The inodes of the groups that something was noted about.
    pub(super) fn links(&mut self) -> Walk<()> {
        let fresh = Sorter::new(NOTES_BYTES, self.spool.scratch.clone());
        let failed = |error| Stop::Failed(CaptureError::Scratch(error));
        let mut notes = std::mem::replace(&mut self.spool.notes, fresh).finish().map_err(failed)?.peekable();
        let former = std::mem::take(&mut self.spool.former);
        self.spool.count = 0;
        while let Some(first) = notes.next() {
            let mut note = first.map_err(failed)?;
            let mut group_notes = Notes::default();
            let group = note.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            loop {
                group_notes.add(&note);
                let same_group = notes.next_if(|next| next.as_ref().is_ok_and(|next| next.get(..8) == note.get(..8)));
                match same_group {
                    Some(next) => note = next.map_err(failed)?,
                    None => break,
                }
            }
            self.link_inode(group, &group_notes, former.get(&group))?;
            self.check_cancelled()?;
        }
        Ok(())
    }

    fn link_inode(&mut self, group: u64, notes: &Notes, former: Option<&Inode>) -> Walk<()> {
        let old = cursor::get(self.reader, &self.old_links, &group.to_be_bytes())?;
        let names = old.as_ref().map_or(0, |old| old.names).saturating_add(notes.added).saturating_sub(notes.gone);
        // what was just looked at is there, whatever was counted
        let names = if names == 0 { notes.paths.len() as u64 } else { names };
        let was_bytes = old.as_ref().map_or(0, |old| size_of(&old.inode));
        if names == 0 {
            return Ok(self.ops.send(Op::RemoveLink { group, was_bytes })?);
        }
        let inode = old.as_ref().map(|old| &old.inode);
        for path in &notes.paths {
            let Ok((dir, name)) = self.descend(path) else { continue };
            let Ok(info) = dir.info(&name) else { continue };
            let target = Target::Link { group, names, path: path.iter().copied().take(4096).collect(), was_bytes };
            let parent = path.len() - name.as_bytes().len();
            let open = std::mem::replace(&mut self.path, path[..parent.saturating_sub(1)].to_vec());
            let before = self.tally.read_files;
            let result = self.capture(&dir, &name, &info, None, inode.or(former), target);
            self.path = open;
            result?;
            if self.tally.read_files > before || info.kind != crate::disk::FileKind::File {
                return Ok(());
            }
        }
        // nothing to look at, or nothing that could be read: the inode stays as it was
        let path = old.as_ref().map(|old| old.path.clone()).or_else(|| notes.paths.first().map(|path| path.as_slice().into()));
        let path = path.unwrap_or_default();
        let kept = inode.or(former).cloned();
        let inode = kept.unwrap_or_else(|| {
            self.tally.unstable += 1; // it vanished between its name and its content; the next capture will know
            missing_inode()
        });
        let target = Target::Link { group, names, path, was_bytes };
        Ok(self.ops.send(Op::Put { target, inode: Box::new(inode), bytes: super::op::Bytes::Complete, xattrs: None })?)
    }
}

impl Notes {
    fn add(&mut self, note: &[u8]) {
        match note.get(8) {
            Some(&ADDED) => self.added += 1,
            Some(&GONE) => self.gone += 1,
            _ => self.paths.extend(note.get(9..).map(<[u8]>::to_vec)),
        }
    }
}

/// The bytes that an inode with several names counts for.
pub(super) fn size_of(inode: &Inode) -> u64 {
    match &inode.body {
        Body::File { size, .. } => *size,
        _ => 0,
    }
}

/// Stands for an inode of which only a name was seen.
fn missing_inode() -> Inode {
    Inode {
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Default::default(),
        xattrs: Default::default(),
        body: Body::File { size: 0, content: Default::default() },
        stamp: Default::default(),
    }
}
