// SPDX-License-Identifier: Apache-2.0
//! The look at everything, again and again: pods without agents, lineages, policies, and what is said of them. Rung by changes, and by time, since
//! silence changes things too.

use super::audit::{self, Unguarded};
use super::leading::Leading;
use super::lineages::{Lineages, Name, PodFacts, Sources};
use super::metrics::{Policy, Swept};
use super::policies;
use super::probe::Trouble;
use super::verify::Findings;
use super::watched::Bell;
use super::{Repositories, RepositoryKey, SlotView};
use audit::guard::{Guard, guard, policy};
use futures::{StreamExt, stream};
use holdfast_api::{StatePolicy, labels};
use holdfast_core::time::{Monotonic, doubled};
use kube::{Resource, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A look without any change.
const EVERY: Duration = Duration::from_secs(3);
/// Between two looks, however much changes.
const PAUSE: Duration = Duration::from_secs(1);
/// Repositories that were not tried in this time are taken for unusable.
const TRIED_WITHIN: Duration = Duration::from_secs(20);
/// Workloads whose label did not reach their pods are looked for this often.
const WORKLOADS_EVERY: Duration = Duration::from_secs(30);
/// Statuses of policies that are written at once.
const AT_ONCE: usize = 8;
/// The first pause after a status that could not be written, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(64));

/// What looks, and with what.
struct Sweep {
    with: Leading,
    slots: watch::Receiver<Arc<Vec<SlotView>>>,
    verified: watch::Receiver<Findings>,
    webhook: watch::Receiver<Trouble>,
}

/// What is remembered between looks.
#[derive(Default)]
struct Memory {
    lineages: Lineages,
    unguarded: Swept<Policy>,
    reasons: Swept<super::metrics::Reason>,
    workloads: Option<Monotonic>,
    /// Policies whose status could not be written, and until when they wait.
    failed: HashMap<Name, (u32, Monotonic)>,
}

/// Looks for ever.
pub(crate) async fn run(
    with: Leading,
    slots: watch::Receiver<Arc<Vec<SlotView>>>,
    verified: watch::Receiver<Findings>,
    webhook: watch::Receiver<Trouble>,
    bell: Bell,
) {
    with.objects.listed().await;
    tried(with.repositories.clone(), TRIED_WITHIN).await;
    let sweep = Sweep { with, slots, verified, webhook };
    let mut memory = Memory::default();
    loop {
        sweep.look(&mut memory).await;
        tokio::time::sleep(PAUSE).await;
        bell.heard(EVERY).await;
    }
}

/// Waits until each repository was tried once: until then a new leader would call everything unprotected.
async fn tried(mut table: watch::Receiver<Repositories>, within: Duration) {
    let all = table.wait_for(Repositories::is_tried);
    // one that can't be tried must not keep the others from being looked at; an error means that the process ends
    let _ = tokio::time::timeout(within, all).await;
}

impl Sweep {
    async fn look(&self, memory: &mut Memory) {
        let unguarded = match audit::pods(&self.with.client, &self.with.objects.pods, &self.with.events).await {
            Ok(found) => found,
            Err(error) => {
                self.with.metrics.reconcile_failed("Pod");
                tracing::warn!(%error, "pods could not be looked at");
                return;
            }
        };
        let count = |((namespace, policy), pods): (&(String, String), &Vec<String>)| {
            let label = Policy { namespace: namespace.clone(), policy: policy.clone() };
            (label, i64::try_from(pods.len()).unwrap_or(i64::MAX))
        };
        self.with.metrics.unguarded(&mut memory.unguarded, unguarded.iter().map(count));
        self.workloads(memory).await;
        let repositories = self.with.repositories.borrow().clone();
        self.count(memory, &repositories);
        let protected = self.lineages(memory, &repositories).await;
        self.policies(memory, &repositories, &protected, &unguarded).await;
    }

    async fn workloads(&self, memory: &mut Memory) {
        let now = self.with.clock.monotonic();
        if memory.workloads.is_some_and(|before| now.since(before) < WORKLOADS_EVERY) {
            return;
        }
        memory.workloads = Some(now);
        if let Err(error) = audit::workloads(&self.with.client, &self.with.events).await {
            self.with.metrics.reconcile_failed("Workload");
            tracing::warn!(%error, "workloads could not be looked at");
        }
    }

    fn count(&self, memory: &mut Memory, repositories: &Repositories) {
        let ready = repositories.ready().count();
        let counts = [("Ready", ready), ("NotReady", repositories.len() - ready)];
        self.with
            .metrics
            .repositories(&mut memory.reasons, counts.map(|(reason, count)| (reason, i64::try_from(count).unwrap_or(i64::MAX))));
        self.with.metrics.sessions(repositories.ready().map(|(_, coordinator)| coordinator.seen().len()).sum());
    }

    async fn lineages(&self, memory: &mut Memory, repositories: &Repositories) -> HashSet<Name> {
        let mut pods = HashMap::new();
        for pod in self.with.objects.pods.state() {
            if let (Some(lineage), true) = (pod.labels().get(labels::LINEAGE), guard(&pod) != Guard::Over) {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                pods.insert(
                    (pod.namespace().unwrap_or_default(), lineage.clone()),
                    PodFacts { node, reference: pod.object_ref(&()) },
                );
            }
        }
        let limit =
            |policy: Arc<StatePolicy>| ((policy.namespace().unwrap_or_default(), policy.name_any()), policies::limit(&policy));
        let limits = self.with.objects.policies.state().into_iter().map(limit).collect();
        let waits = |row: &SlotView| Some(((row.namespace.clone(), row.object.clone()?), row.waiting.clone()?));
        let waiting = self.slots.borrow().iter().filter_map(waits).collect();
        let verified = Arc::clone(&self.verified.borrow());
        let sources = Sources {
            client: &self.with.client,
            clock: self.with.clock,
            events: &self.with.events,
            repositories,
            pods: &pods,
            limits: &limits,
            waiting: &waiting,
            verified: &verified,
        };
        let objects = self.with.objects.lineages.state();
        memory.lineages.sweep(&sources, &objects, &self.with.metrics).await.into_iter().collect()
    }

    async fn policies(&self, memory: &mut Memory, repositories: &Repositories, protected: &HashSet<Name>, unguarded: &Unguarded) {
        let now = self.with.clock.monotonic();
        let policies = self.with.objects.policies.state();
        let names: HashSet<Name> =
            policies.iter().map(|policy| (policy.namespace().unwrap_or_default(), policy.name_any())).collect();
        memory.failed.retain(|name, _| names.contains(name));
        let (counts, webhook) = (self.replicas(protected), self.webhook.borrow().clone());
        let due = policies.into_iter().filter_map(|object| {
            let name = (object.namespace().unwrap_or_default(), object.name_any());
            let waits = memory.failed.get(&name).is_some_and(|(_, until)| now < *until);
            let key = RepositoryKey::new(name.0.clone(), object.spec.repository_ref.name.clone());
            let (replicas, protected) = counts.get(&name).copied().unwrap_or_default();
            let facts = policies::Facts {
                repository: repositories.coordinator(&key).map(|_| ()),
                replicas,
                protected,
                unguarded: unguarded.get(&name).cloned().unwrap_or_default(),
                webhook: webhook.clone(),
            };
            (!waits).then_some((name, object, facts))
        });
        let due: Vec<_> = due.collect();
        let writing = stream::iter(due).map(|(name, object, facts)| async move {
            let written = policies::write(&self.with.client, &object, &facts, self.with.clock.now()).await;
            (name, written)
        });
        let written: Vec<_> = writing.buffer_unordered(AT_ONCE).collect().await;
        for (name, written) in written {
            let Err(error) = written else {
                memory.failed.remove(&name);
                continue;
            };
            self.with.metrics.reconcile_failed("StatePolicy");
            tracing::warn!(policy = format!("{}/{}", name.0, name.1), %error, "a status could not be written");
            let failures = memory.failed.get(&name).map_or(0, |(failures, _)| *failures);
            let pause = doubled(RETRY.0, failures, RETRY.1);
            memory.failed.insert(name, (failures.saturating_add(1), now.plus(super::lead::jittered(pause))));
        }
    }

    /// Of each policy: its pods that have not ended, and those of them whose lineage is protected.
    fn replicas(&self, protected: &HashSet<Name>) -> HashMap<Name, (usize, usize)> {
        let mut counts: HashMap<Name, (usize, usize)> = HashMap::new();
        for pod in self.with.objects.pods.state() {
            let (Some(policy), state) = (policy(&pod.metadata), guard(&pod)) else { continue };
            if state == Guard::Over {
                continue;
            }
            let namespace = pod.namespace().unwrap_or_default();
            let lineage = pod.labels().get(labels::LINEAGE).map(|lineage| (namespace.clone(), lineage.clone()));
            let count = counts.entry((namespace, policy.to_owned())).or_default();
            count.0 += 1;
            count.1 += usize::from(state == Guard::Guarded && lineage.is_some_and(|lineage| protected.contains(&lineage)));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::RepositoryState;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[tokio::test]
    async fn a_new_leader_says_nothing_of_repositories_that_were_not_tried_yet() {
        let (one, two) = (RepositoryKey::new("shop", "one"), RepositoryKey::new("shop", "two"));
        let (table, seen) = watch::channel(Repositories::default());
        let mut waiting = pin!(tried(seen.clone(), Duration::from_secs(3600)));
        let mut poll = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll(), Poll::Pending);
        let away = || RepositoryState::NotReady("its store is away".to_owned());
        table.send_replace([(one.clone(), away()), (two.clone(), RepositoryState::Opening)].into_iter().collect());
        assert_eq!(poll(), Poll::Pending);
        table.send_replace([(one, away()), (two, away())].into_iter().collect());
        assert_eq!(poll(), Poll::Ready(()));
        table.send_replace(Repositories::default());
        tried(seen, Duration::ZERO).await;
    }
}
