// SPDX-License-Identifier: Apache-2.0
//! A file of fingerprints: entries in the order of the extents, then what they belong to, then a hash of all of it.
//!
//! It is not synced. What a crash leaves of it has another hash.

use super::{Entry, Print, UNFINISHED};
use crate::capture::clones::Version;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Start, length, fingerprint.
const ENTRY: usize = 8 + 4 + 16;
/// What they belong to, and the hash.
const TRAILER: usize = Version::ENCODED + 32;
/// More entries than this are not kept: 4 million extents, 112 MB.
const ENTRIES_MAX: u64 = 1 << 22;
const BUFFER: usize = 64 << 10;

/// Fingerprints being written.
pub(in crate::capture) struct Writer {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
    hash: Sha256,
    entries: u64,
    /// Something went wrong: there will be none.
    failed: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({})", self.path.display())
    }
}

impl Writer {
    pub(super) fn create(directory: &Path, path: PathBuf) -> io::Result<Self> {
        let out = BufWriter::with_capacity(BUFFER, tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?);
        Ok(Self { out, path, hash: Sha256::new(), entries: 0, failed: false })
    }

    /// Adds an extent; one without a fingerprint is looked at closely next time.
    pub(in crate::capture) fn add(&mut self, start: u64, len: usize, print: Option<Print>) {
        let (Some(print), Ok(len)) = (print, u32::try_from(len)) else { return self.failed = true };
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&start.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..].copy_from_slice(&print);
        self.entries += 1;
        self.failed |= self.entries > ENTRIES_MAX || self.put(&bytes).is_err();
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    /// Keeps them as those of this version, in place of older ones.
    pub(in crate::capture) fn keep(mut self, version: &Version) {
        if self.failed {
            return;
        }
        let path = self.path.clone();
        if let Err(error) = self.finish(version) {
            tracing::debug!(path = %path.display(), %error, "could not keep fingerprints");
        }
    }

    fn finish(&mut self, version: &Version) -> io::Result<()> {
        self.put(&version.encode())?;
        let hash: [u8; 32] = self.hash.finalize_reset().into();
        self.out.write_all(&hash)?;
        self.out.flush()?;
        std::fs::rename(self.out.get_ref().path(), &self.path)
    }
}

/// Fingerprints of a version, read as far as they were asked for.
pub(in crate::capture) struct Noted {
    reader: BufReader<File>,
    left: u64,
    /// Read, and not passed yet.
    ahead: VecDeque<Entry>,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "they are damaged")
}

impl Noted {
    pub(super) fn open(path: &Path, version: &Version) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let entries = len.checked_sub(TRAILER as u64).filter(|bytes| bytes.is_multiple_of(ENTRY as u64)).ok_or_else(damaged)?;
        let mut trailer = [0; TRAILER];
        file.seek(SeekFrom::Start(entries))?;
        file.read_exact(&mut trailer)?;
        if trailer[..Version::ENCODED] != version.encode() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "they belong to something else"));
        }
        file.rewind()?;
        let mut hash = Sha256::new();
        let (mut left, mut buffer) = (len - 32, vec![0; BUFFER]);
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            file.read_exact(&mut buffer[..part])?;
            hash.update(&buffer[..part]);
            left -= part as u64;
        }
        if hash.finalize()[..] != trailer[Version::ENCODED..] {
            return Err(damaged());
        }
        file.rewind()?;
        Ok(Self { reader: BufReader::with_capacity(BUFFER, file), left: entries / ENTRY as u64, ahead: VecDeque::new() })
    }

    fn read(&mut self) -> Option<Entry> {
        let mut bytes = [0; ENTRY];
        self.left = self.left.checked_sub(1)?;
        if self.reader.read_exact(&mut bytes).is_err() {
            self.left = 0; // what can't be read any more isn't known
            return None;
        }
        let (start, rest) = bytes.split_at(8);
        let (len, print) = rest.split_at(4);
        let (start, len) = (start.try_into().ok()?, len.try_into().ok()?);
        Some(Entry { start: u64::from_le_bytes(start), len: u32::from_le_bytes(len), print: print.try_into().ok()? })
    }

    /// Those that were not passed and begin before `until`.
    pub(in crate::capture) fn ahead(&mut self, until: u64) -> impl Iterator<Item = &Entry> {
        while self.ahead.back().is_none_or(|last| last.start < until) {
            let Some(entry) = self.read() else { break };
            self.ahead.push_back(entry);
        }
        self.ahead.iter().take_while(move |entry| entry.start < until)
    }

    /// Passes all that end at or before `offset`.
    pub(in crate::capture) fn pass(&mut self, offset: u64) {
        loop {
            while self.ahead.front().is_some_and(|entry| entry.end() <= offset) {
                self.ahead.pop_front();
            }
            if !self.ahead.is_empty() {
                return;
            }
            let Some(entry) = self.read() else { return };
            self.ahead.push_back(entry);
        }
    }
}
