// SPDX-License-Identifier: Apache-2.0
//! Which pod may read what it is to write into a volume: the one whose UID stands in its StateRestore's status, until it has ended or is replaced.

use super::own;
use crate::cluster::restores::{Context, pods};
use crate::cluster::slots::is_ready;
use crate::cluster::{Courier, RepositoryKey, once};
use holdfast_api::{StateRestore, StateRestoreStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::Api;
use std::sync::Arc;

impl Context {
    /// Makes known whose pod may read what.
    pub(super) fn send(&self, object: &StateRestore) {
        let status = object.status.clone().unwrap_or_default();
        let repository = status.repository.as_ref().and_then(|key| key.parse::<RepositoryKey>().ok());
        let (Some(repository), Some((name, uid))) = (repository, made(&status)) else { return };
        let lineages = status.members.into_iter().map(|member| (member.lineage, member.stored_as)).collect();
        let courier = Courier { namespace: own(object), name, repository, lineages };
        self.couriers.send_if_modified(|all| {
            let is_new = all.get(&uid) != Some(&courier);
            if is_new {
                Arc::make_mut(all).insert(uid, courier);
            }
            is_new
        });
    }

    /// The pod of a restore may read nothing any more, and is deleted unless it has ended.
    pub(super) async fn recall(&self, object: &StateRestore) {
        let status = object.status.clone().unwrap_or_default();
        let Some((name, uid)) = made(&status) else { return };
        self.couriers.send_if_modified(|all| Arc::make_mut(all).remove(&uid).is_some());
        let repository = status.repository.and_then(|key| key.parse::<RepositoryKey>().ok());
        if let Some(coordinator) = repository.and_then(|key| self.coordinator(&key).ok()) {
            coordinator.shared().revoke_all(&uid);
        }
        let is_over = once::is_over(object) && object.metadata.deletion_timestamp.is_none();
        if !is_over && let Err(error) = self.delete_courier(&own(object), &name, &uid).await {
            tracing::warn!(pod = name, %error, "the pod of a restore could not be deleted");
        }
    }

    async fn delete_courier(&self, namespace: &str, name: &str, uid: &str) -> Result<(), kube::Error> {
        pods::delete(&Api::<Pod>::namespaced(self.with.client.clone(), namespace), name, uid).await
    }

    pub(super) async fn is_node_lost(&self, pod: &Pod) -> Result<bool, kube::Error> {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { return Ok(true) };
        let node = Api::<Node>::all(self.with.client.clone()).get_opt(node).await?;
        Ok(!node.as_ref().is_some_and(is_ready))
    }
}

/// The pod that was made: name, UID.
fn made(status: &StateRestoreStatus) -> Option<(String, String)> {
    let pod = status.pod.as_ref().filter(|pod| !pod.uid.is_empty())?;
    Some((pod.name.clone(), pod.uid.clone()))
}
