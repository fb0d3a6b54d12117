// SPDX-License-Identifier: Apache-2.0
//! A tree and a disk, side by side: where they differ, and how. Independent of the code that captures, so that one can be held against the other.

use super::{DEVIATIONS_MAX, RestoreError, Target};
use crate::disk::{Dir, FileInfo, FileKind, info_of, is_own, xattr};
use crate::reader::Reader;
use crate::tree::inode::encode_xattrs;
use crate::tree::{
    Body, Content, Cursor, Directory, Entry, Extent, Inode, LinkItem, Links, MapRef, Mtime, Name, RootItem, Xattrs,
};
use rustix::fd::OwnedFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

/// One way in which a disk differs from a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// Where, below the target.
    pub path: Vec<u8>,
    /// How.
    pub what: String,
}

/// What a comparison found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The first differences; at most 100.
    pub deviations: Vec<Deviation>,
    /// How many there are.
    pub count: u64,
    /// Entries compared.
    pub entries: u64,
}

struct Comparer<'a> {
    reader: &'a Reader,
    target: &'a Target,
    links: &'a MapRef<Links>,
    /// Inodes on disk by group, and groups by inode: they must correspond.
    groups: HashMap<u64, u64>,
    inodes: HashMap<u64, u64>,
    found: Comparison,
}

type Result<T> = std::result::Result<T, RestoreError>;

/// Compares what the targets hold with the trees. Must not be called from a thread that drives asynchronous tasks.
///
/// # Errors
/// If the repository can't be read. What can't be read on disk is a difference.
pub fn compare(reader: &Arc<Reader>, roots: &[RootItem], targets: &[Target]) -> Result<Comparison> {
    let mut all = Comparison::default();
    for target in targets {
        let Some(root) = roots.iter().find(|root| root.label == target.label) else { continue };
        let (groups, inodes) = (HashMap::new(), HashMap::new());
        let mut comparer = Comparer { reader, target, links: &root.links, groups, inodes, found: Comparison::default() };
        comparer.described(b"", &root.directory, target.dir.own_info(), Some(&target.dir))?;
        comparer.directory(&target.dir, &root.entries(), b"")?;
        all.count += comparer.found.count;
        all.entries += comparer.found.entries;
        let room = DEVIATIONS_MAX.saturating_sub(all.deviations.len());
        all.deviations.extend(comparer.found.deviations.into_iter().take(room));
    }
    Ok(all)
}

fn join(path: &[u8], name: &Name) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.as_bytes());
    joined
}

impl Comparer<'_> {
    fn differ(&mut self, path: &[u8], what: impl Into<String>) {
        self.found.count += 1;
        if self.found.deviations.len() < DEVIATIONS_MAX {
            self.found.deviations.push(Deviation { path: path.to_vec(), what: what.into() });
        }
    }

    fn directory(&mut self, dir: &Dir, map: &MapRef<Directory>, path: &[u8]) -> Result<()> {
        let mut extra = BTreeSet::new();
        let listed = dir.names(|name| {
            extra.extend(Name::new(name));
            Ok(())
        });
        if let Err(error) = listed {
            self.differ(path, error.to_string());
        }
        let mut cursor = Cursor::new(self.reader, map)?;
        while let Some((name, entry)) = cursor.next(self.reader)? {
            self.found.entries += 1;
            extra.remove(&name);
            let path = join(path, &name);
            match dir.info(&name) {
                Err(error) => self.differ(&path, error.to_string()),
                Ok(info) => self.entry(dir, &name, &entry, info, &path)?,
            }
        }
        for name in extra {
            let path = join(path, &name);
            let is_directory = dir.info(&name).is_ok_and(|info| info.kind == FileKind::Directory);
            if self.target.filter.keeps(&path, is_directory) && !is_own(&path) {
                self.differ(&path, "it is there, and was not");
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: &Dir, name: &Name, entry: &Entry, info: FileInfo, path: &[u8]) -> Result<()> {
        let inode = match entry {
            Entry::Inode(inode) => inode.as_ref().clone(),
            Entry::Link(group) => {
                let same = *self.groups.entry(*group).or_insert(info.inode) == info.inode
                    && *self.inodes.entry(info.inode).or_insert(*group) == *group;
                if !same {
                    self.differ(path, "it is not a hard link to what it was one to");
                }
                match crate::tree::cursor::get::<Links, _>(self.reader, self.links, &group.to_be_bytes())? {
                    Some(LinkItem { inode, .. }) => inode,
                    None => {
                        return Err(crate::error::StoreError::damaged(
                            "tree",
                            "a name refers to a hard link that does not exist",
                        )
                        .into());
                    }
                }
            }
        };
        if let Body::Directory { map, .. } = &inode.body {
            return match dir.open_dir(name) {
                Err(error) => {
                    self.differ(path, error.to_string());
                    Ok(())
                }
                Ok(sub) => {
                    self.described(path, &inode, sub.own_info(), Some(&sub))?;
                    self.directory(&sub, map, path)
                }
            };
        }
        self.described(path, &inode, Ok(info), None)?;
        self.content(dir, name, &inode, &info, path)
    }

    fn described(&mut self, path: &[u8], inode: &Inode, info: io::Result<FileInfo>, dir: Option<&Dir>) -> Result<()> {
        let info = match info {
            Ok(info) => info,
            Err(error) => {
                self.differ(path, error.to_string());
                return Ok(());
            }
        };
        if info.mode != inode.mode && !matches!(inode.body, Body::Symlink(_)) {
            self.differ(path, format!("its mode is {:04o} and was {:04o}", info.mode, inode.mode));
        }
        if (info.uid, info.gid) != (inode.uid, inode.gid) {
            self.differ(path, format!("it belongs to {}:{} and belonged to {}:{}", info.uid, info.gid, inode.uid, inode.gid));
        }
        if info.mtime != inode.mtime {
            let time = |time: Mtime| format!("{}.{:09}", time.seconds, time.nanos);
            self.differ(path, format!("it was modified at {} and had been at {}", time(info.mtime), time(inode.mtime)));
        }
        match dir {
            Some(dir) => self.attributes(path, inode, xattr::read(dir.fd())),
            None => Ok(()),
        }
    }

    fn attributes(&mut self, path: &[u8], inode: &Inode, found: io::Result<xattr::List>) -> Result<()> {
        let expected = match &inode.xattrs {
            Xattrs::None => Vec::new(),
            Xattrs::Inline(bytes) => bytes.to_vec(),
            Xattrs::Chunk { len, id, place } => self.reader.chunk(place, *len, id)?,
        };
        match found {
            Err(error) => self.differ(path, error.to_string()),
            Ok(list) if list.is_empty() && expected.is_empty() => {}
            Ok(list) if encode_xattrs(&list) == expected => {}
            Ok(_) => self.differ(path, "its extended attributes are others"),
        }
        Ok(())
    }

    fn content(&mut self, dir: &Dir, name: &Name, inode: &Inode, info: &FileInfo, path: &[u8]) -> Result<()> {
        let right_kind = match &inode.body {
            Body::File { .. } => info.kind == FileKind::File,
            Body::Symlink(_) => info.kind == FileKind::Symlink,
            Body::Fifo => info.kind == FileKind::Fifo,
            Body::Socket => info.kind == FileKind::Socket,
            Body::CharDevice(major, minor) => info.kind == FileKind::CharDevice && info.numbers == (*major, *minor),
            Body::BlockDevice(major, minor) => info.kind == FileKind::BlockDevice && info.numbers == (*major, *minor),
            Body::Directory { .. } => false,
        };
        if !right_kind {
            self.differ(path, "it is something else");
            return Ok(());
        }
        match &inode.body {
            Body::Symlink(target) if !dir.read_link(name).is_ok_and(|found| *found == **target) => {
                self.differ(path, "it leads elsewhere");
            }
            Body::File { size, content } => match dir.open_file(name) {
                Err(error) => self.differ(path, error.to_string()),
                Ok(fd) => {
                    self.attributes(path, inode, xattr::read(&fd))?;
                    let found = info_of(&fd).map_or(0, |info| info.size);
                    if found != *size {
                        self.differ(path, format!("it has {found} bytes and had {size}"));
                    } else if let Some(what) = self.bytes(&fd, *size, content)? {
                        self.differ(path, what);
                    }
                }
            },
            _ => {}
        }
        Ok(())
    }

    /// How the bytes differ, if they do.
    fn bytes(&self, fd: &OwnedFd, size: u64, content: &Content) -> Result<Option<String>> {
        let whole = |len: u32| read(fd, 0, len as usize);
        match content {
            Content::None => Ok((!is_hole(fd, 0, size)).then(|| "it has data, and was empty".to_owned())),
            Content::Inline(bytes) => {
                Ok((whole(u32::try_from(bytes.len()).unwrap_or(0)) != **bytes).then(|| "its bytes are others".to_owned()))
            }
            Content::Chunk { id, .. } => {
                let found = self.reader.domain().keys.identity.chunk_id(&whole(u32::try_from(size).unwrap_or(0)));
                Ok((found != *id).then(|| "its bytes are others".to_owned()))
            }
            Content::Extents { map, .. } => {
                let mut cursor = Cursor::new(self.reader, map)?;
                let mut end = 0;
                while let Some(extent) = cursor.next(self.reader)? {
                    if !is_hole(fd, end, extent.start) {
                        return Ok(Some(format!("it has data from {end}, where a hole was")));
                    }
                    if !self.has(fd, &extent) {
                        return Ok(Some(format!("its bytes from {} to {} are others", extent.start, extent.end())));
                    }
                    end = extent.end();
                }
                Ok((!is_hole(fd, end, size)).then(|| format!("it has data from {end}, where a hole was")))
            }
        }
    }

    fn has(&self, fd: &OwnedFd, extent: &Extent) -> bool {
        self.reader.domain().keys.identity.chunk_id(&read(fd, extent.start, extent.len as usize)) == extent.id
    }
}

fn read(fd: &OwnedFd, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match rustix::io::pread(fd, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    buffer.truncate(filled);
    buffer
}

/// Whether a stretch holds no data: a hole, as far as the file system can tell.
fn is_hole(fd: &OwnedFd, start: u64, end: u64) -> bool {
    start >= end
        || match rustix::fs::seek(fd, SeekFrom::Data(start)) {
            Ok(data) => data >= end,
            Err(error) => error == Errno::NXIO,
        }
}
