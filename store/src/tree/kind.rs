// SPDX-License-Identifier: Apache-2.0
//! The four kinds of maps.

use super::hints::{HintReader, HintWriter};
use super::inode::{Body, Content, Entry, Inode, TYPE_LINK, decode_entry};
use super::node::MapRef;
use super::place::Place;
use super::visit::{self, Visitor};
use crate::codec::{Malformed, Reader, Write};
use holdfast_core::id::ChunkId;
use std::fmt;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Malformed>;

/// Longest name, in bytes.
pub const NAME_MAX: usize = 1023;

/// What a map's items are and how they are written.
pub trait MapKind: Sized + Send + Sync + Clone + PartialEq + fmt::Debug + 'static {
    /// The kind's number.
    const CODE: u8;
    /// Key and value.
    type Item: Clone + PartialEq + fmt::Debug + Send + Sync;

    /// The item's key, as it orders and cuts.
    fn key(item: &Self::Item) -> Key<'_>;
    /// Appends the canonical bytes.
    fn encode(item: &Self::Item, previous: Option<&Self::Item>, out: &mut Vec<u8>);
    /// Appends the hints.
    fn encode_hints(item: &Self::Item, hints: &mut HintWriter<'_>);
    /// Reads both.
    fn decode(previous: Option<&Self::Item>, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self::Item>;
    /// The item with every map and chunk it refers to passed through a visitor.
    ///
    /// # Errors
    /// The visitor's.
    fn rebuild<V: Visitor>(item: &Self::Item, visitor: &mut V) -> crate::error::Result<Self::Item>;
}

/// A key: a name, or a number as 8 bytes, big-endian.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    /// A name or label.
    Bytes(&'a [u8]),
    /// An offset or group.
    Number([u8; 8]),
}

impl AsRef<[u8]> for Key<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(bytes) => bytes,
        }
    }
}

/// A name in a directory: bytes, mostly but not always UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The name with these bytes; `None` if no file can have it.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let impossible = bytes.is_empty() || bytes.len() > NAME_MAX || bytes == b"." || bytes == b"..";
        (!impossible && !bytes.contains(&b'/') && !bytes.contains(&0)).then(|| Self(bytes.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Directories: name → entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory;

impl MapKind for Directory {
    const CODE: u8 = 1;
    type Item = (Name, Entry);

    fn key((name, _): &Self::Item) -> Key<'_> {
        Key::Bytes(name.as_bytes())
    }

    fn encode((name, entry): &Self::Item, _: Option<&Self::Item>, out: &mut Vec<u8>) {
        out.put_prefixed(name.as_bytes());
        match entry {
            Entry::Inode(inode) => inode.encode(out),
            Entry::Link(group) => {
                out.put_u8(TYPE_LINK);
                out.put_varint(*group);
            }
        }
    }

    fn encode_hints((_, entry): &Self::Item, hints: &mut HintWriter<'_>) {
        if let Entry::Inode(inode) = entry {
            inode.encode_hints(hints);
        }
    }

    fn decode(_: Option<&Self::Item>, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self::Item> {
        let name = Name::new(reader.prefixed(NAME_MAX, "name")?).ok_or(Malformed("name"))?;
        Ok((name, decode_entry(reader, hints)?))
    }

    fn rebuild<V: Visitor>((name, entry): &Self::Item, visitor: &mut V) -> crate::error::Result<Self::Item> {
        let entry = match entry {
            Entry::Inode(inode) => Entry::Inode(Box::new(visit::rebuild_inode(inode, visitor)?)),
            Entry::Link(group) => Entry::Link(*group),
        };
        Ok((name.clone(), entry))
    }
}

/// A range of a file that is stored as one chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent {
    /// First byte's offset in the file.
    pub start: u64,
    /// Its length in bytes: 1 to 1 MiB.
    pub len: u32,
    /// The chunk.
    pub id: ChunkId,
    /// Where the chunk lies.
    pub place: Place,
}

impl Extent {
    /// The offset after its last byte: its key.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start + self.len as u64
    }
}

/// A large file's bytes: end of extent → chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentMap;

impl MapKind for ContentMap {
    const CODE: u8 = 2;
    type Item = Extent;

    fn key(extent: &Extent) -> Key<'_> {
        Key::Number(extent.end().to_be_bytes())
    }

    fn encode(extent: &Extent, previous: Option<&Extent>, out: &mut Vec<u8>) {
        out.put_varint(extent.start - previous.map_or(0, Extent::end));
        out.put_varint(extent.len.into());
        out.put_bytes(extent.id.as_bytes());
    }

    fn encode_hints(extent: &Extent, hints: &mut HintWriter<'_>) {
        hints.place(&extent.place);
    }

    fn decode(previous: Option<&Extent>, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Extent> {
        let gap = reader.varint("extent")?;
        let start = previous.map_or(0, Extent::end).checked_add(gap).ok_or(Malformed("extent"))?;
        let len = reader.u32("extent")?;
        if len == 0 || len as usize > crate::frame::PLAIN_MAX || start > super::inode::SIZE_MAX - u64::from(len) {
            return Err(Malformed("extent"));
        }
        Ok(Extent { start, len, id: ChunkId::new(reader.array("chunk id")?), place: hints.place()? })
    }

    fn rebuild<V: Visitor>(extent: &Extent, visitor: &mut V) -> crate::error::Result<Extent> {
        Ok(Extent { place: visitor.chunk(&extent.place, extent.len, &extent.id)?, ..extent.clone() })
    }
}

/// An inode with several names.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkItem {
    /// Its number in this root.
    pub group: u64,
    /// The inode.
    pub inode: Inode,
    /// How many entries of the tree hold the group. A hint.
    pub names: u64,
    /// One of them, relative to the root, as it was once. A hint.
    pub path: Box<[u8]>,
}

/// Hard links: group → inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links;

impl MapKind for Links {
    const CODE: u8 = 3;
    type Item = LinkItem;

    fn key(item: &LinkItem) -> Key<'_> {
        Key::Number(item.group.to_be_bytes())
    }

    fn encode(item: &LinkItem, _: Option<&LinkItem>, out: &mut Vec<u8>) {
        out.put_bytes(&item.group.to_be_bytes());
        item.inode.encode(out);
    }

    fn encode_hints(item: &LinkItem, hints: &mut HintWriter<'_>) {
        item.inode.encode_hints(hints);
        hints.out().put_varint(item.names);
        hints.out().put_prefixed(&item.path);
    }

    fn decode(_: Option<&LinkItem>, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<LinkItem> {
        let group = u64::from_be_bytes(reader.array("link group")?);
        let inode = Inode::decode(reader, hints)?;
        if inode.is_directory() {
            return Err(Malformed("link to a directory"));
        }
        let names = hints.reader().varint("number of names")?;
        let path = hints.reader().prefixed(4096, "path")?.into();
        Ok(LinkItem { group, inode, names, path })
    }

    fn rebuild<V: Visitor>(item: &LinkItem, visitor: &mut V) -> crate::error::Result<LinkItem> {
        Ok(LinkItem { inode: visit::rebuild_inode(&item.inode, visitor)?, ..item.clone() })
    }
}

/// One state path: its label, its directory, and the hard links beneath it.
#[derive(Debug, Clone, PartialEq)]
pub struct RootItem {
    /// Its name inside the lineage.
    pub label: String,
    /// The directory itself.
    pub directory: Inode,
    /// The inodes with several names.
    pub links: MapRef<Links>,
}

impl RootItem {
    /// The map of the directory.
    #[must_use]
    pub fn entries(&self) -> MapRef<Directory> {
        match &self.directory.body {
            Body::Directory { map, .. } => map.clone(),
            _ => MapRef::Empty,
        }
    }
}

/// All state paths: label → root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots;

/// Whether a text is a label: 1 to 63 of `[0-9a-z-]`.
#[must_use]
pub fn is_label(text: &[u8]) -> bool {
    (1..=63).contains(&text.len()) && text.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'z' | b'-'))
}

impl MapKind for Roots {
    const CODE: u8 = 4;
    type Item = RootItem;

    fn key(item: &RootItem) -> Key<'_> {
        Key::Bytes(item.label.as_bytes())
    }

    fn encode(item: &RootItem, _: Option<&RootItem>, out: &mut Vec<u8>) {
        out.put_prefixed(item.label.as_bytes());
        item.directory.encode_untyped(out);
        item.links.encode(out);
    }

    fn encode_hints(item: &RootItem, hints: &mut HintWriter<'_>) {
        item.directory.encode_hints(hints);
        item.links.encode_hints(hints);
    }

    fn decode(_: Option<&RootItem>, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<RootItem> {
        let label = reader.prefixed(63, "label")?;
        if !is_label(label) {
            return Err(Malformed("label"));
        }
        let label = String::from_utf8_lossy(label).into_owned();
        let directory = Inode::decode_untyped(1, reader, hints)?;
        Ok(RootItem { label, directory, links: MapRef::decode(reader, hints)? })
    }

    fn rebuild<V: Visitor>(item: &RootItem, visitor: &mut V) -> crate::error::Result<RootItem> {
        let directory = visit::rebuild_inode(&item.directory, visitor)?;
        Ok(RootItem { label: item.label.clone(), directory, links: visitor.map(&item.links)? })
    }
}

impl MapRef<ContentMap> {
    /// Checks what can be seen of a file's extents without reading further nodes.
    pub(super) fn check_extents(&self, size: u64) -> Result<()> {
        match self {
            Self::Empty => Err(Malformed("content")),
            Self::Node(_) => Ok(()),
            Self::Inline(node) => {
                let extents = node.items();
                let whole = extents.len() == 1 && extents[0].start == 0 && u64::from(extents[0].len) == size;
                let beyond = extents.last().is_some_and(|last| last.end() > size);
                if whole || beyond { Err(Malformed("content")) } else { Ok(()) }
            }
        }
    }
}

/// The content of a file that is cut into these extents: the first form of the format that applies.
#[must_use]
pub fn content_of(size: u64, map: MapRef<ContentMap>, block: u8) -> Content {
    let single = match &map {
        MapRef::Empty => return Content::None,
        MapRef::Inline(node) => match node.items() {
            [extent] if extent.start == 0 && u64::from(extent.len) == size => {
                Some(Content::Chunk { id: extent.id, place: extent.place.clone() })
            }
            _ => None,
        },
        MapRef::Node(_) => None,
    };
    single.unwrap_or(Content::Extents { map, block })
}
