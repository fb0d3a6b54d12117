// SPDX-License-Identifier: Apache-2.0
//! What the frozen repository holds: one of everything, and what happens to it.

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const WORDS: [&str; 16] = [
    "the", "state", "of", "a", "replica", "is", "kept", "while", "it", "changes", "and", "comes", "back", "before", "anything",
    "starts",
];

/// Text that compresses as text does, and is the same each time.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(len + 32);
    while text.len() < len {
        // Knuth's generator, of which the upper bits are good
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 60) as usize]);
        text.push(if state >> 40 & 7 == 0 { '\n' } else { ' ' });
    }
    text.truncate(len);
    text.into_bytes()
}

/// The two state paths.
pub(super) struct Scene {
    place: tempfile::TempDir,
    step: i64,
}

impl Scene {
    /// Both directories, with one of everything.
    pub(super) fn new() -> Result<Self> {
        let scene = Self { place: tempfile::tempdir()?, step: 0 };
        let (config, data) = (scene.path("config"), scene.path("data"));
        for directory in ["config/empty.d", "data/deep/er/and/deeper", "data/many", "data/small", "data/setgid"] {
            fs::create_dir_all(scene.path(directory))?;
        }
        fs::write(config.join("app.yaml"), text(1, 300))?;
        fs::write(config.join("secret"), text(2, 40))?;
        fs::set_permissions(config.join("secret"), Permissions::from_mode(0o400))?;
        fs::write(data.join("zero"), b"")?;
        fs::write(data.join("inline"), text(3, 64))?;
        fs::write(data.join("deep/er/and/deeper/file"), text(4, 65))?;
        for index in 0..12 {
            fs::write(data.join(format!("small/{index:02}")), text(100 + index, 200 + 150 * usize::try_from(index)?))?;
        }
        for index in 0..2000 {
            let content = if index % 100 == 0 { format!("{index}\n") } else { String::new() };
            fs::write(data.join(format!("many/{index:04}")), content)?;
        }
        scene.large_files(&data)?;
        scene.odd_entries(&data)?;
        scene.settle()?;
        let old = Timespec { tv_sec: -12_345, tv_nsec: 678 };
        set_mtime(&data.join("zero"), old)?;
        Ok(scene)
    }

    fn large_files(&self, data: &Path) -> Result<()> {
        fs::write(data.join("stream.log"), text(5, 250_001))?;
        let pages: Vec<u8> = (0..100).flat_map(|page| [text(200 + page, 150), vec![0; 4096 - 150]].concat()).collect();
        fs::write(data.join("pages.db"), pages)?;
        let sparse = File::create(data.join("sparse"))?;
        sparse.set_len(8 << 20)?;
        sparse.write_all_at(&text(6, 10_000), 5 << 20)?;
        File::create(data.join("one-hole"))?.set_len(1 << 20)?;
        Ok(())
    }

    fn odd_entries(&self, data: &Path) -> Result<()> {
        symlink("../nowhere/at all", data.join("link"))?;
        fs::write(data.join("kilo"), text(7, 1000))?;
        for name in ["deep/kilo-again", "deep/er/kilo-too"] {
            fs::hard_link(data.join("kilo"), data.join(name))?;
        }
        symlink("kilo", data.join("soft"))?;
        rustix::fs::linkat(CWD, data.join("soft"), CWD, data.join("softer"), AtFlags::empty())?;
        for (name, kind) in [("pipe", FileType::Fifo), ("socket", FileType::Socket)] {
            rustix::fs::mknodat(CWD, data.join(name), kind, Mode::from_raw_mode(0o640), 0)?;
        }
        for name in
            [&b"\xff\xfe not utf-8"[..], b"new\nline", &[b'n'; 255], "e\u{301}".as_bytes(), "\u{e9}".as_bytes(), b"-rf %41"]
        {
            fs::write(data.join(OsStr::from_bytes(name)), b"named")?;
        }
        fs::set_permissions(data.join("inline"), Permissions::from_mode(0o4711))?;
        fs::set_permissions(data.join("setgid"), Permissions::from_mode(0o2770))?;
        for (name, uid, gid) in [("small", 70_000, 100), ("softer", 5, 6), ("kilo", 1234, 5678)] {
            std::os::unix::fs::lchown(data.join(name), Some(uid), Some(gid))?;
        }
        set_xattr(&data.join("kilo"), "user.small", b"value")?;
        set_xattr(&data.join("zero"), "user.empty", b"")?;
        set_xattr(&data.join("setgid"), "user.large", &text(8, 900))
    }

    /// A path below the scene.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.place.path().join(path)
    }

    /// Something happens: a different thing each time.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.step += 1;
        let data = self.path("data");
        match self.step {
            1 => {
                let mut log = fs::read(data.join("stream.log"))?;
                log.extend(text(9, 5000));
                fs::write(data.join("stream.log"), log)?;
                fs::write(data.join("new"), text(10, 500))?;
            }
            2 => {
                File::options().write(true).open(data.join("pages.db"))?.write_all_at(&text(11, 4096), 7 * 4096)?;
                fs::rename(data.join("small/03"), data.join("deep/moved"))?;
            }
            3 => {
                fs::remove_file(data.join("small/04"))?;
                fs::write(data.join("many/1000"), b"changed\n")?;
                fs::set_permissions(data.join("many/1001"), Permissions::from_mode(0o600))?;
            }
            4 => {
                fs::rename(data.join("deep"), data.join("deeper"))?;
                fs::write(data.join("kilo"), text(12, 1100))?;
            }
            5 => {
                fs::remove_file(data.join("link"))?;
                symlink("elsewhere", data.join("link"))?;
                set_xattr(&data.join("kilo"), "user.small", b"another value")?;
            }
            6 => File::options().write(true).open(data.join("stream.log"))?.set_len(200_000)?,
            _ => {
                File::options().write(true).open(data.join("sparse"))?.write_all_at(&text(13, 4096), 1 << 20)?;
                fs::remove_dir_all(self.path("config/empty.d"))?;
            }
        }
        self.settle()
    }

    /// Gives what was just touched a time that doesn't depend on when this runs.
    pub(super) fn settle(&self) -> Result<()> {
        settle(self.place.path(), Timespec { tv_sec: 1_700_000_000 + 60 * self.step, tv_nsec: 123_456_789 })
    }
}

/// Later than any time that a scene gives.
const FRESH: i64 = 1_750_000_000;

fn settle(path: &Path, time: Timespec) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), time)?;
        }
    }
    if meta.mtime() > FRESH { set_mtime(path, time) } else { Ok(()) }
}

fn set_mtime(path: &Path, time: Timespec) -> Result<()> {
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    Ok(rustix::fs::setxattr(path, name, value, XattrFlags::empty())?)
}
