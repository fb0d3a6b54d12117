// SPDX-License-Identifier: Apache-2.0
//! What the search and the HTTP interface share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::Solution;
use crate::blocks::BlockSet;
use crate::report::{Known, Phase, Report, StartedFrom};
use crate::space::Space;
use crate::state::{Loaded, SavedProgress};

#[derive(Debug)]
struct Inner {
    own: BlockSet,
    told: BlockSet,
    solution: Option<Solution>,
    phase: Phase,
    position: Option<u64>,
    /// The search may begin.
    begin: bool,
    /// The search is to stop, for good.
    stop: bool,
    /// The master has told something that isn't written yet.
    news: bool,
    /// When a master has asked last.
    asked: Option<Instant>,
}

/// A worker's memory. The search thread alone writes files; it hears of news through the condition variable.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) space: Space,
    pub(super) index: u32,
    pub(super) workers: u32,
    share: BlockSet,
    started_from: StartedFrom,
    inner: Mutex<Inner>,
    changed: Condvar,
    last_fetched: Notify,
}

impl Shared {
    pub(super) fn new(space: Space, index: u32, workers: u32, loaded: Loaded) -> Self {
        let inner = Inner {
            own: loaded.own,
            told: loaded.told,
            solution: loaded.solution,
            phase: if loaded.solution.is_some() { Phase::Solved } else { Phase::Waiting },
            position: None,
            begin: false,
            stop: false,
            news: false,
            asked: None,
        };
        let share = space.share_set(index, workers);
        let (inner, changed, last_fetched) = (Mutex::new(inner), Condvar::new(), Notify::new());
        Self { space, index, workers, share, started_from: loaded.started_from, inner, changed, last_fetched }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // every change is made whole under the lock, so a panic elsewhere leaves nothing half done
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Tells the search to stop.
    pub(super) fn stop(&self) {
        self.change(|inner| inner.stop = true);
    }

    /// Takes what the master knows of this worker's share; whether the blocks exist.
    pub(super) fn tell_known(&self, known: &Known) -> bool {
        if !self.space.admits(&known.known) {
            return false;
        }
        self.change(|inner| {
            let told = inner.told.union(&known.known).without(&inner.own);
            inner.news |= told != inner.told;
            inner.told = told;
            inner.begin |= known.begin;
        });
        true
    }

    /// Takes the solution from the master; whether it is one.
    pub(super) fn tell_solution(&self, solution: Solution) -> bool {
        let solves = solution.solves(self.space.number());
        if solves {
            self.change(|inner| {
                // once it has stopped, nothing is written any more
                if inner.solution.is_none() && inner.phase != Phase::Stopped {
                    inner.solution = Some(solution);
                    inner.news = true;
                    inner.phase = Phase::Solved;
                }
            });
        }
        solves
    }

    /// Publishes the solution that this worker has found and written.
    pub(super) fn solve(&self, solution: Solution) {
        self.change(|inner| {
            inner.solution = Some(solution);
            inner.phase = Phase::Solved;
        });
    }

    /// Publishes a block that this worker has searched and written.
    pub(super) fn finish(&self, block: u32) {
        let mut inner = self.lock();
        inner.own.insert(block);
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.change(|inner| {
            // that it is solved is worth telling for as long as it works
            if inner.solution.is_none() || phase == Phase::Stopped {
                inner.phase = phase;
            }
            inner.position = None;
        });
    }

    pub(super) fn set_position(&self, candidate: u64) {
        self.lock().position = Some(candidate);
    }

    /// Whether the block has been searched by anyone known.
    pub(super) fn is_done(&self, block: u32) -> bool {
        let inner = self.lock();
        inner.own.contains(block) || inner.told.contains(block)
    }

    /// Whether there is nothing more to search.
    pub(super) fn is_over(&self) -> bool {
        let inner = self.lock();
        inner.stop || inner.solution.is_some()
    }

    /// Waits until the search may begin: the master's word, or no master for a while.
    pub(super) fn wait_to_begin(&self, wait: Duration) {
        let started = Instant::now();
        let mut inner = self.lock();
        while !(inner.begin || inner.stop || inner.solution.is_some()) {
            let quiet = inner.asked.unwrap_or(started).elapsed();
            let Some(left) = wait.checked_sub(quiet).filter(|left| !left.is_zero()) else { return };
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the instant; whether there is nothing more to search, which ends the wait at once.
    pub(super) fn wait_until(&self, instant: Instant) -> bool {
        let mut inner = self.lock();
        loop {
            if inner.stop || inner.solution.is_some() {
                return true;
            }
            let left = instant.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for news or the order to stop; whether it is the latter.
    pub(super) fn wait_for_news(&self) -> bool {
        let mut inner = self.lock();
        while !(inner.stop || inner.news) {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.stop
    }

    /// What is to be written; there is no news after that.
    pub(super) fn to_save(&self) -> (SavedProgress, Option<Solution>) {
        let mut inner = self.lock();
        inner.news = false;
        let progress = SavedProgress {
            number: self.space.number(),
            block_size: self.space.block_size(),
            index: self.index,
            workers: self.workers,
            searched: self.space.size_of(&inner.own),
            own: inner.own.clone(),
            told: inner.told.clone(),
        };
        (progress, inner.solution)
    }

    /// What this worker tells.
    pub(super) fn report(&self) -> Report {
        let inner = self.lock();
        let done = inner.own.union(&inner.told).intersection(&self.share);
        Report {
            number: self.space.number(),
            index: self.index,
            workers: self.workers,
            phase: inner.phase,
            done: self.space.size_of(&done),
            all: self.space.size_of(&self.share),
            searched: self.space.size_of(&inner.own),
            position: inner.position,
            solution: inner.solution,
            started_from: self.started_from.clone(),
            own: inner.own.clone(),
            told: inner.told.clone(),
        }
    }

    /// The same, asked by a master.
    pub(super) fn report_to_master(&self) -> Report {
        self.change(|inner| inner.asked = Some(Instant::now()));
        let report = self.report();
        if report.phase == Phase::Stopped {
            self.last_fetched.notify_one();
        }
        report
    }

    /// Waits until a master has fetched the last report, if one has asked at all, and this long at most. Once the solution
    /// is known, nobody needs it.
    pub(super) async fn linger(&self, linger: Duration) {
        let awaited = {
            let inner = self.lock();
            inner.solution.is_none() && inner.asked.is_some_and(|asked| asked.elapsed() < linger * 2)
        };
        if awaited {
            // in vain if the master is gone too
            let _ = tokio::time::timeout(linger, self.last_fetched.notified()).await;
        }
    }
}
