// SPDX-License-Identifier: Apache-2.0
//! What an agent keeps on its own disk between runs: a lock, the newest record it has seen, and copies of nodes. Losing it costs time.

use crate::{AgentError, StatePath};
use holdfast_core::id::{HolderKey, LineageId, RecordHash};
use holdfast_store::scratch::Scratch;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The scratch space of one lineage. The lock is held as long as this lives.
#[derive(Debug)]
pub struct LineageScratch {
    directory: PathBuf,
    path: PathBuf,
    lock: File,
    packs: Arc<Scratch>,
}

/// What is remembered of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The newest record seen: number and hash. A store that shows less was rolled back.
    pub watermark: (u64, RecordHash),
    /// The key of this place's last claim: that holder is gone, since its lock is ours.
    pub holder_key: HolderKey,
}

impl Drop for LineageScratch {
    /// In good order the lock goes at once, whoever has inherited a handle on it.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::debug!(lock = %self.path.display(), %error, "could not let go of the lock");
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    sequence: u64,
    record: String,
    holder_key: String,
}

impl LineageScratch {
    /// Opens and locks the scratch space of a lineage.
    ///
    /// # Errors
    /// If another process holds it, or the disk fails.
    pub fn open(base: &Path, lineage: LineageId, name: &str, limit_bytes: u64) -> Result<Self, AgentError> {
        let directory = base.join(lineage.to_string());
        let failed = |source: io::Error| AgentError::Scratch { path: directory.clone(), source };
        fs::create_dir_all(&directory).map_err(failed)?;
        let path = directory.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(AgentError::Locked { lineage: name.to_owned(), lock: path }),
            Err(error) => return Err(failed(error.into())),
        }
        let packs = Arc::new(Scratch::open(&directory, limit_bytes)?);
        Ok(Self { directory, path, lock, packs })
    }

    /// The file that is locked.
    #[must_use]
    pub fn lock(&self) -> &Path {
        &self.path
    }

    /// A handle on the lock for a program to inherit: should this process be killed, the lock stays until that program has ended, too.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn lease(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::dup(&self.lock)?)
    }

    /// Copies of packs of nodes.
    #[must_use]
    pub const fn packs(&self) -> &Arc<Scratch> {
        &self.packs
    }

    /// Where lists that are too long for memory go.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What was remembered; `None` if nothing was, or it is damaged.
    #[must_use]
    pub fn recall(&self) -> Option<Memory> {
        let written: Written = serde_json::from_slice(&fs::read(self.directory.join("memory.json")).ok()?).ok()?;
        Some(Memory { watermark: (written.sequence, written.record.parse().ok()?), holder_key: written.holder_key.parse().ok()? })
    }

    /// Remembers. A failure is worth a warning only.
    pub fn remember(&self, memory: Memory) {
        let (sequence, record) = memory.watermark;
        let written = Written { sequence, record: record.to_string(), holder_key: memory.holder_key.to_string() };
        if let Err(error) = self.write(&written) {
            tracing::warn!(directory = %self.directory.display(), %error, "could not remember the newest record");
        }
    }

    fn write(&self, written: &Written) -> io::Result<()> {
        let temporary = self.directory.join("memory.json.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(written)?)?;
        // not synced: what is lost with the machine's memory is only a hint
        fs::rename(&temporary, self.directory.join("memory.json"))
    }
}

/// Refuses scratch space that is state: it would be captured, and each capture writes to it, for ever.
pub(crate) fn apart(scratch: &Path, paths: &[StatePath]) -> Result<(), AgentError> {
    let resolved_scratch = resolved(scratch);
    for path in paths {
        let Ok(beneath) = resolved_scratch.strip_prefix(resolved(&path.path)) else { continue };
        let mut inner = PathBuf::new();
        // what the filter leaves out on the way is no state
        let is_state = beneath.components().all(|name| {
            inner.push(name);
            path.filter.keeps(inner.as_os_str().as_bytes(), true)
        });
        if is_state {
            return Err(AgentError::ScratchIsState { scratch: scratch.to_owned(), path: path.path.clone() });
        }
    }
    Ok(())
}

/// With symbolic links followed, as far as the path exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let followed = |there: &Path| Some(fs::canonicalize(there).ok()?.join(absolute.strip_prefix(there).ok()?));
    absolute.ancestors().find_map(followed).unwrap_or_else(|| absolute.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_store::capture::Filter;

    #[test]
    fn scratch_is_no_state() {
        let base = tempfile::tempdir().expect("a directory");
        let state = base.path().join("state");
        fs::create_dir_all(state.join("cache")).expect("a directory");
        std::os::unix::fs::symlink(&state, base.path().join("link")).expect("a link");
        let check = |scratch: &str, exclude: &[&str]| {
            let exclude: Vec<_> = exclude.iter().map(|glob| (*glob).to_owned()).collect();
            let filter = Filter::new(&[], &exclude).expect("globs");
            let path =
                StatePath { label: "data".to_owned(), path: state.clone(), include: vec![], exclude, filter, read_only: false };
            apart(&base.path().join(scratch), &[path]).is_ok()
        };
        assert!(check("scratch", &[]) && check("state2/scratch", &[]) && check("not/there/yet", &[]));
        assert!(!check("state", &[]) && !check("state/cache", &[]) && !check("state/not/there/yet", &[]));
        assert!(!check("link/cache", &[]), "the way there doesn't matter");
        assert!(check("state/cache/holdfast", &["cache"]), "what is left out is no state");
        assert!(!check("state/cache/holdfast", &["other"]));
    }

    #[test]
    fn one_process_at_a_time_and_what_it_remembers() {
        let base = tempfile::tempdir().expect("a directory");
        let lineage = LineageId::new([5; 16]);
        let open = || LineageScratch::open(base.path(), lineage, "web", 1 << 20);
        let first = open().expect("free");
        assert_eq!(first.recall(), None);
        assert!(matches!(open(), Err(AgentError::Locked { .. })));
        let memory = Memory { watermark: (7, RecordHash::new([1; 32])), holder_key: HolderKey::new([2; 16]) };
        first.remember(memory);
        drop(first);
        let second = open().expect("free again");
        assert_eq!(second.recall(), Some(memory));
        fs::write(second.directory().join("memory.json"), b"{").expect("a file");
        assert_eq!(second.recall(), None);
    }
}
