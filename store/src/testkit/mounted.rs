// SPDX-License-Identifier: Apache-2.0
//! File systems of one's own, each in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What can share blocks, and how it is made.
const KINDS: [(&str, &[&str]); 2] = [("xfs", &["mkfs.xfs", "-q", "-m", "reflink=1"]), ("btrfs", &["mkfs.btrfs", "-q"])];
const IMAGE_BYTES: u64 = 640 << 20;

/// A file system that is mounted until this is dropped.
pub(crate) struct Mounted {
    pub(crate) kind: &'static str,
    /// An empty directory in it.
    pub(crate) path: PathBuf,
    point: PathBuf,
    _image: TempDir,
}

/// Does it on each kind of file system that shares blocks, or says why not.
pub(crate) fn on_each(what: &str, mut work: impl FnMut(&Mounted)) {
    for (kind, make) in KINDS {
        match Mounted::new(kind, make) {
            Ok(mounted) => work(&mounted),
            Err(why) => eprintln!("SKIPPED: {what} on {kind}: {why}"),
        }
    }
}

fn run(words: &[&str], more: &[&Path]) -> Result<(), String> {
    let output =
        Command::new(words[0]).args(&words[1..]).args(more).output().map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", words[0], String::from_utf8_lossy(&output.stderr).trim()))
}

impl Mounted {
    pub(crate) fn new(kind: &'static str, make: &[&str]) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount it".to_owned());
        }
        let image = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (file, point) = (image.path().join("image"), image.path().join("mounted"));
        let made = File::create(&file).and_then(|file| file.set_len(IMAGE_BYTES)).and_then(|()| fs::create_dir(&point));
        made.map_err(|error| error.to_string())?;
        run(make, &[&file])?;
        run(&["mount", "-o", "loop"], &[&file, &point])?;
        let path = point.join("state");
        let mounted = Self { kind, path, point, _image: image };
        fs::create_dir(&mounted.path).map_err(|error| error.to_string())?;
        Ok(mounted)
    }

    /// Leaves hardly any space; returns what takes it.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.point.join("ballast");
        let file = File::create(&path).expect("a file");
        let room = || rustix::fs::statvfs(&self.point).map(|info| info.f_bavail * info.f_frsize).expect("a file system");
        let (mut len, mut more) = (0, IMAGE_BYTES / 2);
        while room() > 24 << 20 && more >= 1 << 20 {
            let part = more.min(room() - (16 << 20));
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), len, part) {
                Ok(()) => len += part,
                Err(_) => more /= 2, // never quite all that is said to be free can be had
            }
        }
        assert!(room() < 28 << 20, "{} bytes are still free on {}", room(), self.kind);
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // lazily: a test that fails may still have it open
        let _ = run(&["umount", "-l"], &[&self.point]);
    }
}
