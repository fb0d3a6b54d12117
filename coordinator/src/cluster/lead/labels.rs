// SPDX-License-Identifier: Apache-2.0
//! The label that says which pod leads: the Service sends agents there.

use holdfast_api::labels;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

const VALUE: &str = "true";

/// Takes the label from all other pods and gives it to this one. Writes only what isn't so.
///
/// # Errors
/// If the API server refuses. That a pod has gone is none.
pub(crate) async fn claim(pods: &Api<Pod>, own: &str) -> Result<(), kube::Error> {
    let labelled = pods.list_metadata(&ListParams::default().labels(&format!("{}={VALUE}", labels::LEADER))).await?;
    let mut mine = false;
    for pod in labelled {
        if pod.name_any() == own {
            mine = true;
        } else {
            patch(pods, &pod.name_any(), Value::Null).await?;
        }
    }
    if mine { Ok(()) } else { patch(pods, own, json!(VALUE)).await }
}

/// Takes the label from this pod.
///
/// # Errors
/// If the API server refuses.
pub(crate) async fn renounce(pods: &Api<Pod>, own: &str) -> Result<(), kube::Error> {
    patch(pods, own, Value::Null).await
}

async fn patch(pods: &Api<Pod>, name: &str, value: Value) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "labels": { labels::LEADER: value } } });
    match pods.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}
