// SPDX-License-Identifier: Apache-2.0
//! The file system, one name at a time.
//!
//! Everything goes from an open directory to one of its own names, so that nothing planted on the way (a symbolic link, a mount, a renamed
//! parent) can lead out of the tree that was opened. Paths are only for people.

use crate::tree::{Mtime, Name, Stamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub mod sorter;
pub mod xattr;

/// What a name stands for, without following it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What the file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Permissions with set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Modified.
    pub mtime: Mtime,
    /// The inode's last change.
    pub ctime: Mtime,
    /// The inode's number.
    pub inode: u64,
    /// The device it lies on.
    pub device: u64,
    /// Names it has.
    pub links: u64,
    /// Major and minor number, of devices.
    pub numbers: (u32, u32),
    /// Bytes allocated: fewer than its length if it has holes.
    pub allocated: u64,
}

impl FileInfo {
    fn of(stat: &Stat) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::CharacterDevice => FileKind::CharDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::Unknown => return Err(io::Error::new(io::ErrorKind::Unsupported, "a file of unknown type")),
        };
        let time = |seconds: i64, nanos: u64| Mtime { seconds, nanos: u32::try_from(nanos).unwrap_or(0) };
        #[allow(clippy::useless_conversion, reason = "on 64-bit ARM it has 32 bits")]
        let links = u64::from(stat.st_nlink);
        Ok(Self {
            kind,
            mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or(0),
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
            links,
            numbers: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        })
    }

    /// What tells at the next look whether it may have changed.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp { ctime: self.ctime, inode: self.inode }
    }

    /// Whether nothing that a reader could notice differs between two looks.
    #[must_use]
    pub fn unchanged_since(&self, before: &Self) -> bool {
        let seen = |info: &Self| (info.size, info.mtime, info.ctime, info.inode, info.device);
        seen(self) == seen(before)
    }
}

/// Names at the top of a state path that Holdfast makes itself where a file system leaves it no other way, or that belong to the file system.
/// They are never part of a state.
pub const OWN_NAMES: [&[u8]; 3] = [b".holdfast-marker", b".holdfast-restore", b"lost+found"];

/// Whether a path below a state path is one of [`OWN_NAMES`].
#[must_use]
pub fn is_own(path: &[u8]) -> bool {
    OWN_NAMES.contains(&path)
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens a directory by its path: the root of a tree, named by whoever runs this. Its last component may be a symbolic link.
    ///
    /// # Errors
    /// If it can't be opened, or is no directory.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens one of its directories. Symbolic links and mount points are refused.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` for what is no directory, `EXDEV` for a mount point, or whatever the system says.
    pub fn open_dir(&self, name: &Name) -> io::Result<Self> {
        self.open(name, DIRECTORY).map(|fd| Self { fd })
    }

    /// Opens one of its files to be read. Never blocks on a pipe, never follows a link, never opens a device for its effect.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir).
    pub fn open_file(&self, name: &Name) -> io::Result<OwnedFd> {
        self.open(name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC)
    }

    /// Opens a name in any way, beneath this directory and on its file system.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(&self, name: &Name, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_with(name, flags, Mode::empty())
    }

    /// As [`open`](Self::open), with the mode of a file that is created.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open_with(&self, name: &Name, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let result = loop {
            match rustix::fs::openat2(&self.fd, name.as_bytes(), flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {} // a rename raced with the look-up
                result => break result,
            }
        };
        match result {
            // old kernels and old seccomp profiles; a name without a slash and O_NOFOLLOW is contained all the same
            Err(Errno::NOSYS | Errno::PERM) => self.open_plain(name, flags, mode),
            result => Ok(result?),
        }
    }

    fn open_plain(&self, name: &Name, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags | OFlags::NOFOLLOW, mode)?;
        if rustix::fs::fstat(&fd)?.st_dev == rustix::fs::fstat(&self.fd)?.st_dev { Ok(fd) } else { Err(Errno::XDEV.into()) }
    }

    /// What one of its names stands for.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn info(&self, name: &Name) -> io::Result<FileInfo> {
        FileInfo::of(&rustix::fs::statat(&self.fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// What it is itself.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn own_info(&self) -> io::Result<FileInfo> {
        info_of(&self.fd)
    }

    /// The target of one of its symbolic links.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn read_link(&self, name: &Name) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::new())?.into_bytes())
    }

    /// Calls `each` with its names, in the system's order.
    ///
    /// # Errors
    /// Whatever the system or `each` says.
    pub fn names(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        // an own descriptor: the position in a directory belongs to the open file
        let fd = rustix::fs::openat(&self.fd, c".", DIRECTORY, Mode::empty())?;
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let name = entry?;
            let name = name.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(name)?;
            }
        }
        Ok(())
    }

    /// The descriptor.
    #[must_use]
    pub fn fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A second handle.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }
}

/// What an open file is.
///
/// # Errors
/// Whatever the system says.
pub fn info_of(fd: impl AsFd) -> io::Result<FileInfo> {
    FileInfo::of(&rustix::fs::fstat(fd)?)
}

/// A path for people: bytes that are no text are shown as such, control characters escaped.
#[must_use]
pub fn display(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).expect("a name")
    }

    #[test]
    fn nothing_leads_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("inside")).expect("a directory");
        std::fs::write(directory.path().join("secret"), b"x").expect("a file");
        symlink("../secret", root.join("to-file")).expect("a link");
        symlink("..", root.join("to-dir")).expect("a link");
        symlink("/proc/self/root", root.join("magic")).expect("a link");
        let dir = Dir::open_root(&root).expect("a directory");
        assert!(dir.open_file(&name("to-file")).is_err());
        assert!(dir.open_dir(&name("to-dir")).is_err());
        assert!(dir.open_dir(&name("magic")).is_err());
        assert!(dir.open_dir(&name("inside")).is_ok());
        assert!(dir.open_plain(&name("to-file"), OFlags::RDONLY, Mode::empty()).is_err());
        assert_eq!(dir.info(&name("to-file")).expect("a link").kind, FileKind::Symlink);
        assert_eq!(dir.read_link(&name("to-dir")).expect("a link"), b"..");
        let proc = Dir::open_root(Path::new("/")).expect("a directory");
        assert_eq!(proc.open_dir(&name("proc")).expect_err("a mount").raw_os_error(), Some(Errno::XDEV.raw_os_error()));
    }

    #[test]
    fn a_pipe_without_writer_does_not_block() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = Dir::open_root(directory.path()).expect("a directory");
        rustix::fs::mknodat(dir.fd(), "pipe", FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        assert_eq!(dir.info(&name("pipe")).expect("a pipe").kind, FileKind::Fifo);
        assert!(dir.open_file(&name("pipe")).is_ok());
    }

    #[test]
    fn paths_for_people_are_one_line() {
        assert_eq!(display(b"a\nb\x1b[31m\xff"), "a\\nb\\u{1b}[31m\u{fffd}");
    }
}
