// SPDX-License-Identifier: Apache-2.0
//! Replicas as the cluster shows them: which pods have which lineage, and which are to be there.

use holdfast_api::{StateLineage, StatePolicy, labels};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::{Client, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the cluster shows.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    pub(crate) policies: Vec<Arc<StatePolicy>>,
    pub(crate) lineages: Vec<Arc<StateLineage>>,
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// A workload: namespace, kind, name.
pub(crate) type Workload = (String, String, String);

/// How many replicas workloads are to have; those that are gone are not in it.
///
/// # Errors
/// If the API server fails.
pub(crate) async fn wanted(client: &Client, workloads: BTreeSet<Workload>) -> Result<BTreeMap<Workload, i32>, kube::Error> {
    let mut wanted = BTreeMap::new();
    for workload in workloads {
        let (namespace, kind, name) = &workload;
        let replicas = match kind.as_str() {
            "Deployment" => {
                let found = Api::<Deployment>::namespaced(client.clone(), namespace).get_opt(name).await?;
                found.map(|found| found.spec.and_then(|spec| spec.replicas))
            }
            "StatefulSet" => {
                let found = Api::<StatefulSet>::namespaced(client.clone(), namespace).get_opt(name).await?;
                found.map(|found| found.spec.and_then(|spec| spec.replicas))
            }
            // of others, a replica without a pod has ended
            _ => None,
        };
        if let Some(replicas) = replicas {
            wanted.insert(workload, replicas.unwrap_or(1));
        }
    }
    Ok(wanted)
}

/// The pods that have a lineage, by (namespace, StateLineage): of two, the one that is not ending.
pub(crate) fn bearers(sight: &Sight) -> BTreeMap<(String, String), &Arc<Pod>> {
    let mut found: BTreeMap<(String, String), &Arc<Pod>> = BTreeMap::new();
    let holding = |lineage: &Arc<StateLineage>| Some((lineage.status.as_ref()?.holder_uid.clone()?, lineage.name_any()));
    let held: BTreeMap<String, String> = sight.lineages.iter().filter_map(holding).collect();
    for pod in &sight.pods {
        // the label comes a moment after the grant
        let held = || held.get(pod.metadata.uid.as_ref()?);
        let Some(lineage) = pod.labels().get(labels::LINEAGE).or_else(held).filter(|_| !has_ended(pod)) else { continue };
        let key = (pod.namespace().unwrap_or_default(), lineage.clone());
        if found.get(&key).is_none_or(|known| is_ending(known)) {
            found.insert(key, pod);
        }
    }
    found
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether none of its containers will ever run again.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) const fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Its gate has let the application begin: a pod is Pending until then.
pub(crate) fn runs(pod: &Pod) -> bool {
    phase(pod) == "Running" && !is_ending(pod)
}

/// Whose replica it is.
pub(crate) fn workload(lineage: &StateLineage) -> Workload {
    let of = &lineage.spec.workload;
    (lineage.namespace().unwrap_or_default(), of.kind.clone(), of.name.clone())
}

/// Whether a replica without a pod will come back as what it was: its slot is one of those that the workload is to have.
pub(crate) fn is_wanted(lineage: &StateLineage, wanted: &BTreeMap<Workload, i32>) -> bool {
    let Some(count) = wanted.get(&workload(lineage)) else { return false };
    match lineage.spec.slot.parse::<i32>() {
        Ok(slot) => slot < *count,
        // shared by all
        Err(_) => *count > 0,
    }
}
