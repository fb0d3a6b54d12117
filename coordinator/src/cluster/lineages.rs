// SPDX-License-Identifier: Apache-2.0
//! StateLineages: told how they are, every few seconds at most. Who makes them is whoever grants lineages; here only their status is written.

use super::conditions;
use super::events::{Events, News};
use super::metrics;
use super::table::Unready;
use super::verify::{Outcome, Verified};
use super::{Repositories, RepositoryKey, WaitingFor};
use crate::Coordinator;
use crate::clock::Clock;
use futures::{StreamExt, stream};
use holdfast_api::lineage::{CheckpointStatus, QualityStatus};
use holdfast_api::{StateLineage, StateLineageStatus};
use holdfast_core::lag;
use holdfast_core::time::{Monotonic, Timestamp, doubled};
use holdfast_proto::v1::{Phase, Quality};
use judge::{Facts, Heard, Judgement, Newest, Seen, judge};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use seen::Logged;
use serde_json::json;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use story::Story;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

pub(crate) mod judge;
mod seen;
mod story;
#[cfg(test)]
mod tests;

/// Whose fields of a status these are.
const MANAGER: &str = "holdfast-lineages";
/// Statuses that are written at once, and logs of one repository that are read at once.
const AT_ONCE: usize = 8;
/// A sweep waits for logs no longer than this: those of a store that is silent are read on, and keep no status back, whoever's it is.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// One status is written no more often than this,
const WRITE_EVERY: Duration = Duration::from_secs(3);
/// and for nothing but less lag than this.
const LAG_EVERY: Duration = lag::WINDOW;
/// Logs are read again after this; what agents report is known at once.
const READ_EVERY: Duration = Duration::from_secs(120);
/// Logs that could not be read are tried again after this.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// What can't be written is tried again after this, twice as long each time, up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A StateLineage by namespace and name.
pub(crate) type Name = (String, String);

/// The pod that bears a lineage's label.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PodFacts {
    pub(crate) node: Option<String>,
    pub(crate) reference: ObjectReference,
}

/// What a sweep looks at.
pub(crate) struct Sources<'a> {
    pub(crate) client: &'a Client,
    pub(crate) clock: Clock,
    pub(crate) events: &'a Events,
    pub(crate) repositories: &'a Repositories,
    /// Pods that have not ended, by the lineage that they bear the label of.
    pub(crate) pods: &'a HashMap<Name, PodFacts>,
    /// Within which changes are durable, by policy.
    pub(crate) limits: &'a HashMap<Name, Duration>,
    /// Pods that have a lineage's slot and wait.
    pub(crate) waiting: &'a HashMap<Name, (String, WaitingFor)>,
    /// What was read back.
    pub(crate) verified: &'a BTreeMap<Name, Verified>,
}

/// What is remembered of lineages between sweeps.
#[derive(Debug, Default)]
pub(crate) struct Lineages {
    known: HashMap<Name, Known>,
    series: metrics::Swept<metrics::Lineage>,
    reading: JoinSet<Read>,
    /// Whose logs these are, with their repositories.
    underway: HashMap<Name, RepositoryKey>,
}

/// A log that was read, or not.
#[derive(Debug)]
struct Read {
    name: Name,
    /// When it was asked for.
    at: Monotonic,
    logged: Result<Option<Logged>, Status>,
}

/// A log that is to be read.
struct Due {
    name: Name,
    key: RepositoryKey,
    coordinator: Coordinator,
    lineage: String,
}

#[derive(Debug, Clone, Default)]
struct Known {
    heard: Option<Heard>,
    /// What could not be captured, as the last agent says that captured; nothing is known before one was heard.
    unreadable: Option<String>,
    /// What its agent has said of the newest checkpoint.
    reported: Option<(Newest, u64)>,
    logged: Option<(Monotonic, Option<Logged>)>,
    /// When its log could not be read, if that was the last that was tried.
    not_read: Option<Monotonic>,
    written: Option<Monotonic>,
    failures: u32,
    not_before: Monotonic,
    story: Story,
}

impl Known {
    /// What the log held when it was read, if that was after its agent was heard for the last time.
    fn read_since(&self) -> Option<Option<Logged>> {
        let (at, logged) = self.logged?;
        self.heard.is_none_or(|heard| heard.at < at).then_some(logged)
    }

    /// What an agent says counts, as far as it can know.
    fn hear(&mut self, now: Monotonic, seen: &Seen, was_dirty: bool) {
        // a gate that is shut, and an agent that has said nothing yet, make nothing durable
        let is_writing = !matches!(seen.phase, Phase::Waiting | Phase::Unspecified);
        let dirty = if is_writing { seen.dirty } else { self.heard.map_or(was_dirty, |heard| heard.dirty) };
        self.heard = Some(Heard { lag: seen.lag, at: now, dirty });
        if matches!(seen.phase, Phase::Streaming | Phase::Ending | Phase::Ended) {
            self.unreadable = Some(seen.unreadable.clone());
        }
        self.reported = seen.newest.or(self.reported);
    }
}

/// One lineage in a sweep.
struct Look<'a> {
    name: Name,
    object: &'a StateLineage,
    judgement: Judgement,
    lag: Option<Duration>,
    dirty: bool,
    unreadable: String,
    newest: Option<(Newest, u64)>,
    generation: Option<u64>,
    node: Option<String>,
    verified: Option<Verified>,
}

impl Lineages {
    /// Looks at all lineages, writes what is new, and returns those that are protected.
    pub(crate) async fn sweep(
        &mut self,
        from: &Sources<'_>,
        objects: &[impl AsRef<StateLineage>],
        metrics: &metrics::Metrics,
    ) -> Vec<Name> {
        let seen = seen_of(from.repositories);
        let names: Vec<Name> = objects.iter().map(|object| name_of(object.as_ref())).collect();
        self.known.retain(|name, _| names.contains(name));
        self.read_logs(from, objects, &seen).await;
        let looks: Vec<Look<'_>> = objects.iter().map(|object| self.look(from, object.as_ref(), &seen)).collect();
        let protected = looks.iter().filter(|look| look.judgement.is_protected()).map(|look| look.name.clone()).collect();
        let series = looks.iter().map(|look| {
            let (namespace, lineage) = look.name.clone();
            let lag = look.lag.unwrap_or_default().as_secs_f64();
            (metrics::Lineage { namespace, lineage }, lag, look.judgement.is_protected())
        });
        metrics.lineages(&mut self.series, series.collect());
        self.write_all(from, looks, metrics).await;
        protected
    }

    /// Reads the logs of those whose turn it is, as far as their stores answer at once; what they answer later is known in a later sweep.
    async fn read_logs(
        &mut self,
        from: &Sources<'_>,
        objects: &[impl AsRef<StateLineage>],
        seen: &HashMap<(RepositoryKey, String), Seen>,
    ) {
        let mut due = self.due(from, objects, seen);
        for (key, due) in &mut due {
            let busy = self.underway.values().filter(|other| *other == key).count();
            let first = due.len().saturating_sub(AT_ONCE.saturating_sub(busy));
            due.drain(first..).for_each(|one| self.begin_to_read(from.clock.monotonic(), one));
        }
        let deadline = Instant::now() + READ_WITHIN;
        loop {
            match tokio::time::timeout_at(deadline, self.reading.join_next()).await {
                Ok(Some(Ok(read))) => {
                    let key = self.learn(read);
                    if let Some(next) = key.and_then(|key| due.get_mut(&key)?.pop()) {
                        self.begin_to_read(from.clock.monotonic(), next);
                    }
                }
                // whoever reads does not panic, and is ended only with the sweeps
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The logs whose turn it is, by their repositories.
    fn due(
        &mut self,
        from: &Sources<'_>,
        objects: &[impl AsRef<StateLineage>],
        seen: &HashMap<(RepositoryKey, String), Seen>,
    ) -> HashMap<RepositoryKey, Vec<Due>> {
        let now = from.clock.monotonic();
        let mut due: HashMap<_, Vec<Due>> = HashMap::new();
        for object in objects.iter().map(AsRef::as_ref) {
            let (name, key) = (name_of(object), repository_of(object));
            let known = self.known.entry(name.clone()).or_default();
            let Ok(coordinator) = from.repositories.coordinator(&key) else { continue };
            let is_live = seen.contains_key(&(key.clone(), object.spec.lineage.clone()));
            // what nobody writes does not change: once, and at once when its agent has gone
            let stale = match &known.logged {
                Some((at, _)) if is_live => now.since(*at) >= READ_EVERY,
                Some(_) => known.read_since().is_none(),
                None => true,
            };
            if stale && known.not_read.is_none_or(|tried| now.since(tried) >= READ_AGAIN) && !self.underway.contains_key(&name) {
                let one = Due { name, key: key.clone(), coordinator: coordinator.clone(), lineage: object.spec.lineage.clone() };
                due.entry(key).or_default().push(one);
            }
        }
        due
    }

    fn begin_to_read(&mut self, at: Monotonic, due: Due) {
        let Due { name, key, coordinator, lineage } = due;
        self.underway.insert(name.clone(), key.clone());
        self.reading.spawn(async move {
            let domain = coordinator.shared().catalog.only().unwrap_or(&key.namespace).to_owned();
            Read { name, at, logged: coordinator.logged(&domain, &lineage).await }
        });
    }

    /// A log was read, or not; whose repository may be asked for another one.
    fn learn(&mut self, read: Read) -> Option<RepositoryKey> {
        let Read { name, at, logged } = read;
        let key = self.underway.remove(&name);
        // it may have been deleted meanwhile
        let Some(known) = self.known.get_mut(&name) else { return key };
        match logged {
            Ok(logged) => (known.logged, known.not_read) = (Some((at, logged)), None),
            Err(error) => {
                tracing::debug!(error = %error.message(), "a log was not read");
                known.not_read = Some(at);
            }
        }
        key
    }

    fn look<'a>(
        &mut self,
        from: &Sources<'_>,
        object: &'a StateLineage,
        seen: &HashMap<(RepositoryKey, String), Seen>,
    ) -> Look<'a> {
        let (name, key, now) = (name_of(object), repository_of(object), from.clock.monotonic());
        let seen = seen.get(&(key.clone(), object.spec.lineage.clone())).cloned();
        let pod = from.pods.get(&name);
        let was_dirty = object.status.as_ref().is_some_and(was_dirty);
        let known = self.known.entry(name.clone()).or_default();
        if let Some(seen) = &seen {
            known.hear(now, seen, was_dirty);
        }
        let since = known.read_since();
        let logged = known.logged.and_then(|(_, logged)| logged);
        let read = logged.and_then(|logged| logged.newest);
        // what was read before the last of its agent was heard is older than that
        let newest = match (known.reported.filter(|_| since.is_none()), read) {
            // an agent of before tells no bytes: those of the last that was read, until the next is
            (Some((reported, 0)), read) => Some((reported, read.map(|(_, bytes)| bytes).unwrap_or_default())),
            (Some(reported), _) => Some(reported),
            (None, read) => read,
        };
        let time = newest.map(|(newest, _)| newest.time);
        let shown =
            object.status.as_ref().and_then(|status| status.checkpoint.as_ref()).map(|shown| Timestamp::from(shown.time.0));
        let sealed = since.map(|logged| logged.is_some_and(|logged| logged.sealed));
        let verified = from.verified.get(&name).cloned();
        let before = || object.status.as_ref().and_then(|status| status.unreadable.clone());
        let facts = Facts {
            heard: known.heard,
            unreadable: known.unreadable.clone().or_else(before).unwrap_or_default(),
            sealed,
            was_dirty,
            has_pod: pod.is_some(),
            waiting: from.waiting.get(&name).cloned(),
            damage: verified.as_ref().and_then(damage),
            age: time.or(shown).map(|time| from.clock.now().since(time)),
            limit: from.limits.get(&(name.0.clone(), object.spec.policy.clone())).copied().unwrap_or(super::policies::LIMIT),
            repository: from.repositories.coordinator(&key).err().map(|unready| match unready {
                Unready::Missing => format!("there is no StateRepository {key}"),
                unready => unready.to_string(),
            }),
            seen,
        };
        let node = pod.and_then(|pod| pod.node.clone()).or_else(|| object.status.as_ref().and_then(|status| status.node.clone()));
        let judgement = judge(now, &facts);
        let known = self.known.entry(name.clone()).or_default();
        let checkpoint = read.map(|(newest, bytes)| format!("checkpoint {} ({bytes} bytes)", newest.sequence));
        for chapter in known.story.go_on(now, &judgement, facts.seen.as_ref(), checkpoint.as_deref()) {
            let abouts = [Some(object.object_ref(&())), pod.map(|pod| pod.reference.clone())];
            for about in abouts.into_iter().flatten() {
                let (is_warning, reason, note) = (chapter.is_warning, chapter.reason, chapter.note.clone());
                from.events.tell(News { about, is_warning, reason, action: "Protect", note });
            }
        }
        // whoever loses a pod now has lost what its lag was at its worst: its agent tells the greatest of a while, and only that is more than it is now
        let peak = facts.seen.as_ref().map(|seen| seen.peak).unwrap_or_default();
        let lag = judgement.lag.map(|lag| lag.max(peak));
        let (dirty, generation) = (facts.is_dirty(), logged.map(|logged| logged.generation));
        Look { name, object, judgement, lag, dirty, unreadable: facts.unreadable, newest, generation, node, verified }
    }

    async fn write_all(&mut self, from: &Sources<'_>, looks: Vec<Look<'_>>, metrics: &metrics::Metrics) {
        let now = from.clock.monotonic();
        let due = looks.into_iter().filter_map(|look| {
            let known = self.known.get(&look.name)?;
            let status = status(&look, from.clock.now());
            let change = change(look.object.status.as_ref(), &status)?;
            let pause = if change == Change::LessLag { LAG_EVERY } else { WRITE_EVERY };
            let is_time = now >= known.not_before && known.written.is_none_or(|written| now.since(written) >= pause);
            is_time.then_some((look.name, status))
        });
        let due: Vec<(Name, StateLineageStatus)> = due.collect();
        let writing = stream::iter(due).map(|(name, status)| async move {
            let written = write(from.client, &name, &status).await;
            (name, written)
        });
        let written: Vec<_> = writing.buffer_unordered(AT_ONCE).collect().await;
        for (name, written) in written {
            let known = self.known.entry(name.clone()).or_default();
            match written {
                Ok(()) => (known.written, known.failures) = (Some(now), 0),
                Err(error) => {
                    metrics.reconcile_failed("StateLineage");
                    tracing::warn!(lineage = format!("{}/{}", name.0, name.1), %error, "a status could not be written");
                    let pause = doubled(RETRY.0, known.failures, RETRY.1);
                    known.failures = known.failures.saturating_add(1);
                    known.not_before = now.plus(super::lead::jittered(pause));
                }
            }
        }
    }
}

/// All that agents say, by repository and lineage.
fn seen_of(repositories: &Repositories) -> HashMap<(RepositoryKey, String), Seen> {
    let mut all = HashMap::new();
    for (key, coordinator) in repositories.ready() {
        all.extend(coordinator.seen().into_iter().map(|(lineage, seen)| ((key.clone(), lineage), seen)));
    }
    all
}

/// Whether changes were not durable when this was written. The lag that it shows says nothing of that: it is the greatest of a while.
fn was_dirty(status: &StateLineageStatus) -> bool {
    status.dirty == Some(true)
}

/// What could not be read back.
fn damage(verified: &Verified) -> Option<String> {
    match &verified.outcome {
        Outcome::Damaged(what) => Some(what.clone()),
        Outcome::Whole(_) | Outcome::Unknown => None,
    }
}

/// What names it in the cluster.
pub(crate) fn name_of(object: &StateLineage) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The repository that it is in.
pub(crate) fn repository_of(object: &StateLineage) -> RepositoryKey {
    RepositoryKey::new(object.namespace().unwrap_or_default(), object.spec.repository.clone())
}

fn status(look: &Look<'_>, now: Timestamp) -> StateLineageStatus {
    let before = look.object.status.clone().unwrap_or_default();
    let said = std::slice::from_ref(&look.judgement.saying);
    let checkpoint = look.newest.map(|(newest, bytes)| CheckpointStatus {
        sequence: i64::try_from(newest.sequence).unwrap_or(i64::MAX),
        time: conditions::whole_seconds(newest.time),
        quality: match newest.quality {
            Quality::Fuzzy => QualityStatus::Fuzzy,
            Quality::Partial => QualityStatus::Partial,
            Quality::Clean | Quality::Unspecified => QualityStatus::Clean,
        },
        bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
    });
    let verified = look.verified.as_ref().and_then(|verified| match verified.outcome {
        Outcome::Whole(sequence) => Some((sequence, verified.at)),
        Outcome::Damaged(_) | Outcome::Unknown => None,
    });
    StateLineageStatus {
        conditions: conditions::settled(&before.conditions, said, look.object.metadata.generation, now),
        // a bound: rounded up
        lag_seconds: look.lag.map(|lag| i64::try_from(lag.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)),
        dirty: look.dirty.then_some(true),
        unreadable: Some(conditions::bounded(look.unreadable.clone())).filter(|what| !what.is_empty()),
        // until it was read, what is shown stays
        checkpoint: checkpoint.or(before.checkpoint),
        generation: look.generation.and_then(|generation| i64::try_from(generation).ok()).or(before.generation),
        node: look.node.clone(),
        verified_sequence: verified.map_or(before.verified_sequence, |(sequence, _)| i64::try_from(sequence).ok()),
        verified_time: verified.map_or(before.verified_time, |(_, at)| Some(conditions::whole_seconds(at))),
        ..StateLineageStatus::default()
    }
}

/// What a write would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    LessLag,
    More,
}

fn change(before: Option<&StateLineageStatus>, now: &StateLineageStatus) -> Option<Change> {
    let Some(before) = before else { return Some(Change::More) };
    let more = !conditions::all_said(&before.conditions, &now.conditions)
        || (&before.checkpoint, before.generation, &before.node, before.verified_sequence, &before.verified_time)
            != (&now.checkpoint, now.generation, &now.node, now.verified_sequence, &now.verified_time)
        || (before.dirty, &before.unreadable) != (now.dirty, &now.unreadable)
        || before.lag_seconds.is_some() != now.lag_seconds.is_some();
    match (more, now.lag_seconds.cmp(&before.lag_seconds)) {
        (true, _) | (false, Ordering::Greater) => Some(Change::More),
        (false, Ordering::Less) => Some(Change::LessLag),
        (false, Ordering::Equal) => None,
    }
}

async fn write(client: &Client, (namespace, name): &Name, status: &StateLineageStatus) -> Result<(), kube::Error> {
    let api: Api<StateLineage> = Api::namespaced(client.clone(), namespace);
    let patch = json!({ "apiVersion": StateLineage::api_version(&()), "kind": StateLineage::kind(&()), "status": status });
    match api.patch_status(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}
