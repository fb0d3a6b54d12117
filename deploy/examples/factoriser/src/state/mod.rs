// SPDX-License-Identifier: Apache-2.0
//! A worker's state directory.
//!
//! | file            | written                                | says                                                     |
//! |-----------------|----------------------------------------|----------------------------------------------------------|
//! | `journal.log`   | a line appended per block searched     | what was searched, by this worker                        |
//! | `progress.json` | replaced every [`SAVE_EVERY`]          | the same, and what this worker was told by the master    |
//! | `solution.json` | replaced once                          | the solution                                             |
//!
//! Whether a block counts is decided by the line in the journal: a kill at any moment loses the block in hand and nothing
//! else. `progress.json` follows the journal, which is synced first. What both say together is taken at the start; what
//! one of them has lost is in the other, except that the master tells again what it has told.

mod file;
mod journal;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blocks::BlockSet;
use crate::report::StartedFrom;
use crate::space::Space;
use crate::{Error, Solution};

pub(crate) use file::{Found, clear, read, replace};
pub use journal::{FILE as JOURNAL_FILE, line as journal_line};

/// How often progress is written, while there is any.
pub const SAVE_EVERY: Duration = Duration::from_millis(100);

/// The name of the progress file.
pub const PROGRESS_FILE: &str = "progress.json";

/// The name of the solution file.
pub const SOLUTION_FILE: &str = "solution.json";

/// What `progress.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedProgress {
    /// The number whose factors are searched.
    pub number: u64,
    /// Candidates in a block.
    pub block_size: u64,
    /// Which worker wrote it, for those who look.
    pub index: u32,
    /// Among how many, for those who look.
    pub workers: u32,
    /// Candidates in the worker's own blocks: what those who look want to know, and a check on them.
    pub searched: u64,
    /// The blocks that this worker has searched.
    pub own: BlockSet,
    /// Blocks that the master has told it others have searched.
    pub told: BlockSet,
}

/// What `solution.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSolution {
    /// The number.
    pub number: u64,
    /// Its factors.
    pub solution: Solution,
    /// The worker that found it; none when the master told it.
    pub found_by: Option<u32>,
}

/// What a state directory says when it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The blocks that this worker has searched.
    pub own: BlockSet,
    /// The blocks that others have searched, as far as the master has told.
    pub told: BlockSet,
    /// The solution, if it is known.
    pub solution: Option<Solution>,
    /// The above in words.
    pub started_from: StartedFrom,
}

/// A state directory in use by this process.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    space: Space,
    journal: journal::Journal,
}

impl StateDir {
    /// Opens a state directory, which needn't exist yet, and reads what it says about the search in this space.
    ///
    /// Torn files are passed over. A directory that another process has open, or that is about another number, is refused.
    pub fn open(dir: &Path, space: Space) -> Result<(Self, Loaded), Error> {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let (journal, said) = journal::Journal::open(dir, space)?;
        let state = Self { dir: dir.to_owned(), space, journal };
        let mut loaded = Loaded::default();
        clear(dir, PROGRESS_FILE)?;
        clear(dir, SOLUTION_FILE)?;
        state.load_progress(&mut loaded)?;
        if !said.blocks.is_empty() {
            loaded.started_from.files.push(JOURNAL_FILE.to_owned());
        }
        if said.spoilt > 0 {
            loaded.started_from.problems.push(format!("{} lines of {JOURNAL_FILE} are torn and count for nothing", said.spoilt));
        }
        loaded.own = loaded.own.union(&said.blocks);
        loaded.told = loaded.told.without(&loaded.own);
        loaded.started_from.searched = space.size_of(&loaded.own);
        state.load_solution(&mut loaded)?;
        Ok((state, loaded))
    }

    fn load_progress(&self, loaded: &mut Loaded) -> Result<(), Error> {
        let path = self.dir.join(PROGRESS_FILE);
        let problem = match read::<SavedProgress>(&path)? {
            Found::Nothing => return Ok(()),
            Found::Torn(why) => why,
            Found::Whole(saved) if saved.number != self.space.number() => {
                return Err(Error::OtherNumber { path, found: saved.number, number: self.space.number() });
            }
            Found::Whole(saved) => match self.check(&saved) {
                Ok(()) => {
                    (loaded.own, loaded.told) = (saved.own, saved.told);
                    loaded.started_from.files.push(PROGRESS_FILE.to_owned());
                    return Ok(());
                }
                Err(why) => why.to_owned(),
            },
        };
        loaded.started_from.problems.push(format!("{PROGRESS_FILE} counts for nothing: {problem}"));
        Ok(())
    }

    fn check(&self, saved: &SavedProgress) -> Result<(), &'static str> {
        if saved.block_size != self.space.block_size() {
            Err("its blocks are of another size")
        } else if !self.space.admits(&saved.own.union(&saved.told)) {
            Err("it has blocks that don't exist")
        } else if saved.searched != self.space.size_of(&saved.own) {
            Err("its blocks and its sum contradict each other")
        } else {
            Ok(())
        }
    }

    fn load_solution(&self, loaded: &mut Loaded) -> Result<(), Error> {
        let problem = match read::<SavedSolution>(&self.dir.join(SOLUTION_FILE))? {
            Found::Nothing => return Ok(()),
            Found::Torn(why) => why,
            Found::Whole(saved) if saved.solution.solves(self.space.number()) => {
                loaded.solution = Some(saved.solution);
                loaded.started_from.files.push(SOLUTION_FILE.to_owned());
                return Ok(());
            }
            Found::Whole(_) => "it solves nothing".to_owned(),
        };
        loaded.started_from.problems.push(format!("{SOLUTION_FILE} counts for nothing: {problem}"));
        Ok(())
    }

    /// Counts a block as finished: every candidate of it was tried and none divides the number.
    pub fn finish(&mut self, block: u32) -> Result<(), Error> {
        self.journal.append(block)
    }

    /// Writes `progress.json`, after making sure of the journal.
    pub fn save_progress(&mut self, progress: &SavedProgress) -> Result<(), Error> {
        self.journal.sync()?;
        replace(&self.dir, PROGRESS_FILE, progress)
    }

    /// Writes `solution.json`.
    pub fn save_solution(&mut self, solution: Solution, found_by: Option<u32>) -> Result<(), Error> {
        replace(&self.dir, SOLUTION_FILE, &SavedSolution { number: self.space.number(), solution, found_by })
    }
}

#[cfg(test)]
mod tests;
