// SPDX-License-Identifier: Apache-2.0
//! Where the bytes of a large file are read: from a clone while there is one, otherwise from the file itself.

use super::super::clones::FileClone;
use super::super::content::read_at;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// A large file that is open.
pub(super) struct Source<'f> {
    file: &'f OwnedFd,
    clone: Option<Arc<FileClone>>,
    /// There was a clone, and its space was needed.
    lost: bool,
    size: u64,
    /// It may have holes.
    sparse: bool,
    /// The stretch of data that was found last.
    stretch: Option<Range<u64>>,
}

impl<'f> Source<'f> {
    /// The file itself.
    pub(super) const fn file(file: &'f OwnedFd, size: u64, sparse: bool) -> Self {
        Self { file, clone: None, lost: false, size, sparse, stretch: None }
    }

    /// A clone of the file.
    pub(super) fn clone(file: &'f OwnedFd, clone: Arc<FileClone>) -> Self {
        let size = clone.size();
        Self { file, clone: Some(clone), lost: false, size, sparse: true, stretch: None }
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The clone that all that was read came from.
    pub(super) fn into_clone(self) -> Option<Arc<FileClone>> {
        self.clone
    }

    /// Whether some was read from a clone and some from the file.
    pub(super) const fn was_lost(&self) -> bool {
        self.lost
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.clone.as_ref().map_or(self.file.as_fd(), |clone| clone.fd())
    }

    /// Whether the clone was taken away, so that what was just learnt from it may be wrong; from then on it is the file that is asked.
    fn has_changed(&mut self) -> bool {
        let revoked = self.clone.take_if(|clone| clone.is_revoked()).is_some();
        if revoked {
            self.lost = true;
            self.stretch = None;
        }
        revoked
    }

    /// Fills the buffer; returns how much of it, if the file ends earlier.
    pub(super) fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(test)]
        tests::fail(self.file, offset)?;
        let read = read_at(self.fd(), buffer, offset);
        if self.has_changed() {
            return read_at(self.fd(), buffer, offset);
        }
        if let (Some(clone), Some(len)) = (&self.clone, NonZeroU64::new(buffer.len() as u64)) {
            // the program that owns the file reads it through pages of its own; these would only take their room
            let _ = rustix::fs::fadvise(clone.fd(), offset, Some(len), Advice::DontNeed);
        }
        read
    }

    /// Announces what will be read soon.
    pub(super) fn announce(&self, range: &Range<u64>) {
        if let (Some(clone), Some(len)) = (&self.clone, NonZeroU64::new(range.end.saturating_sub(range.start))) {
            let _ = rustix::fs::fadvise(clone.fd(), range.start, Some(len), Advice::WillNeed);
        }
    }

    /// The next stretch of data at or after an offset.
    pub(super) fn next_data(&mut self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.size {
            return Ok(None);
        }
        if !self.sparse {
            return Ok(Some(offset..self.size));
        }
        if let Some(stretch) = self.stretch.as_ref().filter(|stretch| stretch.contains(&offset)) {
            return Ok(Some(offset..stretch.end));
        }
        let found = self.seek(offset);
        let found = if self.has_changed() { self.seek(offset) } else { found };
        // a long stretch is looked for once: finding its end takes longer the more pieces it lies in
        self.stretch = found?;
        Ok(self.stretch.clone())
    }

    fn seek(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let start = match rustix::fs::seek(self.fd(), SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL) => offset, // a file system that doesn't tell
            Err(error) => return Err(error.into()),
        };
        if start >= self.size {
            return Ok(None);
        }
        let end = rustix::fs::seek(self.fd(), SeekFrom::Hole(start)).unwrap_or(self.size);
        Ok(Some(start..end.clamp(start + 1, self.size)))
    }

    /// The stretches of data in a window.
    pub(super) fn data(&mut self, window: Range<u64>) -> io::Result<Vec<Range<u64>>> {
        let mut stretches = Vec::new();
        let mut offset = window.start;
        while let Some(data) = self.next_data(offset)?.filter(|data| data.start < window.end) {
            stretches.push(data.start..data.end.min(window.end));
            offset = data.end;
            if offset >= window.end {
                break;
            }
        }
        Ok(stretches)
    }
}

#[cfg(test)]
pub(in crate::capture) mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};

    /// A file by its inode, and from where it can't be read.
    pub(in crate::capture) static BROKEN: Mutex<Option<(u64, u64)>> = Mutex::new(None);

    pub(super) fn fail(file: &OwnedFd, offset: u64) -> io::Result<()> {
        let broken = *BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        match broken {
            Some((inode, from)) if offset >= from && rustix::fs::fstat(file)?.st_ino == inode => Err(Errno::IO.into()),
            _ => Ok(()),
        }
    }
}
