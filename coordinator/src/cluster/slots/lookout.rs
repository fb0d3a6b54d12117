// SPDX-License-Identifier: Apache-2.0
//! All watches as one stream of what matters to slots.

use super::facts::{Named, PodFacts, PolicyFacts, RecordFacts, is_ready, replicas};
use super::follow::{ObjectKey, Seen, follow};
use super::owners::Owners;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use holdfast_api::labels::POLICY;
use holdfast_api::{StateLineage, StatePolicy};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher;
use kube::{Client, Resource};
use std::sync::Arc;
use tokio::sync::Mutex;

/// How many kinds are listed before anything is decided.
pub(super) const KINDS: usize = 5;

/// What was seen. Of what is gone: nothing.
#[derive(Debug)]
pub(super) enum Sight {
    /// A pod by its UID.
    Pod(String, Option<PodFacts>),
    /// A node, and whether it is ready.
    Node(String, Option<bool>),
    Policy(Named, Option<PolicyFacts>),
    /// A Deployment's replicas.
    Replicas(Named, Option<u32>),
    Record(Named, Option<RecordFacts>),
    /// All of one kind has been told.
    Listed,
}

/// Everything there is, and what changes.
pub(super) fn look(client: &Client) -> SelectAll<BoxStream<'static, Sight>> {
    let owners = Arc::new(Mutex::new(Owners::new(client.clone())));
    let labelled = watcher::Config::default().labels(POLICY);
    let pods = follow::<Pod>(client, labelled).then(move |seen| {
        let owners = Arc::clone(&owners);
        async move {
            match seen {
                Seen::Is(key, pod) => {
                    let owner = owners.lock().await.of(&pod).await;
                    Sight::Pod(key.uid, PodFacts::of(&pod, owner))
                }
                Seen::Gone(key) => Sight::Pod(key.uid, None),
                Seen::Listed => Sight::Listed,
            }
        }
    });
    let all = watcher::Config::default;
    let nodes = follow::<Node>(client, all()).map(|seen| match seen {
        Seen::Is(key, node) => Sight::Node(key.name, Some(is_ready(&node))),
        Seen::Gone(key) => Sight::Node(key.name, None),
        Seen::Listed => Sight::Listed,
    });
    let policies = follow::<StatePolicy>(client, all()).map(|seen| match seen {
        Seen::Is(key, policy) => Sight::Policy(named(key), Some(PolicyFacts::from(&*policy))),
        Seen::Gone(key) => Sight::Policy(named(key), None),
        Seen::Listed => Sight::Listed,
    });
    let deployments = follow::<Deployment>(client, all()).map(|seen| match seen {
        Seen::Is(key, deployment) => Sight::Replicas(named(key), Some(replicas(&deployment))),
        Seen::Gone(key) => Sight::Replicas(named(key), None),
        Seen::Listed => Sight::Listed,
    });
    let records = follow::<StateLineage>(client, all()).map(|seen| match seen {
        Seen::Is(key, record) if record.meta().deletion_timestamp.is_some() => Sight::Record(named(key), None),
        Seen::Is(key, record) => Sight::Record(named(key), RecordFacts::of(&record)),
        Seen::Gone(key) => Sight::Record(named(key), None),
        Seen::Listed => Sight::Listed,
    });
    let others = [nodes.boxed(), policies.boxed(), deployments.boxed(), records.boxed()];
    stream::select_all(std::iter::once(pods.boxed()).chain(others))
}

fn named(key: ObjectKey) -> Named {
    (key.namespace, key.name)
}
