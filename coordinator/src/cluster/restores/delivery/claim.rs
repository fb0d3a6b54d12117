// SPDX-License-Identifier: Apache-2.0
//! Whether a claim can be written to, as the API server has it. Whether its volume is empty, only the pod sees.

use super::own;
use crate::cluster::hindrance::{Hindrance, listed};
use crate::cluster::replicas::has_ended;
use crate::cluster::restores::Context;
use crate::cluster::restores::aim::Answer;
use holdfast_api::StateRestore;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

/// A claim that there is.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// What stands in the way.
    pub(super) obstacle: Option<Hindrance>,
    /// How much it holds, as it says itself.
    pub(super) capacity: Option<String>,
}

impl Context {
    /// The claim of a restore.
    pub(super) async fn claim(&self, object: &StateRestore, name: &str) -> Answer<Claim> {
        let namespace = own(object);
        let named = object.spec.elsewhere.as_ref().map(|elsewhere| elsewhere.namespace.as_str()).unwrap_or_default();
        if !named.is_empty() && named != namespace {
            let message = format!("the claim must be in {namespace}, as this object is: create the StateRestore in {named}");
            return Ok(Err(Hindrance::lasting("NamespaceRefused", message)));
        }
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.with.client.clone(), &namespace);
        let Some(claim) = claims.get_opt(name).await? else {
            let message = format!("there is no PersistentVolumeClaim {name:?} in {namespace}");
            return Ok(Err(Hindrance::passing("ClaimNotFound", message)));
        };
        let pods: Api<Pod> = Api::namespaced(self.with.client.clone(), &namespace);
        let pods = pods.list(&ListParams::default()).await?.items;
        Ok(Ok(judge(&claim, &pods)))
    }
}

fn judge(claim: &PersistentVolumeClaim, pods: &[Pod]) -> Claim {
    let name = claim.name_any();
    let spec = claim.spec.clone().unwrap_or_default();
    let users: Vec<String> = pods.iter().filter(|pod| !has_ended(pod) && uses(pod, &name)).map(ResourceExt::name_any).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let reads_only = spec.access_modes.is_some_and(|modes| !modes.is_empty() && modes.iter().all(|mode| mode == "ReadOnlyMany"));
    let obstacle = if claim.metadata.deletion_timestamp.is_some() {
        Some(Hindrance::lasting("ClaimEnding", format!("PersistentVolumeClaim {name:?} is being deleted")))
    } else if !users.is_empty() {
        let message =
            format!("PersistentVolumeClaim {name:?} is in use by {}: name another one, or end what uses it", listed(&users));
        Some(Hindrance::lasting("ClaimInUse", message))
    } else if spec.volume_mode.as_deref() == Some("Block") {
        Some(Hindrance::lasting("ClaimUnusable", format!("PersistentVolumeClaim {name:?} is a block device, which has no files")))
    } else if reads_only {
        Some(Hindrance::lasting("ClaimUnusable", format!("PersistentVolumeClaim {name:?} may only be read")))
    } else {
        None
    };
    let status = claim.status.clone().unwrap_or_default();
    let capacity = status.capacity.and_then(|capacity| capacity.get("storage").map(|quantity| quantity.0.clone()));
    Claim { obstacle, capacity }
}

/// Whether a pod mounts a claim.
fn uses(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).any(|named| named.claim_name == claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(claim: &str, phase: &str) -> Pod {
        let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": claim } }]);
        let object = json!({ "metadata": { "name": "web-0" }, "spec": { "containers": [], "volumes": volumes }, "status": { "phase": phase } });
        serde_json::from_value(object).expect("a pod")
    }

    #[test]
    fn what_somebody_uses_or_nobody_can_write_is_refused() {
        let refused = |change: Value, pods: &[Pod]| {
            let mut object = json!({ "metadata": { "name": "inspect" }, "spec": { "accessModes": ["ReadWriteOnce"] },
                "status": { "capacity": { "storage": "1Gi" } } });
            json_patch::merge(&mut object, &change);
            let judged = judge(&serde_json::from_value(object).expect("a claim"), pods);
            assert_eq!(judged.capacity.as_deref(), Some("1Gi"));
            judged.obstacle.map(|why| why.reason)
        };
        assert_eq!(refused(json!({}), &[pod("other", "Running"), pod("inspect", "Succeeded")]), None);
        assert_eq!(refused(json!({}), &[pod("inspect", "Running")]), Some("ClaimInUse"));
        assert_eq!(refused(json!({}), &[pod("inspect", "Pending")]), Some("ClaimInUse"));
        assert_eq!(refused(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }), &[]), Some("ClaimEnding"));
        assert_eq!(refused(json!({ "spec": { "volumeMode": "Block" } }), &[]), Some("ClaimUnusable"));
        assert_eq!(refused(json!({ "spec": { "accessModes": ["ReadOnlyMany"] } }), &[]), Some("ClaimUnusable"));
    }
}
