// SPDX-License-Identifier: Apache-2.0
//! A second look at what was captured: only what did not change meanwhile is of one moment.

use super::walker::{Walk, Walker};
use crate::disk::{Dir, FileInfo};
use crate::tree::Name;
use std::io;
use std::sync::Arc;

/// Captured files that are looked at again at the end.
const RECHECK_MAX: usize = 4096;

impl Walker<'_> {
    /// Notes a file that was captured, to be looked at again at the end.
    pub(super) fn captured(&mut self, path: Vec<u8>, info: FileInfo, at_one_moment: bool) {
        self.tally.read_files += 1;
        if self.recheck.len() < RECHECK_MAX {
            self.recheck.push((path, info, at_one_moment));
        }
    }

    /// Whether what was captured is still as it was: only then are all files of one moment.
    pub(super) fn recheck(&mut self) -> Walk<()> {
        let captured = std::mem::take(&mut self.recheck);
        if let ([(_, _, true)], [_]) = (&captured[..], self.request.sources) {
            return Ok(()); // nothing else was captured: what happened to it afterwards makes no difference
        }
        for (path, before, _) in captured {
            let now = self.look(&path);
            if !now.is_ok_and(|now| now.unchanged_since(&before)) {
                self.tally.unstable += 1;
            }
        }
        Ok(())
    }

    pub(super) fn look(&self, path: &[u8]) -> io::Result<FileInfo> {
        let (dir, name) = self.descend(path)?;
        dir.info(&name)
    }

    /// The directory of a path beneath the state path, and the last name.
    pub(super) fn descend(&self, path: &[u8]) -> io::Result<(Arc<Dir>, Name)> {
        let mut dir = Arc::clone(&self.source.dir);
        let mut names = path.split(|byte| *byte == b'/').map(|name| Name::new(name).ok_or(io::ErrorKind::InvalidInput));
        let mut name = names.next().ok_or(io::ErrorKind::InvalidInput)??;
        for next in names {
            dir = Arc::new(dir.open_dir(&name)?);
            name = next?;
        }
        Ok((dir, name))
    }
}
