// SPDX-License-Identifier: Apache-2.0
//! What can be measured, for Prometheus. Labels come from closed sets, or are names of objects that exist: a series ends with its object.

use super::RepositoryKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A kind of object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    kind: String,
}

/// A lineage's object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct Lineage {
    pub(crate) namespace: String,
    pub(crate) lineage: String,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct Policy {
    pub(crate) namespace: String,
    pub(crate) policy: String,
}

/// Why something is so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: String,
}

/// How a collection of a repository ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Collection {
    namespace: String,
    repository: String,
    ended: &'static str,
}

/// What of a repository was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Deleted {
    namespace: String,
    repository: String,
    reason: String,
}

type Level = Gauge<f64, AtomicU64>;

/// Of what may be unknown: then there is no series at all.
type Unlabelled = [(&'static str, &'static str); 0];

/// All metrics; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    leads: Gauge,
    sessions: Gauge,
    repositories: Family<Reason, Gauge>,
    lag: Family<Lineage, Level>,
    protected: Family<Lineage, Gauge>,
    unguarded: Family<Policy, Gauge>,
    outdated: Gauge,
    errors: Family<Kind, Counter>,
    not_understood: Family<Kind, Counter>,
    events_dropped: Counter,
    snapshots: Family<Reason, Counter>,
    restores: Family<Reason, Counter>,
    certificates: Family<Reason, Counter>,
    webhook: Family<Unlabelled, Gauge>,
    webhook_probe: Family<Unlabelled, Level>,
    collections: Family<Collection, Counter>,
    deleted_objects: Family<Deleted, Counter>,
    deleted_bytes: Family<Deleted, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("holdfast_coordinator");
        let metrics = Self {
            registry: Arc::default(),
            leads: Gauge::default(),
            sessions: Gauge::default(),
            repositories: Family::default(),
            lag: Family::default(),
            protected: Family::default(),
            unguarded: Family::default(),
            outdated: Gauge::default(),
            errors: Family::default(),
            not_understood: Family::default(),
            events_dropped: Counter::default(),
            snapshots: Family::default(),
            restores: Family::default(),
            certificates: Family::default(),
            webhook: Family::default(),
            webhook_probe: Family::default(),
            collections: Family::default(),
            deleted_objects: Family::default(),
            deleted_bytes: Family::default(),
        };
        registry.register("leads", "1 in the process that leads", metrics.leads.clone());
        registry.register("sessions", "Agents whose session is open", metrics.sessions.clone());
        registry.register(
            "repositories",
            "StateRepositories by the reason of their Ready condition",
            metrics.repositories.clone(),
        );
        let about = "Age of the oldest change of a lineage that is not durable, as far as is known";
        registry.register_with_unit("lineage_lag", about, Unit::Seconds, metrics.lag.clone());
        registry.register(
            "lineage_protected",
            "1 while a lineage's changes are durable within its cadence",
            metrics.protected.clone(),
        );
        registry.register(
            "unguarded_pods",
            "Running pods with a policy's label and without its agent",
            metrics.unguarded.clone(),
        );
        let about = "Running pods whose agent is of another image than new pods get";
        registry.register("outdated_agents", about, metrics.outdated.clone());
        registry.register("reconcile_errors", "Objects that could not be looked after, by kind", metrics.errors.clone());
        registry.register(
            "objects_not_understood",
            "Objects that this version can't read, by kind",
            metrics.not_understood.clone(),
        );
        registry.register("events_dropped", "Events that were not told because too many waited", metrics.events_dropped.clone());
        registry.register("snapshots", "StateSnapshots that were taken, or failed, by reason", metrics.snapshots.clone());
        registry.register("restores", "StateRestores that were carried out, or failed, by reason", metrics.restores.clone());
        registry.register("certificate_turns", "Looks at the certificates, by how they ended", metrics.certificates.clone());
        let about = "1 while the API server reaches the webhook, 0 while it can't; absent while that is not known";
        registry.register("webhook_reachable", about, metrics.webhook.clone());
        let about = "Time that the last attempt to reach the webhook took";
        registry.register_with_unit("webhook_probe", about, Unit::Seconds, metrics.webhook_probe.clone());
        registry.register("collections", "Collections of a repository, by how they ended", metrics.collections.clone());
        let about = "Objects of a repository that a collection deleted, by reason";
        registry.register("deleted_objects", about, metrics.deleted_objects.clone());
        let about = "Bytes of packs and forwards that a collection deleted, by reason";
        registry.register_with_unit("deleted", about, Unit::Bytes, metrics.deleted_bytes.clone());
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }
}

/// Sets a family's series: those of what is no more end.
fn set_all<L, G, V>(family: &Family<L, G>, before: &[L], now: impl IntoIterator<Item = (L, V)>, set: impl Fn(&G, V)) -> Vec<L>
where
    L: Clone + Hash + Eq,
    G: Default + Clone,
{
    let now: Vec<(L, V)> = now.into_iter().collect();
    for gone in before.iter().filter(|old| !now.iter().any(|(label, _)| label == *old)) {
        family.remove(gone);
    }
    let mut labels = Vec::with_capacity(now.len());
    for (label, value) in now {
        set(&family.get_or_create_owned(&label), value);
        labels.push(label);
    }
    labels
}

/// The series that a sweep has set, so that the next one ends those of what has gone.
#[derive(Debug)]
pub(crate) struct Swept<L>(Vec<L>);

impl<L> Default for Swept<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl Metrics {
    /// Whether this process leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
        if !leads {
            self.webhook(None);
        }
    }

    /// How many agents have a session.
    pub(crate) fn sessions(&self, sessions: usize) {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    /// How many repositories there are for each reason.
    pub(crate) fn repositories(&self, before: &mut Swept<Reason>, now: impl IntoIterator<Item = (&'static str, i64)>) {
        let now = now.into_iter().map(|(reason, count)| (Reason { reason: reason.to_owned() }, count));
        before.0 = set_all(&self.repositories, &before.0, now, |gauge, count| {
            gauge.set(count);
        });
    }

    /// The lags of lineages, in seconds, and whether they are protected.
    pub(crate) fn lineages(&self, before: &mut Swept<Lineage>, now: Vec<(Lineage, f64, bool)>) {
        set_all(&self.protected, &before.0, now.iter().map(|(label, _, is)| (label.clone(), *is)), |gauge, is| {
            gauge.set(is.into());
        });
        before.0 = set_all(&self.lag, &before.0, now.into_iter().map(|(label, lag, _)| (label, lag)), |gauge, lag| {
            gauge.set(lag);
        });
    }

    /// Pods that run without an agent, by policy.
    pub(crate) fn unguarded(&self, before: &mut Swept<Policy>, now: impl IntoIterator<Item = (Policy, i64)>) {
        before.0 = set_all(&self.unguarded, &before.0, now, |gauge, count| {
            gauge.set(count);
        });
    }

    /// Running pods whose agent is of another image than new pods get.
    pub(crate) fn outdated_agents(&self, agents: usize) {
        self.outdated.set(i64::try_from(agents).unwrap_or(i64::MAX));
    }

    /// An object could not be looked after.
    pub(crate) fn reconcile_failed(&self, kind: &str) {
        self.errors.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// An object could not be read.
    pub(crate) fn not_understood(&self, kind: &str) {
        self.not_understood.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// An event was not told.
    pub(crate) fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A StateSnapshot was taken, or failed.
    pub(crate) fn snapshot_settled(&self, reason: &'static str) {
        self.snapshots.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// A StateRestore was carried out, or planned, or failed.
    pub(crate) fn restore_settled(&self, reason: &'static str) {
        self.restores.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// The certificates were looked after.
    pub(crate) fn certificates(&self, ended: &'static str) {
        self.certificates.get_or_create(&Reason { reason: ended.to_owned() }).inc();
    }

    /// Whether the API server reaches the webhook, and how long it took to find that out; `None`: it is not known.
    pub(crate) fn webhook(&self, found: Option<(bool, Duration)>) {
        let Some((reachable, took)) = found else {
            self.webhook.clear();
            self.webhook_probe.clear();
            return;
        };
        self.webhook.get_or_create_owned(&[]).set(reachable.into());
        self.webhook_probe.get_or_create_owned(&[]).set(took.as_secs_f64());
    }

    /// A collection has ended.
    pub(crate) fn collection(&self, of: &RepositoryKey, ended: &'static str) {
        let (namespace, repository) = (of.namespace.clone(), of.name.clone());
        self.collections.get_or_create_owned(&Collection { namespace, repository, ended }).inc();
    }

    /// A collection has deleted something; a record's bytes are not known.
    pub(crate) fn deleted(&self, of: &RepositoryKey, reason: &str, objects: u64, bytes: u64) {
        let label = Deleted { namespace: of.namespace.clone(), repository: of.name.clone(), reason: reason.to_owned() };
        self.deleted_objects.get_or_create_owned(&label).inc_by(objects);
        self.deleted_bytes.get_or_create_owned(&label).inc_by(bytes);
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            // writing into a text does not fail
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_ends_with_its_object() {
        let (metrics, mut swept) = (Metrics::default(), Swept::default());
        let lineage = |name: &str| Lineage { namespace: "shop".to_owned(), lineage: name.to_owned() };
        metrics.lineages(&mut swept, vec![(lineage("a"), 1.5, true), (lineage("b"), 60.0, false)]);
        let text = metrics.text();
        assert!(text.contains(r#"holdfast_coordinator_lineage_lag_seconds{namespace="shop",lineage="b"} 60.0"#), "{text}");
        assert!(text.contains(r#"lineage_protected{namespace="shop",lineage="a"} 1"#), "{text}");
        metrics.lineages(&mut swept, vec![(lineage("a"), 0.0, true)]);
        assert!(!metrics.text().contains(r#"lineage="b""#));
    }
}
