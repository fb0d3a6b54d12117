// SPDX-License-Identifier: Apache-2.0
//! Round trips through a real file system, held against an oracle that knows nothing of trees.

use super::*;
use crate::capture::Dirt;
use crate::disk::xattr;
use crate::testkit::{Ahead, Dice, Lab, SystemClock, describe, exact, rounds, target};
use rustix::fs::{FileType, Mode};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

mod attributes;

/// One of everything that a directory can hold.
fn one_of_everything(root: &Path) {
    let mut dice = Dice::new(7);
    for dir in ["empty", "deep/er/and/deeper", "setgid"] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    for (name, len) in [
        ("zero", 0),
        ("one", 1),
        ("sixty-four", 64),
        ("sixty-five", 65),
        ("kilo", 1000),
        ("pages", 256 << 10),
        ("stream", 700_001),
    ] {
        fs::write(root.join(name), dice.bytes(len)).expect("a file");
    }
    fs::write(root.join("deep/er/file"), b"deep").expect("a file");
    let sparse = File::create(root.join("sparse")).expect("a file");
    sparse.set_len(10 << 20).expect("a length");
    sparse.write_all_at(&dice.bytes(10_000), 5 << 20).expect("bytes");
    File::create(root.join("one-hole")).expect("a file").set_len(1 << 20).expect("a length");
    File::create(root.join("small-hole")).expect("a file").set_len(40).expect("a length");
    let tail = File::create(root.join("hole-at-end")).expect("a file");
    tail.write_all_at(&dice.bytes(200_000), 0).expect("bytes");
    tail.set_len(3 << 20).expect("a length");
    symlink("../nowhere/at all", root.join("link")).expect("a link");
    fs::hard_link(root.join("kilo"), root.join("deep/kilo-again")).expect("a link");
    fs::hard_link(root.join("stream"), root.join("a-stream")).expect("a link");
    rustix::fs::mknodat(Dir::open_root(root).expect("a directory").fd(), "pipe", FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    rustix::fs::mknodat(Dir::open_root(root).expect("a directory").fd(), "socket", FileType::Socket, Mode::RWXU, 0)
        .expect("a socket");
    for name in [&b"\xff\xfe not utf-8"[..], b"new\nline", &[b'n'; 255], "e\u{301}".as_bytes(), "\u{e9}".as_bytes(), b"-rf", b"*"]
    {
        fs::write(root.join(std::ffi::OsStr::from_bytes(name)), b"named").expect("a file");
    }
    fs::set_permissions(root.join("one"), fs::Permissions::from_mode(0o4711)).expect("permissions");
    fs::set_permissions(root.join("setgid"), fs::Permissions::from_mode(0o2770)).expect("permissions");
    let attributed = File::open(root.join("kilo")).expect("a file");
    xattr::set(&attributed, b"user.small", b"value").expect("an attribute");
    xattr::set(File::open(root.join("empty")).expect("a directory"), b"user.large", &vec![b'x'; 900]).expect("an attribute");
    let old = rustix::fs::Timespec { tv_sec: -12_345, tv_nsec: 678 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::futimens(File::open(root.join("zero")).expect("a file"), &times).expect("times");
    rustix::fs::futimens(File::open(root.join("deep")).expect("a directory"), &times).expect("times");
}

#[test]
fn everything_comes_back_as_it_was_and_the_root_proves_it() {
    let (lab, source, restored) =
        (Lab::new(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    one_of_everything(source.path());
    let mut session = lab.open(1);
    let (outcome, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(outcome.problems, []);
    let stats = lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
    assert_eq!(stats.deviations, []);
    assert_eq!(stats.entries, outcome.totals.entries());
    assert_eq!(describe(restored.path()), describe(source.path()));
    let roots = session.roots().to_vec();
    let never = AtomicBool::new(false);
    let prove = |path: &Path| {
        prove(&lab.reader(), &roots, &outcome.totals, &[target(path)], None, &SystemClock, &never).expect("a proof")
    };
    assert_eq!(prove(restored.path()).root, done.root);
    let compared = || compare(&lab.reader(), &roots, &[target(restored.path())]).expect("readable");
    assert_eq!(compared().deviations, []);
    // and the proof fails for anything that differs
    let changes: [&dyn Fn(&Path); 7] = [
        &|root| fs::write(root.join("kilo"), b"other").expect("a file"),
        &|root| fs::set_permissions(root.join("pages"), fs::Permissions::from_mode(0o600)).expect("permissions"),
        &|root| fs::remove_file(root.join("socket")).expect("a socket"),
        &|root| {
            File::options().write(true).open(root.join("stream")).expect("a file").write_all_at(b"X", 500_000).expect("a byte");
        },
        &|root| File::options().write(true).open(root.join("sparse")).expect("a file").write_all_at(b"X", 100).expect("a byte"),
        &|root| fs::write(root.join("deep/new"), b"").expect("a file"),
        &|root| {
            fs::remove_file(root.join("a-stream")).expect("a link");
            fs::copy(root.join("stream"), root.join("a-stream")).expect("a copy");
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        change(restored.path());
        assert_ne!(prove(restored.path()).root, done.root, "change {index}");
        assert!(compared().count > 0, "change {index}");
        lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
        assert_eq!(describe(restored.path()), describe(source.path()), "after change {index}");
        assert_eq!(prove(restored.path()).root, done.root);
    }
}

/// Random edits, captured by what changed or by a rescan, in one lineage: each checkpoint restores to what the disk was.
#[test]
fn random_histories_restore_at_every_point() {
    for seed in 1..=rounds(4) {
        let (lab, source) = (Lab::new(), tempfile::tempdir().expect("a directory"));
        let mut dice = Dice::new(seed);
        let mut session = lab.open(1);
        let mut states = Vec::new();
        for round in 0..8_u8 {
            let mut dirt = Dirt::default();
            for _ in 0..=dice.roll(12) {
                random_edit(source.path(), &mut dice, &mut dirt);
            }
            let dirt = if dice.roll(3) == 0 { Dirt::all() } else { dirt };
            if dice.roll(4) == 0 {
                session = lab.open(round + 2);
            }
            let (_, done) = lab.capture(&mut session, source.path(), dirt, false);
            let totals = *session.totals();
            states.push((done, describe(source.path()), totals));
        }
        for (done, expected, totals) in &states {
            let restored = tempfile::tempdir().expect("a directory");
            lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
            assert_eq!(&describe(restored.path()), expected, "seed {seed}, checkpoint {}", done.sequence);
            let entries = u64::try_from(expected.len()).expect("few") - 1;
            assert_eq!(totals.entries(), entries, "seed {seed}, checkpoint {}", done.sequence);
        }
        // from each state to each other, in place
        let place = tempfile::tempdir().expect("a directory");
        for (done, expected, _) in states.iter().rev().chain(&states) {
            lab.restore(done.sequence, place.path(), &exact()).expect("a restore");
            assert_eq!(&describe(place.path()), expected, "seed {seed}, in place to {}", done.sequence);
        }
    }
}

fn random_edit(root: &Path, dice: &mut Dice, dirt: &mut Dirt) {
    let dir = ["", "a", "a/b", "c"][dice.roll(4)];
    let name = format!("f{}", dice.roll(6));
    let path = Path::new(dir).join(&name);
    let full = root.join(&path);
    fs::create_dir_all(root.join(dir)).expect("a directory");
    for part in path.ancestors() {
        touch(dirt, part);
    }
    let is_dir = full.is_dir() && !full.is_symlink();
    match dice.roll(14) {
        0..=2 if !is_dir => {
            let len = [0, 30, 500, 5000, 140_000, 262_144, 900_000][dice.roll(7)];
            let _ = fs::remove_file(&full);
            fs::write(&full, dice.bytes(len)).expect("a file");
        }
        3 if full.is_file() => {
            let file = File::options().write(true).open(&full).expect("a file");
            let len = usize::try_from(file.metadata().expect("a file").len()).expect("small");
            let (at, bytes) = (dice.roll(len + 1), dice.bytes(200));
            file.write_all_at(&bytes, at as u64).expect("bytes");
            touch_links(root, &full, dirt);
        }
        4 if full.is_file() => {
            let file = File::options().write(true).open(&full).expect("a file");
            file.set_len(dice.roll(1_200_000) as u64).expect("a length");
            touch_links(root, &full, dirt);
        }
        5 => {
            let _ = if is_dir { fs::remove_dir_all(&full) } else { fs::remove_file(&full) };
        }
        6 => {
            let to = Path::new(["a", "c"][dice.roll(2)]).join(format!("f{}", dice.roll(6)));
            fs::create_dir_all(root.join(&to).parent().expect("a parent")).expect("a directory");
            if fs::rename(&full, root.join(&to)).is_ok() {
                to.ancestors().for_each(|part| touch(dirt, part));
            }
        }
        7 if full.is_file() => {
            let to = Path::new(["", "c"][dice.roll(2)]).join(format!("l{}", dice.roll(4)));
            fs::create_dir_all(root.join(&to).parent().expect("a parent")).expect("a directory");
            let _ = fs::remove_file(root.join(&to));
            if fs::hard_link(&full, root.join(&to)).is_ok() {
                to.ancestors().for_each(|part| touch(dirt, part));
                touch_links(root, &full, dirt);
            }
        }
        8 if !full.exists() => drop(symlink(dice.roll(99).to_string(), &full)),
        9 if !full.exists() && !full.is_symlink() => {
            fs::create_dir_all(full.join("sub")).expect("a directory");
            fs::write(full.join("sub/inner"), dice.bytes(300)).expect("a file");
        }
        10 if full.exists() => {
            let mode = [0o600, 0o755, 0o700][dice.roll(3)];
            fs::set_permissions(&full, fs::Permissions::from_mode(mode)).expect("permissions");
            touch_links(root, &full, dirt);
        }
        11 | 12 => linked_directory(root, dice, dirt),
        _ => {}
    }
}

/// A directory with both names of an inode appears, or goes elsewhere.
fn linked_directory(root: &Path, dice: &mut Dice, dirt: &mut Dirt) {
    let (one, other) = (Path::new("c").join(format!("d{}", dice.roll(3))), Path::new("a").join(format!("d{}", dice.roll(3))));
    let (from, to) = if dice.roll(2) == 0 { (one, other) } else { (other, one) };
    if dice.roll(2) == 0 {
        let linked = root.join(&from);
        if fs::create_dir_all(&linked).is_ok() && fs::write(linked.join("x"), dice.bytes(300)).is_ok() {
            let _ = fs::hard_link(linked.join("x"), linked.join("y"));
        }
        touch_all(root, &linked, dirt);
        touch_links(root, &linked, dirt);
    } else if fs::create_dir_all(root.join(to.parent().expect("a parent"))).is_ok()
        && fs::rename(root.join(&from), root.join(&to)).is_ok()
    {
        from.ancestors().chain(to.ancestors()).for_each(|part| touch(dirt, part));
    }
}

/// Everything beneath a path may have changed.
fn touch_all(root: &Path, path: &Path, dirt: &mut Dirt) {
    let inner = path.strip_prefix(root).expect("beneath");
    inner.ancestors().for_each(|part| touch(dirt, part));
    dirt.add(&names(inner), true);
}

fn names(path: &Path) -> Vec<Name> {
    path.iter().map(|part| Name::new(part.as_bytes()).expect("a name")).collect()
}

fn touch(dirt: &mut Dirt, path: &Path) {
    dirt.add(&names(path), false);
}

/// inotify tells of a change under one name only; whoever watches knows the others only if it looks.
fn touch_links(root: &Path, _full: &Path, dirt: &mut Dirt) {
    for dir in ["", "a", "a/b", "c"] {
        for name in (0..6).map(|i| format!("f{i}")).chain((0..4).map(|i| format!("l{i}"))) {
            let path = Path::new(dir).join(name);
            if root.join(&path).exists() {
                touch(dirt, &path);
            }
        }
    }
}

#[test]
fn an_unchanged_tree_is_compared_and_not_read() {
    let (lab, source) = (old_files(), tempfile::tempdir().expect("a directory"));
    let mut dice = Dice::new(3);
    for i in 0..300 {
        let dir = source.path().join(format!("d{}", i % 7));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("f{i}")), dice.bytes(200)).expect("a file");
    }
    fs::write(source.path().join("pages"), dice.bytes(1 << 20)).expect("a file");
    settle();
    let mut session = lab.open(1);
    let (first, _) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(first.read_files, 301);
    let (second, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!((second.read_files, second.read_bytes), (0, 0));
    assert!(done.uploaded_bytes < 4000, "{done:?}");
    // the same for a process that knows nothing but the store
    drop(session);
    let mut session = lab.open(2);
    let (third, _) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(third.read_files, 0);
    // a page of the page file: a block and a handful of nodes
    File::options()
        .write(true)
        .open(source.path().join("pages"))
        .expect("a file")
        .write_all_at(&[9; 100], 500_000)
        .expect("bytes");
    let (fourth, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert_eq!(fourth.read_files, 1);
    assert!(done.uploaded_bytes < 20_000, "{done:?}");
    // an append costs its tail
    let log = source.path().join("log");
    fs::write(&log, dice.bytes(2_000_001)).expect("a file");
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    let (mut text, more) = (fs::read(&log).expect("a file"), dice.bytes(5000));
    text.extend_from_slice(&more);
    fs::write(&log, &text).expect("a file");
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert!(done.uploaded_bytes < 40_000, "{done:?}");
    // a renamed directory is one entry, a rotated log none of its bytes
    settle();
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    fs::rename(source.path().join("d3"), source.path().join("e3")).expect("a rename");
    fs::rename(&log, source.path().join("log.1")).expect("a rename");
    let (renamed, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert!(done.uploaded_bytes < 20_000, "{done:?}");
    assert_eq!(renamed.read_files, 1, "only the log is looked at, and nothing of it is stored");
}

/// A lab by whose clock all files are old enough to be trusted.
fn old_files() -> Lab {
    Lab { clock: Arc::new(Ahead(Duration::from_secs(60))), ..Lab::new() }
}

/// Lets the files' times grow old enough to be trusted.
fn settle() {
    let until = std::time::Instant::now() + Duration::from_millis(80);
    while std::time::Instant::now() < until {
        std::thread::yield_now();
    }
}

#[test]
fn a_restored_disk_is_taken_over_without_storing_anything_again() {
    let (lab, source, restored) =
        (old_files(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    one_of_everything(source.path());
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
    drop(session);
    settle();
    let mut session = lab.open(2);
    let (_, again) = lab.capture(&mut session, restored.path(), Dirt::all(), true);
    assert_eq!(again.root, done.root);
    assert!(again.uploaded_bytes < 20_000, "{again:?}");
    let (third, _) = lab.capture(&mut session, restored.path(), Dirt::all(), false);
    assert_eq!(third.read_files, 0, "the new stamps are trusted");
}

#[test]
fn chosen_paths_come_alone() {
    let (lab, source, restored) =
        (Lab::new(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    one_of_everything(source.path());
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    let chosen =
        |paths: &[&str]| Options { select: paths.iter().map(|p| ("data".to_owned(), names(Path::new(p)))).collect(), ..exact() };
    lab.restore(done.sequence, restored.path(), &chosen(&["deep/er", "kilo"])).expect("a restore");
    let found: Vec<_> = describe(restored.path()).into_keys().collect();
    assert_eq!(
        found,
        ["\"\"", "\"deep\"", "\"deep/er\"", "\"deep/er/and\"", "\"deep/er/and/deeper\"", "\"deep/er/file\"", "\"kilo\""]
    );
    let error = lab.restore(done.sequence, restored.path(), &chosen(&["deep/nothing"])).expect_err("no such path");
    assert_eq!(error.to_string(), "the checkpoint has no data/deep/nothing");
}

#[test]
fn what_is_planted_in_the_target_leads_nowhere() {
    let (lab, source, restored) =
        (Lab::new(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let victim = tempfile::tempdir().expect("a directory");
    fs::write(victim.path().join("leaf"), b"untouched").expect("a file");
    fs::create_dir_all(source.path().join("d")).expect("a directory");
    for name in ["f", "d/x", "h", "p"] {
        fs::write(source.path().join(name), b"from the backup, longer than sixty-four bytes, so that it is a chunk of its own")
            .expect("a file");
    }
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    symlink(victim.path().join("leaf"), restored.path().join("f")).expect("a link");
    symlink(victim.path(), restored.path().join("d")).expect("a link");
    fs::hard_link(victim.path().join("leaf"), restored.path().join("h")).expect("a link");
    rustix::fs::mknodat(Dir::open_root(restored.path()).expect("a directory").fd(), "p", FileType::Fifo, Mode::RWXU, 0)
        .expect("a pipe");
    let before = describe(victim.path());
    lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
    assert_eq!(describe(restored.path()), describe(source.path()));
    let after = describe(victim.path());
    assert_eq!(after.len(), before.len());
    assert_eq!(fs::read(victim.path().join("leaf")).expect("a file"), b"untouched");
}

#[test]
fn a_missing_pack_is_named_and_nothing_looks_whole() {
    let (lab, source, restored) =
        (Lab::new(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    fs::write(source.path().join("big"), Dice::new(1).bytes(5 << 20)).expect("a file");
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    let packs: Vec<_> = lab.memory.objects().into_keys().filter(|name| name.as_str().contains("/packs/")).collect();
    for pack in packs {
        let bytes = lab.memory.objects()[&pack].clone();
        lab.memory.tamper(&pack, None);
        // each into a directory of its own: what an earlier try has put in place needs no pack
        let fresh = || tempfile::tempdir().expect("a directory");
        let error = lab.restore(done.sequence, fresh().path(), &exact()).expect_err("a pack is missing").to_string();
        assert!(error.contains(pack.as_str()), "{error}");
        lab.memory.tamper(&pack, Some(bytes.slice(..bytes.len() / 2)));
        assert!(lab.restore(done.sequence, fresh().path(), &exact()).is_err(), "half of {pack}");
        lab.memory.tamper(&pack, Some(bytes));
    }
    lab.restore(done.sequence, restored.path(), &exact()).expect("all packs are back");
    assert_eq!(describe(restored.path()), describe(source.path()));
}

/// A capture that is interrupted again and again goes on where it was, and stores nothing twice.
#[test]
fn an_interrupted_capture_goes_on() {
    let (mut lab, source, restored) =
        (old_files(), tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    lab.partial_after = Duration::ZERO;
    let mut dice = Dice::new(9);
    for i in 0..60 {
        fs::write(source.path().join(format!("f{i:02}")), dice.bytes(40_000)).expect("a file");
    }
    fs::write(source.path().join("large"), dice.bytes(9_000_001)).expect("a file");
    fs::hard_link(source.path().join("f07"), source.path().join("g07")).expect("a link");
    settle();
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert!(done.sequence > 5, "there were partial checkpoints on the way: {done:?}");
    lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
    assert_eq!(describe(restored.path()), describe(source.path()));
    let uploaded: usize = lab.memory.objects().values().map(bytes::Bytes::len).sum();
    for sequence in 2..done.sequence {
        let entry = lab.runtime.block_on(lab.log().read(sequence)).expect("a record");
        assert_eq!(
            entry.record.checkpoint().map(|checkpoint| checkpoint.quality),
            Some(holdfast_core::checkpoint::Quality::Partial)
        );
    }
    // as if it had died after a partial one in the middle: everything later is gone
    for sequence in done.sequence / 2..=done.sequence {
        lab.memory.tamper(&lab.log().name(sequence), None);
    }
    lab.partial_after = Duration::from_secs(3600);
    let mut session = lab.open(2);
    let (outcome, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    assert!(outcome.read_files < 60, "{} files were read again", outcome.read_files);
    let second: usize = lab.memory.objects().values().map(bytes::Bytes::len).sum();
    assert!(second < uploaded * 17 / 10, "{second} bytes after {uploaded}");
    fs::remove_dir_all(restored.path()).expect("a directory");
    fs::create_dir_all(restored.path()).expect("a directory");
    lab.restore(done.sequence, restored.path(), &exact()).expect("a restore");
    assert_eq!(describe(restored.path()), describe(source.path()));
}

/// A restore onto what is there already holds few files open, however many there are, and keeps those that are right.
#[test]
fn thousands_of_kept_files_do_not_take_a_descriptor_each() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let (lab, source) = (Lab::new(), tempfile::tempdir().expect("a directory"));
    for i in 0..2000 {
        fs::write(source.path().join(format!("f{i}")), format!("file {i}")).expect("a file");
    }
    let mut session = lab.open(1);
    let (_, done) = lab.capture(&mut session, source.path(), Dirt::all(), false);
    let before = getrlimit(Resource::Nofile);
    let mut low = before;
    low.current = Some(900);
    setrlimit(Resource::Nofile, low).expect("a lower limit");
    let restored = lab.restore(done.sequence, source.path(), &exact());
    setrlimit(Resource::Nofile, before).expect("the limit that was");
    assert_eq!(restored.expect("a restore").kept_files, 2000);
}
