// SPDX-License-Identifier: Apache-2.0
//! The pods of a restore: which have not ended, and asking them to.

use super::Context;
use super::course::Bearer;
use crate::cluster::replicas::has_ended;
use crate::cluster::slots::is_ready;
use holdfast_api::labels;
use holdfast_api::restore::RestoredMember;
use holdfast_core::time::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Preconditions};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

impl Context {
    /// The pods that have a lineage of the restore and have not ended, as the API server has them now.
    pub(super) async fn bearers(&self, namespace: &str, members: &[RestoredMember]) -> Result<Vec<Bearer>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.with.client.clone(), namespace);
        let listed = api.list(&ListParams::default().labels(labels::LINEAGE)).await?;
        let mut found = Vec::new();
        for pod in listed.items {
            let lineage = pod.labels().get(labels::LINEAGE).cloned().unwrap_or_default();
            if has_ended(&pod) || !members.iter().any(|member| member.lineage == lineage) {
                continue;
            }
            let ending = pod.metadata.deletion_timestamp.as_ref().map(|by| self.with.clock.now().since(Timestamp::from(by.0)));
            let uid = pod.uid().unwrap_or_default();
            let given_up = ending.is_some() && self.is_given_up(namespace, &lineage, &uid) && self.is_lost(&pod).await?;
            found.push(Bearer { name: pod.name_any(), uid, ending, given_up });
        }
        Ok(found)
    }

    /// Whether a pod has no slot any more, by the same rules as ever: of a lost node's, its agent was silent for longer than it is waited for.
    fn is_given_up(&self, namespace: &str, lineage: &str, uid: &str) -> bool {
        let slots = self.slots.borrow();
        let row = slots.iter().find(|row| row.namespace == namespace && row.object.as_deref() == Some(lineage));
        row.is_some_and(|row| row.holder.as_ref().is_none_or(|(_, holder)| holder != uid))
    }

    async fn is_lost(&self, pod: &Pod) -> Result<bool, kube::Error> {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { return Ok(false) };
        let node = Api::<Node>::all(self.with.client.clone()).get_opt(node).await?;
        Ok(!node.as_ref().is_some_and(is_ready))
    }

    /// Asks pods to end, these and no others of their names.
    pub(super) async fn end(&self, namespace: &str, pods: &[(String, String)]) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.with.client.clone(), namespace);
        let ends = pods.iter().map(|(name, uid)| delete(&api, name, uid));
        // all are asked, whatever is answered for one
        futures::future::join_all(ends).await.into_iter().collect()
    }
}

/// Deletes an object, this one and no other of its name.
///
/// # Errors
/// As the API server answers; that it is not there any more is none.
pub(super) async fn delete<K: Clone + DeserializeOwned + Debug>(api: &Api<K>, name: &str, uid: &str) -> Result<(), kube::Error> {
    let exactly = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Err(kube::Error::Api(refused)) if refused.is_not_found() || refused.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}
