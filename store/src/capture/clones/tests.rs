// SPDX-License-Identifier: Apache-2.0
//! On real file systems, which root can make in a file and mount. Elsewhere they are skipped, and say so.

use super::*;
use crate::capture::tests::edits::Edits;
use crate::capture::tests::{assert_restores, dirt};
use crate::capture::{Dirt, Filter};
use crate::testkit::{Dice, Lab, exact, rounds};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::testkit::mounted::on_each;

/// The only file of most of these tests.
const FILE: &str = "file";

fn lab() -> Lab {
    Lab { clones: Some(Arc::new(Clones { patience: Duration::MAX, ..Clones::default() })), ..Lab::new() }
}

fn clones(lab: &Lab) -> &Clones {
    lab.clones.as_deref().expect("made with clones")
}

/// Which clones are kept.
fn kept(lab: &Lab) -> HashSet<*const FileClone> {
    clones(lab).state().kept.iter().map(|kept| Arc::as_ptr(&kept.captured.clone)).collect()
}

/// Thousands of edits of every kind: what is captured by comparing clones is what is in the files.
#[test]
fn whatever_is_done_to_a_file_between_two_clones_is_captured() {
    on_each("random edits", |mounted| {
        let (mut lab, place) = (lab(), tempfile::tempdir().expect("a directory"));
        let mut session = lab.open(1);
        let mut dice = Dice::new(77);
        let names = ["pages", "stream"];
        let mut files = [Edits::new(&mounted.path, names[0], 4096, &mut dice), Edits::new(&mounted.path, names[1], 1, &mut dice)];
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        assert_eq!(clones(&lab).count(), 2, "both are cloned");
        let (mut all, mut read, mut spared) = (0, 0, 0);
        let rounds = rounds(12);
        for round in 0..rounds {
            // some while somebody stands still: those make no clones where little has changed, and what comes after is compared with older ones
            lab.brief = dice.roll(2) == 0;
            for file in &mut files {
                for _ in 0..=dice.roll(if lab.brief { 3 } else { 40 }) {
                    file.edit(&mut dice);
                }
                file.write_mapped(&mut dice);
            }
            let before = kept(&lab);
            let (outcome, done) = lab.capture(&mut session, &mounted.path, dirt(&names), false);
            assert_eq!((clones(&lab).count(), outcome.unstable), (2, 0), "round {round}");
            let none_made = kept(&lab) == before;
            assert!(lab.brief || !none_made, "round {round}: {before:?}");
            spared += u64::from(none_made);
            all += files.iter().map(Edits::size).sum::<u64>();
            read += outcome.read_bytes;
            assert_restores(&lab, done.sequence, &mounted.path, place.path(), &format!("{}, round {round}", mounted.kind));
        }
        let edits: u64 = files.iter().map(|file| file.done).sum();
        assert!(spared > rounds / 20, "only {spared} of {rounds} rounds made no clones");
        eprintln!(
            "{}: {edits} edits in {rounds} rounds, {spared} of them without a new clone; {} of {} MiB were read",
            mounted.kind,
            read >> 20,
            all >> 20
        );
        assert!(edits > rounds * 15, "{edits} edits are not enough to prove anything");
        assert!(read < all / 2, "read {read} of {all} bytes");
    });
}

/// Whatever can be remembered of where clones lie: what is captured is the same, and what is remembered goes with the clones.
#[test]
fn where_clones_lie_is_remembered_within_bounds() {
    on_each("layouts", |mounted| {
        for most in [0, 20, 1 << 20] {
            let layouts = Budget::of(most);
            let own = Clones { patience: Duration::MAX, layouts: layouts.clone(), ..Clones::default() };
            let (mut lab, place) = (Lab { clones: Some(Arc::new(own)), ..Lab::new() }, tempfile::tempdir().expect("a directory"));
            let mut dice = Dice::new(21);
            let mut file = Edits::new(&mounted.path, FILE, 4096, &mut dice);
            let mut session = lab.open(1);
            lab.capture(&mut session, &mounted.path, Dirt::all(), false);
            for round in 0..6 {
                (0..8).for_each(|_| file.edit(&mut dice));
                lab.brief = round % 2 == 1;
                let (_, done) = lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
                let what = format!("{}, {most} stretches, round {round}", mounted.kind);
                assert_restores(&lab, done.sequence, &mounted.path, place.path(), &what);
                assert!(layouts.left() <= most, "{what}");
            }
            let remembers = most > 20 && volume::keeps_places(File::open(&mounted.path).expect("a directory"));
            assert_eq!(layouts.left() < most - most.min(20), remembers, "{}, {most}: {} left", mounted.kind, layouts.left());
            drop(session);
            drop(lab);
            assert_eq!(layouts.left(), most, "{}, {most}", mounted.kind);
        }
    });
}

/// A writer that never rests: when it ends, the next capture has all of it, though it was at work while the clones were made.
#[test]
fn nothing_that_is_written_while_clones_are_made_is_missed() {
    on_each("a busy writer", |mounted| {
        let (mut lab, place) = (lab(), tempfile::tempdir().expect("a directory"));
        let mut session = lab.open(1);
        let mut dice = Dice::new(5);
        Edits::new(&mounted.path, FILE, 4096, &mut dice);
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        for round in 0..rounds(5) {
            let ended = AtomicBool::new(false);
            let path = mounted.path.join(FILE);
            let writer = || {
                let file = File::options().write(true).open(&path).expect("a file");
                let mut dice = Dice::new(1000 + round);
                let mut count = 0_u32;
                while !ended.load(Ordering::SeqCst) {
                    let (at, bytes) = (dice.roll(SIZE_MIN as usize) as u64, dice.bytes(100));
                    file.write_all_at(&bytes, at).expect("written");
                    count += 1;
                }
                count
            };
            let count = std::thread::scope(|scope| {
                let writing = scope.spawn(writer);
                for turn in 0..4 {
                    lab.brief = turn % 2 == 1;
                    lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
                }
                ended.store(true, Ordering::SeqCst);
                writing.join().expect("it wrote")
            });
            lab.brief = round % 2 == 0;
            let (outcome, done) = lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
            assert!(outcome.read_bytes <= SIZE_MIN + (1 << 20), "only where it wrote: {}", outcome.read_bytes);
            let what = format!("{}, round {round}, {count} writes", mounted.kind);
            assert_restores(&lab, done.sequence, &mounted.path, place.path(), &what);
        }
    });
}

/// Two counters far apart, the last one always written first: no moment of the file has the first one ahead, so no checkpoint may.
#[test]
fn a_checkpoint_has_one_moment_of_a_file() {
    on_each("two counters", |mounted| {
        let (lab, place) = (lab(), tempfile::tempdir().expect("a directory"));
        let mut session = lab.open(1);
        let (path, far) = (mounted.path.join(FILE), 24 << 20);
        fs::write(&path, vec![7; far as usize + 4096]).expect("a file");
        let file = File::options().read(true).write(true).open(&path).expect("a file");
        file.write_all_at(&[0; 8], 0).and_then(|()| file.write_all_at(&[0; 8], far)).expect("written");
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for count in 1_u64.. {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    file.write_all_at(&count.to_le_bytes(), 0).expect("written");
                    file.write_all_at(&count.to_le_bytes(), far).expect("written");
                }
            });
            for round in 0..12 {
                // now and then without anything to compare with: then all of it is read, and that takes its time
                if round % 3 == 0 {
                    session = lab.open(round);
                    clones(&lab).state().kept.clear();
                }
                let (outcome, done) = lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
                assert_eq!(outcome.unstable, 0, "nothing else was captured, and this was one moment");
                lab.restore(done.sequence, place.path(), &exact()).expect("a restore");
                let restored = File::open(place.path().join(FILE)).expect("restored");
                let counter = |at| {
                    let mut bytes = [0; 8];
                    restored.read_exact_at(&mut bytes, at).expect("readable");
                    u64::from_le_bytes(bytes)
                };
                let (first, last) = (counter(0), counter(far));
                assert!(first == last || first == last + 1, "{}, round {round}: {first} and {last}", mounted.kind);
            }
            ended.store(true, Ordering::SeqCst);
        });
    });
}

/// A capture that comes to nothing leaves the next one the clone that fits what is durable.
#[test]
fn a_capture_that_was_not_committed_makes_no_difference() {
    on_each("a failed commit", |mounted| {
        let (mut lab, place) = (lab(), tempfile::tempdir().expect("a directory"));
        let mut dice = Dice::new(9);
        let mut file = Edits::new(&mounted.path, FILE, 4096, &mut dice);
        let mut session = lab.open(1);
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        for round in 0..8 {
            let mut session = lab.open(round + 2);
            for turn in 0..3 {
                lab.brief = (round + turn) % 2 == 0;
                file.write_at(dice.roll(4 << 20) as u64, &dice.bytes(5000));
                lab.compose(&mut session, &mounted.path, dirt(&[FILE]), false, Filter::default());
                assert!(clones(&lab).count() <= 2, "the one that is durable, and the newest");
            }
            drop(session);
            let mut session = lab.open(round + 100);
            file.write_at(dice.roll(4 << 20) as u64, &dice.bytes(5000));
            let (outcome, done) = lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
            assert!(outcome.read_bytes < 1 << 20, "nothing is read that is durable: {}", outcome.read_bytes);
            assert_restores(&lab, done.sequence, &mounted.path, place.path(), &format!("round {round}"));
        }
    });
}

/// Space that somebody else needs is given back: also that of a clone which is just being read.
#[test]
fn a_volume_that_runs_short_loses_its_clones_and_no_state() {
    on_each("a full volume", |mounted| {
        let (lab, place) = (lab(), tempfile::tempdir().expect("a directory"));
        let mut dice = Dice::new(3);
        let mut file = Edits::new(&mounted.path, FILE, 4096, &mut dice);
        let mut session = lab.open(1);
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        clones(&lab).guard();
        assert_eq!(clones(&lab).count(), 1, "there is room");
        let ballast = mounted.fill();
        clones(&lab).guard();
        assert_eq!(clones(&lab).count(), 0);
        file.write_at(5000, &dice.bytes(5000));
        let (outcome, done) = lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
        assert!(outcome.read_bytes >= file.size(), "it was read");
        assert_eq!(clones(&lab).count(), 0);
        fs::remove_file(ballast).expect("removed");
        // some file systems give space back when they commit
        rustix::fs::syncfs(File::open(&mounted.path).expect("a directory")).expect("synced");
        assert_restores(&lab, done.sequence, &mounted.path, place.path(), "short of space");
        // there is room again
        file.write_at(9000, &dice.bytes(5000));
        lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
        assert_eq!(clones(&lab).count(), 1);
    });
}

/// The writers of a file of many pieces wait long for a clone: the one that there is serves for as long as it is of use.
#[test]
fn a_file_that_is_slow_to_clone_is_cloned_seldom_and_never_read_whole() {
    on_each("a slow file", |mounted| {
        let slow = Clones { patience: Duration::ZERO, ..Clones::default() };
        let (lab, place) = (Lab { clones: Some(Arc::new(slow)), ..Lab::new() }, tempfile::tempdir().expect("a directory"));
        let mut dice = Dice::new(8);
        let mut file = Edits::new(&mounted.path, FILE, 4096, &mut dice);
        let mut session = lab.open(1);
        let (mut made, mut before) = (0, kept(&lab));
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        for round in 0..30 {
            // 64 KiB, of 10 MiB: an eighth of it has changed after 20 rounds
            file.write_at(dice.roll(150) as u64 * 65_536, &dice.bytes(65_536));
            let (outcome, done) = lab.capture(&mut session, &mounted.path, dirt(&[FILE]), false);
            assert!(outcome.read_bytes < file.size() / 4, "round {round}: it was read: {}", outcome.read_bytes);
            assert_restores(&lab, done.sequence, &mounted.path, place.path(), &format!("{}, round {round}", mounted.kind));
            let now = kept(&lab);
            made += u32::from(now != before);
            before = now;
        }
        assert!((u32::from(SLOW_MAX)..10).contains(&made), "{made} clones in 30 rounds");
    });
}

#[test]
fn a_clone_goes_with_its_file() {
    on_each("removed files", |mounted| {
        let lab = lab();
        let mut dice = Dice::new(4);
        let mut session = lab.open(1);
        for name in ["removed", "replaced", "cut", "renamed"] {
            Edits::new(&mounted.path, name, 4096, &mut dice);
        }
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        assert_eq!(clones(&lab).count(), 4);
        let path = |name| mounted.path.join(name);
        fs::remove_file(path("removed")).expect("removed");
        fs::remove_file(path("replaced")).and_then(|()| fs::write(path("replaced"), b"small")).expect("replaced");
        fs::write(path("cut"), b"small, too").expect("cut");
        fs::rename(path("renamed"), path("new")).expect("renamed");
        let (outcome, _) = lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        assert!(outcome.read_bytes < 1 << 20, "it is known under its new name: {}", outcome.read_bytes);
        lab.capture(&mut session, &mounted.path, Dirt::all(), false);
        assert_eq!(clones(&lab).count(), 1, "the one of the file that was renamed");
    });
}

/// Where there are no clones, everything is as if nobody had asked for them.
#[test]
fn without_clones_files_are_read() {
    let (lab, source, place) = (lab(), tempfile::tempdir_in("/dev/shm"), tempfile::tempdir().expect("a directory"));
    let source = source.expect("a directory in memory");
    let mut dice = Dice::new(6);
    let mut file = Edits::new(source.path(), FILE, 4096, &mut dice);
    let mut session = lab.open(1);
    lab.capture(&mut session, source.path(), Dirt::all(), false);
    file.write_at(1000, &dice.bytes(1000));
    let (outcome, done) = lab.capture(&mut session, source.path(), dirt(&[FILE]), false);
    assert_eq!((clones(&lab).count(), outcome.read_bytes), (0, file.size()));
    assert_restores(&lab, done.sequence, source.path(), place.path(), "in memory");
}
