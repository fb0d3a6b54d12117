// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::capture::Dirt;
use crate::capture::tests::edits::Edits;
use crate::capture::tests::{assert_restores, dirt};
use crate::key::Secret;
use crate::testkit::{Dice, Lab, rounds};
use crate::tree::Content;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn version(size: u64) -> Version {
    let identity = Identity::new(Secret::new([1; 32]));
    Version::of(&identity, size, &Content::None).expect("a version")
}

/// A lab with scratch space, and the directories of it, of a state and of what is restored.
fn lab() -> (Lab, TempDir, TempDir, TempDir) {
    let directory = || tempfile::tempdir().expect("a directory");
    let (scratch, source, place) = (directory(), directory(), directory());
    (Lab { lists: Some(scratch.path().to_owned()), ..Lab::new() }, scratch, source, place)
}

#[test]
fn what_was_noted_is_known_again_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("1-2");
    let entries: Vec<_> = (0..10_000_u64).map(|i| (i * 9000, 9000, [u8::try_from(i % 251).expect("a byte"); 16])).collect();
    let write = |size| {
        let mut writer = Writer::create(directory.path(), path.clone()).expect("a file");
        entries.iter().for_each(|(start, len, print)| writer.add(*start, *len, Some(*print)));
        writer.keep(&version(size));
    };
    write(7);
    let mut noted = Noted::open(&path, &version(7)).expect("the same version");
    let all: Vec<_> = noted.ahead(u64::MAX).map(|entry| (entry.start, entry.len as usize, entry.print)).collect();
    assert_eq!(all, entries);
    let mut noted = Noted::open(&path, &version(7)).expect("the same version");
    assert_eq!(noted.ahead(9001).count(), 2);
    noted.pass(45_001_234);
    assert_eq!(noted.ahead(45_010_000).next().map(|entry| entry.start), Some(45_000_000), "the one that it lies in");
    assert!(Noted::open(&path, &version(8)).is_err(), "another version");
    let whole = fs::read(&path).expect("a file");
    for (at, len) in
        [(0, whole.len()), (5000, whole.len()), (whole.len() - 1, whole.len()), (0, whole.len() - 28), (0, 40), (0, 0)]
    {
        let mut broken = whole[..len].to_vec();
        if len == whole.len() {
            broken[at] ^= 1;
        }
        fs::write(&path, broken).expect("a file");
        assert!(Noted::open(&path, &version(7)).is_err(), "byte {at} of {len}");
    }
    let mut failed = Writer::create(directory.path(), path.clone()).expect("a file");
    failed.add(0, 1, None);
    failed.keep(&version(9));
    assert!(Noted::open(&path, &version(9)).is_err());
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing unfinished stays");
}

#[test]
fn scratch_space_is_bounded_and_cleaned() {
    let scratch = tempfile::tempdir().expect("a directory");
    let identity = Identity::new(Secret::new([1; 32]));
    let prints = Prints::open(scratch.path(), &identity).expect("room");
    let directory = scratch.path().join(DIRECTORY);
    for (name, age) in [("a", 30), ("b", 20), ("c", 10)] {
        let file = fs::File::create(directory.join(name)).expect("a file");
        file.set_len(ALL_BYTES_MAX / 2).expect("a length");
        let now = file.metadata().and_then(|meta| meta.modified()).expect("a time");
        file.set_modified(now - std::time::Duration::from_secs(age)).expect("older");
    }
    fs::write(directory.join(".new-abc"), b"half").expect("a file");
    drop(Prints::open(scratch.path(), &identity).expect("room"));
    let mut left: Vec<_> =
        fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["b", "c"]);
    let other = Prints::open(scratch.path(), &Identity::new(Secret::new([2; 32]))).expect("room");
    let print = |prints: &Prints, text| prints.print(text).expect("a fingerprint");
    assert_eq!(print(&prints, b"text"), print(&prints, b"text"));
    assert_ne!(print(&prints, b"text"), print(&prints, b"next"));
    assert_ne!(print(&prints, b"text"), print(&other, b"text"), "another key");
}

/// Thousands of edits: what fingerprints call unchanged is, and hardly anything else is hashed.
#[test]
fn whatever_is_done_to_a_file_between_two_captures_is_captured() {
    for with_prints in [true, false] {
        let (lab, _scratch, source, place) = lab();
        let lab = if with_prints { lab } else { Lab { lists: None, ..lab } };
        edit_and_capture(&lab, &source, &place, with_prints);
    }
}

fn edit_and_capture(lab: &Lab, source: &TempDir, place: &TempDir, with_prints: bool) {
    let mut session = lab.open(1);
    let mut dice = Dice::new(78);
    let names = ["pages", "stream"];
    let mut files = [Edits::new(source.path(), names[0], 4096, &mut dice), Edits::new(source.path(), names[1], 1, &mut dice)];
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    let (mut read, mut hashed) = (0, 0);
    let rounds = rounds(8);
    for round in 0..rounds {
        for file in &mut files {
            for _ in 0..=dice.roll(30) {
                file.edit(&mut dice);
            }
        }
        if round % 4 == 3 {
            session = lab.open(u8::try_from(round % 200).expect("small")); // as another process: fingerprints outlive it
        }
        let (outcome, done) = lab.capture(&mut session, source.path(), dirt(&names), false);
        (read, hashed) = (read + outcome.read_bytes, hashed + outcome.hashed_bytes);
        let what = format!("round {round}, fingerprints: {with_prints}");
        assert_restores(lab, done.sequence, source.path(), place.path(), &what);
    }
    assert!(files.iter().map(|file| file.done).sum::<u64>() > rounds * 23);
    assert!(!with_prints || hashed < read / 3, "{hashed} of {read} bytes were hashed");
}

/// While a file is written and read at the same time, what is noted is what was captured, not what the file became.
#[test]
fn nothing_that_is_written_while_a_file_is_read_is_missed() {
    let (lab, _scratch, source, place) = lab();
    let mut session = lab.open(1);
    let mut dice = Dice::new(6);
    for (name, unit) in [("pages", 4096), ("stream", 1)] {
        Edits::new(source.path(), name, unit, &mut dice);
    }
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    for round in 0..rounds(4) {
        let ended = AtomicBool::new(false);
        let writer = || {
            let open = |name| fs::File::options().write(true).open(source.path().join(name)).expect("a file");
            let files = [open("pages"), open("stream")];
            let mut dice = Dice::new(1000 + round);
            while !ended.load(Ordering::SeqCst) {
                // few different texts: a block often becomes again what it was
                let text = [u8::try_from(dice.roll(2)).expect("a byte"); 4096];
                files[dice.roll(2)].write_all_at(&text, dice.roll(300) as u64 * 4096).expect("written");
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(writer);
            for _ in 0..4 {
                lab.capture(&mut session, source.path(), dirt(&["pages", "stream"]), false);
            }
            ended.store(true, Ordering::SeqCst);
        });
        let (_, done) = lab.capture(&mut session, source.path(), dirt(&["pages", "stream"]), false);
        assert_restores(&lab, done.sequence, source.path(), place.path(), &format!("round {round}"));
    }
}

/// Fingerprints of a capture that came to nothing belong to nothing.
#[test]
fn a_capture_that_was_not_committed_makes_no_difference() {
    let (lab, _scratch, source, place) = lab();
    let mut dice = Dice::new(9);
    let mut file = Edits::new(source.path(), "pages", 4096, &mut dice);
    let mut session = lab.open(1);
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    file.write_at(100_000, &[5; 9000]);
    let mut other = lab.open(2);
    lab.compose(&mut other, source.path(), dirt(&["pages"]), false, crate::capture::Filter::default());
    drop(other);
    let mut session = lab.open(3);
    let (outcome, done) = lab.capture(&mut session, source.path(), dirt(&["pages"]), false);
    assert_eq!(outcome.hashed_bytes, outcome.read_bytes, "all of it");
    assert_restores(&lab, done.sequence, source.path(), place.path(), "after a failed commit");
}
