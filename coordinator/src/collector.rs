// SPDX-License-Identifier: Apache-2.0
//! The collector: thins the lineages of a repository as their policies say, and deletes what nothing reaches, again and again.
//!
//! Whoever runs a coordinator runs it beside; any number of them may: the role's log in the store decides which one collects.

use crate::clock::Clock;
use holdfast_core::collection::{Rounds, Went};
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::policy::Retention;
use holdfast_core::time::Timestamp;
use holdfast_store::collect::{Ended, Options, Reason, Report, Request, Tally, collect};
use holdfast_store::repository::Repository;
use holdfast_store::{Result, StoreError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What is to remain of a lineage, by the names of its domain and its own; `None`: everything.
pub type Policies = Arc<dyn Fn(&str, &str) -> Option<Retention> + Send + Sync>;

/// What a collector works with.
#[derive(Clone)]
pub struct CollectorConfig {
    /// The repository.
    pub repository: Repository,
    /// Whose lineages it may touch.
    pub owner: OwnerId,
    /// Who it is, for people.
    pub holder: String,
    /// What is to remain.
    pub policies: Policies,
    /// Lineages are thinned so often.
    pub every: Duration,
    /// Packs are looked for so often: that reads the trees of all that remains.
    pub packs_every: Duration,
    /// How thorough to be; whether packs are looked for is decided by the round.
    pub options: Options,
}

impl fmt::Debug for CollectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectorConfig({}, every {:?}, packs every {:?})", self.holder, self.every, self.packs_every)
    }
}

/// What a collector has done since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Rounds that came to their end.
    pub rounds: u64,
    /// Rounds that failed.
    pub failures: u64,
    /// Rounds in which another collector was faster.
    pub superseded: u64,
    /// When the last round came to its end.
    pub last: Option<Timestamp>,
    /// Objects that were deleted, by reason.
    pub gone: BTreeMap<Reason, Tally>,
    /// Packs that were rewritten, and the bytes that came free.
    pub rewritten: Tally,
    /// What kept the last round from doing more.
    pub problems: Vec<String>,
}

impl Collected {
    fn add(&mut self, report: &Report, now: Timestamp) {
        match report.ended {
            Ended::Superseded => self.superseded += 1,
            Ended::Done | Ended::Planned => self.rounds += 1,
        }
        for (reason, tally) in report.gone() {
            *self.gone.entry(reason).or_default() += tally;
        }
        for lineage in &report.lineages {
            self.rewritten += lineage.rewritten;
        }
        self.last = Some(now);
        self.problems.clone_from(&report.problems);
    }
}

/// What a round means for the next one.
pub(crate) fn went(result: &Result<Report>) -> Went {
    match result {
        Ok(report) if report.ended == Ended::Superseded => Went::Failed,
        Ok(report) if report.more => Went::More,
        Ok(_) => Went::Done,
        Err(_) => Went::Failed,
    }
}

/// Collects a repository. Clones are the same collector.
#[derive(Debug, Clone)]
pub struct Collector {
    config: CollectorConfig,
    holder_key: HolderKey,
    clock: Clock,
    collected: Arc<Mutex<Collected>>,
}

impl Collector {
    /// A collector. It does nothing until it is run.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(config: CollectorConfig) -> Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)
            .map_err(|error| StoreError::Scratch { path: "the system's random numbers".to_owned(), source: error.into() })?;
        Ok(Self { config, holder_key: HolderKey::new(key), clock: Clock::new(), collected: Arc::default() })
    }

    /// What it has done so far.
    #[must_use]
    pub fn collected(&self) -> Collected {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Collects at its pace until it is told to stop. A round that is under way then is dropped: that is safe at any request.
    pub async fn run(&self, stop: CancellationToken) {
        let mut rounds = Rounds::new(self.clock.monotonic(), self.config.every, self.config.packs_every);
        loop {
            let wait = rounds.wait(self.clock.monotonic());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let packs = rounds.with_packs(self.clock.monotonic());
            let result = tokio::select! {
                () = stop.cancelled() => return,
                round = self.round(packs) => round,
            };
            if let Err(error) = &result {
                tracing::warn!(%error, "a collection failed; it goes on later");
            }
            rounds.ended(self.clock.monotonic(), packs, went(&result));
        }
    }

    /// Collects once.
    ///
    /// # Errors
    /// If the store fails, or what a decision rests on is damaged.
    pub async fn round(&self, packs: bool) -> Result<Report> {
        let now = self.clock.now();
        let policies = &self.config.policies;
        let retention = |domain: &str, lineage: &str| policies(domain, lineage);
        let request = Request {
            repository: &self.config.repository,
            owner: self.config.owner,
            holder: self.config.holder.clone(),
            holder_key: self.holder_key,
            now,
            retention: &retention,
            options: Options { packs, ..self.config.options },
        };
        let result = Box::pin(collect(&request)).await;
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(report) => collected.add(report, now),
            Err(_) => collected.failures += 1,
        }
        result
    }
}
