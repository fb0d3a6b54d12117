// SPDX-License-Identifier: Apache-2.0
//! What the API server's objects say about slots: which workload a pod is of, which slot it should have, how far it is.

use crate::cluster::name::{LineageName, SHARED};
use holdfast_api::labels::{CHOOSE, INJECTED, LINEAGE, POLICY};
use holdfast_api::policy::ScopeSpec;
use holdfast_api::{StateLineage, StatePolicy};
use holdfast_core::slot::{Life, Slot, Wish};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use std::time::Duration;

/// Longest grace that a lost node's pod is given beside the silence of its agent.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// An agent that speaks every two seconds is silent after this.
const SILENCE: Duration = Duration::from_secs(10);
/// The grace that Kubernetes gives when nobody says.
const GRACE_SECONDS: u64 = 30;
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// A namespace and a name in it.
pub(super) type Named = (String, String);

/// A workload: the controller that decides which pods there are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkloadKey {
    pub(super) namespace: String,
    pub(super) kind: String,
    pub(super) name: String,
}

impl WorkloadKey {
    /// What a slot of it is called.
    pub(super) fn lineage(&self, slot: &Slot) -> LineageName {
        LineageName { kind: self.kind.clone(), name: self.name.clone(), slot: slot.0.clone() }
    }
}

/// A pod with an agent, as far as slots are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) name: String,
    pub(super) workload: WorkloadKey,
    pub(super) policy: String,
    /// Which of its workload's slots; `None`: not known before it has a node.
    pub(super) wish: Option<Wish>,
    /// The StateLineage that it had, by its label.
    pub(super) label: Option<String>,
    pub(super) life: Life,
    /// Its gate has opened: its application may be at work.
    pub(super) has_begun: bool,
    pub(super) node: Option<String>,
    pub(super) patience: Duration,
}

/// The controller of a pod, as its owner references name it or as was found out from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) kind: String,
    pub(super) name: String,
}

impl PodFacts {
    /// What a pod says of itself; `owner` is the topmost controller that counts. `None`: it has no agent of ours.
    pub(super) fn of(pod: &Pod, owner: Option<Owner>) -> Option<Self> {
        let policy = pod.labels().get(POLICY)?.clone();
        pod.annotations().get(INJECTED)?;
        let (name, namespace) = (pod.name_any(), pod.namespace()?);
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
        let wish = wish(pod, owner.as_ref(), node.as_deref());
        let Owner { kind, name: of } = owner.unwrap_or_else(|| Owner { kind: "Pod".to_owned(), name: name.clone() });
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let life = match (phase, &pod.metadata.deletion_timestamp) {
            (Some("Succeeded" | "Failed"), _) => Life::Ended,
            (_, Some(_)) => Life::Ending,
            _ => Life::Alive,
        };
        let has_begun = phase == Some("Running");
        let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let grace = Duration::from_secs(grace.map_or(GRACE_SECONDS, |grace| u64::try_from(grace).unwrap_or(0)));
        let label = pod.labels().get(LINEAGE).cloned();
        let workload = WorkloadKey { namespace, kind, name: of };
        Some(Self { name, workload, policy, wish, label, life, has_begun, node, patience: grace.min(PATIENCE_MAX) + SILENCE })
    }

    /// Whoever owns it now, it stays with the workload whose slot it has: a controller that lets a pod go, or is deleted without it, ends no writer.
    pub(super) fn stay(&mut self, workload: &WorkloadKey, wish: Option<&Wish>) {
        if self.workload != *workload && self.workload.namespace == workload.namespace {
            (self.workload, self.wish) = (workload.clone(), wish.cloned());
        }
    }

    /// The slot that it says it had.
    pub(super) fn had(&self, record: Option<&RecordFacts>) -> Option<Slot> {
        let label = self.label.as_ref()?;
        if let Some(record) = record.filter(|record| record.workload == self.workload) {
            return Some(record.slot.clone());
        }
        // its record was deleted, but a plain name can be read
        let slot = Slot(label.rsplit_once('-')?.1.to_owned());
        (self.workload.lineage(&slot).object() == *label).then_some(slot)
    }

    /// The slot it should have under a policy.
    pub(super) fn wish_under(&self, policy: &PolicyFacts) -> Option<Wish> {
        if policy.shared { Some(Wish::Named(Slot(SHARED.to_owned()))) } else { self.wish.clone() }
    }
}

fn wish(pod: &Pod, owner: Option<&Owner>, node: Option<&str>) -> Option<Wish> {
    let named = |slot: &str| Some(Wish::Named(Slot(slot.to_owned())));
    let said = |key: &str| pod.annotations().get(key).or_else(|| pod.labels().get(key));
    let name = pod.name_any();
    let Some(owner) = owner else { return named("0") };
    // what a name has behind that of its maker, if that is all it adds
    let rest = name.strip_prefix(&owner.name).and_then(|rest| rest.strip_prefix('-')).filter(|rest| !rest.is_empty());
    match owner.kind.as_str() {
        "StatefulSet" => said(POD_INDEX).map(String::as_str).or(rest).and_then(named),
        "DaemonSet" => node.and_then(named),
        "Job" => said(COMPLETION_INDEX).map_or(Some(Wish::Numbered), |index| named(index)),
        "Deployment" | "ReplicaSet" | "ReplicationController" => Some(Wish::Numbered),
        // an operator's: names that it chose come back, names that were made up don't
        _ if pod.metadata.generate_name.as_deref().unwrap_or_default().is_empty() => named(rest.unwrap_or(&name)),
        _ => Some(Wish::Numbered),
    }
}

/// What a policy says about slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyFacts {
    pub(super) shared: bool,
    pub(super) repository: String,
}

impl From<&StatePolicy> for PolicyFacts {
    fn from(policy: &StatePolicy) -> Self {
        Self { shared: policy.spec.scope == ScopeSpec::Shared, repository: policy.spec.repository_ref.name.clone() }
    }
}

/// What is written down of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordFacts {
    pub(super) workload: WorkloadKey,
    pub(super) slot: Slot,
    pub(super) policy: String,
    pub(super) repository: String,
    pub(super) lineage: String,
    /// The UID of the pod that holds it, or held it last.
    pub(super) holder: Option<String>,
    /// Seconds since 1970 of its newest checkpoint, as was last told.
    pub(super) checkpoint: i64,
    /// When it was made, in seconds since 1970.
    pub(super) made: i64,
    /// What a person has chosen.
    pub(super) choice: Option<String>,
}

impl RecordFacts {
    pub(super) fn of(record: &StateLineage) -> Option<Self> {
        let (spec, status) = (&record.spec, record.status.as_ref());
        let (kind, name) = (spec.workload.kind.clone(), spec.workload.name.clone());
        let checkpoint = status.and_then(|status| status.checkpoint.as_ref());
        Some(Self {
            workload: WorkloadKey { namespace: record.namespace()?, kind, name },
            slot: Slot(spec.slot.clone()),
            policy: spec.policy.clone(),
            repository: spec.repository.clone(),
            lineage: spec.lineage.clone(),
            holder: status.and_then(|status| status.holder_uid.clone()).filter(|uid| !uid.is_empty()),
            checkpoint: checkpoint.map_or(0, |checkpoint| checkpoint.time.0.as_second()),
            made: record.creation_timestamp().map_or(i64::MAX, |made| made.0.as_second()),
            choice: record.annotations().get(CHOOSE).cloned(),
        })
    }
}

/// Whether a node is known to be well.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How many replicas a Deployment should have.
pub(super) fn replicas(deployment: &Deployment) -> u32 {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    u32::try_from(wanted).unwrap_or(0)
}

#[cfg(test)]
mod tests;
