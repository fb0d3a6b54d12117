// SPDX-License-Identifier: Apache-2.0
//! The bytes of files, in stretches: data, and holes.

use super::list::damaged;
use crate::stream::Halt;
use bytes::Bytes;
use holdfast_core::id::ChunkId;
use holdfast_store::StoreError;
use holdfast_store::reader::Reader;
use holdfast_store::tree::{Content, ContentMap, Cursor, Place};

/// What a stretch of a file holds.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Hole,
    Bytes(Bytes),
    Chunk(ChunkId, Place),
}

/// A range of a file.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: What,
}

impl Stretch {
    /// The bytes of it from one offset of the file to another; `None`: zeros.
    pub(crate) fn bytes(&self, reader: &Reader, from: u64, to: u64) -> Result<Option<Bytes>, StoreError> {
        let whole = match &self.what {
            What::Hole => return Ok(None),
            What::Bytes(bytes) => bytes.clone(),
            What::Chunk(id, place) => {
                let len = u32::try_from(self.end - self.start).map_err(|_| damaged("a chunk of it is too long"))?;
                Bytes::from(reader.chunk(place, len, id)?)
            }
        };
        let offset = |at: u64| usize::try_from(at - self.start).unwrap_or(usize::MAX);
        let within = offset(from)..offset(to);
        whole.get(within.clone()).ok_or_else(|| damaged("a file is shorter than it says"))?;
        Ok(Some(whole.slice(within)))
    }
}

/// A walk over a file's stretches; together they cover it from an offset to its end.
#[derive(Debug)]
pub(crate) struct Stretches<'a> {
    reader: &'a Reader,
    size: u64,
    at: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Whole(What),
    Extents(Cursor<ContentMap>),
}

impl<'a> Stretches<'a> {
    /// A walk over a file's content. The first stretch may begin before `from`.
    pub(crate) fn new(reader: &'a Reader, size: u64, content: &Content, from: u64) -> Result<Self, StoreError> {
        let source = match content {
            Content::None => Source::Whole(What::Hole),
            Content::Inline(bytes) => Source::Whole(What::Bytes(Bytes::copy_from_slice(bytes))),
            Content::Chunk { id, place } => Source::Whole(What::Chunk(*id, place.clone())),
            Content::Extents { map, .. } => {
                let mut cursor = Cursor::new(reader, map)?;
                // an extent's key is its end: the first that ends behind the offset
                cursor.seek(reader, &from.saturating_add(1).to_be_bytes())?;
                Source::Extents(cursor)
            }
        };
        Ok(Self { reader, size, at: from, source })
    }

    /// The next stretch.
    pub(crate) fn next(&mut self) -> Result<Option<Stretch>, StoreError> {
        if self.at >= self.size {
            return Ok(None);
        }
        let stretch = match &mut self.source {
            Source::Whole(what) => Stretch { start: 0, end: self.size, what: what.clone() },
            Source::Extents(cursor) => match cursor.peek(self.reader)? {
                None => Stretch { start: self.at, end: self.size, what: What::Hole },
                Some(extent) if extent.start > self.at => Stretch { start: self.at, end: extent.start, what: What::Hole },
                Some(extent) => {
                    let what = What::Chunk(extent.id, extent.place.clone());
                    let stretch = Stretch { start: extent.start, end: extent.end(), what };
                    cursor.skip();
                    stretch
                }
            },
        };
        if stretch.end > self.size || stretch.end <= self.at {
            return Err(damaged("an extent lies where it can't"));
        }
        self.at = stretch.end;
        Ok(Some(stretch))
    }
}

/// Longest piece of a file in one message.
pub(crate) const PIECE_BYTES: u64 = 256 << 10;

/// Hands on the bytes of a file from one offset to another, in pieces.
pub(crate) fn read(
    reader: &Reader,
    size: u64,
    content: &Content,
    (from, to): (u64, u64),
    mut take: impl FnMut(Bytes) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let mut stretches = Stretches::new(reader, size, content, from)?;
    let zeros = Bytes::from_static(&[0; PIECE_BYTES as usize]);
    let mut at = from;
    while at < to {
        let Some(stretch) = stretches.next()? else { break };
        let end = stretch.end.min(to);
        let bytes = stretch.bytes(reader, at, end)?;
        while at < end {
            let len = (end - at).min(PIECE_BYTES);
            let piece = match &bytes {
                None => zeros.slice(..usize::try_from(len).unwrap_or(0)),
                Some(bytes) => {
                    let done = bytes.len() - usize::try_from(end - at).unwrap_or(0);
                    bytes.slice(done..done + usize::try_from(len).unwrap_or(0))
                }
            };
            take(piece)?;
            at += len;
        }
    }
    Ok(())
}

/// Whether two files of one domain hold the same bytes. Reads nothing but what is cut differently, up to the first difference.
pub(crate) fn same(reader: &Reader, one: (u64, &Content), two: (u64, &Content)) -> Result<bool, StoreError> {
    if one.0 != two.0 {
        return Ok(false);
    }
    if let (Content::Extents { map: a, .. }, Content::Extents { map: b, .. }) = (one.1, two.1)
        && a.same(b)
    {
        return Ok(true);
    }
    let mut left = Stretches::new(reader, one.0, one.1, 0)?;
    let mut right = Stretches::new(reader, two.0, two.1, 0)?;
    let (mut a, mut b) = (left.next()?, right.next()?);
    let mut at = 0;
    while let (Some(x), Some(y)) = (&a, &b) {
        let end = x.end.min(y.end);
        if !same_stretch(reader, x, y, (at, end))? {
            return Ok(false);
        }
        at = end;
        let (next_a, next_b) = (x.end == end, y.end == end);
        if next_a {
            a = left.next()?;
        }
        if next_b {
            b = right.next()?;
        }
    }
    Ok(true)
}

fn same_stretch(reader: &Reader, x: &Stretch, y: &Stretch, (from, to): (u64, u64)) -> Result<bool, StoreError> {
    match (&x.what, &y.what) {
        (What::Hole, What::Hole) => return Ok(true),
        // an id covers the bytes, so two ids of the same range are an answer
        (What::Chunk(one, _), What::Chunk(two, _)) if (x.start, x.end) == (y.start, y.end) => return Ok(one == two),
        _ => {}
    }
    let is_zero = |bytes: &Bytes| bytes.iter().all(|byte| *byte == 0);
    Ok(match (x.bytes(reader, from, to)?, y.bytes(reader, from, to)?) {
        (Some(one), Some(two)) => one == two,
        (Some(bytes), None) | (None, Some(bytes)) => is_zero(&bytes),
        (None, None) => true,
    })
}
