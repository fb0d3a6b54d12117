// SPDX-License-Identifier: Apache-2.0

use super::*;
use notify::event::{CreateKind, DataChange, Flag};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::Write as _;
use std::time::Duration;
use tempfile::TempDir;

struct Lab {
    directory: TempDir,
    watch: Watch,
    ear: Ear,
    _scratch: TempDir,
}

fn lab(limit: usize) -> Lab {
    lab_without(limit, &[])
}

fn lab_without(limit: usize, exclude: &[&str]) -> Lab {
    let directory = tempfile::tempdir().expect("a directory");
    let exclude: Vec<String> = exclude.iter().map(|glob| (*glob).to_owned()).collect();
    let filter = Filter::new(&[], &exclude).expect("globs");
    let path = directory.path().to_owned();
    let path = StatePath { label: "data".to_owned(), path, include: Vec::new(), exclude, filter, read_only: false };
    let scratch = tempfile::tempdir().expect("a directory");
    let (watch, ear) = Watch::new(&[path], limit, scratch.path());
    watch.entering("data", b"");
    Lab { directory, watch, ear, _scratch: scratch }
}

fn names(text: &str) -> Vec<Name> {
    text.split('/').map(|part| Name::new(part.as_bytes()).expect("a name")).collect()
}

/// Waits until this is heard; what is heard before doesn't matter.
async fn hear(ear: &mut Ear, path: &str) -> Heard {
    let wanted = names(path);
    let heard = async {
        loop {
            let heard = ear.next().await.expect("nothing is lost");
            if heard.path == wanted {
                return heard;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.expect("it was heard")
}

#[tokio::test]
async fn a_new_directory_is_to_be_compared_with_all_that_is_in_it_and_heard_once_it_is_listed() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    fs::create_dir_all(directory.path().join("a/b/c")).expect("directories");
    let heard = hear(&mut ear, "a").await;
    assert!(heard.rescan && heard.moved, "nobody listened in it when it was filled: {heard:?}");
    // as a capture lists it
    for path in [&b"a"[..], b"a/b", b"a/b/c"] {
        watch.entering("data", path);
    }
    assert_eq!(watch.watched(), 4);
    fs::write(directory.path().join("a/b/c/file"), b"x").expect("a file");
    hear(&mut ear, "a/b/c/file").await;
    let before = watch.heard();
    fs::write(directory.path().join("a/b/c/file"), b"y").expect("a file");
    while watch.heard() == before {
        hear(&mut ear, "a/b/c/file").await; // a capture can tell that something happened; the first of these may be of the first write
    }
}

/// Clones are such files; whoever hears of them would capture again and again.
#[tokio::test]
async fn a_file_without_a_name_makes_no_noise() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let mut unnamed = fs::File::from(rustix::fs::open(directory.path(), flags, Mode::RUSR | Mode::WUSR).expect("a file"));
    unnamed.write_all(b"x").expect("written");
    drop(unnamed);
    // a name that only looks like one is heard of
    fs::write(directory.path().join("#17"), b"x").expect("a file");
    let first = tokio::time::timeout(Duration::from_secs(30), ear.next()).await.expect("it was heard");
    assert_eq!(first.map(|heard| heard.path), Some(names("#17")));
    let before = watch.heard();
    fs::remove_file(directory.path().join("#17")).expect("removed");
    fs::write(directory.path().join("after"), b"").expect("a file");
    hear(&mut ear, "after").await;
    assert!(watch.heard() > before + 1, "its removal, too");
}

#[tokio::test]
async fn what_moves_is_watched_anew() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    fs::create_dir_all(directory.path().join("a/b")).expect("directories");
    watch.entering("data", b"a");
    watch.entering("data", b"a/b");
    watch.entering("data", b"a/b");
    assert_eq!(watch.watched(), 3, "twice is once");
    fs::rename(directory.path().join("a"), directory.path().join("z")).expect("renamed");
    // events come in order: when this one is heard, all that the renaming made have been
    fs::write(directory.path().join("after"), b"").expect("a file");
    hear(&mut ear, "after").await;
    assert_eq!(watch.watched(), 1, "paths beneath the old name mean nothing any more");
    watch.entering("data", b"z/b");
    fs::write(directory.path().join("z/b/file"), b"x").expect("a file");
    hear(&mut ear, "z/b/file").await;
}

#[tokio::test]
async fn more_than_the_queue_holds_is_a_loss_and_a_loss_is_told_once() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    let file = directory.path().join("file");
    for _ in 0..QUEUE {
        watch.shared.hear(&file, false);
    }
    assert!(!watch.shared.lost.load(Ordering::SeqCst), "so many fit");
    watch.shared.hear(&file, false);
    assert_eq!(ear.next().await, None, "everything may have changed");
    assert!(!ear.drain(|_| {}), "once told, it is known");
    // the kernel's queue may overflow, too
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    watch.shared.handle(Ok(overflow));
    assert!(ear.drain(|_| {}));
    watch.shared.handle(Err(notify::Error::generic("gone")));
    assert_eq!(ear.next().await, None);
}

/// What was lost may have been the news that a directory is another one now.
#[tokio::test]
async fn after_a_loss_every_directory_is_watched_anew() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    fs::create_dir(directory.path().join("a")).expect("a directory");
    hear(&mut ear, "a").await;
    watch.entering("data", b"a");
    watch.shared.lose();
    assert_eq!(ear.next().await, None);
    assert_eq!(watch.watched(), 0);
    watch.entering("data", b"");
    watch.entering("data", b"a");
    fs::write(directory.path().join("a/file"), b"x").expect("a file");
    hear(&mut ear, "a/file").await;
}

#[tokio::test]
async fn what_is_left_out_is_not_heard_of_when_it_is_written() {
    let Lab { directory, watch, mut ear, .. } = lab_without(100, &["*.log"]);
    fs::write(directory.path().join("app.log"), b"").expect("a file");
    hear(&mut ear, "app.log").await; // the directory has changed
    fs::write(directory.path().join("before"), b"").expect("a file");
    hear(&mut ear, "before").await;
    let heard = watch.heard();
    let mut log = fs::File::options().append(true).open(directory.path().join("app.log")).expect("a file");
    log.write_all(b"a line").expect("written");
    drop(log);
    fs::create_dir(directory.path().join("after")).expect("a directory");
    let mut more = 0;
    while ear.next().await.is_some_and(|heard| heard.path != names("after")) {
        more += 1;
    }
    assert!(watch.heard() - heard <= more + 1 && more <= 2, "the line made {more} noises");
}

#[tokio::test]
async fn directories_beyond_the_limit_are_left_to_scans() {
    let Lab { directory, watch, .. } = lab(2);
    fs::create_dir_all(directory.path().join("a")).expect("a directory");
    fs::create_dir_all(directory.path().join("b")).expect("a directory");
    watch.entering("data", b"a");
    assert!(!watch.is_incomplete());
    watch.entering("data", b"b");
    assert!(watch.is_incomplete());
    assert_eq!(watch.watched(), 2);
    watch.entering("data", b"gone");
    watch.entering("other", b"");
    assert_eq!(watch.watched(), 2);
}

#[test]
fn what_is_not_state_is_not_heard() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    let before = watch.heard();
    let created = |path: PathBuf| Event::new(EventKind::Create(CreateKind::File)).add_path(path);
    for own in holdfast_store::disk::OWN_NAMES {
        watch.shared.handle(Ok(created(directory.path().join(OsStr::from_bytes(own)))));
    }
    watch.shared.handle(Ok(created(PathBuf::from("/elsewhere/file"))));
    assert_eq!(watch.heard(), before);
    let modified = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    watch.shared.handle(Ok(Event::new(modified).add_path(directory.path().join("file"))));
    let mut heard = Vec::new();
    assert!(!ear.drain(|one| heard.push(one)));
    assert_eq!(heard, [Heard { root: 0, path: names("file"), rescan: false, moved: false }]);
}

#[tokio::test]
async fn behind_an_echo_everything_before_it_is_heard_and_the_echo_is_not() {
    let Lab { directory, watch, mut ear, .. } = lab(100);
    for round in 0..50 {
        let file = format!("file-{round}");
        fs::write(directory.path().join(&file), b"x").expect("a file");
        assert!(watch.echo().await, "it is heard of");
        let mut heard = Vec::new();
        assert!(!ear.drain(|one| heard.push(one.path)), "nothing is lost");
        assert!(heard.contains(&names(&file)), "{round}: {heard:?}");
        let before = watch.heard();
        assert!(watch.echo().await);
        assert_eq!(watch.heard(), before, "nothing of the state has changed");
    }
}
