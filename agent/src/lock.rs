// SPDX-License-Identifier: Apache-2.0
//! Whether somebody protects a directory just now: it names the lock that its agent holds for as long as it, or the program it started, lives.

use holdfast_store::disk::{Dir, xattr};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const ATTRIBUTE: &[u8] = b"user.holdfast.lock";

/// Has a state root name its agent's lock. Where there are no extended attributes, nobody can be told.
pub(crate) fn announce(dir: &Dir, lock: &Path) {
    if let Err(error) = xattr::set(dir.fd(), ATTRIBUTE, lock.as_os_str().as_bytes()) {
        tracing::debug!(lock = %lock.display(), %error, "could not write on the directory who protects it");
    }
}

/// The lock of whoever protects a directory now; `None` if nobody does, or it can't be told from here.
#[must_use]
pub fn holder(dir: &Dir) -> Option<PathBuf> {
    let path = PathBuf::from(OsString::from_vec(xattr::value(dir.fd(), ATTRIBUTE).ok()??));
    // whoever wrote the attribute may have named anything: what is no file is not waited for
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
    let is_file = rustix::fs::fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let is_held = is_file && rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
    is_held.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::LineageScratch;
    use holdfast_core::id::LineageId;

    #[test]
    fn a_directory_names_who_protects_it_as_long_as_that_one_lives() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = Dir::open_root(base.path()).expect("a directory");
        assert_eq!(holder(&dir), None, "nobody has ever");
        let scratch = LineageScratch::open(base.path(), LineageId::new([5; 16]), "web", 1 << 20).expect("free");
        announce(&dir, scratch.lock());
        assert_eq!(holder(&dir).as_deref(), Some(scratch.lock()));
        let left_running = scratch.lease().expect("a handle");
        drop(scratch);
        assert_eq!(holder(&dir), None, "who ends in good order leaves nothing locked");
        drop(left_running);
    }

    #[test]
    fn what_is_no_lock_is_not_waited_for() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = Dir::open_root(base.path()).expect("a directory");
        let pipe = base.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        for named in [pipe, base.path().join("gone"), PathBuf::from("/dev/null")] {
            announce(&dir, &named);
            assert_eq!(holder(&dir), None, "{}", named.display());
        }
    }
}
