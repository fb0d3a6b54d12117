// SPDX-License-Identifier: Apache-2.0
//! What the master knows, and what follows from it. No clock and no network: both are told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Solution;
use crate::blocks::BlockSet;
use crate::report::{Known, Phase, Progress, Report, Stop, WorkerProgress};
use crate::space::Space;

/// What a master remembers from one life to the next: `ledger.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The number whose factors are searched.
    pub number: u64,
    /// The solution, once found.
    pub solution: Option<Solution>,
    /// The last report of every worker there ever was.
    pub reports: BTreeMap<u32, Report>,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { number, solution: None, reports: BTreeMap::new() }
    }
}

/// What a worker is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Know(Known),
    Stop(Stop),
}

#[derive(Debug)]
struct Entry {
    url: String,
    /// Why it doesn't count as alive, if it doesn't.
    problem: Option<String>,
    /// It has answered this master, as one of this many workers.
    met: bool,
    /// Since when it has been waiting to begin.
    waiting: Option<Instant>,
}

/// Everything the master knows.
#[derive(Debug)]
pub(super) struct Board {
    space: Space,
    entries: Vec<Entry>,
    /// The last reports. A worker's replaces its former one, even if it says less: then that much is lost.
    reports: BTreeMap<u32, Report>,
    solution: Option<Solution>,
    patience: Duration,
}

impl Board {
    pub(super) fn new(space: Space, urls: Vec<String>, ledger: Ledger, patience: Duration) -> Self {
        let mut reports = ledger.reports;
        reports.retain(|_, report| report.number == space.number() && space.admits(&report.own.union(&report.told)));
        let problem = Some("not asked yet".to_owned());
        let entries = urls.into_iter().map(|url| Entry { url, problem: problem.clone(), met: false, waiting: None }).collect();
        let solution = ledger.solution.filter(|solution| solution.solves(space.number()));
        Self { space, entries, reports, solution, patience }
    }

    pub(super) fn urls(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.url.as_str())
    }

    fn workers(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Takes a worker's answer, or why there is none.
    pub(super) fn take(&mut self, index: usize, answer: Result<Report, String>, now: Instant) {
        let (workers, space, expected) = (self.workers(), self.space, index as u32);
        let Some(entry) = self.entries.get_mut(index) else { return };
        let answer = answer.and_then(|report| check(&space, expected, report));
        match answer {
            Ok(report) => {
                entry.problem = None;
                entry.met |= report.workers == workers;
                entry.waiting = (report.phase == Phase::Waiting).then(|| entry.waiting.unwrap_or(now));
                self.solution = self.solution.or(report.solution);
                self.reports.insert(expected, report);
            }
            Err(problem) => {
                entry.problem = Some(problem);
                entry.waiting = None;
            }
        }
    }

    /// What the workers that are alive are to be told.
    pub(super) fn orders(&self, now: Instant) -> Vec<(String, Order)> {
        let all_met = self.entries.iter().all(|entry| entry.met);
        let mut orders = Vec::new();
        for (index, entry) in (0..).zip(&self.entries) {
            let Some(report) = self.reports.get(&index).filter(|_| entry.problem.is_none()) else { continue };
            if report.phase == Phase::Stopped || report.solution.is_some() {
                continue;
            }
            if let Some(solution) = self.solution {
                orders.push((entry.url.clone(), Order::Stop(Stop { solution })));
                continue;
            }
            let patience_ends = entry.waiting.and_then(|since| since.checked_add(self.patience));
            let begin = entry.waiting.is_some() && (all_met || patience_ends.is_some_and(|end| end <= now));
            let known = self.known_to_others(index, report);
            // one of another number of workers is about to be restarted, and has no use for this
            if begin || (report.workers == self.workers() && !known.is_empty()) {
                orders.push((entry.url.clone(), Order::Know(Known { known, begin })));
            }
        }
        orders
    }

    /// What of a worker's share others have done and it doesn't know.
    fn known_to_others(&self, index: u32, report: &Report) -> BlockSet {
        let others = self.reports.iter().filter(|(other, _)| **other != index);
        let done = others.fold(BlockSet::new(), |done, (_, other)| done.union(&other.own).union(&other.told));
        let share = self.space.share_set(index, report.workers);
        done.intersection(&share).without(&report.own).without(&report.told)
    }

    /// All blocks that have been searched.
    fn done(&self) -> BlockSet {
        self.reports.values().fold(BlockSet::new(), |done, report| done.union(&report.own).union(&report.told))
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger { number: self.space.number(), solution: self.solution, reports: self.reports.clone() }
    }

    /// What the master answers.
    pub(super) fn progress(&self) -> Progress {
        let done = self.done();
        let progress_done = self.space.size_of(&done);
        let prime = match self.solution {
            Some(_) => Some(false),
            // a block with a divisor in it never counts as finished
            None => (progress_done == self.space.candidates()).then_some(true),
        };
        let solution = if prime == Some(true) { Some(Solution::prime(self.space.number())) } else { self.solution };
        Progress {
            number: self.space.number(),
            progress_all: self.space.candidates(),
            progress_done,
            solution,
            prime,
            workers: (0..).zip(&self.entries).map(|(index, entry)| self.worker(index, entry, &done)).collect(),
            retired: self.reports.keys().copied().filter(|index| *index >= self.workers()).collect(),
        }
    }

    fn worker(&self, index: u32, entry: &Entry, done: &BlockSet) -> WorkerProgress {
        let report = self.reports.get(&index);
        let share = self.space.share_set(index, self.workers());
        WorkerProgress {
            index,
            url: entry.url.clone(),
            alive: entry.problem.is_none(),
            problem: entry.problem.clone(),
            phase: report.map(|report| report.phase),
            done: self.space.size_of(&share.intersection(done)),
            all: self.space.size_of(&share),
            searched: report.map_or(0, |report| report.searched),
            position: report.and_then(|report| report.position),
            started_from: report.map(|report| report.started_from.clone()),
        }
    }
}

/// Whether a report is one that can be counted.
fn check(space: &Space, index: u32, report: Report) -> Result<Report, String> {
    if report.number != space.number() {
        Err(format!("it searches factors of {}", report.number))
    } else if report.index != index {
        Err(format!("it is worker {}", report.index))
    } else if !space.admits(&report.own.union(&report.told)) {
        Err("it reports blocks that don't exist".to_owned())
    } else if report.solution.is_some_and(|solution| !solution.solves(space.number())) {
        Err("it reports a solution that is none".to_owned())
    } else {
        Ok(report)
    }
}

#[cfg(test)]
mod tests;
