// SPDX-License-Identifier: Apache-2.0
//! The agent's own disk space: copies of packs of nodes, as they are in the store, sealed. Losing it costs time, never data.

use crate::error::{Result, StoreError};
use crate::tree::Object;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A directory of copies, bounded in bytes.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    limit_bytes: u64,
    /// Files by name with their sizes; names sort by sequence, so the first is the oldest.
    kept: Mutex<std::collections::BTreeMap<String, u64>>,
}

const PACKS: &str = "packs";

impl Scratch {
    /// Opens a directory, creating it if needed. What is left of interrupted writes is removed.
    ///
    /// # Errors
    /// If the directory can't be created or listed.
    pub fn open(directory: &Path, limit_bytes: u64) -> Result<Self> {
        let scratch = Self { directory: directory.to_owned(), limit_bytes, kept: Mutex::default() };
        scratch.scan().map_err(|error| scratch.failed(error))?;
        Ok(scratch)
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Scratch { path: self.directory.display().to_string(), source }
    }

    fn scan(&self) -> io::Result<()> {
        fs::create_dir_all(self.directory.join(PACKS))?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(self.directory.join(PACKS))? {
            let entry = entry?;
            match entry.file_name().into_string() {
                Ok(name) if !name.ends_with(".tmp") => drop(kept.insert(name, entry.metadata()?.len())),
                _ => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn name(object: Object) -> Option<String> {
        match object {
            Object::Pack { lineage, sequence, nonce, .. } => Some(format!("{sequence:016x}-{nonce}-{lineage}")),
            Object::Record { .. } => None,
        }
    }

    /// Whether there is a copy of this pack.
    #[must_use]
    pub fn has(&self, object: Object) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Self::name(object).is_some_and(|name| kept.contains_key(&name))
    }

    /// Keeps a copy of a pack, dropping the oldest ones beyond the limit. A failure is only worth a warning: the store has it.
    pub fn keep(&self, object: Object, bytes: &[u8]) {
        let Some(name) = Self::name(object) else { return };
        if bytes.len() as u64 > self.limit_bytes {
            return;
        }
        if let Err(error) = self.make_room(bytes.len() as u64).and_then(|()| self.write(&name, bytes)) {
            tracing::warn!(directory = %self.directory.display(), %error, "could not keep a copy in scratch space; it will be read from the store");
        }
    }

    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.values().sum::<u64>() + bytes > self.limit_bytes {
            let Some((oldest, _)) = kept.pop_first() else { break };
            fs::remove_file(self.directory.join(PACKS).join(oldest))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.directory.join(PACKS).join(name);
        let temporary = path.with_extension("tmp");
        // not synced: whatever a crash leaves is checked when it is read, and fetched again if it is damaged
        let result =
            File::create(&temporary).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = result {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes.len() as u64);
        Ok(())
    }

    /// A range of a pack, if there is a copy that has it.
    #[must_use]
    pub fn read(&self, object: Object, offset: u64, len: usize) -> Option<Vec<u8>> {
        let name = Self::name(object)?;
        if !self.has(object) {
            return None;
        }
        let mut bytes = vec![0; len];
        let mut file = File::open(self.directory.join(PACKS).join(name)).ok()?;
        file.seek(SeekFrom::Start(offset)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Forgets a copy that turned out to be damaged.
    pub fn discard(&self, object: Object) {
        let Some(name) = Self::name(object) else { return };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        let _ = fs::remove_file(self.directory.join(PACKS).join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::{LineageId, Nonce};

    fn object(sequence: u64) -> Object {
        Object::Pack { lineage: LineageId::new([1; 16]), sequence, epoch: 1, nonce: Nonce::new([2; 16]), large: false }
    }

    #[test]
    fn copies_survive_a_restart_and_stay_below_the_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let scratch = Scratch::open(directory.path(), 2500).expect("a directory");
        for sequence in 1..=3 {
            scratch.keep(object(sequence), &[u8::try_from(sequence).expect("small"); 1000]);
        }
        assert_eq!(scratch.bytes(), 2000);
        assert_eq!(scratch.read(object(1), 0, 10), None, "the oldest went");
        assert_eq!(scratch.read(object(3), 990, 10), Some(vec![3; 10]));
        assert_eq!(scratch.read(object(3), 995, 10), None, "beyond the end");
        fs::write(directory.path().join("packs/x.tmp"), b"half").expect("a file");
        let again = Scratch::open(directory.path(), 2500).expect("a directory");
        assert_eq!((again.bytes(), again.has(object(2)), again.has(object(1))), (2000, true, false));
        assert!(!directory.path().join("packs/x.tmp").exists());
        again.discard(object(2));
        assert!(!again.has(object(2)));
    }
}
