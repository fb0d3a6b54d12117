// SPDX-License-Identifier: Apache-2.0
//! Lineages are read back: all that the newest checkpoint of each needs is fetched, opened and hashed, once in a while, those of a repository one after the
//! other. What can't be read back must be known before somebody needs it.

use super::RepositoryKey;
use super::leading::Leading;
use super::lineages::{Name, name_of, repository_of};
use crate::Coordinator;
use holdfast_api::StateLineage;
use holdfast_core::time::{Monotonic, Timestamp};
use holdfast_proto::v1::LineageRef;
use holdfast_store::check::{Options, Progress, Report, Request, check};
use holdfast_store::error::Result;
use holdfast_store::reader::Reader;
use holdfast_store::thread;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Which is next is looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// So many repositories are read from at once, so that one whose store is silent holds up no other.
const AT_ONCE: usize = 4;
/// After each lineage, so many times as long as it took is nothing read from its repository: it has a fifth of a processor, and of a network, at most.
const REST_TIMES: u32 = 4;
/// What could not be read, for want of an answer, is tried again after this.
const RETRY: Duration = Duration::from_secs(600);
/// Trees may nest deeply, and what walks them recurses.
const STACK_BYTES: usize = 64 << 20;

/// What reading a lineage back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) at: Timestamp,
    pub(crate) outcome: Outcome,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that this checkpoint needs is there, and is what it should be.
    Whole(u64),
    /// Something is not: for people.
    Damaged(String),
    /// The store did not answer, or has nothing to verify.
    Unknown,
}

/// What was found, by StateLineage.
pub(crate) type Findings = Arc<BTreeMap<Name, Verified>>;

/// Reads back for ever, each lineage so often.
pub(crate) async fn run(with: Leading, every: Duration, told: watch::Sender<Findings>, stop: CancellationToken) {
    if every.is_zero() || stop.run_until_cancelled(with.objects.listed()).await.is_none() {
        return;
    }
    let mut rounds = Rounds {
        with,
        every,
        stop: stop.clone(),
        told,
        reading: JoinSet::new(),
        busy: BTreeSet::new(),
        resting: BTreeMap::new(),
    };
    while !stop.is_cancelled() {
        let look_again = rounds.begin();
        stop.run_until_cancelled(rounds.one_ends(look_again)).await;
    }
    // what is under way when it is to stop is called off, and waited for
    while rounds.reading.join_next().await.is_some() {}
}

/// Lineages that are being read back, and what else is known of their repositories.
struct Rounds {
    with: Leading,
    every: Duration,
    stop: CancellationToken,
    told: watch::Sender<Findings>,
    reading: JoinSet<Ended>,
    /// Repositories that are being read from.
    busy: BTreeSet<RepositoryKey>,
    /// Those that are left in peace until then.
    resting: BTreeMap<RepositoryKey, Monotonic>,
}

/// A lineage that was read back, or not.
struct Ended {
    key: RepositoryKey,
    name: Name,
    outcome: Outcome,
    took: Duration,
}

impl Rounds {
    /// Begins with those whose turn it is, as many as may be; when to look again.
    fn begin(&mut self) -> Duration {
        let now = self.with.clock.monotonic();
        self.resting.retain(|_, until| *until > now);
        let is_free = |key: &RepositoryKey| !self.busy.contains(key) && !self.resting.contains_key(key);
        let next = due(self.with.clock.now(), self.every, &self.with.objects.lineages.state(), &self.told.borrow(), is_free);
        let room = AT_ONCE.saturating_sub(self.reading.len());
        for (key, object) in next.into_iter().take(room) {
            self.busy.insert(key.clone());
            let (with, stop) = (self.with.clone(), self.stop.clone());
            self.reading.spawn(async move {
                let began = with.clock.monotonic();
                let outcome = one(&with, &object, &stop).await;
                Ended { key, name: name_of(&object), outcome, took: with.clock.monotonic().since(began) }
            });
        }
        self.resting.values().map(|until| until.since(now)).min().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    /// Waits for the next to end and tells of it, but no longer than this. Cancel-safe.
    async fn one_ends(&mut self, within: Duration) {
        let next = async {
            match self.reading.join_next().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        // whoever reads does not panic, and is not ended from outside: an error is none of his
        if let Ok(Ok(ended)) = tokio::time::timeout(within, next).await {
            self.tell(ended);
        }
    }

    fn tell(&mut self, ended: Ended) {
        let Ended { key, name, outcome, took } = ended;
        tracing::debug!(lineage = name.1, namespace = name.0, ?outcome, "read back");
        self.busy.remove(&key);
        self.resting.insert(key, self.with.clock.monotonic().plus(took.saturating_mul(REST_TIMES)));
        let at = self.with.clock.now();
        self.told.send_modify(|told| {
            let there = |name: &Name| self.with.objects.lineages.state().iter().any(|object| name_of(object) == *name);
            let found = Arc::make_mut(told);
            found.retain(|name, _| there(name));
            found.insert(name, Verified { at, outcome });
        });
    }
}

/// Whose turn it is in each repository that is free: whoever was never read back, or not for the longest time. The longest first.
fn due(
    now: Timestamp,
    every: Duration,
    lineages: &[Arc<StateLineage>],
    found: &BTreeMap<Name, Verified>,
    is_free: impl Fn(&RepositoryKey) -> bool,
) -> Vec<(RepositoryKey, Arc<StateLineage>)> {
    let turn = |object: &StateLineage| {
        let status = object.status.as_ref()?;
        status.checkpoint.as_ref()?;
        let written = status.verified_time.as_ref().map(|time| Timestamp::from(time.0));
        let (last, pause) = match found.get(&name_of(object)) {
            Some(Verified { at, outcome: Outcome::Unknown }) => (Some(*at), RETRY.min(every)),
            Some(Verified { at, .. }) => (Some(*at), every),
            None => (written, every),
        };
        last.is_none_or(|last| now.since(last) >= pause).then(|| last.unwrap_or_default())
    };
    let mut first: BTreeMap<RepositoryKey, (Timestamp, &Arc<StateLineage>)> = BTreeMap::new();
    for object in lineages {
        let (key, Some(last)) = (repository_of(object), turn(object)) else { continue };
        if is_free(&key) && first.get(&key).is_none_or(|(other, _)| last < *other) {
            first.insert(key, (last, object));
        }
    }
    let mut next: Vec<_> = first.into_iter().collect();
    next.sort_by_key(|(_, (last, _))| *last);
    next.into_iter().map(|(key, (_, object))| (key, Arc::clone(object))).collect()
}

async fn one(with: &Leading, object: &StateLineage, stop: &CancellationToken) -> Outcome {
    let key = repository_of(object);
    let coordinator = with.repositories.borrow().coordinator(&key).cloned();
    let Ok(coordinator) = coordinator else { return Outcome::Unknown };
    let first = read_back(&coordinator, &key, &object.spec.lineage, stop).await;
    match first {
        // packs may have been rewritten meanwhile: what is damaged is so the second time, too
        Some(report) if report.finding_count > 0 => {
            judged(read_back(&coordinator, &key, &object.spec.lineage, stop).await.as_ref())
        }
        other => judged(other.as_ref()),
    }
}

/// What a report means.
fn judged(report: Option<&Report>) -> Outcome {
    let Some(report) = report else { return Outcome::Unknown };
    match (report.findings.first(), report.newest) {
        (Some(finding), _) => {
            Outcome::Damaged(format!("{}: {} ({} findings)", finding.object, finding.what, report.finding_count))
        }
        (None, Some(newest)) => Outcome::Whole(newest),
        (None, None) => Outcome::Unknown,
    }
}

/// Reads all that the newest checkpoint needs; `None` if the store does not answer.
async fn read_back(coordinator: &Coordinator, key: &RepositoryKey, lineage: &str, stop: &CancellationToken) -> Option<Report> {
    let catalog = &coordinator.shared().catalog;
    let domain = catalog.only().unwrap_or(&key.namespace).to_owned();
    let names = LineageRef { domain, lineage: lineage.to_owned() };
    let domain = catalog.domain(&names.domain).await.ok()??;
    let place = catalog.place(names, domain);
    let (runtime, transport) = (tokio::runtime::Handle::current(), Arc::clone(place.log.transport()));
    let reader = Arc::new(Reader::new(transport, Arc::clone(place.domain()), runtime, None));
    let cancel = Arc::new(AtomicBool::new(false));
    let work = {
        let (log, cancel, options) = (place.log.clone(), Arc::clone(&cancel), Options { all: false, read_data: true });
        move || check(&Request { log: &log, reader: &reader, options, cancel: &cancel, progress: &Progress::default() })
    };
    let report = apart(work, &cancel, stop).await?;
    report.map_err(|error| tracing::debug!(%error, lineage, "a lineage could not be read back")).ok()
}

/// Runs `work` on a thread of its own, which ends when it is called off.
async fn apart(
    work: impl FnOnce() -> Result<Report> + Send + 'static,
    cancel: &AtomicBool,
    stop: &CancellationToken,
) -> Option<Result<Report>> {
    let mut working = thread::start("verify", STACK_BYTES, work).map_err(|error| tracing::warn!(%error, "no thread")).ok()?;
    let result = tokio::select! {
        result = working.ended() => result,
        () = stop.cancelled() => {
            cancel.store(true, Ordering::Relaxed);
            working.ended().await
        }
    };
    working.join().then_some(result)?
}

#[cfg(test)]
mod tests;
