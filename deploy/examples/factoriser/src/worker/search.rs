// SPDX-License-Identifier: Apache-2.0
//! The search itself, on a thread of its own: the only one that writes to the state directory.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::report::Phase;
use crate::state::{SAVE_EVERY, SavedProgress, StateDir};
use crate::{Error, Solution};

use super::shared::Shared;

/// How the search of a block ended.
#[derive(Debug, PartialEq, Eq)]
enum Searched {
    /// No candidate divides the number.
    Clean,
    /// One does.
    Found(Solution),
    /// It was called off.
    CalledOff,
}

pub(super) struct Search {
    shared: Arc<Shared>,
    state: StateDir,
    pace: Pace,
    wait: Duration,
    saved_at: Instant,
    saved: Option<SavedProgress>,
    solution_saved: bool,
}

impl Search {
    pub(super) fn new(shared: Arc<Shared>, state: StateDir, rate: Option<NonZeroU64>, wait: Duration) -> Self {
        let solution_saved = shared.report().solution.is_some();
        Self { shared, state, pace: Pace::new(rate), wait, saved_at: Instant::now(), saved: None, solution_saved }
    }

    /// Searches the worker's share, then writes what else comes up, until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), Error> {
        self.save()?;
        self.shared.wait_to_begin(self.wait);
        self.shared.set_phase(Phase::Searching);
        let through = self.search_share()?;
        self.save()?;
        if through {
            self.shared.set_phase(Phase::Finished);
        }
        while !self.shared.wait_for_news() {
            self.save()?;
        }
        self.save()?;
        self.shared.set_phase(Phase::Stopped);
        Ok(())
    }

    /// Whether the search came to the end of the share.
    fn search_share(&mut self) -> Result<bool, Error> {
        for block in self.shared.space.share(self.shared.index, self.shared.workers) {
            if self.shared.is_done(block) {
                continue;
            }
            match self.search_block(block) {
                Searched::Clean => {
                    self.state.finish(block)?;
                    self.shared.finish(block);
                    if self.saved_at.elapsed() >= SAVE_EVERY {
                        self.save()?;
                    }
                }
                Searched::Found(solution) => {
                    // safe before it is told, and its block never counts as finished: it would be found again
                    self.state.save_solution(solution, Some(self.shared.index))?;
                    self.solution_saved = true;
                    self.shared.solve(solution);
                    return Ok(false);
                }
                Searched::CalledOff => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Searches a block downwards in slices, at the pace asked for.
    fn search_block(&mut self, block: u32) -> Searched {
        let range = self.shared.space.range(block);
        let mut high = *range.end();
        while high >= *range.start() {
            let low = high.saturating_sub(self.pace.slice() - 1).max(*range.start());
            let due = self.pace.spend(Instant::now(), high - low + 1);
            if due.map_or_else(|| self.shared.is_over(), |due| self.shared.wait_until(due)) {
                return Searched::CalledOff;
            }
            self.shared.set_position(high);
            if let Some(solution) = self.shared.space.search(low..=high) {
                return Searched::Found(solution);
            }
            high = low - 1;
        }
        Searched::Clean
    }

    /// Writes what isn't written yet.
    fn save(&mut self) -> Result<(), Error> {
        let (progress, solution) = self.shared.to_save();
        if let Some(solution) = solution.filter(|_| !self.solution_saved) {
            self.state.save_solution(solution, None)?;
            self.solution_saved = true;
        }
        if self.saved.as_ref() != Some(&progress) {
            self.state.save_progress(&progress)?;
            self.saved = Some(progress);
        }
        self.saved_at = Instant::now();
        Ok(())
    }
}
