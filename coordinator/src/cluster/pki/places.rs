// SPDX-License-Identifier: Apache-2.0
//! Where the authorities are made known: a ConfigMap in every namespace whose pods may have agents, and every entry of the webhook's configuration.
//! What is there is known from watches, so that whatever somebody wipes is put back at once, and nothing is written twice.

use super::{AUTHORITY, Places};
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_api::StatePolicy;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The webhook's configuration.
pub(crate) const CONFIGURATION: &str = "holdfast";
/// Whose fields these are.
const MANAGER: &str = "holdfast-ca";
/// The key of the ConfigMap.
const KEY: &str = "ca.crt";
/// Namespaces that are written to at once.
const WRITES: usize = 8;

/// The places of a cluster.
pub(crate) struct InCluster {
    pub(crate) client: Client,
    pub(crate) policies: Store<StatePolicy>,
    /// Those with our label, of all namespaces.
    pub(crate) configmaps: Store<ConfigMap>,
    pub(crate) webhooks: Store<MutatingWebhookConfiguration>,
}

impl std::fmt::Debug for InCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InCluster").finish_non_exhaustive()
    }
}

impl Places for InCluster {
    async fn publish(&self, bundle: &str) -> Result<bool, kube::Error> {
        let behind = self.behind(bundle);
        let entries = self.entries(bundle);
        let everywhere = behind.is_empty() && entries.is_empty();
        // first to the one that keeps all others from starting
        if !entries.is_empty() {
            self.webhook(&entries, bundle).await?;
        }
        // one namespace that refuses keeps no other from being told
        let written = stream::iter(behind).map(|namespace| self.configmap(namespace, bundle)).buffer_unordered(WRITES);
        let results: Vec<Result<(), kube::Error>> = written.collect().await;
        stream::iter(results).try_for_each(|()| std::future::ready(Ok(()))).await?;
        Ok(everywhere)
    }
}

impl InCluster {
    /// The namespaces that need the bundle and don't have it: those with policies, and those that had it before, since pods may still mount it.
    fn behind(&self, bundle: &str) -> BTreeSet<String> {
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        for policy in self.policies.state() {
            known.extend(policy.namespace().map(|namespace| (namespace, false)));
        }
        for map in self.configmaps.state().iter().filter(|map| map.name_any() == AUTHORITY) {
            let right = map.data.as_ref().and_then(|data| data.get(KEY)).is_some_and(|found| found == bundle);
            known.extend(map.namespace().map(|namespace| (namespace, right)));
        }
        known.into_iter().filter(|(_, right)| !right).map(|(namespace, _)| namespace).collect()
    }

    async fn configmap(&self, namespace: String, bundle: &str) -> Result<(), kube::Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let (label, value) = crate::cluster::managed();
        let map = json!({
            "apiVersion": ConfigMap::api_version(&()),
            "kind": ConfigMap::kind(&()),
            "metadata": { "name": AUTHORITY, "labels": { label: value } },
            "data": { KEY: bundle },
        });
        match maps.patch(AUTHORITY, &PatchParams::apply(MANAGER).force(), &Patch::Apply(map)).await {
            // a namespace that is being deleted takes nothing new, and needs nothing
            Err(kube::Error::Api(status))
                if status.is_not_found() || status.is_forbidden() && status.message.contains("terminated") =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// The names of the webhook's entries, if any of them has another bundle.
    fn entries(&self, bundle: &str) -> Vec<String> {
        let found = self.webhooks.state().into_iter().find(|found| found.name_any() == CONFIGURATION);
        let entries = found.and_then(|found| found.webhooks.clone()).unwrap_or_default();
        let right = |known: &Option<k8s_openapi::ByteString>| known.as_ref().is_some_and(|known| known.0 == bundle.as_bytes());
        if entries.iter().all(|entry| right(&entry.client_config.ca_bundle)) {
            return Vec::new();
        }
        entries.into_iter().map(|entry| entry.name).collect()
    }

    async fn webhook(&self, entries: &[String], bundle: &str) -> Result<(), kube::Error> {
        let bundle = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
        let entries: Vec<_> =
            entries.iter().map(|name| json!({ "name": name, "clientConfig": { "caBundle": bundle } })).collect();
        let configuration = json!({
            "apiVersion": MutatingWebhookConfiguration::api_version(&()),
            "kind": MutatingWebhookConfiguration::kind(&()),
            "metadata": { "name": CONFIGURATION },
            "webhooks": entries,
        });
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        all.patch(CONFIGURATION, &PatchParams::apply(MANAGER).force(), &Patch::Apply(configuration)).await.map(|_| ())
    }
}
