// SPDX-License-Identifier: Apache-2.0
//! The files of one checkpoint. Everything here blocks, and runs on threads of its own.

use crate::catalog::Found;
use crate::status;
use crate::stream::Halt;
use holdfast_core::checkpoint::Totals;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1;
use holdfast_store::StoreError;
use holdfast_store::codec;
use holdfast_store::reader::Reader;
use holdfast_store::tree::inode::decode_xattrs;
use holdfast_store::tree::{Body, Directory, Entry, Inode, MapRef, Name, RootItem, Xattrs, cursor};
use std::sync::Arc;
use tokio::runtime::Handle;
use tonic::Status;

pub(crate) mod content;
pub(crate) mod diff;
mod links;
pub(crate) mod list;
mod merge;

/// Most directories inside one another, as the format has it.
pub(crate) const DEPTH_MAX: usize = 4096;
/// Labels besides the entries that totals count.
const LABELS_MAX: u64 = 64;

/// A checkpoint's trees, and what reads them.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) reader: Arc<Reader>,
    pub(crate) roots: Vec<RootItem>,
    totals: Totals,
}

/// One file of a state: its inode, and the group it shares it by.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) root: usize,
    pub(crate) inode: Inode,
    pub(crate) group: Option<u64>,
}

/// A path, understood.
pub(crate) struct Path {
    pub(crate) names: Vec<Name>,
    pub(crate) text: Vec<u8>,
}

impl Path {
    /// Reads a path from a request: a label, and names beneath it; empty: the labels.
    pub(crate) fn parse(text: &[u8], field: &str) -> Result<Self, Status> {
        if text.is_empty() {
            return Ok(Self { names: Vec::new(), text: Vec::new() });
        }
        let text = text.strip_suffix(b"/").unwrap_or(text);
        let name = |part: &[u8]| Name::new(part).ok_or_else(|| status::invalid(field, "is no path: write LABEL/NAME/NAME"));
        let names = text.split(|byte| *byte == b'/').map(name).collect::<Result<Vec<_>, _>>()?;
        if names.len() > DEPTH_MAX {
            return Err(status::invalid(field, "leads too deep"));
        }
        Ok(Self { names, text: text.to_vec() })
    }
}

/// A path with another name at its end.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    joined.extend_from_slice(path);
    if !path.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

impl State {
    /// The files of a checkpoint.
    pub(crate) fn new(found: &Found, runtime: Handle) -> Self {
        let log = &found.place.log;
        let reader = Reader::new(Arc::clone(log.transport()), Arc::clone(log.domain()), runtime, None);
        Self::with(found, Arc::new(reader))
    }

    /// As [`new`](Self::new), with the reader of another checkpoint of the domain.
    pub(crate) fn with(found: &Found, reader: Arc<Reader>) -> Self {
        let checkpoint = found.entry.record.checkpoint();
        let roots = checkpoint.map(|checkpoint| checkpoint.roots.clone()).unwrap_or_default();
        let totals = checkpoint.map(|checkpoint| checkpoint.totals).unwrap_or_default();
        Self { reader, roots, totals }
    }

    /// A walk over more entries than this meets a tree that was made to be endless.
    pub(crate) const fn entries_max(&self) -> u64 {
        self.totals.entries().saturating_add(LABELS_MAX)
    }

    /// The file at a path.
    pub(crate) fn find(&self, path: &Path) -> Result<Item, Halt> {
        let missing = || status::not_found("path", String::from_utf8_lossy(&path.text));
        let Some((label, names)) = path.names.split_first() else {
            return Err(status::invalid("path", "is empty: the labels have no entry of their own").into());
        };
        let root = self.roots.iter().position(|root| root.label.as_bytes() == label.as_bytes()).ok_or_else(missing)?;
        let mut item = self.root(root);
        for name in names {
            let Body::Directory { map, .. } = &item.inode.body else { return Err(missing().into()) };
            let (_, entry) = cursor::get(&*self.reader, map, name.as_bytes())?.ok_or_else(missing)?;
            item = self.item(root, entry)?;
        }
        Ok(item)
    }

    /// A state path's own directory.
    pub(crate) fn root(&self, root: usize) -> Item {
        Item { root, inode: self.roots[root].directory.clone(), group: None }
    }

    /// What an entry stands for: of a hard link the inode that all its names share.
    pub(crate) fn item(&self, root: usize, entry: Entry) -> Result<Item, StoreError> {
        match entry {
            Entry::Inode(inode) => Ok(Item { root, inode: *inode, group: None }),
            Entry::Link(group) => {
                let found = cursor::get(&*self.reader, &self.roots[root].links, &group.to_be_bytes())?;
                let damaged = || StoreError::Damaged {
                    object: format!("the links of {:?}", self.roots[root].label),
                    what: format!("group {group} has names and no inode"),
                };
                Ok(Item { root, inode: found.ok_or_else(damaged)?.inode, group: Some(group) })
            }
        }
    }

    /// A file as it is told.
    pub(crate) fn describe(&self, path: Vec<u8>, item: &Item) -> Result<v1::File, StoreError> {
        let inode = &item.inode;
        let mut file = v1::File {
            path: path.into(),
            mode: inode.mode.into(),
            uid: inode.uid,
            gid: inode.gid,
            modified: Some(prost_types::Timestamp {
                seconds: inode.mtime.seconds,
                nanos: i32::try_from(inode.mtime.nanos).unwrap_or(0),
            }),
            xattrs: self.xattrs(&inode.xattrs)?,
            // a group is unique in its root only
            link_group: item.group.map(|group| format!("{:02x}{group:016x}", item.root)).unwrap_or_default(),
            ..v1::File::default()
        };
        let kind = match &inode.body {
            Body::File { size, .. } => {
                file.size = *size;
                v1::FileKind::Regular
            }
            Body::Directory { .. } => v1::FileKind::Directory,
            Body::Symlink(target) => {
                file.target = bytes::Bytes::copy_from_slice(target);
                v1::FileKind::Symlink
            }
            Body::Fifo => v1::FileKind::Fifo,
            Body::Socket => v1::FileKind::Socket,
            Body::CharDevice(major, minor) => {
                file.device = device(*major, *minor);
                v1::FileKind::CharacterDevice
            }
            Body::BlockDevice(major, minor) => {
                file.device = device(*major, *minor);
                v1::FileKind::BlockDevice
            }
        };
        file.set_kind(kind);
        Ok(file)
    }

    fn xattrs(&self, xattrs: &Xattrs) -> Result<Vec<v1::ExtendedAttribute>, StoreError> {
        let list: Vec<u8> = match xattrs {
            Xattrs::None => return Ok(Vec::new()),
            Xattrs::Inline(list) => list.to_vec(),
            Xattrs::Chunk { len, id, place } => self.reader.chunk(place, *len, id)?,
        };
        let damaged =
            |error: codec::Malformed| StoreError::Damaged { object: "a list of attributes".to_owned(), what: error.to_string() };
        let pairs = decode_xattrs(&mut codec::Reader::new(&list)).map_err(damaged)?;
        let bytes = bytes::Bytes::copy_from_slice;
        Ok(pairs.into_iter().map(|(name, value)| v1::ExtendedAttribute { name: bytes(name), value: bytes(value) }).collect())
    }
}

/// The entries of a directory, if it is one.
pub(crate) fn entries(inode: &Inode) -> Option<&MapRef<Directory>> {
    match &inode.body {
        Body::Directory { map, .. } => Some(map),
        _ => None,
    }
}

/// Both numbers in one, as Linux's `makedev` has it.
const fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | (minor & 0xff)
}

/// It is something else than the call is for.
pub(crate) fn wrong_kind(path: &Path, what: &str) -> Status {
    let name = String::from_utf8_lossy(&path.text);
    status::about(Reason::WrongKind, format!("{name:?} is not {what}"), "path", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_labels_and_names() {
        let parts = |text: &str| Path::parse(text.as_bytes(), "path").map(|path| path.names.len()).ok();
        for (text, count) in [("", Some(0)), ("data", Some(1)), ("data/", Some(1)), ("data/a/b", Some(3))] {
            assert_eq!(parts(text), count, "{text:?}");
        }
        for text in ["/", "/data", "data//a", "data/../a", "data/.", "data/a\0"] {
            assert_eq!(parts(text), None, "{text:?}");
        }
        assert_eq!(parts(&"a/".repeat(DEPTH_MAX + 1)), None);
    }

    #[test]
    fn device_numbers_are_those_of_linux() {
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(0x1234_5678, 0x9abc_def0), 0x1234_5000_0000_0000 | 0x678 << 8 | 0x09ab_cde0_0000 | 0xf0);
    }
}
