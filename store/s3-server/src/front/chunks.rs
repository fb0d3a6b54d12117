// SPDX-License-Identifier: Apache-2.0
//! Watching the frames of an `aws-chunked` body go by.
//!
//! s3s keeps a chunk in memory until its signature is checked, and takes the client's word for its size: 4 GiB if it
//! likes. What the chunks say is s3s's business; that they are small enough is checked before it sees them.

/// Bytes of the largest chunk that is let through. Clients use 64 KiB to 1 MiB.
const CHUNK: u64 = 8 << 20;

/// A chunk of more bytes than are kept in memory for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkTooLarge;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line before a chunk: its size so far, and whether its digits have ended.
    Line { size: u64, ended: bool },
    /// In a chunk and the end of line after it: bytes left.
    Chunk { left: u64 },
    /// After the last chunk, or after something that is no chunk, which s3s will say.
    Rest,
}

/// Watches the sizes of chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Line { size: 0, ended: false } }
    }

    /// Takes the next bytes of the body.
    pub(super) fn watch(&mut self, mut bytes: &[u8]) -> Result<(), ChunkTooLarge> {
        while let Some((first, rest)) = bytes.split_first() {
            self.state = match self.state {
                State::Rest => return Ok(()),
                State::Chunk { left } => {
                    let skipped = left.min(bytes.len() as u64);
                    bytes = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
                    match left - skipped {
                        0 => State::Line { size: 0, ended: false },
                        left => State::Chunk { left },
                    }
                }
                State::Line { size, ended } => {
                    bytes = rest;
                    in_line(size, ended, *first)?
                }
            };
        }
        Ok(())
    }
}

fn in_line(size: u64, ended: bool, byte: u8) -> Result<State, ChunkTooLarge> {
    let digit = char::from(byte).to_digit(16).map(u64::from);
    match (byte, digit) {
        (b'\n', _) if size == 0 => Ok(State::Rest),
        (b'\n', _) => Ok(State::Chunk { left: size + 2 }),
        (b';' | b'\r', _) => Ok(State::Line { size, ended: true }),
        _ if ended => Ok(State::Line { size, ended }),
        (_, Some(digit)) if size * 16 + digit <= CHUNK => Ok(State::Line { size: size * 16 + digit, ended }),
        (_, Some(_)) => Err(ChunkTooLarge),
        (_, None) => Ok(State::Rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(size: usize, extension: &str) -> Vec<u8> {
        let mut bytes = format!("{size:X}{extension}\r\n").into_bytes();
        bytes.resize(bytes.len() + size, b'f');
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn watch(body: &[u8], pieces: usize) -> Result<State, ChunkTooLarge> {
        let mut chunks = Chunks::new();
        body.chunks(pieces).try_for_each(|piece| chunks.watch(piece))?;
        Ok(chunks.state)
    }

    #[test]
    fn chunks_are_followed_however_they_are_cut() {
        let mut body = [chunk(1, ""), chunk(300, ";chunk-signature=ffffffffff"), chunk(17, "")].concat();
        let before = body.len();
        body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        for pieces in 1..body.len() {
            assert_eq!(watch(&body[..before], pieces), Ok(State::Line { size: 0, ended: false }), "{pieces}");
            assert_eq!(watch(&body, pieces), Ok(State::Rest), "{pieces}");
        }
    }

    #[test]
    fn a_large_chunk_is_refused_before_it_comes() {
        assert_eq!(watch(b"800000\r\n", 3), Ok(State::Chunk { left: CHUNK + 2 }));
        for size in ["800001", "FFFFFFFF", "ffffffffffffffffffff"] {
            let body = [chunk(3, ""), format!("{size}\r\n").into_bytes()].concat();
            assert_eq!(watch(&body, 5), Err(ChunkTooLarge), "{size}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_left_to_s3s() {
        assert_eq!(watch(b"hello\r\n", 2), Ok(State::Rest));
    }
}
