// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::testkit::{Dice, Lab, SystemClock, exact};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

pub(super) mod edits;

pub(super) fn dirt(names: &[&str]) -> Dirt {
    let mut dirt = Dirt::default();
    names.iter().for_each(|name| dirt.add(&[Name::new(name.as_bytes()).expect("a name")], false));
    dirt
}

/// Restores a checkpoint and compares the bytes of every file with those of the source, which must be at rest.
pub(super) fn assert_restores(lab: &Lab, sequence: u64, source: &Path, place: &Path, what: &str) {
    lab.restore(sequence, place, &exact()).expect("a restore");
    for entry in fs::read_dir(source).expect("a directory") {
        let name = entry.expect("an entry").file_name();
        let (expected, found) = (fs::read(source.join(&name)).expect("readable"), fs::read(place.join(&name)).expect("restored"));
        assert_eq!(found.len(), expected.len(), "{what}: the length of {name:?}");
        let first = found.iter().zip(&expected).position(|(one, other)| one != other);
        assert_eq!(first, None, "{what}: the first byte of {name:?} that differs");
    }
}

/// A clock on which an hour passes while a file is read: after the first look at it since this process has the file open.
#[derive(Debug)]
struct SlowReading {
    file: PathBuf,
    opened: AtomicBool,
}

impl Clock for SlowReading {
    fn now(&self) -> Timestamp {
        let leap = if self.opened.load(Ordering::SeqCst) { 3_600_000_000_000 } else { 0 };
        let mut open = fs::read_dir("/proc/self/fd").expect("a list").flatten();
        if open.any(|fd| fs::read_link(fd.path()).is_ok_and(|file| file == self.file)) {
            self.opened.store(true, Ordering::SeqCst);
        }
        Timestamp::from_nanos(SystemClock.now().nanos() + leap)
    }

    fn error(&self) -> Duration {
        Duration::ZERO
    }
}

/// A file that changed just before it was read may have changed again, within the same tick, while it was: however long reading took.
#[test]
fn a_file_that_was_fresh_when_it_was_opened_is_looked_at_again() {
    let source = tempfile::tempdir().expect("a directory");
    let file = source.path().join("large");
    fs::write(&file, Dice::new(1).bytes(1 << 20)).expect("a file");
    let file = fs::canonicalize(file).expect("a path");
    let lab = Lab { clock: Arc::new(SlowReading { file, opened: AtomicBool::new(false) }), ..Lab::new() };
    let mut session = lab.open(1);
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    let lab = Lab { clock: Arc::new(SystemClock), ..lab };
    let (again, _) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(again.read_files, 1);
}

/// Cutting begins where something differs and ends where a cut falls on an old one: what lies beyond is neither read as new nor stored again.
#[test]
fn a_change_amid_a_file_costs_the_chunks_around_it() {
    let source = tempfile::tempdir().expect("a directory");
    let path = source.path().join("stream");
    let mut text = Dice::new(2).bytes((8 << 20) + 77);
    fs::write(&path, &text).expect("a file");
    let (lab, place) = (Lab::new(), tempfile::tempdir().expect("a directory"));
    let mut session = lab.open(1);
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    for at in [3_000_000, 3_900_000, 7_000_000] {
        text[at..at + 10].copy_from_slice(b"0123456789");
    }
    fs::write(&path, &text).expect("a file");
    let (_, done) = lab.capture(&mut session, source.path(), dirt(&["stream"]), false);
    assert!(done.uploaded_bytes < 700_000, "{} bytes for three small changes", done.uploaded_bytes);
    assert_restores(&lab, done.sequence, source.path(), place.path(), "three changes");
}
