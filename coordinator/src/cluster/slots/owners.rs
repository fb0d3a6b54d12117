// SPDX-License-Identifier: Apache-2.0
//! The topmost controller of a pod that says which pods there are: a ReplicaSet's Deployment; otherwise the pod's own controller.
//!
//! What stands above a StatefulSet or a Job (an operator's resource, a CronJob) may own several of them, whose ordinals would be confused: so the
//! way up ends there.

use super::facts::Owner;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::HashMap;
use std::time::Duration;

/// ReplicaSets whose owners are remembered.
const KNOWN_MAX: usize = 10_000;
/// Between tries while the API server doesn't answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Finds the controllers of pods.
pub(super) struct Owners {
    client: Client,
    /// By the UID of a ReplicaSet, which never changes hands.
    known: HashMap<String, Owner>,
}

impl Owners {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: HashMap::new() }
    }

    /// The topmost controller of a pod; `None`: it has none. Asks until there is an answer.
    pub(super) async fn of(&mut self, pod: &Pod) -> Option<Owner> {
        let controller = controller_of(pod)?;
        let own = Owner { kind: controller.kind.clone(), name: controller.name.clone() };
        if controller.kind != "ReplicaSet" {
            return Some(own);
        }
        if let Some(known) = self.known.get(&controller.uid) {
            return Some(known.clone());
        }
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &pod.namespace()?);
        let found = loop {
            match sets.get_metadata_opt(&controller.name).await {
                Ok(found) => break found.filter(|set| set.uid().as_deref() == Some(&controller.uid)),
                Err(error) => {
                    tracing::warn!(pod = %pod.name_any(), %error, "the pod's ReplicaSet can't be read; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        let above =
            found.as_ref().and_then(controller_of).map(|above| Owner { kind: above.kind.clone(), name: above.name.clone() });
        if found.is_some() {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(controller.uid.clone(), above.clone().unwrap_or_else(|| own.clone()));
        }
        Some(above.unwrap_or(own))
    }
}

fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true))
}
