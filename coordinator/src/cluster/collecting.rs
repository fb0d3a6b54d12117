// SPDX-License-Identifier: Apache-2.0
//! Retention in a cluster: the leader thins the lineages of each repository as the policies of their pods say, deletes what nothing reaches, and
//! says what it did: in the log, in metrics, and as Events on StateRepositories.
//!
//! A process that leads no more and doesn't know it yet does no harm: the role's log in the repository decides who may delete.

use super::events::News;
use super::leading::Leading;
use crate::collector::{Collector, CollectorConfig, went};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use holdfast_core::collection::{Rounds, Went};
use holdfast_core::id::{OwnerId, RepositoryId};
use holdfast_core::time::Monotonic;
use holdfast_store::Result;
use holdfast_store::collect::{Ended, Options, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use wishes::{Sight, Task, tasks};

#[cfg(test)]
mod tests;
mod wishes;

/// Repositories that are collected at once: each takes some MiB, and a few requests at a time.
const AT_ONCE: usize = 2;
/// Whose turn it is is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Packs are looked for no more often than this: it reads the trees of all that remains.
const PACKS_EVERY: Duration = Duration::from_hours(24);
/// Problems that an Event names.
const PROBLEMS_MAX: usize = 3;

/// What a collector of a cluster works with.
pub(crate) struct Collecting {
    pub(crate) with: Leading,
    pub(crate) owner: OwnerId,
    /// Who collects, for people.
    pub(crate) holder: String,
    /// How often lineages are thinned.
    pub(crate) every: Duration,
    /// How thorough to be.
    pub(crate) options: Options,
}

/// How a round ended.
struct Round {
    id: RepositoryId,
    task: Task,
    packs: bool,
    result: Result<Report>,
}

/// Whose turn it is. A repository that can't be used for a while keeps its turn.
#[derive(Debug, Default)]
struct Turns {
    rounds: BTreeMap<RepositoryId, Rounds>,
    running: BTreeSet<RepositoryId>,
}

impl Turns {
    /// Those whose turn has come, the most overdue first, as many as there is room for; and whether they look for packs.
    fn take(&mut self, now: Monotonic, every: Duration, known: impl Iterator<Item = RepositoryId>) -> Vec<(RepositoryId, bool)> {
        let mut due = Vec::new();
        for id in known {
            let rounds = self.rounds.entry(id).or_insert_with(|| Rounds::new(now, every, PACKS_EVERY));
            if !self.running.contains(&id) && rounds.wait(now).is_zero() {
                due.push((rounds.due(), id, rounds.with_packs(now)));
            }
        }
        due.sort_unstable();
        due.truncate(AT_ONCE.saturating_sub(self.running.len()));
        self.running.extend(due.iter().map(|(_, id, _)| *id));
        due.into_iter().map(|(_, id, packs)| (id, packs)).collect()
    }

    fn ended(&mut self, now: Monotonic, id: RepositoryId, packs: bool, went: Went) {
        self.running.remove(&id);
        if let Some(rounds) = self.rounds.get_mut(&id) {
            rounds.ended(now, packs, went);
        }
    }
}

/// Collects for ever. To be dropped at any moment is as good as a death between two requests: the next one goes on.
pub(crate) async fn run(collecting: Collecting) {
    collecting.with.objects.listed().await;
    let (mut turns, mut work) = (Turns::default(), FuturesUnordered::new());
    loop {
        let mut tasks = collecting.tasks();
        let known: Vec<_> = tasks.keys().copied().collect();
        for (id, packs) in turns.take(collecting.with.clock.monotonic(), collecting.every, known.into_iter()) {
            work.extend(tasks.remove(&id).map(|task| collecting.round(id, task, packs)));
        }
        tokio::select! {
            Some(round) = work.next(), if !work.is_empty() => {
                collecting.tell(&round);
                turns.ended(collecting.with.clock.monotonic(), round.id, round.packs, went(&round.result));
            }
            () = tokio::time::sleep(LOOK_EVERY.min(collecting.every)) => {}
        }
    }
}

impl Collecting {
    fn tasks(&self) -> BTreeMap<RepositoryId, Task> {
        let sight = Sight {
            lineages: self.with.objects.lineages.state(),
            pods: self.with.objects.pods.state(),
            policies: self.with.objects.policies.state(),
            repositories: self.with.objects.repositories.state(),
        };
        let open = self.with.repositories.borrow().clone();
        tasks(&sight, &open)
    }

    async fn round(&self, id: RepositoryId, task: Task, packs: bool) -> Round {
        let wishes = Arc::clone(&task.wishes);
        let config = CollectorConfig {
            repository: task.repository.clone(),
            owner: self.owner,
            holder: self.holder.clone(),
            policies: Arc::new(move |domain, lineage| wishes.get(&(domain.to_owned(), lineage.to_owned())).cloned().flatten()),
            every: self.every,
            packs_every: PACKS_EVERY,
            options: self.options,
        };
        let result = match Collector::new(config) {
            Ok(collector) => Box::pin(collector.round(packs)).await,
            Err(error) => Err(error),
        };
        Round { id, task, packs, result }
    }

    /// Says what a round did, lineage by lineage in the log and in sum to everybody else.
    fn tell(&self, round: &Round) {
        let key = &round.task.key;
        let news = |is_warning: bool, reason: &'static str, note: &str| {
            for about in round.task.objects.iter().cloned() {
                let news = News::normal(about, reason, "Collect", note);
                self.with.events.tell(News { is_warning, ..news });
            }
        };
        let report = match &round.result {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(repository = %key, %error, "a collection failed; it is tried again");
                self.with.metrics.collection(key, "failed");
                return news(true, "CollectionFailed", &format!("nothing more was deleted, and it is tried again: {error}"));
            }
        };
        // a collector of another process was faster: that one tells
        self.with.metrics.collection(key, if report.ended == Ended::Superseded { "superseded" } else { "done" });
        for lineage in report.lineages.iter().filter(|lineage| !lineage.gone.is_empty()) {
            for (reason, tally) in &lineage.gone {
                let (objects, bytes, boundary) = (tally.objects, tally.bytes, lineage.boundary);
                tracing::info!(
                    repository = %key, domain = %lineage.domain_name, lineage = %lineage.name, %reason, objects, bytes, boundary, "deleted"
                );
            }
        }
        for (reason, tally) in report.gone() {
            self.with.metrics.deleted(key, &reason.to_string(), tally.objects, tally.bytes);
        }
        if let Some(note) = summary(report) {
            news(false, "Collected", &note);
        }
        if !report.problems.is_empty() {
            let first: Vec<&str> = report.problems.iter().take(PROBLEMS_MAX).map(String::as_str).collect();
            let more = report.problems.len() - first.len();
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            news(true, "CollectionIncomplete", &format!("not everything could be collected: {}{more}", first.join("; ")));
        }
    }
}

/// What went, for people; `None`: nothing.
fn summary(report: &Report) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for (reason, tally) in report.gone() {
        let size = if tally.bytes == 0 { String::new() } else { format!(" of {} bytes", tally.bytes) };
        parts.push(format!("{} {reason}{size}", tally.objects));
    }
    (!parts.is_empty()).then(|| format!("deleted objects by reason: {}", parts.join(", ")))
}
