// SPDX-License-Identifier: Apache-2.0
//! What is known of one file, directory, link or special file.

use super::hints::{HintReader, HintWriter};
use super::kind::{ContentMap, Directory};
use super::node::MapRef;
use super::place::Place;
use crate::codec::{Malformed, Reader, Write};
use holdfast_core::checkpoint::Totals;
use holdfast_core::id::ChunkId;

type Result<T> = std::result::Result<T, Malformed>;

/// Files up to this many bytes lie in their entry.
pub const INLINE_CONTENT: usize = 64;
/// Lists of extended attributes up to this many bytes lie in their entry.
pub const INLINE_XATTRS: usize = 256;
/// Longest list of extended attributes, in bytes.
pub const XATTRS_MAX: usize = 1 << 20;
/// Longest target of a symbolic link, in bytes.
pub const TARGET_MAX: usize = 4095;
/// Largest file, in bytes.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// A time of modification: seconds since 1970 (or before it) plus nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Mtime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What the file system said at the last capture, to tell whether a file may have changed. A hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Time of the inode's last change. 0 and 0: too recent to be trusted, matches nothing.
    pub ctime: Mtime,
    /// The inode's number.
    pub inode: u64,
}

/// Extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Xattrs {
    /// None.
    #[default]
    None,
    /// A short list in its canonical bytes, see [`encode_xattrs`].
    Inline(Box<[u8]>),
    /// A longer list, stored as a chunk.
    Chunk {
        /// Bytes of the list.
        len: u32,
        /// Its id.
        id: ChunkId,
        /// Where it lies.
        place: Place,
    },
}

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Content {
    /// None: an empty file, or one hole.
    #[default]
    None,
    /// All of them.
    Inline(Box<[u8]>),
    /// One chunk that is the whole file.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Where it lies.
        place: Place,
    },
    /// Extents.
    Extents {
        /// By their ends.
        map: MapRef<ContentMap>,
        /// How the file was cut: 0 by content, b in aligned blocks of 2^b bytes. A hint.
        block: u8,
    },
}

/// What kind of file it is, with what only that kind has.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Its bytes.
        content: Content,
    },
    /// A directory.
    Directory {
        /// Its entries.
        map: MapRef<Directory>,
        /// What lies beneath it, without itself. A hint; hard-linked inodes count no bytes.
        sums: Totals,
    },
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
}

/// Everything about a file but its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Inode {
    /// Permissions with set-id and sticky bits: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modified.
    pub mtime: Mtime,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// What it is.
    pub body: Body,
    /// What the file system said.
    pub stamp: Stamp,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// An inode with one link.
    Inode(Box<Inode>),
    /// One of several names of the inode of this group.
    Link(u64),
}

/// Type byte of a hard link's entry.
pub(super) const TYPE_LINK: u8 = 7;
const TYPE_DIRECTORY: u8 = 1;

impl Body {
    fn type_code(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Directory { .. } => TYPE_DIRECTORY,
            Self::Symlink(_) => 2,
            Self::Fifo => 3,
            Self::Socket => 4,
            Self::CharDevice(..) => 5,
            Self::BlockDevice(..) => 6,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::File { size, content } => {
                out.put_varint(*size);
                content.encode(out);
            }
            Self::Directory { map, .. } => map.encode(out),
            Self::Symlink(target) => out.put_prefixed(target),
            Self::Fifo | Self::Socket => {}
            Self::CharDevice(major, minor) | Self::BlockDevice(major, minor) => {
                out.put_varint((*major).into());
                out.put_varint((*minor).into());
            }
        }
    }

    fn encode_hints(&self, hints: &mut HintWriter<'_>) {
        match self {
            Self::File { content, .. } => content.encode_hints(hints),
            Self::Directory { map, sums } => {
                for sum in [sums.files, sums.directories, sums.others, sums.links, sums.bytes] {
                    hints.out().put_varint(sum);
                }
                map.encode_hints(hints);
            }
            _ => {}
        }
    }

    fn decode(code: u8, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self> {
        Ok(match code {
            0 => {
                let size = reader.varint_max(SIZE_MAX, "file size")?;
                Self::File { size, content: Content::decode(size, reader, hints)? }
            }
            TYPE_DIRECTORY => {
                hints.descend()?;
                let mut next = || hints.reader().varint("sums of a directory");
                let (files, directories, others, links, bytes) = (next()?, next()?, next()?, next()?, next()?);
                let map = MapRef::decode(reader, hints)?;
                hints.ascend();
                Self::Directory { map, sums: Totals { files, directories, others, links, bytes, problems: 0 } }
            }
            2 => {
                let target = reader.prefixed(TARGET_MAX, "link target")?;
                if target.is_empty() || target.contains(&0) {
                    return Err(Malformed("link target"));
                }
                Self::Symlink(target.into())
            }
            3 => Self::Fifo,
            4 => Self::Socket,
            5 => Self::CharDevice(reader.u32("device number")?, reader.u32("device number")?),
            6 => Self::BlockDevice(reader.u32("device number")?, reader.u32("device number")?),
            _ => return Err(Malformed("type")),
        })
    }
}

impl Content {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.put_u8(0),
            Self::Inline(bytes) => {
                out.put_u8(1);
                out.put_bytes(bytes);
            }
            Self::Chunk { id, .. } => {
                out.put_u8(2);
                out.put_bytes(id.as_bytes());
            }
            Self::Extents { map, .. } => {
                out.put_u8(3);
                map.encode(out);
            }
        }
    }

    fn encode_hints(&self, hints: &mut HintWriter<'_>) {
        match self {
            Self::None | Self::Inline(_) => {}
            Self::Chunk { place, .. } => hints.place(place),
            Self::Extents { map, block } => {
                hints.out().put_u8(*block);
                map.encode_hints(hints);
            }
        }
    }

    fn decode(size: u64, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self> {
        Ok(match reader.u8("content")? {
            0 => Self::None,
            1 if (1..=INLINE_CONTENT as u64).contains(&size) => {
                let len = usize::try_from(size).map_err(|_| Malformed("content"))?;
                Self::Inline(reader.bytes(len, "content")?.into())
            }
            // a chunk that could have been inlined is a second encoding of the same state
            2 if size > INLINE_CONTENT as u64 && size <= crate::frame::PLAIN_MAX as u64 => {
                Self::Chunk { id: ChunkId::new(reader.array("chunk id")?), place: hints.place()? }
            }
            3 => {
                let block = hints.reader().u8("block size")?;
                if block != 0 && !(12..=20).contains(&block) {
                    return Err(Malformed("block size"));
                }
                let map = MapRef::<ContentMap>::decode(reader, hints)?;
                map.check_extents(size)?;
                Self::Extents { map, block }
            }
            _ => return Err(Malformed("content")),
        })
    }
}

impl Xattrs {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.put_u8(0),
            Self::Inline(list) => {
                out.put_u8(1);
                out.put_bytes(list);
            }
            Self::Chunk { len, id, .. } => {
                out.put_u8(2);
                out.put_varint((*len).into());
                out.put_bytes(id.as_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self> {
        Ok(match reader.u8("extended attributes")? {
            0 => Self::None,
            1 => {
                let before = *reader;
                let list = decode_xattrs(reader)?;
                let len = before.remaining() - reader.remaining();
                if list.is_empty() || len > INLINE_XATTRS {
                    return Err(Malformed("extended attributes"));
                }
                Self::Inline(before.clone().bytes(len, "extended attributes")?.into())
            }
            2 => {
                let len = reader.len(XATTRS_MAX, "extended attributes")?;
                if len <= INLINE_XATTRS {
                    return Err(Malformed("extended attributes"));
                }
                let len = u32::try_from(len).map_err(|_| Malformed("extended attributes"))?;
                Self::Chunk { len, id: ChunkId::new(reader.array("chunk id")?), place: hints.place()? }
            }
            _ => return Err(Malformed("extended attributes")),
        })
    }
}

/// The canonical bytes of a list of extended attributes, which must be sorted by name.
#[must_use]
pub fn encode_xattrs(list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_varint(list.len() as u64);
    for (name, value) in list {
        out.put_prefixed(name);
        out.put_prefixed(value);
    }
    out
}

/// Reads a list of extended attributes.
///
/// # Errors
/// If it is not as [`encode_xattrs`] writes it.
pub fn decode_xattrs<'a>(reader: &mut Reader<'a>) -> Result<Vec<(&'a [u8], &'a [u8])>> {
    let what = "extended attributes";
    let count = reader.varint(what)?;
    let mut list: Vec<(&[u8], &[u8])> = Vec::new();
    for _ in 0..count {
        let name = reader.prefixed(255, what)?;
        let value = reader.prefixed(64 << 10, what)?;
        if name.is_empty() || name.contains(&0) || list.last().is_some_and(|(last, _)| *last >= name) {
            return Err(Malformed(what));
        }
        list.push((name, value));
    }
    Ok(list)
}

impl Inode {
    /// Appends the canonical bytes, without the type.
    pub(super) fn encode_untyped(&self, out: &mut Vec<u8>) {
        out.put_varint(self.mode.into());
        out.put_varint(self.uid.into());
        out.put_varint(self.gid.into());
        out.put_zigzag(self.mtime.seconds);
        out.put_varint(self.mtime.nanos.into());
        self.xattrs.encode(out);
        self.body.encode(out);
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(self.body.type_code());
        self.encode_untyped(out);
    }

    pub(super) fn encode_hints(&self, hints: &mut HintWriter<'_>) {
        hints.out().put_zigzag(self.stamp.ctime.seconds);
        hints.out().put_varint(self.stamp.ctime.nanos.into());
        hints.out().put_varint(self.stamp.inode);
        if let Xattrs::Chunk { place, .. } = &self.xattrs {
            hints.place(place);
        }
        self.body.encode_hints(hints);
    }

    pub(super) fn decode_untyped(code: u8, reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self> {
        let stamp = Stamp { ctime: decode_time(hints.reader(), "change time")?, inode: hints.reader().varint("inode number")? };
        let mode = u16::try_from(reader.varint_max(0o7777, "mode")?).map_err(|_| Malformed("mode"))?;
        let (uid, gid) = (reader.u32("owner")?, reader.u32("group")?);
        let mtime = decode_time(reader, "modification time")?;
        let xattrs = Xattrs::decode(reader, hints)?;
        let body = Body::decode(code, reader, hints)?;
        Ok(Self { mode, uid, gid, mtime, xattrs, body, stamp })
    }

    pub(super) fn decode(reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Self> {
        let code = reader.u8("type")?;
        Self::decode_untyped(code, reader, hints)
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }
}

pub(super) fn decode_entry(reader: &mut Reader<'_>, hints: &mut HintReader<'_>) -> Result<Entry> {
    let code = reader.u8("type")?;
    if code == TYPE_LINK {
        return Ok(Entry::Link(reader.varint("link group")?));
    }
    Ok(Entry::Inode(Box::new(Inode::decode_untyped(code, reader, hints)?)))
}

fn decode_time(reader: &mut Reader<'_>, what: &'static str) -> Result<Mtime> {
    let seconds = reader.zigzag(what)?;
    let nanos = reader.varint_max(999_999_999, what)?;
    Ok(Mtime { seconds, nanos: u32::try_from(nanos).map_err(|_| Malformed(what))? })
}
