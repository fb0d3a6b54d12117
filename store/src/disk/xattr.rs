// SPDX-License-Identifier: Apache-2.0
//! Extended attributes: those that belong to a file's state.

use crate::tree::inode::XATTRS_MAX;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;

/// Names and values, sorted by name.
pub type List = Vec<(Vec<u8>, Vec<u8>)>;

/// What Holdfast itself writes on state roots; never part of the state.
pub const OWN_PREFIX: &[u8] = b"user.holdfast.";

/// Whether an attribute is state. Labels of security modules (`security.selinux` and others) belong to the machine, not to the file.
#[must_use]
pub fn is_state(name: &[u8]) -> bool {
    let known = [&b"user."[..], b"trusted.", b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability"];
    known.iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with(OWN_PREFIX)
}

/// The attributes of an open file that are state. A file system without any has none.
///
/// # Errors
/// Whatever the system says; [`io::ErrorKind::FileTooLarge`] if they are more than a tree can hold.
pub fn read(fd: impl AsFd) -> io::Result<List> {
    let names = match names(&fd) {
        Err(error) if error.raw_os_error() == Some(Errno::NOTSUP.raw_os_error()) => return Ok(List::new()),
        names => names?,
    };
    let mut list = List::new();
    let mut total = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| is_state(name)) {
        match value(&fd, name) {
            Ok(Some(value)) => {
                total += name.len() + value.len() + 8;
                list.push((name.to_vec(), value));
            }
            Ok(None) => {} // removed meanwhile
            Err(error) => return Err(error),
        }
    }
    if total > XATTRS_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "its extended attributes exceed 1 MiB"));
    }
    list.sort();
    Ok(list)
}

fn names(fd: impl AsFd) -> io::Result<Vec<u8>> {
    // almost all files have none or few: one call is enough
    let mut small = [0_u8; 256];
    match rustix::fs::flistxattr(&fd, &mut small) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error.into()),
    }
    let mut names = vec![0; 64 << 10]; // the most that Linux returns
    let len = rustix::fs::flistxattr(&fd, &mut *names)?;
    names.truncate(len);
    Ok(names)
}

/// One attribute's value; `None` if there is none.
///
/// # Errors
/// Whatever the system says.
pub fn value(fd: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut small = [0_u8; 256];
    match rustix::fs::fgetxattr(&fd, name, &mut small) {
        Ok(len) => return Ok(Some(small[..len].to_vec())),
        Err(Errno::NODATA) => return Ok(None),
        Err(Errno::RANGE) => {}
        Err(error) => return Err(error.into()),
    }
    let mut value = vec![0; 64 << 10]; // the most that Linux stores
    match rustix::fs::fgetxattr(&fd, name, &mut *value) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sets an attribute.
///
/// # Errors
/// Whatever the system says.
pub fn set(fd: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?)
}

/// Removes an attribute; that there was none is no error.
///
/// # Errors
/// Whatever the system says.
pub fn remove(fd: impl AsFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::fremovexattr(fd, name) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip_and_ours_are_left_out() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(read(&file).expect("a file system"), List::new());
        if set(&file, b"user.probe", b"1").is_err() {
            return; // a file system without user attributes
        }
        set(&file, b"user.long", &vec![7; 2000]).expect("an attribute");
        set(&file, b"user.holdfast.marker", b"own").expect("an attribute");
        let expected = vec![(b"user.long".to_vec(), vec![7; 2000]), (b"user.probe".to_vec(), b"1".to_vec())];
        assert_eq!(read(&file).expect("attributes"), expected);
        assert_eq!(value(&file, b"user.holdfast.marker").expect("an attribute"), Some(b"own".to_vec()));
        remove(&file, b"user.long").expect("an attribute");
        remove(&file, b"user.long").expect("nothing to remove");
        assert_eq!(read(&file).expect("attributes").len(), 1);
    }
}
