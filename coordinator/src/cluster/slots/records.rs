// SPDX-License-Identifier: Apache-2.0
//! What stands written of slots: StateLineages, and the label of the pod that has one.

use super::facts::{Named, RecordFacts};
use crate::cluster::name::LineageName;
use holdfast_api::labels::{CHOOSE, LINEAGE};
use holdfast_api::lineage::WorkloadSpec;
use holdfast_api::{StateLineage, StateLineageSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// Whose fields these are.
const MANAGER: &str = "holdfast-slots";
/// The API server has so long for one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the API server refused or failed")]
    Api(#[from] kube::Error),
    #[error("the API server did not answer")]
    Silent,
    #[error("somebody else has written that pod {uid} holds it: there may be another leader")]
    Taken { uid: String },
}

/// A slot, as it should stand written.
#[derive(Debug, Clone)]
pub(super) struct Slip {
    pub(super) namespace: String,
    pub(super) name: LineageName,
    pub(super) policy: String,
    pub(super) repository: String,
    /// The lineage's name in the repository, should it not stand written yet.
    pub(super) lineage: String,
    /// The pod that holds it: name, UID.
    pub(super) holder: Option<(String, String)>,
    /// Who held it, as far as this leader knows.
    pub(super) before: Option<String>,
}

/// Writes them.
#[derive(Clone)]
pub(super) struct Records {
    client: Client,
}

impl Records {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    fn lineages(&self, namespace: &str) -> Api<StateLineage> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes down who holds a slot, and says what stands there then. The record is made if need be, and made anew if it is of another repository.
    pub(super) async fn write(&self, slip: &Slip) -> Result<RecordFacts, WriteError> {
        let api = self.lineages(&slip.namespace);
        let there = self.ensure(&api, slip).await?;
        let stands = there.status.as_ref().and_then(|status| status.holder_uid.clone()).filter(|uid| !uid.is_empty());
        let ours = slip.holder.as_ref().map(|(_, uid)| uid);
        if let Some(uid) = stands.filter(|uid| slip.before.as_ref() != Some(uid) && ours != Some(uid)) {
            return Err(WriteError::Taken { uid });
        }
        let (name, uid) = slip.holder.clone().unzip();
        // with the version that was read: whoever writes in between wins
        let patch = json!({
            "metadata": {"resourceVersion": there.resource_version()},
            "status": {"holder": name, "holderUid": uid},
        });
        let written = answered(api.patch_status(&there.name_any(), &params(), &Patch::Merge(&patch))).await?;
        RecordFacts::of(&written).ok_or(WriteError::Silent)
    }

    async fn ensure(&self, api: &Api<StateLineage>, slip: &Slip) -> Result<StateLineage, WriteError> {
        let object = slip.name.object();
        let there = answered(api.get_opt(&object)).await?;
        if let Some(there) = there {
            if there.spec.repository == slip.repository {
                return Ok(there);
            }
            self.delete(&slip.namespace, &there).await?;
        }
        let workload = WorkloadSpec { kind: slip.name.kind.clone(), name: slip.name.name.clone() };
        let spec = StateLineageSpec {
            policy: slip.policy.clone(),
            repository: slip.repository.clone(),
            lineage: slip.lineage.clone(),
            workload,
            slot: slip.name.slot.clone(),
        };
        let create = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        answered(api.create(&create, &StateLineage::new(&object, spec))).await
    }

    async fn delete(&self, namespace: &str, record: &StateLineage) -> Result<(), WriteError> {
        let exactly = Preconditions { uid: record.uid(), resource_version: record.resource_version() };
        let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
        answered(self.lineages(namespace).delete(&record.name_any(), &params)).await.map(drop)
    }

    /// Makes a record anew, for another lineage of the same slot.
    pub(super) async fn rename(&self, slip: &Slip) -> Result<RecordFacts, WriteError> {
        let api = self.lineages(&slip.namespace);
        if let Some(there) = answered(api.get_opt(&slip.name.object())).await?.filter(|there| there.spec.lineage != slip.lineage)
        {
            self.delete(&slip.namespace, &there).await?;
        }
        self.write(slip).await
    }

    /// Takes a choice away that was followed.
    pub(super) async fn followed(&self, of: &Named) -> Result<(), WriteError> {
        let patch = json!({"metadata": {"annotations": {CHOOSE: null}}});
        answered(self.lineages(&of.0).patch(&of.1, &params(), &Patch::Merge(&patch))).await.map(drop)
    }

    /// Labels a pod with what it has; `false`: this pod is gone.
    pub(super) async fn label(&self, pod: &Named, uid: &str, object: &str) -> Result<bool, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.0);
        // with the UID: another pod of the same name is refused
        let patch = json!({"metadata": {"uid": uid, "labels": {LINEAGE: object}}});
        match answered(api.patch_metadata(&pod.1, &params(), &Patch::Merge(&patch))).await {
            Ok(_) => Ok(true),
            Err(WriteError::Api(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

async fn answered<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(WriteError::Silent),
    }
}
