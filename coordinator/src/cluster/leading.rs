// SPDX-License-Identifier: Apache-2.0
//! What the parts of a leading process share.

use super::events::Events;
use super::metrics::Metrics;
use super::repositories::key_of;
use super::{Repositories, RepositoryKey};
use crate::clock::Clock;
use holdfast_api::{StateLineage, StatePolicy, StateRepository};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::runtime::reflector::Store;
use std::sync::Arc;
use tokio::sync::{OnceCell, watch};

/// What a part of a leading process works with.
#[derive(Clone)]
pub(crate) struct Leading {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) events: Events,
    pub(crate) repositories: watch::Receiver<Repositories>,
    pub(crate) objects: Objects,
}

/// The objects of the cluster.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) pods: Store<Pod>,
    pub(crate) policies: Store<StatePolicy>,
    pub(crate) lineages: Store<StateLineage>,
    pub(crate) repositories: Store<StateRepository>,
    pub(crate) first: Arc<OnceCell<()>>,
}

impl Objects {
    /// Waits until all of them were listed once.
    pub(crate) async fn listed(&self) {
        // a store wakes only the last of those who wait for it: one waits for all
        let all = || async {
            // an error means that the process ends
            self.pods.wait_until_ready().await.ok();
            self.policies.wait_until_ready().await.ok();
            self.lineages.wait_until_ready().await.ok();
            self.repositories.wait_until_ready().await.ok();
        };
        self.first.get_or_init(all).await;
    }

    /// The StateRepository with this key, opened or not.
    pub(crate) fn repository(&self, key: &RepositoryKey) -> Option<Arc<StateRepository>> {
        self.repositories.find(|object| key_of(object) == *key)
    }
}

#[cfg(test)]
pub(crate) mod kit;

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher;
    use std::time::Duration;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn everybody_who_waits_for_the_first_listing_is_woken() {
        let ((pods, mut pods_feed), (policies, mut policies_feed)) = (store(), store());
        let ((lineages, mut lineages_feed), (repositories, mut repositories_feed)) = (store(), store());
        let objects = Objects { pods, policies, lineages, repositories, first: Arc::default() };
        let mut waiting = JoinSet::new();
        for _ in 0..3 {
            let objects = objects.clone();
            waiting.spawn(async move { objects.listed().await });
        }
        tokio::task::yield_now().await;
        pods_feed.apply_watcher_event(&watcher::Event::InitDone);
        policies_feed.apply_watcher_event(&watcher::Event::InitDone);
        lineages_feed.apply_watcher_event(&watcher::Event::InitDone);
        repositories_feed.apply_watcher_event(&watcher::Event::InitDone);
        tokio::time::timeout(Duration::from_secs(10), waiting.join_all()).await.expect("one was forgotten");
    }
}
