// SPDX-License-Identifier: Apache-2.0
//! Sees to it that what [`plan`](crate::plan) decides is there.

use crate::plan::{self, COUNT, Workers};
use crate::resource::{RSACracker, RSACrackerStatus};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, TypeMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

const MANAGER: &str = "factoriser-operator";

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or did not answer.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// An object is not what it should be.
    #[error("an object that can't be read: {0}")]
    Object(#[from] serde_json::Error),
    /// An object belongs to no namespace, or has no kind.
    #[error("an object without a namespace or a kind")]
    Nowhere,
}

struct Context {
    client: Client,
    image: String,
}

/// Works until the process is told to end.
pub async fn run(client: Client, image: String) {
    let crackers: Api<RSACracker> = Api::all(client.clone());
    let config = watcher::Config::default;
    let controller = Controller::new(crackers, config())
        .owns(Api::<StatefulSet>::all(client.clone()), config())
        .owns(Api::<Deployment>::all(client.clone()), config())
        .owns(Api::<Service>::all(client.clone()), config())
        .shutdown_on_signal();
    let context = Arc::new(Context { client, image });
    let outcomes = controller.run(reconcile, retry, context);
    outcomes
        .for_each(|outcome| async move {
            match outcome {
                Ok((cracker, _)) => info!(cracker = cracker.name, "is as it should be"),
                Err(error) => warn!(%error, "is to be tried again"),
            }
        })
        .await;
}

fn retry(_: Arc<RSACracker>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(Duration::from_secs(5))
}

async fn reconcile(cracker: Arc<RSACracker>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = cracker.namespace().ok_or(Error::Nowhere)?;
    let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
    let set = sets.get_opt(&plan::workers_name(&cracker)).await?;
    let mut now = set.as_ref().map(made_for);
    if let Some(workers) = now.as_mut().filter(|workers| workers.made_for != cracker.spec.worker_count) {
        // the set's own count no longer has those that are about to end
        let selector = ListParams::default().labels(&format!("app={}", plan::workers_name(&cracker)));
        let pods = Api::<Pod>::namespaced(context.client.clone(), &namespace).list_metadata(&selector).await?;
        workers.pods = i32::try_from(pods.items.len()).unwrap_or(i32::MAX);
    }
    for object in plan::objects(&cracker, &context.image, now) {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types: TypeMeta = object.types.clone().ok_or(Error::Nowhere)?;
        let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, &types.kind));
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
        api.patch(&object.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    }
    let ready = set.and_then(|set| set.status).and_then(|status| status.ready_replicas).unwrap_or(0);
    let status = RSACrackerStatus { observed_generation: cracker.metadata.generation, ready_workers: ready };
    if cracker.status.as_ref() != Some(&status) {
        let crackers: Api<RSACracker> = Api::namespaced(context.client.clone(), &namespace);
        let patch = json!({ "apiVersion": "factoriser.example/v1", "kind": "RSACracker", "status": status });
        crackers.patch_status(&cracker.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
    }
    // those that are about to end change no object that is watched when they have
    let is_changing = now.is_some_and(|workers| workers.made_for != cracker.spec.worker_count);
    Ok(if is_changing { Action::requeue(Duration::from_secs(1)) } else { Action::requeue(Duration::from_secs(300)) })
}

fn made_for(set: &StatefulSet) -> Workers {
    let count = set.annotations().get(COUNT).and_then(|count| count.parse().ok()).unwrap_or_default();
    Workers { made_for: count, pods: 0 }
}
