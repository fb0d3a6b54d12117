// SPDX-License-Identifier: Apache-2.0
//! Finds what should be protected and isn't: pods that run without an agent, and workloads whose label did not reach their pods.

use super::events::{Events, News};
use super::watched::full_name;
use guard::{Guard, guard, policy};
use holdfast_api::labels;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, ListParams};
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

pub(crate) mod guard;
#[cfg(test)]
mod tests;

/// Objects of a page.
const PAGE: u32 = 500;
/// Events of one look: more pods than this without agents are one trouble, and the policy's status counts them.
const EVENTS_MAX: usize = 100;

/// Pods without agents, by (namespace, policy).
pub(crate) type Unguarded = BTreeMap<(String, String), Vec<String>>;

/// The pods that run without an agent, with an Event on each and on what made it.
///
/// # Errors
/// If the API server can't be asked for an owner: what is found is known all the same at the next look.
pub(crate) async fn pods(client: &Client, pods: &Store<Pod>, events: &Events) -> Result<Unguarded, kube::Error> {
    let mut unguarded = Unguarded::new();
    let mut owners: BTreeMap<(String, String, String), (OwnerReference, usize)> = BTreeMap::new();
    let mut told = 0;
    for pod in pods.state() {
        let (Guard::Unguarded(why), Some(policy)) = (guard(&pod), policy(&pod.metadata)) else { continue };
        let namespace = pod.namespace().unwrap_or_default();
        unguarded.entry((namespace.clone(), policy.to_owned())).or_default().push(pod.name_any());
        if let Some(owner) = controller(&pod.metadata) {
            owners.entry((namespace, owner.kind.clone(), owner.name.clone())).or_insert_with(|| (owner.clone(), 0)).1 += 1;
        }
        if told < EVENTS_MAX {
            told += 1;
            let note = format!(
                "policy {policy:?} protects this pod, and it runs without Holdfast's agent: {why}. Delete it, so that it is made again"
            );
            events.tell(News::warning(pod.object_ref(&()), "Unprotected", "Audit", note));
        }
    }
    for ((namespace, ..), (owner, count)) in owners.into_iter().take(EVENTS_MAX) {
        let about = topmost(client, &namespace, owner).await?;
        let note = format!("{count} of its pods run without Holdfast's agent: delete them, so that they are made again");
        events.tell(News::warning(about, "Unprotected", "Audit", note));
    }
    Ok(unguarded)
}

fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// What people know: of a ReplicaSet, its Deployment.
async fn topmost(client: &Client, namespace: &str, owner: OwnerReference) -> Result<ObjectReference, kube::Error> {
    let owner = if owner.kind == "ReplicaSet" {
        let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
        let set = sets.get_opt(&owner.name).await?;
        set.and_then(|set| controller(&set.metadata).cloned()).unwrap_or(owner)
    } else {
        owner
    };
    Ok(ObjectReference {
        api_version: Some(owner.api_version),
        kind: Some(owner.kind),
        name: Some(owner.name),
        uid: Some(owner.uid),
        namespace: Some(namespace.to_owned()),
        ..ObjectReference::default()
    })
}

/// Tells of workloads that bear a policy's label while what they make doesn't; returns their names.
///
/// # Errors
/// If the API server can't be asked.
pub(crate) async fn workloads(client: &Client, events: &Events) -> Result<BTreeSet<String>, kube::Error> {
    let mut uncarried = BTreeSet::new();
    carried(client, events, &mut uncarried, |workload: &Deployment| Some(workload.spec.as_ref()?.template.metadata.as_ref()))
        .await?;
    carried(client, events, &mut uncarried, |workload: &StatefulSet| Some(workload.spec.as_ref()?.template.metadata.as_ref()))
        .await?;
    carried(client, events, &mut uncarried, |workload: &DaemonSet| Some(workload.spec.as_ref()?.template.metadata.as_ref()))
        .await?;
    carried(client, events, &mut uncarried, |workload: &Job| Some(workload.spec.as_ref()?.template.metadata.as_ref())).await?;
    carried(client, events, &mut uncarried, |workload: &CronJob| {
        Some(workload.spec.as_ref()?.job_template.spec.as_ref()?.template.metadata.as_ref())
    })
    .await?;
    Ok(uncarried)
}

async fn carried<K>(
    client: &Client,
    events: &Events,
    uncarried: &mut BTreeSet<String>,
    template: impl Fn(&K) -> Option<Option<&ObjectMeta>>,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let all: Api<K> = Api::all(client.clone());
    let mut params = ListParams::default().labels(labels::POLICY).limit(PAGE);
    loop {
        let page = all.list(&params).await?;
        for workload in &page.items {
            let Some(wanted) = policy(workload.meta()) else { continue };
            let found = template(workload).flatten().and_then(policy);
            if found == Some(wanted) || workload.meta().deletion_timestamp.is_some() {
                continue;
            }
            uncarried.insert(format!("{} {}", K::kind(&()), full_name(workload)));
            let note = format!(
                "policy {wanted:?} was to protect its pods, and they {}. Set the label {}={wanted} on its pod template; \
                 where that can't be changed, make it anew",
                found.map_or_else(|| "don't bear its label".to_owned(), |found| format!("bear another one's, {found:?}")),
                labels::POLICY,
            );
            events.tell(News::warning(workload.object_ref(&()), "LabelNotCarried", "Audit", note));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
