// SPDX-License-Identifier: Apache-2.0
//! Sorting byte strings that may be more than memory should hold: a directory of ten million names.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

/// Collects byte strings; beyond a limit, sorted runs go to unnamed temporary files.
#[derive(Debug)]
pub struct Sorter {
    limit_bytes: usize,
    directory: Option<PathBuf>,
    arena: Vec<u8>,
    /// Start and length in the arena.
    strings: Vec<(u32, u32)>,
    runs: Vec<File>,
}

/// Bytes that a string costs besides its own.
const OVERHEAD: usize = 8;

impl Sorter {
    /// A sorter that keeps `limit_bytes` in memory. Runs go to `directory`, or to the system's place for temporary files.
    #[must_use]
    pub const fn new(limit_bytes: usize, directory: Option<PathBuf>) -> Self {
        Self { limit_bytes, directory, arena: Vec::new(), strings: Vec::new(), runs: Vec::new() }
    }

    /// Adds a string.
    ///
    /// # Errors
    /// If a run can't be written.
    pub fn push(&mut self, string: &[u8]) -> io::Result<()> {
        if self.arena.len() + self.strings.len() * OVERHEAD + string.len() > self.limit_bytes && !self.strings.is_empty() {
            self.spill()?;
        }
        let too_long = || io::Error::from(io::ErrorKind::FileTooLarge);
        let start = u32::try_from(self.arena.len()).map_err(|_| too_long())?;
        let len = u32::try_from(string.len()).map_err(|_| too_long())?;
        self.arena.extend_from_slice(string);
        self.strings.push((start, len));
        Ok(())
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        let bytes = |(start, len): &(u32, u32)| &arena[*start as usize..(*start + *len) as usize];
        self.strings.sort_unstable_by(|one, two| bytes(one).cmp(bytes(two)));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let file = match &self.directory {
            Some(directory) => tempfile::tempfile_in(directory)?,
            None => tempfile::tempfile()?,
        };
        let mut writer = BufWriter::with_capacity(64 << 10, file);
        for (start, len) in &self.strings {
            writer.write_all(&len.to_le_bytes())?;
            writer.write_all(&self.arena[*start as usize..(*start + *len) as usize])?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.runs.push(file);
        self.strings.clear();
        self.arena.clear();
        Ok(())
    }

    /// The strings in order; equal ones follow each other.
    ///
    /// # Errors
    /// If a run can't be read back.
    pub fn finish(mut self) -> io::Result<Sorted> {
        self.sort();
        let mut sorted = Sorted { arena: self.arena, strings: self.strings, next: 0, runs: Vec::new(), heads: BinaryHeap::new() };
        for file in self.runs {
            sorted.runs.push(BufReader::with_capacity(16 << 10, file));
        }
        for run in 0..=sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }
}

/// Sorted byte strings.
#[derive(Debug)]
pub struct Sorted {
    arena: Vec<u8>,
    strings: Vec<(u32, u32)>,
    /// Index of the next string in memory.
    next: usize,
    runs: Vec<BufReader<File>>,
    /// The next string of each run; the last run is what stayed in memory.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

impl Sorted {
    fn refill(&mut self, run: usize) -> io::Result<()> {
        let next = match self.runs.get_mut(run) {
            None => {
                let string = self.strings.get(self.next).map(|string| self.bytes(*string).to_vec());
                self.next += 1;
                string
            }
            Some(file) => read_string(file)?,
        };
        self.heads.extend(next.map(|string| Reverse((string, run))));
        Ok(())
    }

    fn bytes(&self, (start, len): (u32, u32)) -> &[u8] {
        &self.arena[start as usize..(start + len) as usize]
    }

    /// Whether a string was among those that were sorted; `None` if they were too many to tell.
    #[must_use]
    pub fn had(&self, string: &[u8]) -> Option<bool> {
        let found = || self.strings.binary_search_by(|known| self.bytes(*known).cmp(string)).is_ok();
        self.runs.is_empty().then(found)
    }

    fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(Reverse((string, run))) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(string))
    }
}

impl Iterator for Sorted {
    type Item = io::Result<Vec<u8>>;

    /// The next string; an error if a run can't be read.
    fn next(&mut self) -> Option<Self::Item> {
        self.pop().transpose()
    }
}

fn read_string(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match file.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let mut string = vec![0; u32::from_le_bytes(len) as usize];
    file.read_exact(&mut string)?;
    Ok(Some(string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorted_whatever_fits_in_memory(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..200), limit in 1_usize..4000) {
            let mut sorter = Sorter::new(limit, None);
            for string in &strings {
                sorter.push(string).expect("a temporary file");
            }
            let found: Vec<_> = sorter.finish().expect("a temporary file").map(|string| string.expect("a temporary file")).collect();
            let mut expected = strings;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
