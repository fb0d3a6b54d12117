// SPDX-License-Identifier: Apache-2.0
//! Agents of running pods are brought to the image that the webhook adds to new ones: a pod keeps its agent as long as it lives, and it may live for
//! years. Only the image of the agent's container changes; the node restarts that container, and nothing else of the pod.
//!
//! ```text
//! facts   what objects say: the image that is wanted, how far a pod is
//! plan    which pods are next
//! ```
//!
//! What is under way stands on the pods, in an annotation: whoever leads next goes on from there.

use super::conditions;
use super::events::News;
use super::leading::Leading;
use super::lineages::judge::PROTECTED;
use super::lineages::{name_of, repository_of};
use super::pauses::{self, Pauses};
use super::pki::Now;
use super::replicas::{has_ended, is_ending, runs, workload};
use super::watched::full_name;
use super::{COORDINATOR, Holds, WEBHOOK};
use facts::Note;
use holdfast_api::StateLineage;
use holdfast_api::labels::{AGENT_CONTAINER, AGENT_UPGRADE, LINEAGE};
use holdfast_core::time::Monotonic;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use plan::{Replica, Stage, Step, plan};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub(crate) mod facts;
mod plan;
#[cfg(test)]
mod tests;

/// Pods are looked at this often.
const EVERY: Duration = Duration::from_secs(5);
/// A new leader looks at nothing before it has heard of agents itself: until then statuses tell what the last one knew.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// An agent is back when it has run, and its lineage was protected, for so long: longer than a status needs to tell that it was away.
const STEADY: Duration = Duration::from_secs(15);
/// What was written is seen within this.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// What upgrades, and with what.
pub(crate) struct Upgrade {
    pub(crate) with: Leading,
    /// The namespace that Holdfast runs in.
    pub(crate) system: String,
    /// Agents that are away at once, at most.
    pub(crate) at_once: usize,
    /// What restores have shut.
    pub(crate) holds: watch::Receiver<Holds>,
}

/// What is remembered between looks, of pods by their UIDs.
#[derive(Default)]
struct Memory {
    /// Since when an agent that was given an image has been protecting its pod, and in which container.
    back: HashMap<String, (String, Monotonic)>,
    /// Given an image a moment ago: watches may not show it yet.
    given: HashMap<String, Monotonic>,
    /// Those that the API server has refused to change.
    refused: Pauses,
}

/// A pod, and its lineage.
struct Seen {
    pod: Arc<Pod>,
    lineage: Arc<StateLineage>,
}

/// Upgrades for ever.
pub(crate) async fn run(upgrade: Upgrade) {
    upgrade.with.objects.listed().await;
    tokio::time::sleep(HEARD_WITHIN).await;
    let mut memory = Memory::default();
    loop {
        let clock = upgrade.with.clock;
        if let Err(error) = upgrade.look(&mut memory, Now { day: clock.now(), steady: clock.monotonic() }).await {
            upgrade.with.metrics.reconcile_failed("Agent");
            tracing::warn!(%error, "agents could not be looked at");
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl Upgrade {
    /// Does what is next.
    async fn look(&self, memory: &mut Memory, now: Now) -> Result<(), kube::Error> {
        let Some(image) = self.wanted().await? else { return Ok(()) };
        let seen = self.seen();
        memory.forget_all_but(&seen, now.steady);
        let replicas: Vec<Replica> = seen.iter().map(|seen| self.replica(memory, seen, &image, now)).collect();
        let outdated = replicas.iter().filter(|replica| matches!(replica.stage, Stage::Outdated | Stage::Stranded)).count();
        self.with.metrics.outdated_agents(outdated);
        for (seen, _) in seen.iter().zip(&replicas).filter(|(_, replica)| replica.stage == Stage::Late) {
            self.tell_late(seen, &image);
        }
        for (index, step) in plan(&replicas, self.at_once) {
            let Some(seen) = seen.get(index) else { continue };
            match step {
                Step::Give => self.give(memory, seen, &image, now).await,
                Step::Finish => self.finish(seen, &image).await,
                Step::GiveUp => self.give_up(seen, &image).await,
            }
        }
        Ok(())
    }

    /// The image that the webhook adds.
    async fn wanted(&self) -> Result<Option<String>, kube::Error> {
        let deployments: Api<Deployment> = Api::namespaced(self.with.client.clone(), &self.system);
        let Some(webhook) = deployments.get_opt(WEBHOOK).await? else { return Ok(None) };
        let coordinator = deployments.get_opt(COORDINATOR).await?;
        Ok(facts::wanted(&webhook, coordinator.as_ref()))
    }

    /// The pods that have not ended, with an agent and a lineage, in the order of their names.
    fn seen(&self) -> Vec<Seen> {
        let lineages: HashMap<_, _> =
            self.with.objects.lineages.state().into_iter().map(|lineage| (name_of(&lineage), lineage)).collect();
        let found = self.with.objects.pods.state().into_iter().filter_map(|pod| {
            facts::image(&pod).filter(|_| !has_ended(&pod) && !is_ending(&pod))?;
            let name = (pod.namespace()?, pod.labels().get(LINEAGE)?.clone());
            Some(Seen { lineage: Arc::clone(lineages.get(&name)?), pod })
        });
        let mut found: Vec<Seen> = found.collect();
        found.sort_by_cached_key(|seen| full_name(&*seen.pod));
        found
    }

    fn replica(&self, memory: &mut Memory, seen: &Seen, image: &str, now: Now) -> Replica {
        let uid = seen.pod.uid().unwrap_or_default();
        let conditions = seen.lineage.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let is_streaming =
            conditions::find(conditions, PROTECTED).is_some_and(|said| said.status == "True" && said.reason == "Streaming");
        let is_back = memory.is_back(&seen.pod, is_streaming, now.steady);
        let stage = match facts::stage(&seen.pod, image, now.day, is_back) {
            Stage::Outdated | Stage::Stranded if memory.given.contains_key(&uid) => {
                Stage::Given { age: Duration::ZERO, is_back: false }
            }
            stage => {
                memory.given.remove(&uid);
                stage
            }
        };
        let is_held = self.is_busy(&seen.lineage) || memory.refused.left(&uid, now.steady).is_some();
        let patience = patience(&seen.lineage);
        Replica { workload: workload(&seen.lineage), stage, patience, is_protected: is_streaming && runs(&seen.pod), is_held }
    }

    /// Whether a snapshot is being taken in its repository, or a restore has it, or nobody knows.
    fn is_busy(&self, lineage: &StateLineage) -> bool {
        let repositories = self.with.repositories.borrow();
        let coordinator = repositories.coordinator(&repository_of(lineage));
        let is_resting = coordinator.is_ok_and(|coordinator| coordinator.shared().barriers.turn.try_lock().is_ok());
        !is_resting || self.holds.borrow().contains_key(&name_of(lineage))
    }

    /// Gives a pod's agent the image.
    async fn give(&self, memory: &mut Memory, seen: &Seen, image: &str, now: Now) {
        let before = facts::image(&seen.pod).unwrap_or_default().to_owned();
        let container = facts::status(&seen.pod).and_then(|status| status.container_id.clone()).unwrap_or_default();
        let since = conditions::whole_seconds(now.day);
        let note = Note { image: image.to_owned(), before, container, since, late: false };
        let spec = json!({ "initContainers": [{ "name": AGENT_CONTAINER, "image": image }] });
        let uid = seen.pod.uid().unwrap_or_default();
        match self.patch(&seen.pod, json!(note.text()), Some(spec)).await {
            Ok(true) => {
                tracing::info!(pod = full_name(&*seen.pod), before = note.before, image, "its agent is given another image");
                memory.refused.forget(&uid);
                memory.given.insert(uid, now.steady);
            }
            Ok(false) => {}
            Err(error) => {
                memory.refused.put_off(&uid, now.steady, pauses::LONGEST);
                self.failed(seen, &error);
                let said = format!("its agent can't be given image {image}, and goes on with {}: {error}", note.before);
                self.with.events.tell(News::warning(seen.pod.object_ref(&()), "AgentNotUpgraded", "Upgrade", said));
            }
        }
    }

    /// Says that an agent is back.
    async fn finish(&self, seen: &Seen, image: &str) {
        match self.patch(&seen.pod, Value::Null, None).await {
            Ok(true) => {
                tracing::info!(pod = full_name(&*seen.pod), image, "its agent has another image, and protects it");
                let said = format!("its agent runs image {image} now, and its state is protected");
                self.with.events.tell(News::normal(seen.pod.object_ref(&()), "AgentUpgraded", "Upgrade", said));
            }
            Ok(false) => {}
            Err(error) => self.failed(seen, &error),
        }
    }

    /// Remembers that an agent was not back in time.
    async fn give_up(&self, seen: &Seen, image: &str) {
        let Some(note) = Note::of(&seen.pod) else { return };
        match self.patch(&seen.pod, json!(Note { late: true, ..note }.text()), None).await {
            Ok(_) => self.tell_late(seen, image),
            Err(error) => self.failed(seen, &error),
        }
    }

    /// Tells that an agent was not back in time; whoever tells drops what was told a moment ago.
    fn tell_late(&self, seen: &Seen, image: &str) {
        let why = facts::trouble(&seen.pod).map_or_else(String::new, |why| format!(" ({why})"));
        let what = format!(
            "was given image {image}, and did not protect its pod within {} minutes{why}. No other pod of the workload is given \
             this image: give the webhook another one, or see to this agent and remove the pod's annotation {AGENT_UPGRADE}",
            patience(&seen.lineage).as_secs() / 60
        );
        let pod = News::warning(seen.pod.object_ref(&()), "AgentNotBack", "Upgrade", format!("its agent {what}"));
        let said = format!("the agent of pod {} {what}", seen.pod.name_any());
        self.with.events.tell(pod);
        self.with.events.tell(News::warning(seen.lineage.object_ref(&()), "AgentNotBack", "Upgrade", said));
    }

    fn failed(&self, seen: &Seen, error: &kube::Error) {
        self.with.metrics.reconcile_failed("Agent");
        tracing::warn!(pod = full_name(&*seen.pod), %error, "an agent could not be upgraded");
    }

    /// Writes the annotation, and what else is to change, into the pod as it was seen; `false`: it has changed meanwhile, and the next look decides.
    async fn patch(&self, pod: &Pod, note: Value, spec: Option<Value>) -> Result<bool, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.with.client.clone(), &pod.namespace().unwrap_or_default());
        let metadata = json!({ "resourceVersion": pod.resource_version(), "annotations": { AGENT_UPGRADE: note } });
        let mut patch = json!({ "metadata": metadata });
        if let Some(spec) = spec {
            patch["spec"] = spec;
        }
        match pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(kube::Error::Api(refused)) if refused.is_conflict() || refused.is_not_found() => Ok(false),
            other => other.map(|_| true),
        }
    }
}

/// How long the agent of a lineage is waited for.
fn patience(lineage: &StateLineage) -> Duration {
    let checkpoint = lineage.status.as_ref().and_then(|status| status.checkpoint.as_ref());
    plan::patience(checkpoint.map_or(0, |checkpoint| u64::try_from(checkpoint.bytes).unwrap_or(0)))
}

impl Memory {
    /// Whether the agent of a pod that was given an image has come back, and protected the pod for a while.
    fn is_back(&mut self, pod: &Pod, is_streaming: bool, now: Monotonic) -> bool {
        let uid = pod.uid().unwrap_or_default();
        let another = || facts::running(pod).filter(|running| Note::of(pod).is_some_and(|note| note.container != *running));
        let Some(container) = another().filter(|_| is_streaming) else {
            self.back.remove(&uid);
            return false;
        };
        let known = self.back.entry(uid).or_insert_with(|| (container.to_owned(), now));
        if known.0 != container {
            *known = (container.to_owned(), now);
        }
        now.since(known.1) >= STEADY
    }

    fn forget_all_but(&mut self, seen: &[Seen], now: Monotonic) {
        let is_there = |uid: &String| seen.iter().any(|seen| seen.pod.metadata.uid.as_ref() == Some(uid));
        self.back.retain(|uid, _| is_there(uid));
        self.given.retain(|uid, at| is_there(uid) && now.since(*at) < SEEN_WITHIN);
    }
}
