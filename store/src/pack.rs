// SPDX-License-Identifier: Apache-2.0
//! Packs: objects of frames (`docs/format.md`, section 4).

use crate::codec::{Reader, Write};
use crate::error::{Result, StoreError};
use crate::frame::{Decoder, Encoder, PLAIN_MAX};
use crate::name::Name;
use crate::seal::{Domain, HEADER_LEN, Header, Kind, SEAL_OVERHEAD, Sealer, fill_random, padded_len, random};
use crate::tree::{FramePlace, Object};
use bytes::Bytes;
use holdfast_core::id::{LineageId, Nonce};

/// Most bytes of a pack.
pub const PACK_MAX: usize = 16 << 20;
/// From this size on, consolidation leaves a pack alone, in bytes.
pub const LARGE: usize = 4 << 20;
const TABLE_OFFSET: u64 = u64::MAX - 1;
const TAIL_OFFSET: u64 = u64::MAX - 2;
const TAIL_LEN: usize = 8 + SEAL_OVERHEAD;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Chunks of files.
    Chunks,
    /// Nodes of maps.
    Nodes,
}

/// A frame as a pack's table lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// What it holds.
    pub contents: Contents,
    /// Its offset.
    pub offset: u64,
    /// Bytes as sealed.
    pub sealed_len: u32,
    /// Bytes of plaintext.
    pub plain_len: u32,
}

/// Composes a pack.
pub struct PackBuilder {
    sealer: Sealer,
    object: Object,
    name: Name,
    bytes: Vec<u8>,
    listed: Vec<Listed>,
    again: Vec<u8>,
}

impl std::fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackBuilder({}, {} bytes)", self.name, self.bytes.len())
    }
}

impl PackBuilder {
    /// An empty pack for the record with that sequence. `large` announces whether it is going to be filled.
    ///
    /// # Errors
    /// If the domain has no keys or the system no random numbers.
    pub fn new(domain: &Domain, lineage: LineageId, sequence: u64, large: bool) -> Result<Self> {
        Self::in_buffer(domain, lineage, sequence, large, Vec::new())
    }

    /// The same, in this buffer.
    pub(crate) fn in_buffer(domain: &Domain, lineage: LineageId, sequence: u64, large: bool, mut bytes: Vec<u8>) -> Result<Self> {
        let nonce = Nonce::new(random()?);
        let epoch = domain.keys.newest_epoch();
        let name = Name::pack(domain.keys.id, lineage, sequence, nonce);
        let sealer = Sealer::new(domain, Header { kind: Kind::Pack, epoch, scope: *lineage.as_bytes(), nonce }, &name)?;
        let object = Object::Pack { lineage, sequence, epoch, nonce, large };
        bytes.clear();
        bytes.extend_from_slice(&sealer.header()[..]);
        Ok(Self { sealer, object, name, bytes, listed: Vec::new(), again: Vec::new() })
    }

    /// The object it is going to be.
    #[must_use]
    pub const fn object(&self) -> Object {
        self.object
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether a payload of that length still fits.
    #[must_use]
    pub fn fits(&self, payload_len: usize) -> bool {
        // the table takes at most 9 bytes a frame, padding 1/32
        let table = (self.listed.len() + 1) * 9 + 2 * SEAL_OVERHEAD + TAIL_LEN;
        (self.bytes.len() + payload_len + table) / 32 * 33 < PACK_MAX
    }

    /// Appends a frame. What was sealed is opened again before anybody relies on it.
    ///
    /// # Errors
    /// If it does not open to what it was.
    pub fn push(&mut self, contents: Contents, codec: u8, payload: &[u8], plain_len: u32) -> Result<FramePlace> {
        let start = self.bytes.len();
        let offset = start as u64;
        self.sealer.seal(offset, codec, payload, &mut self.bytes);
        self.again.clear();
        self.again.extend_from_slice(&self.bytes[start..]);
        if self.sealer.open(offset, &mut self.again)? != (codec, payload) {
            return Err(StoreError::damaged(&self.name, "what was sealed does not open to what it was"));
        }
        let sealed_len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.listed.push(Listed { contents, offset, sealed_len, plain_len });
        Ok(FramePlace { object: self.object, offset, sealed_len, plain_len })
    }

    /// The whole object, and its name.
    ///
    /// # Errors
    /// If the system has no random numbers for the padding.
    pub fn finish(self) -> Result<(Name, Bytes)> {
        self.finish_buffer().map(|(name, bytes)| (name, bytes.into()))
    }

    /// The same, in the buffer that it was composed in.
    pub(crate) fn finish_buffer(mut self) -> Result<(Name, Vec<u8>)> {
        let mut table = Vec::with_capacity(self.listed.len() * 8);
        for frame in &self.listed {
            table.put_u8(u8::from(frame.contents == Contents::Nodes));
            table.put_varint(frame.sealed_len.into());
            table.put_varint(frame.plain_len.into());
        }
        let mut payload = Vec::new();
        let codec = Encoder::new()
            .and_then(|mut encoder| encoder.encode(&table, &mut payload))
            .map_err(|error| StoreError::damaged(&self.name, error))?;
        let position = self.bytes.len();
        self.sealer.seal(TABLE_OFFSET, codec, &payload, &mut self.bytes);
        let mut tail = u32::try_from(position).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        tail.extend_from_slice(&u32::try_from(self.bytes.len() - position).unwrap_or(u32::MAX).to_le_bytes());
        let end = self.bytes.len();
        let padded = usize::try_from(padded_len((end + TAIL_LEN) as u64)).unwrap_or(usize::MAX);
        self.bytes.resize(padded - TAIL_LEN, 0);
        fill_random(&mut self.bytes[end..])?;
        self.sealer.seal(TAIL_OFFSET, crate::frame::RAW, &tail, &mut self.bytes);
        Ok((self.name, self.bytes))
    }
}

/// The sealer of a pack, from its name alone.
///
/// # Errors
/// If the object is a record, or its epoch's key is unknown.
pub fn sealer(domain: &Domain, object: Object) -> Result<Sealer> {
    let name = object.name(domain.keys.id);
    match object {
        Object::Pack { lineage, epoch, nonce, .. } => {
            Sealer::new(domain, Header { kind: Kind::Pack, epoch, scope: *lineage.as_bytes(), nonce }, &name)
        }
        Object::Record { .. } => Err(StoreError::damaged(name, "it is a record, not a pack")),
    }
}

/// Opens and decodes one frame.
///
/// # Errors
/// If it is not what was sealed there.
pub fn open_frame(sealer: &Sealer, name: &Name, place: &FramePlace, sealed: &mut [u8], decoder: &mut Decoder) -> Result<Vec<u8>> {
    let plain_len = announced(name, place, sealed)?;
    let (codec, payload) = sealer.open(place.offset, sealed)?;
    let mut plaintext = Vec::new();
    decoder
        .decode(codec, payload, plain_len, &mut plaintext)
        .map_err(|error| StoreError::damaged(name, format_args!("a frame at {}: {error}", place.offset)))?;
    Ok(plaintext)
}

/// The plaintext of a frame, somewhere in the buffer that it was opened into.
#[derive(Debug)]
pub(crate) struct Plaintext {
    buffer: Vec<u8>,
    start: usize,
}

impl Plaintext {
    /// All of the buffer.
    pub(crate) const fn of(buffer: Vec<u8>) -> Self {
        Self { buffer, start: 0 }
    }

    /// A part of it. `None` if it is shorter than that.
    pub(crate) fn part(&self, start: usize, len: usize) -> Option<&[u8]> {
        self.buffer.get(self.start..)?.get(start..start.checked_add(len)?)
    }

    /// Its buffer, to be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// Opens frames with buffers that are used again.
#[derive(Debug)]
pub(crate) struct Opener {
    decoder: Decoder,
    opened: Vec<u8>,
}

impl Opener {
    pub(crate) fn new() -> Result<Self> {
        let decoder = Decoder::new().map_err(|error| StoreError::damaged("frame", error))?;
        Ok(Self { decoder, opened: Vec::new() })
    }

    /// The same as [`open_frame`], without touching the sealed bytes. `spare` is a buffer to put the plaintext into, with whatever content.
    pub(crate) fn open(
        &mut self,
        sealer: &Sealer,
        name: &Name,
        place: &FramePlace,
        sealed: &[u8],
        mut spare: Vec<u8>,
    ) -> Result<Plaintext> {
        let plain_len = announced(name, place, sealed)?;
        let codec = sealer.open_into(place.offset, sealed, &mut self.opened)?;
        if codec == crate::frame::RAW && self.opened.len() == plain_len + 1 {
            // what was opened is the plaintext already, behind its codec
            return Ok(Plaintext { buffer: std::mem::replace(&mut self.opened, spare), start: 1 });
        }
        let decoded = self.decoder.decode(codec, &self.opened[1..], plain_len, &mut spare);
        decoded.map_err(|error| StoreError::damaged(name, format_args!("a frame at {}: {error}", place.offset)))?;
        Ok(Plaintext::of(spare))
    }
}

/// The length of a frame's plaintext, if it can be that long.
fn announced(name: &Name, place: &FramePlace, sealed: &[u8]) -> Result<usize> {
    match usize::try_from(place.plain_len) {
        Ok(len) if sealed.len() == place.sealed_len as usize && len <= PLAIN_MAX => Ok(len),
        _ => Err(StoreError::damaged(name, format_args!("a frame at {} is truncated", place.offset))),
    }
}

/// The frames of a whole pack, by its own table; each is opened and decoded.
///
/// # Errors
/// If anything of it is damaged.
pub fn scan(domain: &Domain, object: Object, bytes: &Bytes) -> Result<Vec<(Listed, Vec<u8>)>> {
    let name = object.name(domain.keys.id);
    let sealer = Sealer::open_object(domain, &name, bytes, Kind::Pack, *object.lineage().as_bytes())?;
    let mut found = Vec::new();
    let mut decoder = Decoder::new().map_err(|error| StoreError::damaged(&name, error))?;
    for listed in frames(domain, object, bytes)? {
        let start = usize::try_from(listed.offset).unwrap_or(usize::MAX);
        let place = FramePlace { object, offset: listed.offset, sealed_len: listed.sealed_len, plain_len: listed.plain_len };
        let mut sealed = bytes[start..start + listed.sealed_len as usize].to_vec();
        found.push((listed, open_frame(&sealer, &name, &place, &mut sealed, &mut decoder)?));
    }
    Ok(found)
}

/// What a whole pack's own table lists; no frame is opened.
///
/// # Errors
/// If its header, tail or table is damaged.
pub fn frames(domain: &Domain, object: Object, bytes: &Bytes) -> Result<Vec<Listed>> {
    let name = object.name(domain.keys.id);
    let damaged = |what: &str| StoreError::damaged(&name, what);
    let sealer = Sealer::open_object(domain, &name, bytes, Kind::Pack, *object.lineage().as_bytes())?;
    let start =
        bytes.len().checked_sub(TAIL_LEN).filter(|start| *start >= HEADER_LEN).ok_or_else(|| damaged("it is truncated"))?;
    let mut tail = bytes[start..].to_vec();
    let (codec, tail) = sealer.open(TAIL_OFFSET, &mut tail)?;
    let tail: [u8; 8] =
        tail.try_into().ok().filter(|_| codec == crate::frame::RAW).ok_or_else(|| damaged("its tail is malformed"))?;
    let position = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
    let len = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]) as usize;
    let sealed = position.checked_add(len).and_then(|end| bytes.get(position..end));
    let mut sealed = sealed.ok_or_else(|| damaged("its table lies beyond its end"))?.to_vec();
    let (codec, payload) = sealer.open(TABLE_OFFSET, &mut sealed)?;
    let plain_len =
        Decoder::announced(codec, payload).filter(|len| *len <= PACK_MAX).ok_or_else(|| damaged("its table is too long"))?;
    let mut table = Vec::new();
    let decoded = Decoder::new().and_then(|mut decoder| decoder.decode(codec, payload, plain_len, &mut table));
    decoded.map_err(|error| StoreError::damaged(&name, error))?;
    read_table(&table, position as u64).ok_or_else(|| damaged("its table is malformed"))
}

fn read_table(table: &[u8], end: u64) -> Option<Vec<Listed>> {
    let mut reader = Reader::new(table);
    let mut offset = HEADER_LEN as u64;
    let mut listed = Vec::new();
    while reader.remaining() > 0 {
        let contents = match reader.u8("contents").ok()? {
            0 => Contents::Chunks,
            1 => Contents::Nodes,
            _ => return None,
        };
        let (sealed_len, plain_len) = (reader.u32("length").ok()?, reader.u32("length").ok()?);
        listed.push(Listed { contents, offset, sealed_len, plain_len });
        offset += u64::from(sealed_len);
        if offset > end {
            return None;
        }
    }
    (offset == end).then_some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::domain;

    fn pack() -> (Object, Name, Bytes, Vec<FramePlace>) {
        let mut builder = PackBuilder::new(&domain(), LineageId::new([4; 16]), 9, false).expect("keys");
        let places = (1..20_u8)
            .map(|i| builder.push(Contents::Chunks, 0, &vec![i; usize::from(i) * 100], u32::from(i) * 100).expect("it opens"));
        let places = places.collect();
        let object = builder.object();
        let (name, bytes) = builder.finish().expect("random numbers");
        (object, name, bytes, places)
    }

    #[test]
    fn frames_are_found_by_place_and_by_table() {
        let (object, name, bytes, places) = pack();
        let sealer = sealer(&domain(), object).expect("keys");
        let mut decoder = Decoder::new().expect("memory");
        for (i, place) in (1_u8..).zip(&places) {
            let start = usize::try_from(place.offset).expect("small");
            let mut sealed = bytes[start..start + place.sealed_len as usize].to_vec();
            let plaintext = open_frame(&sealer, &name, place, &mut sealed, &mut decoder).expect("what was written");
            assert_eq!(plaintext, vec![i; usize::from(i) * 100]);
            let mut opener = Opener::new().expect("memory");
            let sealed = &bytes[start..start + place.sealed_len as usize];
            let again = opener.open(&sealer, &name, place, sealed, vec![9; 7]).expect("what was written");
            assert_eq!(again.part(0, plaintext.len()), Some(&plaintext[..]));
            assert_eq!(again.part(1, plaintext.len()), None);
            let longer = FramePlace { plain_len: place.plain_len + 1, ..*place };
            assert!(opener.open(&sealer, &name, &longer, sealed, Vec::new()).is_err(), "it has fewer bytes than that");
        }
        let scanned = scan(&domain(), object, &bytes).expect("what was written");
        assert_eq!(
            scanned.iter().map(|(listed, _)| listed.offset).collect::<Vec<_>>(),
            places.iter().map(|p| p.offset).collect::<Vec<_>>()
        );
        assert_eq!(bytes.len() as u64, padded_len(bytes.len() as u64));
    }

    #[test]
    fn damage_outside_the_padding_is_found() {
        let (object, _, bytes, places) = pack();
        let last = places.last().expect("frames");
        let content = usize::try_from(last.offset).expect("small") + last.sealed_len as usize;
        for byte in (0..content).chain(bytes.len() - TAIL_LEN..bytes.len()) {
            let mut flipped = bytes.to_vec();
            flipped[byte] ^= 0x10;
            assert!(scan(&domain(), object, &flipped.into()).is_err(), "byte {byte}");
        }
        assert!(scan(&domain(), object, &bytes.slice(..bytes.len() - 1)).is_err());
        assert!(scan(&domain(), object, &Bytes::new()).is_err());
    }
}
