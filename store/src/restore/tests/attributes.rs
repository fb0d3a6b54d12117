// SPDX-License-Identifier: Apache-2.0
//! What is there too much, and what a file system can't keep.

use crate::capture::Dirt;
use crate::disk::xattr;
use crate::testkit::mounted::Mounted;
use crate::testkit::{Lab, describe, exact};
use std::fs::{self, File};
use std::path::Path;

/// rwx for the owner and for user 1234, nothing for others: version 2, then tag, permissions and id of each entry (`linux/posix_acl_xattr.h`).
fn access_list() -> Vec<u8> {
    let entries = [(1_u16, 7_u16, u32::MAX), (2, 7, 1234), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn give(path: &Path, name: &str, value: &[u8]) {
    xattr::set(File::open(path).expect("readable"), name.as_bytes(), value).expect("an attribute");
}

#[test]
fn attributes_that_the_checkpoint_lacks_do_not_stay() {
    let (lab, source, place) = (Lab::new(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    fs::create_dir(source.path().join("dir")).expect("a directory");
    for name in ["kept", "new", "dir/inner"] {
        fs::write(source.path().join(name), name).expect("a file");
    }
    fs::write(source.path().join("large"), vec![7; 3 << 20]).expect("a file");
    give(&source.path().join("kept"), "user.wanted", b"1");
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    // some of it is there, with more than it should have
    fs::create_dir(place.path().join("dir")).expect("a directory");
    fs::write(place.path().join("kept"), "kept").expect("a file");
    fs::write(place.path().join("large"), vec![7; 3 << 20]).expect("a file");
    for name in ["", "kept", "large", "dir"] {
        give(&place.path().join(name), "user.extra", b"1");
        give(&place.path().join(name), "system.posix_acl_access", &access_list());
    }
    // what is made in it inherits
    give(place.path(), "system.posix_acl_default", &access_list());
    let stats = lab.restore(done.sequence, place.path(), &exact()).expect("a restore");
    assert_eq!(describe(place.path()), describe(source.path()));
    assert_eq!((stats.deviation_count, stats.kept_files), (0, 2));
}

#[test]
fn times_that_a_file_system_rounds_are_told() {
    // inodes without room for fractions of a second
    let mounted = match Mounted::new("ext4", &["mkfs.ext4", "-q", "-I", "128"]) {
        Ok(mounted) => mounted,
        Err(why) => return eprintln!("SKIPPED: rounded times: {why}"),
    };
    let (lab, source) = (Lab::new(), tempfile::tempdir().expect("a directory"));
    fs::write(source.path().join("file"), "content").expect("a file");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_500_000_000_500);
    File::options().write(true).open(source.path().join("file")).and_then(|file| file.set_modified(time)).expect("a time");
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    let stats = lab.restore(done.sequence, &mounted.path, &exact()).expect("a restore");
    let told = stats.deviations.iter().find(|one| one.path == b"file").map(|one| one.what.clone());
    assert!(told.is_some_and(|what| what.contains("rounded")), "{:?}", stats.deviations);
}
