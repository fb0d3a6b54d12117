// SPDX-License-Identifier: Apache-2.0
//! The journal: one line per block searched, `<number> <block> <lowest candidate>-<highest candidate>`.
//!
//! The candidates follow from number and block, so a line proves itself: one that was cut short, or run into another,
//! says something that doesn't agree and is passed over.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::blocks::BlockSet;
use crate::space::Space;

/// The file's name.
pub const FILE: &str = "journal.log";

/// The journal, open for appending. It is locked for as long as it is open: one process at a time.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    space: Space,
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) blocks: BlockSet,
    /// Lines that say nothing.
    pub(super) spoilt: usize,
}

/// The line for a block, with its end.
#[must_use]
pub fn line(space: &Space, block: u32) -> String {
    let range = space.range(block);
    format!("{} {block} {}-{}\n", space.number(), range.start(), range.end())
}

enum Line {
    Done(u32),
    OtherNumber(u64),
    Spoilt,
}

fn read_line(space: &Space, text: &[u8]) -> Line {
    let fields = || {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u32>().ok()?))
    };
    let Some((number, block)) = fields() else { return Line::Spoilt };
    let proves = |space: &Space| block < space.blocks() && line(space, block).trim_end().as_bytes() == text;
    match Space::new(number) {
        Ok(other) if !proves(&other) => Line::Spoilt,
        Ok(other) if other != *space => Line::OtherNumber(number),
        Ok(_) => Line::Done(block),
        Err(_) => Line::Spoilt,
    }
}

impl Journal {
    /// Opens the journal in a directory and reads it; it needn't exist yet.
    pub(super) fn open(dir: &Path, space: Space) -> Result<(Self, Said), Error> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(Error::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(dir.to_owned())),
            // not every file system has locks; this one goes without
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::file("lock", &path)(error)),
        }
        let mut journal = Self { file, path, space };
        let said = journal.read()?;
        Ok((journal, said))
    }

    /// Reads all lines, and ends the last one if a crash hasn't left it the time.
    fn read(&mut self) -> Result<Said, Error> {
        let failed = |error| Error::file("read", &self.path)(error);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut said = Said::default();
        let mut reader = BufReader::new(&self.file);
        let mut text = Vec::new();
        let mut torn = false;
        while reader.read_until(b'\n', &mut text).map_err(failed)? > 0 {
            torn = text.pop_if(|end| *end == b'\n').is_none();
            match read_line(&self.space, &text) {
                Line::Done(block) => {
                    said.blocks.insert(block);
                }
                Line::Spoilt => said.spoilt += 1,
                Line::OtherNumber(found) => {
                    return Err(Error::OtherNumber { path: self.path.clone(), found, number: self.space.number() });
                }
            }
            text.clear();
        }
        if torn {
            self.write(b"\n")?;
        }
        Ok(said)
    }

    /// Adds the line for a block.
    pub(super) fn append(&mut self, block: u32) -> Result<(), Error> {
        self.write(line(&self.space, block).as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::file("append to", &self.path))
    }

    /// Makes sure that what was added survives more than this process.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::file("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn written(bytes: &[u8]) -> Result<Said, Error> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), bytes).unwrap();
        let space = Space::new(90_001).unwrap();
        let (mut journal, said) = Journal::open(dir.path(), space)?;
        // whatever the journal was, the next line is read next time
        journal.append(11_000).unwrap();
        drop(journal);
        let (_, again) = Journal::open(dir.path(), space)?;
        assert_eq!(again.blocks, said.blocks.union(&[11_000].into_iter().collect()));
        Ok(said)
    }

    #[test]
    fn garbage_says_nothing() {
        let texts: [&[u8]; 8] =
            [b"\0\0\0\0", b"\xff\xfe\n", b"\n\n", b"90001", b"90001 1", b"90001 1 2-3\n", b"1 1 1-1\n", b"90001 99999 0-0\n"];
        for text in texts {
            let said = written(text).unwrap();
            assert!(said.blocks.is_empty() && said.spoilt > 0, "{text:?}: {said:?}");
        }
    }

    #[test]
    fn another_numbers_journal_is_refused() {
        let other = line(&Space::new(91).unwrap(), 5);
        assert!(matches!(written(other.as_bytes()), Err(Error::OtherNumber { found: 91, number: 90_001, .. })));
    }

    proptest! {
        #[test]
        fn a_cut_journal_says_no_more_than_whole_lines(
            blocks in proptest::collection::vec(0_u32..11_000, 1..20), cut in 0_usize..600
        ) {
            let space = Space::new(90_001).unwrap();
            let text: String = blocks.iter().map(|block| line(&space, *block)).collect();
            let cut = cut.min(text.len());
            // a line that lacks nothing but its end is whole
            let ends = text.match_indices('\n').filter(|(end, _)| *end <= cut);
            let whole = ends.count();
            let said = written(&text.as_bytes()[..cut]).unwrap();
            prop_assert_eq!(said.blocks, blocks[..whole].iter().copied().collect::<BlockSet>());
        }

        #[test]
        fn a_damaged_journal_says_no_more_than_was_written(
            blocks in proptest::collection::vec(0_u32..11_000, 1..20), at in 0_usize..600, length in 0_usize..40, fill: u8
        ) {
            let space = Space::new(90_001).unwrap();
            let mut text: Vec<u8> = blocks.iter().flat_map(|block| line(&space, *block).into_bytes()).collect();
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text[at..end].fill(fill);
            if let Ok(said) = written(&text) {
                prop_assert!(said.blocks.without(&blocks.iter().copied().collect()).is_empty());
            }
        }
    }
}
