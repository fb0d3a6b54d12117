// SPDX-License-Identifier: Apache-2.0
//! Volumes: which of them can clone, and how much room they have.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// File systems that share blocks between files and say with one number where a block lies. Others that share (bcachefs, ZFS, NFS) don't.
const KNOWN: [u64; 2] = [XFS, BTRFS];
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
/// A clone makes each overwrite take new space. Below this there are none: a twentieth of the volume, and no more than 1 GiB.
const FLOOR_PART: u64 = 20;
const FLOOR_MAX: u64 = 1 << 30;

/// Whether a file lies on a file system that can clone.
pub(super) fn is_known(fd: impl AsFd) -> bool {
    kind(fd).is_some_and(|kind| KNOWN.contains(&kind))
}

/// Whether what nobody writes stays where it is. A balance of btrfs moves it, and what lay there may then hold something else.
pub(super) fn keeps_places(fd: impl AsFd) -> bool {
    kind(fd) == Some(XFS)
}

fn kind(fd: impl AsFd) -> Option<u64> {
    rustix::fs::fstatfs(fd).ok().and_then(|info| u64::try_from(info.f_type).ok())
}

/// Whether so little space is free (for this user, below this directory) that nothing may be held on to.
pub(super) fn is_short(fd: impl AsFd) -> bool {
    rustix::fs::fstatvfs(fd).is_ok_and(|info| {
        let (all, free) = (info.f_blocks.saturating_mul(info.f_frsize), info.f_bavail.saturating_mul(info.f_frsize));
        free < floor(all)
    })
}

const fn floor(all: u64) -> u64 {
    let part = all / FLOOR_PART;
    if part < FLOOR_MAX { part } else { FLOOR_MAX }
}

/// Whether an error means that the whole volume refuses, and not this file or this moment.
pub(super) const fn is_refusal(error: Errno) -> bool {
    matches!(
        error,
        Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::XDEV
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::ROFS
            | Errno::ISDIR
            | Errno::NOENT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_a_twentieth_and_a_gibibyte_at_most() {
        assert_eq!((floor(2000), floor(10 << 30), floor(100 << 30)), (100, 512 << 20, 1 << 30));
    }

    #[test]
    fn a_refusal_lasts_and_a_lack_of_space_does_not() {
        assert!(
            is_refusal(Errno::OPNOTSUPP) && is_refusal(Errno::PERM) && !is_refusal(Errno::NOSPC) && !is_refusal(Errno::INVAL)
        );
        assert!(!is_known(std::fs::File::open("/proc/version").expect("a file")));
    }
}
