// SPDX-License-Identifier: Apache-2.0
//! Documents: objects with a body, and for records with inline frames (`docs/format.md`, section 4).

use crate::error::{Result, StoreError};
use crate::frame::{BODY_MAX, Decoder, Encoder};
use crate::name::Name;
use crate::seal::{Domain, HEADER_LEN, Header, Kind, SEAL_OVERHEAD, Sealer, fill_random, padded_len, random};
use bytes::Bytes;
use holdfast_core::id::Nonce;

/// The offset that a body is sealed with.
const BODY_OFFSET: u64 = u64::MAX;
/// Most bytes of a document.
pub const DOCUMENT_MAX: usize = 16 << 20;
/// Where the body begins.
const BODY_START: usize = HEADER_LEN + 4;

/// Composes a document.
#[derive(Debug)]
pub struct DocumentBuilder {
    sealer: Sealer,
    name: Name,
    inline: Vec<u8>,
}

impl DocumentBuilder {
    /// An empty document of that kind and name, under the domain's newest epoch.
    ///
    /// # Errors
    /// If the domain has no keys or the system no random numbers.
    pub fn new(domain: &Domain, kind: Kind, scope: [u8; 16], name: &Name) -> Result<Self> {
        let header = Header { kind, epoch: domain.keys.newest_epoch(), scope, nonce: Nonce::new(random()?) };
        Ok(Self { sealer: Sealer::new(domain, header, name)?, name: name.clone(), inline: Vec::new() })
    }

    /// Appends an inline frame and returns its offset and sealed length.
    ///
    /// # Errors
    /// If what was sealed does not open again.
    pub fn inline(&mut self, codec: u8, payload: &[u8]) -> Result<(u64, u32)> {
        let start = self.inline.len();
        self.sealer.seal(start as u64, codec, payload, &mut self.inline);
        let mut again = self.inline[start..].to_vec();
        if self.sealer.open(start as u64, &mut again)? != (codec, payload) {
            return Err(StoreError::damaged(&self.name, "what was sealed does not open to what it was"));
        }
        Ok((start as u64, u32::try_from(self.inline.len() - start).unwrap_or(u32::MAX)))
    }

    /// Bytes of the inline frames so far.
    #[must_use]
    pub fn inline_len(&self) -> usize {
        self.inline.len()
    }

    /// The whole object.
    ///
    /// # Errors
    /// If it would be larger than documents may be.
    pub fn finish(self, body: &[u8]) -> Result<Bytes> {
        let mut payload = Vec::new();
        let codec = Encoder::new()
            .and_then(|mut encoder| encoder.encode(body, &mut payload))
            .map_err(|error| StoreError::damaged(&self.name, error))?;
        let sealed_len = payload.len() + SEAL_OVERHEAD;
        let len = BODY_START + sealed_len + self.inline.len();
        let padded = usize::try_from(padded_len(len as u64)).unwrap_or(usize::MAX);
        if body.len() > BODY_MAX || padded > DOCUMENT_MAX {
            return Err(StoreError::damaged(&self.name, format_args!("it would have {len} bytes, more than a document may")));
        }
        let mut out = Vec::with_capacity(padded);
        out.extend_from_slice(self.sealer.header());
        out.extend_from_slice(&u32::try_from(sealed_len).unwrap_or(u32::MAX).to_le_bytes());
        self.sealer.seal(BODY_OFFSET, codec, &payload, &mut out);
        out.extend_from_slice(&self.inline);
        out.resize(padded, 0);
        fill_random(&mut out[len..])?;
        Ok(out.into())
    }
}

/// A document that was read.
#[derive(Debug)]
pub struct Document {
    sealer: Sealer,
    name: Name,
    bytes: Bytes,
    /// The body's plaintext.
    pub body: Vec<u8>,
    inline_start: usize,
}

impl Document {
    /// Opens a document. `bytes` may be only its beginning, as long as the body is whole; then inline frames can't be read.
    ///
    /// # Errors
    /// If it is damaged, of another kind, or sealed under another key.
    pub fn open(domain: &Domain, kind: Kind, scope: [u8; 16], name: &Name, bytes: Bytes) -> Result<Self> {
        let sealer = Sealer::open_object(domain, name, &bytes, kind, scope)?;
        let sealed_len = Self::sealed_len(name, &bytes)?;
        let end = BODY_START + sealed_len;
        let sealed = bytes.get(BODY_START..end).ok_or_else(|| StoreError::damaged(name, "it is truncated"))?;
        let mut sealed = sealed.to_vec();
        let (codec, payload) = sealer.open(BODY_OFFSET, &mut sealed)?;
        let damaged = |what: &str| StoreError::damaged(name, what);
        let len =
            Decoder::announced(codec, payload).filter(|len| *len <= BODY_MAX).ok_or_else(|| damaged("its body is too long"))?;
        let mut body = Vec::new();
        let decoded = Decoder::new().and_then(|mut decoder| decoder.decode(codec, payload, len, &mut body));
        decoded.map_err(|error| StoreError::damaged(name, error))?;
        Ok(Self { sealer, name: name.clone(), body, inline_start: end, bytes })
    }

    fn sealed_len(name: &Name, bytes: &[u8]) -> Result<usize> {
        let field: [u8; 4] = bytes
            .get(HEADER_LEN..BODY_START)
            .and_then(|field| field.try_into().ok())
            .ok_or_else(|| StoreError::damaged(name, "it is truncated"))?;
        let len = u32::from_le_bytes(field) as usize;
        if !(SEAL_OVERHEAD..=BODY_MAX + SEAL_OVERHEAD).contains(&len) {
            return Err(StoreError::damaged(name, "the length of its body is impossible"));
        }
        Ok(len)
    }

    /// How many bytes of the object the body ends at, told from its beginning (68 bytes are enough).
    ///
    /// # Errors
    /// If the beginning is no document's.
    pub fn body_end(name: &Name, beginning: &[u8]) -> Result<usize> {
        Self::sealed_len(name, beginning).map(|len| BODY_START + len)
    }

    /// Opens an inline frame: its codec and payload.
    ///
    /// # Errors
    /// If there is none of that length at that offset.
    pub fn inline(&self, offset: u64, sealed_len: u32) -> Result<(u8, Vec<u8>)> {
        let start = usize::try_from(offset).ok().and_then(|offset| self.inline_start.checked_add(offset));
        let sealed = start
            .and_then(|start| self.bytes.get(start..start.checked_add(sealed_len as usize)?))
            .ok_or_else(|| StoreError::damaged(&self.name, "a frame lies beyond its end"))?;
        let mut sealed = sealed.to_vec();
        let (codec, payload) = self.sealer.open(offset, &mut sealed)?;
        Ok((codec, payload.to_vec()))
    }

    /// The key epoch that it was sealed under.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        let header = self.sealer.header();
        u32::from_le_bytes([header[12], header[13], header[14], header[15]])
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::domain;

    fn document() -> (Name, Bytes, (u64, u32)) {
        let name = Name::repository();
        let mut builder = DocumentBuilder::new(&domain(), Kind::Pin, [1; 16], &name).expect("keys");
        builder.inline(0, b"first").expect("it opens");
        let second = builder.inline(0, b"second").expect("it opens");
        (name, builder.finish(&[7; 5000]).expect("small"), second)
    }

    #[test]
    fn documents_round_trip() {
        let (name, bytes, (offset, len)) = document();
        assert_eq!(bytes.len() as u64, padded_len(bytes.len() as u64));
        let document = Document::open(&domain(), Kind::Pin, [1; 16], &name, bytes.clone()).expect("what was written");
        assert_eq!(document.body, [7; 5000]);
        assert_eq!(document.inline(offset, len).expect("a frame"), (0, b"second".to_vec()));
        assert!(document.inline(offset + 1, len).is_err());
        assert!(document.inline(u64::MAX, len).is_err());
        let end = Document::body_end(&name, &bytes[..68]).expect("a document");
        assert!(Document::open(&domain(), Kind::Pin, [1; 16], &name, bytes.slice(..end)).is_ok());
        assert!(Document::open(&domain(), Kind::Pin, [2; 16], &name, bytes.clone()).is_err(), "another scope");
        assert!(Document::open(&domain(), Kind::Pin, [1; 16], &name.withdrawn(), bytes).is_err(), "another name");
    }

    #[test]
    fn every_flipped_bit_of_the_body_is_found() {
        let (name, bytes, _) = document();
        let end = Document::body_end(&name, &bytes).expect("a document");
        for bit in 0..end * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Document::open(&domain(), Kind::Pin, [1; 16], &name, flipped.into()).is_err(), "bit {bit}");
        }
        for len in 0..end {
            assert!(Document::open(&domain(), Kind::Pin, [1; 16], &name, bytes.slice(..len)).is_err(), "{len} bytes");
        }
    }
}
