// SPDX-License-Identifier: Apache-2.0
//! What workers and master tell: the JSON of their HTTP interfaces.

use serde::{Deserialize, Serialize};

use crate::Solution;
use crate::blocks::BlockSet;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has started and waits for the master's word on what others have done of its share.
    Waiting,
    /// It searches.
    Searching,
    /// Its whole share has been searched.
    Finished,
    /// The solution is known.
    Solved,
    /// It was asked to stop and has written its last progress.
    Stopped,
}

/// What a worker resumed with when it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedFrom {
    /// The files it was read from; empty for a fresh start.
    pub files: Vec<String>,
    /// Candidates searched by this worker before.
    pub searched: u64,
    /// What was wrong with the files and how it was dealt with.
    pub problems: Vec<String>,
}

/// A worker's answer to `GET /progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The number whose factors it searches.
    pub number: u64,
    /// Which worker it is, from 0.
    pub index: u32,
    /// Among how many it shares the work.
    pub workers: u32,
    /// What it is doing.
    pub phase: Phase,
    /// Candidates of its share that have been searched, by whomever.
    pub done: u64,
    /// Candidates of its share.
    pub all: u64,
    /// Candidates that it has searched itself, whoever's share they are in by now.
    pub searched: u64,
    /// The candidate it is at, while it searches.
    pub position: Option<u64>,
    /// The solution, if it knows one.
    pub solution: Option<Solution>,
    /// What it resumed with.
    pub started_from: StartedFrom,
    /// The blocks it has searched itself.
    pub own: BlockSet,
    /// Blocks of its share that others have searched while there was another number of workers.
    pub told: BlockSet,
}

/// The body of `POST /known` to a worker: what the master knows of that worker's share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Blocks of its share that others have searched.
    pub known: BlockSet,
    /// Whether this is all there is to wait for.
    #[serde(default)]
    pub begin: bool,
}

/// The body of `POST /stop` to a worker: no need to search on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The solution, which the worker checks.
    pub solution: Solution,
}

/// One worker in the master's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerProgress {
    /// Which worker.
    pub index: u32,
    /// Where it is asked.
    pub url: String,
    /// Whether it has answered the last question.
    pub alive: bool,
    /// Why it counts as not alive.
    pub problem: Option<String>,
    /// Its last phase known.
    pub phase: Option<Phase>,
    /// Candidates of its share that have been searched, as last known.
    pub done: u64,
    /// Candidates of its share.
    pub all: u64,
    /// Candidates that it has searched itself, as last known.
    pub searched: u64,
    /// Where it was last.
    pub position: Option<u64>,
    /// What it resumed with when it was last started.
    pub started_from: Option<StartedFrom>,
}

/// The master's answer to `GET /progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The number whose factors are searched.
    pub number: u64,
    /// Candidates in all.
    pub progress_all: u64,
    /// Candidates searched, each counted once.
    pub progress_done: u64,
    /// `[factor, cofactor]` once found; `[1, number]` for a prime, once everything has been searched.
    pub solution: Option<Solution>,
    /// Whether the number is prime, once that is known.
    pub prime: Option<bool>,
    /// The workers by index.
    pub workers: Vec<WorkerProgress>,
    /// Workers there once were, before the work was shared among fewer; what they have done counts.
    pub retired: Vec<u32>,
}
