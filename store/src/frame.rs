// SPDX-License-Identifier: Apache-2.0
//! Frames: what is compressed and sealed as one piece.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

/// Most plaintext of a frame, in bytes.
pub const PLAIN_MAX: usize = 1 << 20;
/// Most plaintext of a document's body, in bytes.
pub const BODY_MAX: usize = 8 << 20;
/// Writers close a frame of several chunks or nodes at this much plaintext, in bytes.
pub const TARGET: usize = 128 << 10;

/// The payload is the plaintext.
pub const RAW: u8 = 0;
/// The payload is one Zstandard frame.
pub const ZSTD: u8 = 1;

/// Level 3 compresses 3 % better than level 1 at 70 % of its speed; compression is already most of a capture's work.
const LEVEL: i32 = 1;

/// Why a frame could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The codec byte is none of the format's.
    #[error("codec {0} is unknown")]
    Codec(u8),
    /// The payload does not decode to what it should.
    #[error("it does not decode: {0}")]
    Payload(&'static str),
    /// The compressor produced what doesn't decode to its input. Nothing of it may leave.
    #[error("the compressor produced what does not decode to its input")]
    Compressor,
    /// The library failed.
    #[error("zstd: {0}")]
    Library(String),
}

/// Compresses frames and decodes them again before anybody relies on them.
pub struct Encoder {
    compressor: Compressor<'static>,
    decoder: Decoder,
    again: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

fn library(error: std::io::Error) -> FrameError {
    FrameError::Library(error.to_string())
}

impl Encoder {
    /// An encoder; keeps its context from frame to frame.
    ///
    /// # Errors
    /// If memory for it can't be had.
    pub fn new() -> Result<Self, FrameError> {
        Ok(Self { compressor: Compressor::new(LEVEL).map_err(library)?, decoder: Decoder::new()?, again: Vec::new() })
    }

    /// Encodes a plaintext into `payload` (which is cleared) and returns the codec. What is not at least 2 % shorter stays as it is.
    ///
    /// # Errors
    /// If what was encoded does not decode to the plaintext: compressors have been wrong before.
    pub fn encode(&mut self, plaintext: &[u8], payload: &mut Vec<u8>) -> Result<u8, FrameError> {
        payload.clear();
        payload.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        self.compressor.compress_to_buffer(plaintext, payload).map_err(library)?;
        if payload.len() > plaintext.len() - plaintext.len() / 50 {
            payload.clear();
            payload.extend_from_slice(plaintext);
            return Ok(RAW);
        }
        self.decoder.decode(ZSTD, payload, plaintext.len(), &mut self.again)?;
        if self.again == plaintext { Ok(ZSTD) } else { Err(FrameError::Compressor) }
    }
}

/// Decodes frames.
pub struct Decoder(Decompressor<'static>);

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// A decoder; keeps its context from frame to frame.
    ///
    /// # Errors
    /// If memory for it can't be had.
    pub fn new() -> Result<Self, FrameError> {
        Decompressor::new().map(Self).map_err(library)
    }

    /// Decodes a payload whose plaintext must have exactly `len` bytes into `plaintext` (which is cleared). Allocates no more than that.
    ///
    /// # Errors
    /// If it decodes to anything else, or has bytes left over.
    pub fn decode(&mut self, codec: u8, payload: &[u8], len: usize, plaintext: &mut Vec<u8>) -> Result<(), FrameError> {
        plaintext.clear();
        match codec {
            RAW if payload.len() == len => plaintext.extend_from_slice(payload),
            RAW => return Err(FrameError::Payload("its length is another")),
            ZSTD => {
                if !matches!(get_frame_content_size(payload), Ok(Some(size)) if size == len as u64) {
                    return Err(FrameError::Payload("its length is another"));
                }
                if find_frame_compressed_size(payload) != Ok(payload.len()) {
                    return Err(FrameError::Payload("it is not exactly one compressed frame"));
                }
                plaintext.reserve_exact(len);
                let decoded = self.0.decompress_to_buffer(payload, plaintext).map_err(library)?;
                if decoded != len {
                    return Err(FrameError::Payload("its length is another"));
                }
            }
            other => return Err(FrameError::Codec(other)),
        }
        Ok(())
    }

    /// The length of the plaintext that a payload announces.
    #[must_use]
    pub fn announced(codec: u8, payload: &[u8]) -> Option<usize> {
        match codec {
            RAW => Some(payload.len()),
            ZSTD => usize::try_from(get_frame_content_size(payload).ok()??).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(plaintext: &[u8]) -> (u8, usize) {
        let (mut payload, mut again) = (Vec::new(), Vec::new());
        let codec = Encoder::new().expect("memory").encode(plaintext, &mut payload).expect("a correct compressor");
        assert_eq!(Decoder::announced(codec, &payload), Some(plaintext.len()));
        Decoder::new().expect("memory").decode(codec, &payload, plaintext.len(), &mut again).expect("what was encoded");
        assert_eq!(again, plaintext);
        (codec, payload.len())
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        assert_eq!(round_trip(b"x"), (RAW, 1));
        let random = crate::seal::random::<4096>().expect("random numbers");
        assert_eq!(round_trip(&random), (RAW, 4096));
        let (codec, len) = round_trip(&[7; PLAIN_MAX]);
        assert_eq!(codec, ZSTD);
        assert!(len < 200);
    }

    #[test]
    fn bombs_and_leftovers_are_refused() {
        let mut decoder = Decoder::new().expect("memory");
        let mut payload = Vec::new();
        Encoder::new().expect("memory").encode(&[0; 100_000], &mut payload).expect("a correct compressor");
        let mut out = Vec::new();
        assert!(decoder.decode(ZSTD, &payload, 1000, &mut out).is_err(), "more than announced");
        assert!(out.capacity() <= 1000);
        assert!(decoder.decode(ZSTD, &payload, 100_001, &mut out).is_err(), "less than announced");
        assert!(decoder.decode(ZSTD, &payload[..payload.len() - 1], 100_000, &mut out).is_err(), "truncated");
        let twice = [payload.clone(), payload.clone()].concat();
        assert!(decoder.decode(ZSTD, &twice, 100_000, &mut out).is_err(), "two frames");
        assert!(decoder.decode(ZSTD, &[payload.clone(), vec![0]].concat(), 100_000, &mut out).is_err(), "bytes left over");
        assert!(decoder.decode(2, &payload, 100_000, &mut out).is_err(), "another codec");
        assert!(decoder.decode(ZSTD, &[], 0, &mut out).is_err(), "nothing");
        decoder.decode(ZSTD, &payload, 100_000, &mut out).expect("what was encoded");
    }

    proptest! {
        #[test]
        fn any_plaintext_round_trips(bytes in prop::collection::vec(0_u8..4, 1..3000)) {
            round_trip(&bytes);
        }

        #[test]
        fn any_payload_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0_usize..10_000) {
            let mut out = Vec::new();
            let _ = Decoder::new().expect("memory").decode(ZSTD, &bytes, len, &mut out);
            prop_assert!(out.capacity() <= len.max(8));
        }
    }
}
