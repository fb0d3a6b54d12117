// SPDX-License-Identifier: Apache-2.0
//! Lineages are read back: all that the newest checkpoint of each needs is fetched, opened and hashed, once in a while, one lineage after the other. What
//! can't be read back must be known before somebody needs it.

use super::RepositoryKey;
use super::leading::Leading;
use super::lineages::{Name, name_of, repository_of};
use crate::Coordinator;
use holdfast_api::StateLineage;
use holdfast_core::time::Timestamp;
use holdfast_proto::v1::LineageRef;
use holdfast_store::check::{Options, Progress, Report, Request, check};
use holdfast_store::error::Result;
use holdfast_store::reader::Reader;
use holdfast_store::thread;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which is next is looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After each, so many times as long as it took is nothing done: a fifth of a processor, and of a network, at most.
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
    if every.is_zero() {
        return;
    }
    let rest = async |time: Duration| stop.run_until_cancelled(tokio::time::sleep(time)).await;
    if stop.run_until_cancelled(with.objects.listed()).await.is_none() {
        return;
    }
    // what is under way when it is to stop is called off, and waited for
    while !stop.is_cancelled() {
        let next = due(with.clock.now(), every, &with.objects.lineages.state(), &told.borrow());
        let Some(object) = next else {
            rest(LOOK_EVERY).await;
            continue;
        };
        let began = with.clock.monotonic();
        let outcome = one(&with, &object, &stop).await;
        let (name, at) = (name_of(&object), with.clock.now());
        tracing::debug!(lineage = name.1, namespace = name.0, ?outcome, "read back");
        told.send_modify(|told| {
            let there = |name: &Name| with.objects.lineages.state().iter().any(|object| name_of(object) == *name);
            let found = Arc::make_mut(told);
            found.retain(|name, _| there(name));
            found.insert(name, Verified { at, outcome });
        });
        rest(with.clock.monotonic().since(began).saturating_mul(REST_TIMES)).await;
    }
}

/// Whose turn it is: whoever was never read back, or not for the longest time.
fn due(
    now: Timestamp,
    every: Duration,
    lineages: &[Arc<StateLineage>],
    found: &BTreeMap<Name, Verified>,
) -> Option<Arc<StateLineage>> {
    let turn = |object: &&Arc<StateLineage>| {
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
    lineages
        .iter()
        .filter_map(|object| Some((turn(&object)?, object)))
        .min_by_key(|(last, _)| *last)
        .map(|(_, object)| Arc::clone(object))
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
