// SPDX-License-Identifier: Apache-2.0
//! What a file is beside its bytes: owner, permissions, attributes, times. What this process may not set is told, not fatal.

use super::writers::Writers;
use super::{RestoreError, Stats};
use crate::codec::Reader as Codec;
use crate::disk::{Dir, info_of, xattr};
use crate::error::StoreError;
use crate::tree::inode::decode_xattrs;
use crate::tree::{Body, Inode, Mtime, Xattrs};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::io;

type Result<T> = std::result::Result<T, RestoreError>;

/// Set-id bits.
const SET_ID: u16 = 0o6000;

impl Writers<'_> {
    /// Owner, permissions, attributes, times: in the order in which one does not undo another.
    pub(super) fn describe(&self, fd: impl AsFd, path: &[u8], inode: &Inode, stats: &mut Stats) -> Result<()> {
        self.describe_as(fd, path, inode, None, stats)
    }

    /// The same for what has just been made with these permissions, and has no attributes.
    pub(super) fn describe_as(
        &self,
        fd: impl AsFd,
        path: &[u8],
        inode: &Inode,
        made: Option<u16>,
        stats: &mut Stats,
    ) -> Result<()> {
        if self.options.owners
            && (inode.uid, inode.gid) != self.own
            && let Err(error) = rustix::fs::fchown(&fd, Some(Uid::from_raw(inode.uid)), Some(Gid::from_raw(inode.gid)))
        {
            self.not_allowed(path, error, || format!("it should belong to {}:{}", inode.uid, inode.gid), stats)?;
        }
        // what was made beside no default access control list has none
        self.set_xattrs(&fd, path, inode, made.is_some() && self.made_with != 0, stats)?;
        let mode = self.allowed_mode(path, inode, stats);
        if made != Some(mode)
            && let Err(error) = rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode.into()))
        {
            self.not_allowed(path, error, || format!("its mode should be {mode:04o}"), stats)?;
        }
        // the root of a volume may belong to another
        match rustix::fs::futimens(&fd, &timestamps(inode.mtime)) {
            Ok(()) => note_rounded(&fd, path, inode, stats),
            Err(error) => self.not_allowed(path, error, || "its time of change could not be set".to_owned(), stats),
        }
    }

    /// What this process may not set is told, not fatal; everything else is.
    fn not_allowed(&self, path: &[u8], error: Errno, what: impl FnOnce() -> String, stats: &mut Stats) -> Result<()> {
        match error {
            Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL => {
                stats.deviate(path, format_args!("{}: {}", what(), io::Error::from(error)));
                Ok(())
            }
            other => Err(RestoreError::target(path)(other.into())),
        }
    }

    fn allowed_mode(&self, path: &[u8], inode: &Inode, stats: &mut Stats) -> u16 {
        let is_file = matches!(inode.body, Body::File { .. });
        if self.options.special || !is_file || inode.mode & SET_ID == 0 {
            return inode.mode;
        }
        stats.deviate(path, format_args!("its set-id bits ({:04o}) were not restored", inode.mode & SET_ID));
        inode.mode & !SET_ID
    }

    fn set_xattrs(&self, fd: impl AsFd, path: &[u8], inode: &Inode, is_bare: bool, stats: &mut Stats) -> Result<()> {
        let bytes = match &inode.xattrs {
            Xattrs::None if is_bare => return Ok(()),
            Xattrs::None => return self.remove_xattrs(&fd, path, &[], stats),
            Xattrs::Inline(bytes) => bytes.to_vec(),
            Xattrs::Chunk { len, id, place } => self.reader.chunk(place, *len, id)?,
        };
        let mut codec = Codec::new(&bytes);
        let list = decode_xattrs(&mut codec).map_err(|error| StoreError::damaged("extended attributes", error))?;
        if !is_bare {
            let wanted: Vec<_> = list.iter().map(|(name, _)| *name).collect();
            self.remove_xattrs(&fd, path, &wanted, stats)?;
        }
        for (name, value) in list {
            if !xattr::is_state(name) {
                stats.deviate(
                    path,
                    format_args!("the attribute {} was not restored: it is not part of a state", crate::disk::display(name)),
                );
                continue;
            }
            if name == b"security.capability" && !self.options.special {
                stats.deviate(path, "its file capabilities were not restored");
                continue;
            }
            if let Err(error) = xattr::set(&fd, name, value) {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.not_allowed(path, errno, || format!("it should have the attribute {}", crate::disk::display(name)), stats)?;
            }
        }
        Ok(())
    }

    /// An access that was granted after the checkpoint must not stay granted.
    fn remove_xattrs(&self, fd: impl AsFd, path: &[u8], wanted: &[&[u8]], stats: &mut Stats) -> Result<()> {
        let there = xattr::read(&fd).map_err(RestoreError::target(path))?;
        for (name, _) in there.iter().filter(|(name, _)| !wanted.contains(&&name[..])) {
            if let Err(error) = xattr::remove(&fd, name) {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                self.not_allowed(path, errno, || format!("it has the attribute {}", crate::disk::display(name)), stats)?;
            }
        }
        Ok(())
    }

    /// Links, pipes, sockets and devices.
    pub(super) fn make_special(
        &self,
        dir: &Dir,
        name: &crate::tree::Name,
        path: &[u8],
        inode: &Inode,
        stats: &mut Stats,
    ) -> Result<()> {
        use rustix::fs::FileType;
        let node = |kind, device| {
            rustix::fs::mknodat(dir.fd(), name.as_bytes(), kind, Mode::from_raw_mode((inode.mode & !SET_ID).into()), device)
        };
        let made = match &inode.body {
            Body::Symlink(target) => rustix::fs::symlinkat(&target[..], dir.fd(), name.as_bytes()),
            Body::Fifo => node(FileType::Fifo, 0),
            Body::Socket => node(FileType::Socket, 0),
            Body::CharDevice(..) | Body::BlockDevice(..) if !self.options.special => {
                stats.deviate(path, "it is a device, and was not made");
                return Ok(());
            }
            Body::CharDevice(major, minor) => node(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)),
            Body::BlockDevice(major, minor) => node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor)),
            Body::File { .. } | Body::Directory { .. } => return Ok(()),
        };
        if let Err(error) = made {
            return self.not_allowed(path, error, || "it could not be made".to_owned(), stats);
        }
        if self.options.owners && (inode.uid, inode.gid) != self.own {
            let (uid, gid) = (Uid::from_raw(inode.uid), Gid::from_raw(inode.gid));
            if let Err(error) = rustix::fs::chownat(dir.fd(), name.as_bytes(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
                self.not_allowed(path, error, || format!("it should belong to {}:{}", inode.uid, inode.gid), stats)?;
            }
        }
        if !matches!(inode.body, Body::Symlink(_)) {
            // the mode was given when it was made, less what the process's mask takes off
            let mode = Mode::from_raw_mode((inode.mode & !SET_ID).into());
            if let Err(error) = rustix::fs::chmodat(dir.fd(), name.as_bytes(), mode, AtFlags::empty()) {
                self.not_allowed(path, error, || format!("its mode should be {:04o}", inode.mode), stats)?;
            }
        }
        let times = timestamps(inode.mtime);
        rustix::fs::utimensat(dir.fd(), name.as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .map_err(RestoreError::target(path))
    }
}

fn timestamps(mtime: Mtime) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() } }
}

/// File systems that keep seconds only don't say so when a time is set.
fn note_rounded(fd: impl AsFd, path: &[u8], inode: &Inode, stats: &mut Stats) -> Result<()> {
    let found = info_of(fd).map_err(RestoreError::target(path))?.mtime;
    if found != inode.mtime {
        stats.deviate(path, "its time of change was rounded: the file system keeps no finer ones");
    }
    Ok(())
}
