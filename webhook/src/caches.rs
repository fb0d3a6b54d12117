// SPDX-License-Identifier: Apache-2.0
//! What the cluster is like, as far as a decision asks for it: kept up to date by watches, so that no request waits for
//! the API server that waits for us.

use crate::around::{Around, Known, Namespace, OldNode, port_of};
use crate::node;
use arc_swap::ArcSwapOption;
use futures::{Stream, StreamExt};
use holdfast_api::{StatePolicy, StateRepository, labels};
use holdfast_core::policy::Severity;
use k8s_openapi::api::core::v1;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One that can't be read must not hide the others.
type Guarded<K> = DeserializeGuard<K>;

/// What is known of the cluster.
#[derive(Debug, Clone)]
pub struct Caches {
    policies: Store<Guarded<StatePolicy>>,
    repositories: Store<Guarded<StateRepository>>,
    namespaces: Store<PartialObjectMeta<v1::Namespace>>,
    old_node: Arc<ArcSwapOption<OldNode>>,
    synced: Arc<[AtomicBool; 4]>,
}

/// The other ends of the caches: what is written into them.
#[derive(Debug)]
pub struct Feeds {
    /// The policies.
    pub policies: Writer<Guarded<StatePolicy>>,
    /// The repositories.
    pub repositories: Writer<Guarded<StateRepository>>,
    /// The namespaces.
    pub namespaces: Writer<PartialObjectMeta<v1::Namespace>>,
    /// The nodes.
    pub nodes: Writer<v1::Node>,
    caches: Caches,
    node_store: Store<v1::Node>,
}

/// Empty caches, and what fills them.
#[must_use]
pub fn new() -> (Caches, Feeds) {
    let (policies, policy_feed) = reflector::store();
    let (repositories, repository_feed) = reflector::store();
    let (namespaces, namespace_feed) = reflector::store();
    let (node_store, nodes) = reflector::store();
    let caches = Caches {
        policies,
        repositories,
        namespaces,
        old_node: Arc::default(),
        synced: Arc::new(std::array::from_fn(|_| AtomicBool::new(false))),
    };
    let feeds = Feeds {
        policies: policy_feed,
        repositories: repository_feed,
        namespaces: namespace_feed,
        nodes,
        caches: caches.clone(),
        node_store,
    };
    (caches, feeds)
}

impl Caches {
    /// Whether everything has been read once.
    #[must_use]
    pub fn are_synced(&self) -> bool {
        self.synced.iter().all(|synced| synced.load(Ordering::Acquire))
    }

    /// What is known of a namespace. Of one that was made this very moment it may be only its name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Namespace {
        let found = self.namespaces.get(&ObjectRef::new(name));
        let metadata = found.as_ref().map(|found| &found.metadata);
        let label = |key: &str| metadata.and_then(|metadata| metadata.labels.as_ref()?.get(key));
        let annotation = |key: &str| metadata.and_then(|metadata| metadata.annotations.as_ref()?.get(key));
        Namespace {
            name: name.to_owned(),
            disabled: annotation(labels::INJECT).is_some_and(|value| value == "disabled"),
            restricted: label("pod-security.kubernetes.io/enforce").is_some_and(|level| level == "restricted"),
            assigns_users: annotation("openshift.io/sa.scc.uid-range").is_some(),
        }
    }

    /// Everything that a decision about an object under a policy rests on.
    #[must_use]
    pub fn around(&self, namespace: Namespace, policy: &str) -> Around {
        let known = self.policy(&namespace.name, policy);
        let store_port = match &known {
            Known::Usable(policy) => self.store_port(&namespace.name, &policy.repository),
            Known::Missing | Known::Unusable(_) => None,
        };
        let old_node = self.old_node.load().as_deref().cloned();
        Around { namespace, policy: known, store_port, old_node }
    }

    fn policy(&self, namespace: &str, name: &str) -> Known {
        let Some(found) = self.policies.get(&ObjectRef::new(name).within(namespace)) else { return Known::Missing };
        let policy = match &found.0 {
            Ok(policy) => policy,
            Err(invalid) => return Known::Unusable(invalid.error.clone()),
        };
        let resolved = policy.spec.resolve();
        if let Some(policy) = resolved.policy {
            return Known::Usable(Box::new(policy));
        }
        let first = resolved.findings.iter().find(|finding| finding.severity == Severity::Error);
        Known::Unusable(first.map(|finding| format!("{}: {}", finding.field, finding.sentence)).unwrap_or_default())
    }

    fn store_port(&self, namespace: &str, name: &str) -> Option<u16> {
        let found = self.repositories.get(&ObjectRef::new(name).within(namespace))?;
        let endpoint = found.0.as_ref().ok().map(|repository| repository.spec.s3.endpoint.as_str());
        Some(port_of(endpoint.unwrap_or_default()))
    }
}

impl Feeds {
    /// Watches the cluster for as long as the process lives. Interruptions are bridged: what is known stays in use.
    pub async fn run(self, client: Client) {
        let caches = &self.caches;
        let policies = watcher(Api::<Guarded<StatePolicy>>::all(client.clone()), watcher::Config::default());
        let repositories = watcher(Api::<Guarded<StateRepository>>::all(client.clone()), watcher::Config::default());
        let namespaces = watcher(Api::<PartialObjectMeta<v1::Namespace>>::all(client.clone()), watcher::Config::default());
        let nodes = watcher(Api::<v1::Node>::all(client), watcher::Config::default()).modify(node::trim);
        let node_store = self.node_store;
        let look_at_nodes = || {
            let old = node_store.find(|node| node::too_old(node).is_some());
            caches.old_node.store(old.and_then(|node| node::too_old(&node)).map(Arc::new));
        };
        futures::join!(
            keep("policies", reflector::reflector(self.policies, policies.default_backoff()), &caches.synced[0], || ()),
            keep(
                "repositories",
                reflector::reflector(self.repositories, repositories.default_backoff()),
                &caches.synced[1],
                || ()
            ),
            keep("namespaces", reflector::reflector(self.namespaces, namespaces.default_backoff()), &caches.synced[2], || ()),
            keep("nodes", reflector::reflector(self.nodes, nodes.default_backoff()), &caches.synced[3], look_at_nodes),
        );
    }
}

/// Follows one watch.
async fn keep<K: std::fmt::Debug>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    synced: &AtomicBool,
    after_each: impl Fn(),
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::InitDone) => {
                after_each();
                synced.store(true, Ordering::Release);
            }
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => after_each(),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
            Err(error) => tracing::warn!(what, error = %error, "can't watch; going on with what is known"),
        }
    }
}
