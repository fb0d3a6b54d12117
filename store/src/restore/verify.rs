// SPDX-License-Identifier: Apache-2.0
//! Chosen files held against a tree, one by one: for restores after which a target holds more, or less, than a checkpoint.

use super::{DEVIATIONS_MAX, Deviation, RestoreError, Target};
use crate::disk::{Dir, FileInfo, FileKind, xattr};
use crate::reader::Reader;
use crate::tree::inode::encode_xattrs;
use crate::tree::{Body, Content, Cursor, Directory, Entry, Inode, MapRef, Name, RootItem, Xattrs, cursor};
use rustix::fd::OwnedFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What to hold against what.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// What reads the trees.
    pub reader: &'a Arc<Reader>,
    /// The trees.
    pub roots: &'a [RootItem],
    /// The directories.
    pub targets: &'a [Target],
    /// Only at and below these; empty: everything.
    pub select: &'a [(String, Vec<Name>)],
    /// Whether files were given to their owners.
    pub owners: bool,
    /// Ends it early.
    pub cancel: &'a AtomicBool,
}

/// How a target differs from a checkpoint. What it holds besides is no difference.
#[derive(Debug, Default)]
pub struct Verified {
    /// The first differences; at most 100.
    pub deviations: Vec<Deviation>,
    /// How many there are: an entry may differ in several ways.
    pub count: u64,
    /// Of those, files that are missing, are something else, or hold other bytes.
    pub contents: u64,
    /// Entries that aren't there.
    pub missing: u64,
    /// Entries that are there, and others.
    pub changed: u64,
}

struct Verifier<'a> {
    request: &'a Chosen<'a>,
    root: &'a RootItem,
    names: Vec<Name>,
    found: Verified,
}

type Result<T> = std::result::Result<T, RestoreError>;

/// Compares chosen files. What a target holds besides is no difference. Must not be called from a thread that drives asynchronous tasks.
///
/// # Errors
/// If the repository can't be read, or it is cancelled. What can't be read on disk is a difference.
pub fn verify(request: &Chosen<'_>) -> Result<Verified> {
    let mut found = Verified::default();
    for target in request.targets {
        let Some(root) = request.roots.iter().find(|root| root.label == target.label) else { continue };
        let mut verifier = Verifier { request, root, names: Vec::new(), found };
        verifier.directory(&target.dir, &root.entries())?;
        found = verifier.found;
    }
    Ok(found)
}

impl Verifier<'_> {
    fn differ(&mut self, what: impl Into<String>) {
        self.found.count += 1;
        if self.found.deviations.len() < DEVIATIONS_MAX {
            let parts: Vec<_> = self.names.iter().map(Name::as_bytes).collect();
            self.found.deviations.push(Deviation { path: parts.join(&b'/'), what: what.into() });
        }
    }

    /// It is not the file that it should be.
    fn lose(&mut self, what: impl Into<String>) {
        self.found.contents += 1;
        self.differ(what);
    }

    /// Whether the path at hand is chosen; `None`: something beneath it may be.
    fn chosen(&self) -> Option<bool> {
        let mut above = false;
        for (_, path) in self.request.select.iter().filter(|(label, _)| *label == self.root.label) {
            if self.names.starts_with(path) {
                return Some(true);
            }
            above |= path.starts_with(&self.names);
        }
        match (self.request.select.is_empty(), above) {
            (true, _) => Some(true),
            (_, true) => None,
            (_, false) => Some(false),
        }
    }

    fn directory(&mut self, dir: &Dir, map: &MapRef<Directory>) -> Result<()> {
        let reader = self.request.reader;
        let mut entries = Cursor::new(&**reader, map)?;
        while let Some((name, entry)) = entries.next(&**reader)? {
            if self.request.cancel.load(Ordering::Relaxed) {
                return Err(RestoreError::Cancelled);
            }
            self.names.push(name.clone());
            if let wanted @ (None | Some(true)) = self.chosen() {
                self.entry(dir, &name, &entry, wanted.is_some())?;
            }
            self.names.pop();
        }
        Ok(())
    }

    fn entry(&mut self, dir: &Dir, name: &Name, entry: &Entry, whole: bool) -> Result<()> {
        let reader = self.request.reader;
        let linked = match entry {
            Entry::Inode(_) => None,
            Entry::Link(group) => cursor::get(&**reader, &self.root.links, &group.to_be_bytes())?.map(|item| item.inode),
        };
        let inode = match (entry, &linked) {
            (Entry::Inode(inode), _) => &**inode,
            (_, Some(inode)) => inode,
            (_, None) => {
                self.lose("it is a hard link to nothing");
                return Ok(());
            }
        };
        let info = match dir.info(name) {
            Ok(info) => info,
            Err(error) => {
                self.found.missing += 1;
                self.lose(error.to_string());
                if let Body::Directory { map, .. } = &inode.body {
                    self.found.missing += self.beneath(map)?;
                }
                return Ok(());
            }
        };
        let before = self.found.count;
        if whole {
            self.described(inode, &info);
        }
        if let Body::Directory { map, .. } = &inode.body {
            return self.subdirectory(dir, name, (inode, map), whole, before);
        }
        self.contents(dir, name, inode, &info)?;
        self.changed_since(before);
        Ok(())
    }

    /// The entry at hand is another, if differences were found since.
    fn changed_since(&mut self, before: u64) {
        self.found.changed += u64::from(self.found.count > before);
    }

    fn subdirectory(
        &mut self,
        dir: &Dir,
        name: &Name,
        (inode, map): (&Inode, &MapRef<Directory>),
        whole: bool,
        before: u64,
    ) -> Result<()> {
        let sub = match dir.open_dir(name) {
            Ok(sub) => sub,
            Err(error) => {
                self.lose(error.to_string());
                self.changed_since(before);
                self.found.missing += self.beneath(map)?;
                return Ok(());
            }
        };
        if whole {
            self.attributes(inode, xattr::read(sub.fd()))?;
        }
        self.changed_since(before);
        self.directory(&sub, map)
    }

    /// How many entries lie beneath a directory that isn't there: at least those of its own level, and of the chosen among them.
    fn beneath(&mut self, map: &MapRef<Directory>) -> Result<u64> {
        let reader = self.request.reader;
        let mut entries = Cursor::new(&**reader, map)?;
        let mut count = 0;
        while let Some((name, entry)) = entries.next(&**reader)? {
            self.names.push(name);
            if self.chosen() != Some(false) {
                count += 1;
                if let Entry::Inode(inode) = &entry
                    && let Body::Directory { map, .. } = &inode.body
                {
                    count += self.beneath(map)?;
                }
            }
            self.names.pop();
        }
        Ok(count)
    }

    fn contents(&mut self, dir: &Dir, name: &Name, inode: &Inode, info: &FileInfo) -> Result<()> {
        match &inode.body {
            Body::File { size, content } if info.kind == FileKind::File => match dir.open_file(name) {
                Ok(fd) => {
                    self.attributes(inode, xattr::read(&fd))?;
                    self.content(&fd, *size, content, info)
                }
                Err(error) => {
                    self.lose(error.to_string());
                    Ok(())
                }
            },
            Body::Symlink(target) if !dir.read_link(name).is_ok_and(|found| *found == **target) => {
                self.lose("it leads elsewhere");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn described(&mut self, inode: &Inode, info: &FileInfo) {
        let kind = match &inode.body {
            Body::File { .. } => FileKind::File,
            Body::Directory { .. } => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Fifo => FileKind::Fifo,
            Body::Socket => FileKind::Socket,
            Body::CharDevice(..) => FileKind::CharDevice,
            Body::BlockDevice(..) => FileKind::BlockDevice,
        };
        if info.kind != kind {
            return self.lose("it is something else");
        }
        if info.mode != inode.mode && kind != FileKind::Symlink {
            self.differ(format!("its mode is {:04o} and was {:04o}", info.mode, inode.mode));
        }
        if self.request.owners && (info.uid, info.gid) != (inode.uid, inode.gid) {
            self.differ(format!("it belongs to {}:{} and belonged to {}:{}", info.uid, info.gid, inode.uid, inode.gid));
        }
        if info.mtime != inode.mtime {
            self.differ("it was modified at another time");
        }
    }

    fn attributes(&mut self, inode: &Inode, found: io::Result<xattr::List>) -> Result<()> {
        let expected = match &inode.xattrs {
            Xattrs::None => Vec::new(),
            Xattrs::Inline(bytes) => bytes.to_vec(),
            Xattrs::Chunk { len, id, place } => self.request.reader.chunk(place, *len, id)?,
        };
        match found {
            Ok(list) if list.is_empty() && expected.is_empty() => {}
            Ok(list) if encode_xattrs(&list) == expected => {}
            Ok(_) => self.differ("its extended attributes are others"),
            Err(error) => self.differ(error.to_string()),
        }
        Ok(())
    }

    fn content(&mut self, fd: &OwnedFd, size: u64, content: &Content, info: &FileInfo) -> Result<()> {
        if info.size != size {
            self.lose(format!("it has {} bytes and had {size}", info.size));
            return Ok(());
        }
        let reader = self.request.reader;
        let identity = &reader.domain().keys.identity;
        let whole = || read(fd, 0, usize::try_from(size).unwrap_or(0));
        let same = match content {
            Content::None => is_empty(fd, 0, size),
            Content::Inline(bytes) => whole().is_ok_and(|found| *found == **bytes),
            Content::Chunk { id, .. } => whole().is_ok_and(|found| identity.chunk_id(&found) == *id),
            Content::Extents { map, .. } => {
                let (mut end, mut same) = (0, true);
                let mut extents = Cursor::new(&**reader, map)?;
                while let Some(extent) = extents.next(&**reader)? {
                    let found = read(fd, extent.start, extent.len as usize);
                    same &= is_empty(fd, end, extent.start) && found.is_ok_and(|found| identity.chunk_id(&found) == extent.id);
                    end = extent.end();
                }
                same && is_empty(fd, end, size)
            }
        };
        if !same {
            self.lose("its bytes are others");
        }
        Ok(())
    }
}

fn read(fd: &OwnedFd, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match rustix::io::pread(fd, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Whether a stretch holds no data, as far as the file system can tell holes from zeros.
fn is_empty(fd: &OwnedFd, start: u64, end: u64) -> bool {
    start >= end
        || match rustix::fs::seek(fd, SeekFrom::Data(start)) {
            Ok(data) => data >= end,
            Err(error) => error == Errno::NXIO,
        }
}
