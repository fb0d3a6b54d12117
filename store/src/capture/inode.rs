// SPDX-License-Identifier: Apache-2.0
//! Inodes as the file system describes them, and what of the description can be trusted later.

use super::walker::{Walk, Walker};
use crate::disk::{Dir, FileInfo, FileKind, xattr};
use crate::tree::inode::{INLINE_XATTRS, encode_xattrs};
use crate::tree::{Body, Directory, Entry, Inode, MapRef, Mtime, Stamp, Xattrs};
use crate::write::Batch;
use holdfast_core::checkpoint::Totals;
use holdfast_core::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// A file that changed this recently may change again without a new time: kernels tick every 1 to 10 ms, some file systems store seconds only.
const RACY: Duration = Duration::from_millis(50);
const RACY_SECONDS: Duration = Duration::from_secs(2);
/// A page that was written through a mapping changes the time when it is written first, and again only after the kernel has written it back: by default
/// after 30 s, looked for each 5 s (`vm.dirty_expire_centisecs`, `vm.dirty_writeback_centisecs`). Until then what is in the page changes unseen, so the file is read again.
/// Where the disk is another's so far (`foreign`), nothing is mapped yet, and a new mapping's first write is seen.
const MAPPED: Duration = Duration::from_secs(45);
/// Programs that write through mappings do so in files of at least some pages.
const MAPPED_MIN: u64 = 16 << 10;

impl Walker<'_> {
    /// The inode of a directory, without its entries.
    pub(super) fn directory_inode(&mut self, dir: &Dir, info: &FileInfo, old: Option<&Inode>) -> Walk<(Inode, PendingXattrs)> {
        let unchanged = old.filter(|old| !self.request.foreign && old.stamp == info.stamp() && old.stamp != Stamp::default());
        let (xattrs, pending) = match unchanged {
            Some(old) => (old.xattrs.clone(), None),
            None => match xattr::read(dir.fd()) {
                Ok(list) => self.xattrs(&list),
                Err(error) => {
                    self.problem(None, &error)?;
                    (Xattrs::None, None)
                }
            },
        };
        let body = Body::Directory { map: MapRef::Empty, sums: Totals::default() };
        Ok((self.inode(info, xattrs, body), pending))
    }

    /// A list of attributes: inlined, or as a chunk that is on its way.
    pub(super) fn xattrs(&mut self, list: &xattr::List) -> (Xattrs, PendingXattrs) {
        if list.is_empty() {
            return (Xattrs::None, None);
        }
        let bytes = encode_xattrs(list);
        if bytes.len() <= INLINE_XATTRS {
            return (Xattrs::Inline(bytes.into()), None);
        }
        (Xattrs::None, Some(self.ops.batcher.add(&bytes, None)))
    }

    /// An inode as the file system describes it.
    pub(super) fn inode(&self, info: &FileInfo, xattrs: Xattrs, body: Body) -> Inode {
        self.inode_at(info, xattrs, body, self.request.clock.now())
    }

    /// The same for what was looked at before it was read, at this time.
    pub(super) fn inode_at(&self, info: &FileInfo, xattrs: Xattrs, body: Body, looked: Timestamp) -> Inode {
        Inode {
            mode: info.mode,
            uid: info.uid,
            gid: info.gid,
            mtime: info.mtime,
            xattrs,
            body,
            stamp: self.trusted_stamp(info, looked),
        }
    }

    /// The stamp, unless the file had changed so recently when it was looked at that it may change again without a new time.
    pub(super) fn trusted_stamp(&self, info: &FileInfo, looked: Timestamp) -> Stamp {
        let tick = match info.ctime.nanos {
            _ if info.kind == FileKind::File && info.size >= MAPPED_MIN && !self.request.foreign => MAPPED,
            0 => RACY_SECONDS,
            _ => RACY,
        };
        let changed = i128::from(info.ctime.seconds) * 1_000_000_000 + i128::from(info.ctime.nanos);
        let trusted_until = i128::from(looked.minus(tick).nanos());
        if changed < trusted_until { info.stamp() } else { Stamp { ctime: Mtime::default(), inode: info.inode } }
    }
}

/// A list of attributes that is on its way as a chunk.
pub(super) type PendingXattrs = Option<(Arc<Batch>, usize)>;

impl Entry {
    /// The inode, unless it is one of several names.
    #[must_use]
    pub fn as_inode(&self) -> Option<&Inode> {
        match self {
            Self::Inode(inode) => Some(inode),
            Self::Link(_) => None,
        }
    }
}

/// What an entry counts for in the sums of the directories above it.
pub(super) fn counts(entry: Option<&Entry>) -> Totals {
    let none = Totals::default();
    match entry {
        None => none,
        Some(Entry::Link(_)) => Totals { links: 1, ..none },
        Some(Entry::Inode(inode)) => match &inode.body {
            Body::File { size, .. } => Totals { files: 1, bytes: *size, ..none },
            Body::Directory { sums, .. } => Totals { directories: sums.directories.saturating_add(1), ..*sums },
            _ => Totals { others: 1, ..none },
        },
    }
}

pub(super) fn directory_of(inode: &Inode) -> (MapRef<Directory>, Totals) {
    match &inode.body {
        Body::Directory { map, sums } => (map.clone(), *sums),
        _ => (MapRef::Empty, Totals::default()),
    }
}

fn same_metadata(old: &Inode, info: &FileInfo) -> bool {
    (old.mode, old.uid, old.gid, old.mtime) == (info.mode, info.uid, info.gid, info.mtime)
}

/// Whether a file is as it was captured: the same inode, not changed since, and described the same.
pub(super) fn unchanged(old: &Inode, info: &FileInfo) -> bool {
    let same_kind = match (&old.body, info.kind) {
        (Body::File { size, .. }, FileKind::File) => *size == info.size,
        (Body::Symlink(_), FileKind::Symlink) | (Body::Fifo, FileKind::Fifo) | (Body::Socket, FileKind::Socket) => true,
        (Body::CharDevice(major, minor), FileKind::CharDevice) | (Body::BlockDevice(major, minor), FileKind::BlockDevice) => {
            (*major, *minor) == info.numbers
        }
        _ => false,
    };
    same_kind && old.stamp.ctime != Mtime::default() && old.stamp == info.stamp() && same_metadata(old, info)
}

/// Whether a directory itself (not its entries) must be written anew: it is described differently, or its stamp is stale.
pub(super) fn differs(old: &Inode, info: &FileInfo, new: &Inode) -> bool {
    !same_metadata(old, info) || old.xattrs != new.xattrs || (old.stamp != new.stamp && new.stamp.ctime != Mtime::default())
}
