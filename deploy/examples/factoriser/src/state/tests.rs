// SPDX-License-Identifier: Apache-2.0
//! A state directory that is whole, torn, of another number, or in use.

use super::*;

const NUMBER: u64 = 90_003;

fn space() -> Space {
    Space::new(NUMBER).unwrap()
}

fn set(blocks: impl IntoIterator<Item = u32>) -> BlockSet {
    blocks.into_iter().collect()
}

fn saved(own: BlockSet, told: BlockSet) -> SavedProgress {
    let space = space();
    let searched = space.size_of(&own);
    SavedProgress { number: NUMBER, block_size: space.block_size(), index: 0, workers: 1, searched, own, told }
}

/// A directory with blocks 0 to 9 in the journal, 0 to 5 of them in `progress.json` too, and 20 and 21 told.
fn half_saved() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, loaded) = StateDir::open(dir.path(), space()).unwrap();
    assert_eq!(loaded, Loaded::default());
    for block in 0..10 {
        state.finish(block).unwrap();
        if block == 5 {
            state.save_progress(&saved(set(0..6), set([20, 21]))).unwrap();
        }
    }
    dir
}

fn reopen(dir: &tempfile::TempDir) -> Loaded {
    StateDir::open(dir.path(), space()).unwrap().1
}

#[test]
fn both_files_are_taken_together() {
    let dir = half_saved();
    let loaded = reopen(&dir);
    assert_eq!((loaded.own.clone(), loaded.told.clone(), loaded.solution), (set(0..10), set([20, 21]), None));
    let searched = space().size_of(&set(0..10));
    assert_eq!(
        loaded.started_from,
        StartedFrom { files: vec![PROGRESS_FILE.into(), JOURNAL_FILE.into()], searched, problems: vec![] }
    );
}

#[test]
fn a_missing_file_is_in_the_other() {
    let dir = half_saved();
    fs::remove_file(dir.path().join(PROGRESS_FILE)).unwrap();
    let loaded = reopen(&dir);
    assert_eq!((loaded.own, loaded.told), (set(0..10), set([])));

    let dir = half_saved();
    fs::remove_file(dir.path().join(JOURNAL_FILE)).unwrap();
    let loaded = reopen(&dir);
    assert_eq!((loaded.own, loaded.told), (set(0..6), set([20, 21])));
}

#[test]
fn a_progress_file_cut_anywhere_falls_back_on_the_journal() {
    let dir = half_saved();
    let path = dir.path().join(PROGRESS_FILE);
    let whole = fs::read(&path).unwrap();
    // without the newline at its end it is still whole
    for length in 0..whole.len() - 1 {
        fs::write(&path, &whole[..length]).unwrap();
        let loaded = reopen(&dir);
        assert_eq!((loaded.own, loaded.told), (set(0..10), set([])), "cut at {length}");
        assert_eq!((loaded.started_from.files, loaded.started_from.problems.len()), (vec![JOURNAL_FILE.to_owned()], 1));
    }
    for torn in [vec![0; whole.len()], vec![0xff; 10], b"{}".to_vec(), b"[]".to_vec()] {
        fs::write(&path, torn).unwrap();
        assert_eq!(reopen(&dir).own, set(0..10));
    }
}

#[test]
fn a_progress_file_that_contradicts_itself_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let good = saved(set([0, 1]), set([2]));
    let bad = [
        SavedProgress { searched: good.searched + 1, ..good.clone() },
        SavedProgress { block_size: good.block_size * 2, ..good.clone() },
        saved(set([space().blocks()]), set([])),
        saved(set([0]), set([space().blocks()])),
    ];
    for progress in bad {
        replace(dir.path(), PROGRESS_FILE, &progress).unwrap();
        let loaded = reopen(&dir);
        assert!(loaded.own.is_empty() && loaded.told.is_empty() && loaded.started_from.problems.len() == 1, "{progress:?}");
    }
    replace(dir.path(), PROGRESS_FILE, &good).unwrap();
    assert_eq!(reopen(&dir).own, good.own);
}

#[test]
fn what_a_crash_left_of_a_write_is_cleared() {
    let dir = half_saved();
    let left = dir.path().join("progress.json.tmp");
    fs::write(&left, "{").unwrap();
    assert_eq!(reopen(&dir).own, set(0..10));
    assert!(!left.exists());
}

#[test]
fn a_solution_counts_only_if_it_solves() {
    let dir = tempfile::tempdir().unwrap();
    let solution = space().search(2..=NUMBER).unwrap();
    let (mut state, _) = StateDir::open(dir.path(), space()).unwrap();
    state.save_solution(solution, Some(2)).unwrap();
    drop(state);
    assert_eq!(reopen(&dir).solution, Some(solution));

    let path = dir.path().join(SOLUTION_FILE);
    let whole = fs::read_to_string(&path).unwrap();
    let other = whole.replace(&solution.cofactor().to_string(), &(solution.cofactor() - 1).to_string());
    let half = whole[..whole.len() / 2].to_owned();
    for text in [String::new(), half, other, format!(r#"{{"number":{NUMBER},"solution":[1,{NUMBER}],"found_by":null}}"#)] {
        fs::write(&path, &text).unwrap();
        let loaded = reopen(&dir);
        assert_eq!((loaded.solution, loaded.started_from.problems.len()), (None, 1), "{text}");
    }
}

#[test]
fn another_numbers_directory_is_refused() {
    let dir = half_saved();
    let other = Space::new(NUMBER + 2).unwrap();
    assert!(matches!(StateDir::open(dir.path(), other), Err(Error::OtherNumber { found: NUMBER, .. })));
    fs::remove_file(dir.path().join(JOURNAL_FILE)).unwrap();
    assert!(matches!(StateDir::open(dir.path(), other), Err(Error::OtherNumber { found: NUMBER, .. })));
}

#[test]
fn a_directory_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path(), space()).unwrap();
    assert!(matches!(StateDir::open(dir.path(), space()), Err(Error::InUse(_))));
    drop(first);
    assert!(StateDir::open(dir.path(), space()).is_ok());
}
