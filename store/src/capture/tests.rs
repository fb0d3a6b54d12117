// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::testkit::{Ahead, Dice, Lab, SystemClock, describe, exact};
use std::fs;
use std::os::unix::fs::MetadataExt;
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

/// A clock on which no time passes between a file's last change and its opening, and an hour while it is read: after the first look at the clock
/// since this process has the file open.
#[derive(Debug)]
struct SlowReading {
    file: PathBuf,
    changed: Timestamp,
    opened: AtomicBool,
}

impl Clock for SlowReading {
    fn now(&self) -> Timestamp {
        let leap = if self.opened.load(Ordering::SeqCst) { 3_600_000_000_000 } else { 0 };
        let mut open = fs::read_dir("/proc/self/fd").expect("a list").flatten();
        if open.any(|fd| fs::read_link(fd.path()).is_ok_and(|file| file == self.file)) {
            self.opened.store(true, Ordering::SeqCst);
        }
        Timestamp::from_nanos(self.changed.nanos() + leap)
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
    let changed = fs::metadata(&file).map(|meta| meta.ctime() * 1_000_000_000 + meta.ctime_nsec()).expect("a time");
    let changed = Timestamp::from_nanos(changed);
    let lab = Lab { clock: Arc::new(SlowReading { file, changed, opened: AtomicBool::new(false) }), ..Lab::new() };
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

/// A sector that can't be read any more: what was captured of the file stays, and nothing of it becomes a hole.
#[test]
fn a_file_that_can_not_be_read_to_its_end_stays_as_it_was() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let (source, place) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let path = source.path().join("large");
    let text = Dice::new(5).bytes(6 << 20);
    fs::write(&path, &text).expect("a file");
    let lab = Lab::new();
    let mut session = lab.open(1);
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    let file = fs::File::options().write(true).open(&path).expect("a file");
    file.write_all_at(b"changed", 10).expect("bytes");
    let inode = file.metadata().expect("a file").ino();
    let broken = |from: Option<u64>| {
        let mut broken = large::source::tests::BROKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *broken = from.map(|from| (inode, from));
    };
    broken(Some(3 << 20));
    let (outcome, done) = lab.capture(&mut session, source.path(), dirt(&["large"]), false);
    let found: Vec<_> = outcome.problems.iter().map(|(label, problem)| (label.as_str(), &problem.path[..])).collect();
    assert_eq!(found, [("data", &b"large"[..])], "{outcome:?}");
    lab.restore(done.sequence, place.path(), &exact()).expect("a restore");
    assert!(fs::read(place.path().join("large")).expect("a file") == text, "it is as it was captured");
    broken(None);
    let (_, done) = lab.capture(&mut session, source.path(), dirt(&["large"]), false);
    assert_restores(&lab, done.sequence, source.path(), place.path(), "readable again");
}

/// A page that is dirty already takes further writes through a mapping without a new time.
#[test]
fn what_a_mapping_may_still_change_is_read_again() {
    let source = tempfile::tempdir().expect("a directory");
    fs::write(source.path().join("mapped"), [1; 16 << 10]).expect("a file");
    fs::write(source.path().join("small"), [1; 1000]).expect("a file");
    let lab = Lab { clock: Arc::new(Ahead(Duration::from_secs(20))), ..Lab::new() };
    let mut session = lab.open(1);
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    let (again, _) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(again.read_files, 1, "its pages may be dirty still");
    let lab = Lab { clock: Arc::new(Ahead(Duration::from_secs(50))), ..lab };
    let (again, _) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(again.read_files, 1, "they were when it was read last");
    let (again, _) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(again.read_files, 0, "they have been written back: the next write is seen");
}

/// Both names of an inode go along with their directory, and nothing else tells of it.
#[test]
fn a_renamed_directory_keeps_its_hard_links() {
    for (rescan, outside) in [(false, false), (true, false), (false, true)] {
        let (source, place) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let at = |path: &str| source.path().join(path);
        fs::create_dir_all(at("d/e")).expect("a directory");
        fs::write(at("d/x"), b"one inode").expect("a file");
        fs::hard_link(at("d/x"), at("d/e/y")).expect("a link");
        if outside {
            fs::hard_link(at("d/x"), at("z")).expect("a link");
        }
        let lab = Lab { clock: Arc::new(Ahead(Duration::from_secs(60))), ..Lab::new() };
        let mut session = lab.open(1);
        lab.capture(&mut session, source.path(), Dirt::all(), false);
        fs::rename(at("d"), at("f")).expect("a rename");
        let changed = if rescan { Dirt::all() } else { dirt(&["d", "f"]) };
        let (_, done) = lab.capture(&mut session, source.path(), changed, false);
        lab.restore(done.sequence, place.path(), &exact()).expect("a restore");
        assert_eq!(describe(place.path()), describe(source.path()));
        if outside {
            fs::remove_file(at("z")).expect("a file");
            let (_, done) = lab.capture(&mut session, source.path(), dirt(&["z"]), false);
            lab.restore(done.sequence, place.path(), &exact()).expect("a restore");
            assert_eq!(describe(place.path()), describe(source.path()));
        }
    }
}

/// Trouble in scratch space is not the directory's: nothing is left out for it.
#[test]
fn scratch_that_is_gone_ends_a_capture() {
    let source = tempfile::tempdir().expect("a directory");
    for i in 0..30_000 {
        fs::write(source.path().join(format!("{i:0>200}")), b"").expect("a file");
    }
    let lab = Lab { lists: Some("/dev/null/scratch".into()), ..Lab::new() };
    let mut session = lab.open(1);
    let everything = Filter::default();
    let error = lab.try_compose(&mut session, source.path(), Dirt::all(), false, everything).expect_err("no room for names");
    assert!(matches!(error, CaptureError::Scratch(_)), "{error}");
}
