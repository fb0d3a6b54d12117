// SPDX-License-Identifier: Apache-2.0
//! What an agent keeps on its own disk between runs: a lock, the newest record it has seen, and copies of nodes. Losing it costs time.

use crate::AgentError;
use holdfast_core::id::{HolderKey, LineageId, RecordHash};
use holdfast_store::scratch::Scratch;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The scratch space of one lineage. The lock is held as long as this lives.
#[derive(Debug)]
pub struct LineageScratch {
    directory: PathBuf,
    _lock: File,
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
        Ok(Self { directory, _lock: lock, packs })
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

#[cfg(test)]
mod tests {
    use super::*;

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
