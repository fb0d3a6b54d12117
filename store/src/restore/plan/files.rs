// SPDX-License-Identifier: Apache-2.0
//! Files: which pieces of which frames go where.

use super::{Planner, Result};
use crate::disk::{Dir, FileInfo, FileKind};
use crate::error::StoreError;
use crate::restore::window::{Finish, Job, OpenFile, Piece};
use crate::tree::{Body, Content, Cursor, Inode, Name};
use rustix::fs::{Mode, OFlags};
use std::sync::Arc;

/// Extents put into one job of a large file.
const PIECES: usize = 64;

impl Planner<'_> {
    pub(super) fn file(&mut self, dir: &Arc<Dir>, name: &Name, inode: &Inode, found: Option<FileInfo>) -> Result<()> {
        self.window.entries += 1;
        if let Some(info) = found {
            if info.kind == FileKind::File && info.links == 1 && self.settle_existing(dir, name, inode, &info)? {
                return self.send_if_full();
            }
            // other links to it may lie outside the target: it is replaced, never written to
            self.replace(dir, name)?;
        }
        self.create(dir, name, inode)
    }

    /// A file that does not exist yet.
    pub(super) fn create(&mut self, dir: &Arc<Dir>, name: &Name, inode: &Inode) -> Result<()> {
        let Body::File { size, content } = &inode.body else {
            self.writers.make_special(dir, name, &self.path, inode, &mut self.stats)?;
            return Ok(());
        };
        let mut pieces = Vec::new();
        match content {
            Content::None | Content::Inline(_) => {}
            Content::Chunk { place, .. } => pieces.push(self.piece(place, u32::try_from(*size).unwrap_or(u32::MAX), 0)?),
            Content::Extents { .. } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = dir.open_with(name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| self.failed(error))?;
                let file = Arc::new(OpenFile::new(fd, self.path.clone()));
                return self.fill(&file, inode, |_| false);
            }
        }
        self.window.file_bytes += size;
        let (dir, name, path, inode) = (Arc::clone(dir), name.clone(), self.path.clone(), Box::new(inode.clone()));
        self.window.jobs.push(Job::Create { dir, name, path, inode, pieces });
        self.send_if_full()
    }

    pub(super) fn piece(&mut self, place: &crate::tree::Place, len: u32, offset: u64) -> Result<Piece> {
        let nowhere = || StoreError::damaged("tree", "a chunk lies nowhere");
        Ok(self.window.piece(place, len, offset).ok_or_else(nowhere)?)
    }

    /// Puts the extents of an open file into windows, without those that are in place.
    pub(in crate::restore) fn fill(&mut self, file: &Arc<OpenFile>, inode: &Inode, in_place: impl Fn(u64) -> bool) -> Result<()> {
        let Body::File { size, content: Content::Extents { map, .. } } = &inode.body else { return Ok(()) };
        self.window.hold();
        let mut cursor = Cursor::new(&**self.request.reader, map)?;
        let mut pieces = Vec::new();
        while let Some(extent) = cursor.next(&**self.request.reader)? {
            if extent.end() > *size {
                return Err(StoreError::damaged("tree", "an extent ends beyond its file").into());
            }
            self.window.file_bytes += u64::from(extent.len);
            if !in_place(extent.start) {
                if self.window.ends_before(&extent.place) {
                    self.window.jobs.push(Job::Patch { file: Arc::clone(file), pieces: std::mem::take(&mut pieces) });
                    self.send()?;
                }
                pieces.push(self.piece(&extent.place, extent.len, extent.start)?);
            }
            if pieces.len() >= PIECES || self.window.is_full() {
                self.window.jobs.push(Job::Patch { file: Arc::clone(file), pieces: std::mem::take(&mut pieces) });
                self.send_if_full()?;
            }
        }
        if !pieces.is_empty() {
            self.window.jobs.push(Job::Patch { file: Arc::clone(file), pieces });
        }
        self.window.finishes.push(Finish::File { file: Arc::clone(file), inode: Box::new(inode.clone()) });
        self.send_if_full()
    }
}
