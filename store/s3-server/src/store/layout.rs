// SPDX-License-Identifier: Apache-2.0
//! Where things lie in the directory.
//!
//! ```text
//! lock                                held while a server uses the directory
//! temp/<number>                       uploads under way; emptied by the start
//! buckets/<bucket>/<SHA-256 of key>   objects: any key of any length has a name, and no key is the parent of another
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use s3s::crypto::{Checksum, Sha256};

use crate::error::Error;

/// The directory of a server, locked.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    lock: File,
    next_temp: AtomicU64,
}

impl Layout {
    /// Creates what is missing, locks the directory and removes uploads that a crash left.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        make_directory(root)?;
        let lock = lock(root)?;
        let layout = Self { root: root.to_owned(), lock, next_temp: AtomicU64::new(0) };
        make_directory(&layout.temp())?;
        make_directory(&layout.buckets())?;
        sync_directory(root).map_err(|source| Error::Directory { path: root.to_owned(), source })?;
        for entry in list(&layout.temp())? {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| Error::Directory { path, source })?;
        }
        Ok(layout)
    }

    fn temp(&self) -> PathBuf {
        self.root.join("temp")
    }

    pub(crate) fn buckets(&self) -> PathBuf {
        self.root.join("buckets")
    }

    pub(crate) fn bucket(&self, bucket: &str) -> PathBuf {
        self.buckets().join(bucket)
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> PathBuf {
        self.bucket(bucket).join(file_name(key))
    }

    /// A name for an upload, not used before by this server.
    pub(crate) fn next_temp(&self) -> TempPath {
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        TempPath { path: self.temp().join(number.to_string()), kept: false }
    }

    /// Lets another server have the directory.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of {:?} stays until the process ends", self.root);
        }
    }
}

/// The name of the file of the object with this key.
pub(crate) fn file_name(key: &str) -> String {
    hex::encode(Sha256::checksum(key.as_bytes()))
}

/// The file of an upload; removed unless it became an object.
#[derive(Debug)]
pub(crate) struct TempPath {
    path: PathBuf,
    kept: bool,
}

impl TempPath {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file what `target` names. Whatever was there is replaced in the same instant.
    pub(crate) fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        match fs::remove_file(&self.path) {
            // it was never created
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "{:?} stays until the next start", self.path),
            Ok(()) => {}
        }
    }
}

/// Makes renames and removals in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The entries of a directory, in no order.
pub(crate) fn list(path: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let entries = fs::read_dir(path).and_then(Iterator::collect);
    entries.map_err(|source| Error::Directory { path: path.to_owned(), source })
}

fn make_directory(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Directory { path: path.to_owned(), source })
}

fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let failed = |source| Error::Directory { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { directory: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_server() {
        let directory = tempfile::tempdir().unwrap();
        let first = Layout::open(directory.path()).unwrap();
        assert!(matches!(Layout::open(directory.path()), Err(Error::InUse { .. })));
        first.unlock();
        Layout::open(directory.path()).unwrap();
    }

    #[test]
    fn an_upload_is_removed_unless_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        let (dropped, kept) = (layout.next_temp(), layout.next_temp());
        fs::write(dropped.path(), "1").unwrap();
        fs::write(kept.path(), "2").unwrap();
        drop(dropped);
        kept.rename(&directory.path().join("object")).unwrap();
        assert_eq!(list(&layout.temp()).unwrap().len(), 0);
        assert_eq!(fs::read(directory.path().join("object")).unwrap(), b"2");
    }

    #[test]
    fn the_start_removes_what_a_crash_left() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::open(directory.path()).unwrap();
        fs::write(layout.temp().join("17"), "half").unwrap();
        drop(layout);
        let layout = Layout::open(directory.path()).unwrap();
        assert_eq!(list(&layout.temp()).unwrap().len(), 0);
    }
}
