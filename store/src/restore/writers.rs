// SPDX-License-Identifier: Apache-2.0
//! Decodes a window's frames and writes its files.

use super::fetch::Fetched;
use super::frames::Frames;
use super::plan::remove_tree;
use super::window::{Finish, Job, Piece};
use super::{Options, Progress, RestoreError, Stats};
use crate::pack::Opener;
use crate::pool::Pool;
use crate::reader::Reader;
use crate::tree::{Body, Content, Inode};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex, PoisonError};

type Result<T> = std::result::Result<T, RestoreError>;

/// What writing needs.
pub(super) struct Writers<'a> {
    pub(super) reader: &'a Reader,
    pub(super) options: &'a Options,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a AtomicBool,
    /// Who this process is: what it makes belongs to it.
    pub(super) own: (u32, u32),
    /// The permission bits that files can be made with: those that the process's mask leaves.
    pub(super) made_with: u16,
    pub(super) openers: Mutex<Vec<Opener>>,
    pub(super) buffers: Pool,
}

/// Windows that arrived, and whose turn it is to finish.
struct Queue {
    windows: Mutex<(u64, Option<Receiver<Fetched>>)>,
    turn: Mutex<u64>,
    changed: Condvar,
    failed: AtomicBool,
}

impl Queue {
    /// The next window with its number. After a failure there is none, and whoever sends them learns that nobody receives.
    fn next(&self) -> Option<(u64, Fetched)> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Relaxed) {
            windows.1 = None;
        }
        let fetched = windows.1.as_ref()?.recv().ok()?;
        windows.0 += 1;
        Some((windows.0 - 1, fetched))
    }

    fn wait_for_turn(&self, index: u64) -> Result<()> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while *turn != index {
            if self.failed.load(Ordering::Relaxed) {
                return Err(RestoreError::Cancelled);
            }
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn next_turn(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    fn fail(&self) {
        // under the lock, so that nobody misses it between looking and waiting
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.failed.store(true, Ordering::Relaxed);
        drop(turn);
        self.changed.notify_all();
    }
}

impl Writers<'_> {
    /// Writes windows as they arrive, several side by side. What finishes things comes in order, when every job before it is done.
    /// The first error ends it.
    pub(super) fn write_all(&self, windows: Receiver<Fetched>) -> Result<Stats> {
        let queue = Queue {
            windows: Mutex::new((0, Some(windows))),
            turn: Mutex::new(0),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
        };
        std::thread::scope(|scope| {
            let work = || self.work(&queue);
            let threads: Vec<_> = (1..self.options.writers).map(|_| scope.spawn(work)).collect();
            let mut stats = work();
            for thread in threads {
                let other = thread.join().map_err(|_| RestoreError::Cancelled)?;
                stats = match (stats, other) {
                    (Ok(mut one), Ok(two)) => {
                        one.merge(two);
                        Ok(one)
                    }
                    // those that stopped because of another's error say no more than that
                    (Err(RestoreError::Cancelled), Err(error)) | (Err(error), _) | (_, Err(error)) => Err(error),
                };
            }
            stats
        })
    }

    fn work(&self, queue: &Queue) -> Result<Stats> {
        let mut stats = Stats::default();
        while let Some((index, fetched)) = queue.next() {
            let written = self.window(index, fetched, queue, &mut stats);
            written.inspect_err(|_| queue.fail())?;
        }
        Ok(stats)
    }

    fn window(&self, index: u64, mut fetched: Fetched, queue: &Queue, stats: &mut Stats) -> Result<()> {
        let jobs = std::mem::take(&mut fetched.window.jobs);
        let opener = self.openers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let opener = opener.map_or_else(Opener::new, Ok)?;
        let mut frames = Frames::new(self.reader, &self.buffers, &fetched, &jobs, opener);
        for job in jobs {
            if self.cancel.load(Ordering::Relaxed) || queue.failed.load(Ordering::Relaxed) {
                return Err(RestoreError::Cancelled);
            }
            self.job(&job, &mut frames, stats)?;
        }
        let opener = frames.into_opener();
        self.openers.lock().unwrap_or_else(PoisonError::into_inner).push(opener);
        fetched.stretches.clear();
        queue.wait_for_turn(index)?;
        for finish in fetched.window.finishes.drain(..) {
            self.finish(&finish, stats)?;
        }
        queue.next_turn();
        stats.entries += fetched.window.entries;
        stats.fetched_bytes += fetched.fetched_bytes;
        Progress::add(&self.progress.entries, fetched.window.entries);
        Progress::add(&self.progress.bytes, fetched.window.file_bytes);
        Progress::add(&self.progress.fetched_bytes, fetched.fetched_bytes);
        Ok(())
    }

    fn job(&self, job: &Job, frames: &mut Frames<'_>, stats: &mut Stats) -> Result<()> {
        match job {
            Job::Create { dir, name, path, inode, pieces } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                // a file that belongs to this process can be made with its own mode: a system call less for each of a million
                let own = (inode.uid, inode.gid) == self.own || !self.options.owners;
                let mode = if own && inode.mode & !0o777 == 0 { inode.mode & self.made_with } else { 0o600 };
                let fd = dir.open_with(name, flags, Mode::from_raw_mode(mode.into())).map_err(RestoreError::target(path))?;
                if let Body::File { content: Content::Inline(bytes), .. } = &inode.body {
                    write_all(&fd, bytes, 0).map_err(RestoreError::target(path))?;
                    stats.written_bytes += bytes.len() as u64;
                }
                self.pieces(&fd, None, path, pieces, frames, stats)?;
                self.set_size(&fd, path, inode, pieces)?;
                self.describe_as(&fd, path, inode, Some(mode), stats)
            }
            Job::Patch { file, pieces } => self.pieces(&file.fd, Some(&file.writing), &file.path, pieces, frames, stats),
        }
    }

    fn pieces(
        &self,
        fd: impl AsFd,
        writing: Option<&Mutex<()>>,
        path: &[u8],
        pieces: &[Piece],
        frames: &mut Frames<'_>,
        stats: &mut Stats,
    ) -> Result<()> {
        for piece in pieces {
            let bytes = frames.bytes(piece)?;
            let turn = writing.map(|writing| writing.lock().unwrap_or_else(PoisonError::into_inner));
            write_all(&fd, bytes, piece.offset).map_err(RestoreError::target(path))?;
            drop(turn);
            stats.written_bytes += bytes.len() as u64;
            frames.done(piece);
        }
        Ok(())
    }

    /// A file that ends in a hole is as long as it should be only if it is told so.
    fn set_size(&self, fd: impl AsFd, path: &[u8], inode: &Inode, pieces: &[Piece]) -> Result<()> {
        let Body::File { size, content } = &inode.body else { return Ok(()) };
        let written = match content {
            Content::Inline(bytes) => bytes.len() as u64,
            _ => pieces.last().map_or(0, |piece| piece.offset + u64::from(piece.len)),
        };
        if written == *size {
            return Ok(());
        }
        rustix::fs::ftruncate(fd, *size).map_err(io::Error::from).map_err(RestoreError::target(path))
    }

    fn finish(&self, finish: &Finish, stats: &mut Stats) -> Result<()> {
        match finish {
            Finish::File { file, inode } => {
                if let Body::File { size, .. } = inode.body {
                    rustix::fs::ftruncate(&file.fd, size).map_err(io::Error::from).map_err(RestoreError::target(&file.path))?;
                }
                self.describe(&file.fd, &file.path, inode, stats)
            }
            Finish::Directory { dir, path, inode } => self.describe(dir.fd(), path, inode, stats),
            Finish::Unstage { dir, staging } => {
                remove_tree(dir, staging).map(|_| ()).map_err(RestoreError::target(staging.as_bytes()))
            }
            Finish::Link { dir, name, path, staging, group } => {
                match rustix::fs::linkat(staging.fd(), group.as_bytes(), dir.fd(), name.as_bytes(), AtFlags::empty()) {
                    Ok(()) => Ok(()),
                    Err(error) => Err(RestoreError::target(path)(error.into())),
                }
            }
        }
    }
}

pub(super) fn write_all(fd: impl AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&fd, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                bytes = &bytes[len..];
                offset += len as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
