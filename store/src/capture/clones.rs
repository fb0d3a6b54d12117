// SPDX-License-Identifier: Apache-2.0
//! Clones of large files: where a file system shares blocks between files, the next capture compares instead of reading.
//!
//! A clone is a file without a name on the volume of the original. It shares the original's blocks until one of the two is written, so it is made
//! at once whatever the length, and it is one moment of the file: a capture reads from it. It is kept until the next capture, and says by where its
//! blocks lie what has changed since. It belongs to the content that was captured from it, not to a name: a clone is compared only if the tree holds
//! just that content, whatever became of the capture.

use super::changes::Changes;
use crate::disk::{Dir, FileInfo};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

mod extents;
mod version;
mod volume;

pub(super) use version::Version;

/// Smaller files are read faster than cloned, in bytes.
pub(super) const SIZE_MIN: u64 = 4 << 20;
/// Clones kept; each is an open file.
const KEPT_MAX: usize = 64;
/// Making a clone keeps the original's writers waiting: the longer, the more its blocks are scattered. A file that takes longer than this …
const TOOK_MAX: Duration = Duration::from_millis(250);
/// … so many times in a row keeps the clone that it has for as long as that is of use, and without one is not cloned any more.
const SLOW_MAX: u8 = 3;
/// Files remembered for that.
const SLOW_FILES_MAX: usize = 1024;

/// Which file on which device.
type Key = (u64, u64);

/// A clone of a file: its bytes as they were at one moment.
#[derive(Debug)]
pub(super) struct FileClone {
    fd: OwnedFd,
    of: Key,
    size: u64,
    /// Its space was given back; what can still be read of it means nothing.
    revoked: AtomicBool,
}

impl FileClone {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether what was read before asking may be wrong.
    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    fn revoke(&self) {
        // first the word, then the deed: whoever reads and asks afterwards is told
        self.revoked.store(true, Ordering::SeqCst);
        let _ = rustix::fs::ftruncate(&self.fd, 0);
    }

    /// What may differ from an older clone; `None` if that can't be told.
    pub(super) fn compare(&self, older: &Self) -> Option<Changes> {
        older.compared_with(&self.fd, self.size()).filter(|_| !self.is_revoked())
    }

    /// What of its file, which is open and of this size, may differ from it; `None` if that can't be told. What is written while this looks may
    /// be missed.
    pub(super) fn compared_with(&self, file: impl AsFd, size: u64) -> Option<Changes> {
        match extents::compare(&self.fd, file, (self.size(), size)) {
            Ok(changes) => Some(changes).filter(|_| !self.is_revoked()),
            Err(error) => {
                tracing::debug!(inode = self.of.1, %error, "extents can't be listed; the file is read");
                None
            }
        }
    }
}

/// A clone with what was captured from it.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) clone: Arc<FileClone>,
    /// Where the content may be another than the clone's: it was captured later, by comparing. Should the clone's own blocks come back there, as
    /// shifting and sharing ranges can bring them, that alone would not tell.
    pub(super) apart: Changes,
    /// The state path.
    pub(super) label: String,
    /// Where the file was beneath it.
    pub(super) path: Vec<u8>,
    /// What it was compared with: needed again if this capture comes to nothing.
    pub(super) base: Option<Version>,
}

#[derive(Debug)]
struct Kept {
    captured: Captured,
    version: Version,
    /// A newer one is kept, too; which of them is needed is known when the capture is durable.
    superseded: bool,
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<Kept>,
    /// All there are, kept or being read.
    live: Vec<Weak<FileClone>>,
    /// Whether volumes can clone, by device.
    volumes: HashMap<u64, bool>,
    /// How many times in a row cloning took too long, by file.
    slow: HashMap<Key, u8>,
}

/// The clones that an agent keeps. Dropping it gives their space back.
#[derive(Debug)]
pub struct Clones {
    state: Mutex<State>,
    /// How long making one may take.
    patience: Duration,
}

impl Default for Clones {
    fn default() -> Self {
        Self { state: Mutex::default(), patience: TOOK_MAX }
    }
}

impl Clones {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a clone of an open file in this directory, if that can be done and is worth it.
    pub(super) fn make(&self, dir: &Dir, file: &OwnedFd, info: &FileInfo) -> Option<Arc<FileClone>> {
        let of = (info.device, info.inode);
        if info.size < SIZE_MIN || !self.may_clone(of, file) {
            return None;
        }
        if volume::is_short(dir.fd()) {
            self.drop_volume(info.device);
            return None;
        }
        match self.clone_of(dir, file, of) {
            Ok(clone) if volume::is_short(dir.fd()) => {
                tracing::debug!(inode = info.inode, "a clone takes the volume below its floor; files are read");
                clone.revoke();
                self.drop_volume(info.device);
                None
            }
            Ok(clone) => Some(clone),
            Err(error) => {
                let whole_volume = volume::is_refusal(error);
                tracing::debug!(inode = info.inode, device = info.device, %error, whole_volume, "no clone; the file is read");
                if whole_volume {
                    self.state().volumes.insert(info.device, false);
                }
                None
            }
        }
    }

    fn may_clone(&self, of: Key, file: &OwnedFd) -> bool {
        // one that is kept is as old as it can be: so much has changed that another one is worth the wait
        let is_worth_it = !self.is_slow(of) || self.state().kept.iter().any(|kept| kept.captured.clone.of == of);
        is_worth_it && *self.state().volumes.entry(of.0).or_insert_with(|| volume::is_known(file))
    }

    /// Whether cloning a file keeps its writers waiting for long, as it did several times in a row.
    pub(super) fn is_slow_to_clone(&self, info: &FileInfo) -> bool {
        self.is_slow((info.device, info.inode))
    }

    fn is_slow(&self, of: Key) -> bool {
        self.state().slow.get(&of).is_some_and(|times| *times >= SLOW_MAX)
    }

    fn clone_of(&self, dir: &Dir, file: &OwnedFd, of: Key) -> Result<Arc<FileClone>, Errno> {
        // it can never get a name: nobody sees it, no capture finds it, and it is gone with this process
        let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir.fd(), c".", flags, Mode::RUSR | Mode::WUSR)?;
        extents::flush(file);
        let began = Instant::now();
        rustix::fs::ioctl_ficlone(&fd, file)?;
        let took = began.elapsed();
        let size = u64::try_from(rustix::fs::fstat(&fd)?.st_size).map_err(|_| Errno::OVERFLOW)?;
        let clone = Arc::new(FileClone { fd, of, size, revoked: AtomicBool::new(false) });
        let mut state = self.state();
        if took <= self.patience {
            state.slow.remove(&of);
        } else if state.slow.len() < SLOW_FILES_MAX {
            tracing::debug!(inode = of.1, took_ms = took.as_millis(), "cloning takes long");
            *state.slow.entry(of).or_default() += 1;
        }
        state.live.retain(|live| live.strong_count() > 0);
        state.live.push(Arc::downgrade(&clone));
        Ok(clone)
    }

    /// The clone that this version of a file was captured from, and where it may differ from that all the same.
    pub(super) fn base(&self, info: &FileInfo, version: &Version) -> Option<(Arc<FileClone>, Changes)> {
        let of = (info.device, info.inode);
        let state = self.state();
        let kept = state.kept.iter().rev().find(|kept| kept.captured.clone.of == of && kept.version == *version);
        kept.map(|kept| (Arc::clone(&kept.captured.clone), kept.captured.apart.clone()))
    }

    /// Keeps a clone until the next capture.
    pub(super) fn keep(&self, captured: Captured, version: Version) {
        if captured.clone.is_revoked() {
            return;
        }
        let of = captured.clone.of;
        let mut state = self.state();
        state.kept.retain(|kept| kept.captured.clone.of != of || captured.base.as_ref() == Some(&kept.version));
        state.kept.iter_mut().filter(|kept| kept.captured.clone.of == of).for_each(|kept| kept.superseded = true);
        state.kept.push(Kept { captured, version, superseded: false });
        // the largest are worth most
        let standing = |kept: &Kept| !kept.superseded;
        while state.kept.iter().filter(|kept| standing(kept)).count() > KEPT_MAX {
            let sizes = state.kept.iter().enumerate().filter(|(_, kept)| standing(kept));
            let Some((smallest, _)) = sizes.min_by_key(|(_, kept)| kept.captured.clone.size()) else { break };
            let of = state.kept[smallest].captured.clone.of;
            state.kept.retain(|kept| kept.captured.clone.of != of);
        }
    }

    /// What was captured is durable, or it was the same: older clones are not needed any more.
    pub fn committed(&self) {
        self.state().kept.retain(|kept| !kept.superseded);
    }

    /// Looks where the files of a state path are now; the clones of those that are gone, or small, would only hold on to their space.
    pub(super) fn sweep(&self, label: &str, look: impl Fn(&[u8]) -> io::Result<FileInfo>) {
        let of_label = |kept: &Kept| kept.captured.label == label;
        let paths: HashSet<_> =
            self.state().kept.iter().filter(|kept| of_label(kept)).map(|kept| kept.captured.path.clone()).collect();
        for path in paths {
            let of = look(&path).ok().filter(|info| info.size >= SIZE_MIN).map(|info| (info.device, info.inode));
            let stays = |kept: &Kept| !of_label(kept) || kept.captured.path != path || of == Some(kept.captured.clone.of);
            self.state().kept.retain(stays);
        }
    }

    /// Gives back the space of all clones on volumes that run short. To be called again and again: also while nothing is captured, or a capture
    /// that goes on reads from one.
    pub fn guard(&self) {
        let live: Vec<_> = self.state().live.iter().filter_map(Weak::upgrade).collect();
        let mut looked = HashMap::new();
        for clone in live {
            if *looked.entry(clone.of.0).or_insert_with(|| volume::is_short(clone.fd())) {
                self.drop_volume(clone.of.0);
            }
        }
    }

    fn drop_volume(&self, device: u64) {
        let live: Vec<_> = self.state().live.iter().filter_map(Weak::upgrade).filter(|clone| clone.of.0 == device).collect();
        if !live.is_empty() {
            tracing::debug!(device, clones = live.len(), "the volume runs short of space; its clones are dropped");
        }
        live.iter().for_each(|clone| clone.revoke());
        self.state().kept.retain(|kept| kept.captured.clone.of.0 != device);
    }

    /// How many files are open for it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().live.iter().filter(|live| live.strong_count() > 0).count()
    }
}

#[cfg(test)]
mod tests;
