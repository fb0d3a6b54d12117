// SPDX-License-Identifier: Apache-2.0
//! What is there where a copy goes, as the API server says.

use super::copy::{Address, Copy, Need, Object};
use super::preflight::{self, Lodging, Scene, Taken};
use super::words::texts;
use crate::cluster::RepositoryKey;
use crate::cluster::restores::Context;
use crate::cluster::restores::aim::Taken as Source;
use crate::cluster::table::Unready;
use holdfast_api::{StateLineage, StatePolicy, labels};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The class that volumes are of which name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// A right: group, resource, verb.
type Right = (&'static str, &'static str, &'static str);

/// What is looked at beside what every coordinator may read. With [`creates`], it is what `deploy/components/restore-beside` grants.
const SERVICES: Right = ("", "services", "list");
const NAMESPACES: Right = ("", "namespaces", "get");
const ACCOUNTS: Right = ("", "serviceaccounts", "get");
const CLASSES: Right = ("storage.k8s.io", "storageclasses", "list");

/// The kinds that a copy consists of.
pub(super) fn resource(kind: &str) -> Option<ApiResource> {
    let (group, version, plural) = match kind {
        "Deployment" => ("apps", "v1", "deployments"),
        "StatefulSet" => ("apps", "v1", "statefulsets"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "PersistentVolumeClaim" => ("", "v1", "persistentvolumeclaims"),
        "StatePolicy" => return Some(ApiResource::erase::<StatePolicy>(&())),
        "StateLineage" => return Some(ApiResource::erase::<StateLineage>(&())),
        _ => return None,
    };
    Some(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural))
}

/// The right to make objects of a kind, where it takes more than every coordinator has.
fn creates(kind: &str) -> Option<Right> {
    Some(match kind {
        "Deployment" => ("apps", "deployments", "create"),
        "StatefulSet" => ("apps", "statefulsets", "create"),
        "ConfigMap" => ("", "configmaps", "create"),
        "PersistentVolumeClaim" => ("", "persistentvolumeclaims", "create"),
        "StatePolicy" => ("holdfast.dev", "statepolicies", "create"),
        _ => return None,
    })
}

/// Whether this process has a right in a namespace.
async fn may(client: &Client, (group, resource, verb): Right, namespace: &str) -> Result<bool, kube::Error> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        group: some(group),
        resource: some(resource),
        verb: some(verb),
        namespace: some(namespace),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// What may be read where the copy goes, and what is seen by it.
pub(super) struct Look<'a> {
    client: &'a Client,
    namespace: &'a str,
    denied: Vec<String>,
}

impl<'a> Look<'a> {
    pub(super) const fn new(client: &'a Client, namespace: &'a str) -> Self {
        Self { client, namespace, denied: Vec::new() }
    }

    /// What was denied before.
    pub(super) fn with(self, denied: Vec<String>) -> Self {
        Self { denied, ..self }
    }

    pub(super) fn into_denied(self) -> Vec<String> {
        self.denied
    }

    /// Whether a right is there; one that isn't is remembered.
    async fn may(&mut self, right: Right) -> Result<bool, kube::Error> {
        let namespace = if right == CLASSES { "" } else { self.namespace };
        let allowed = may(self.client, right, namespace).await?;
        if !allowed {
            let (group, resource, verb) = right;
            self.denied.push(format!("apiGroups: [{group:?}], resources: [{resource:?}], verbs: [{verb:?}]"));
        }
        Ok(allowed)
    }

    /// The Services by name, with their selectors.
    pub(super) async fn services(&mut self) -> Result<BTreeMap<String, BTreeMap<String, String>>, kube::Error> {
        if !self.may(SERVICES).await? {
            return Ok(BTreeMap::new());
        }
        let found = Api::<Service>::namespaced(self.client.clone(), self.namespace).list(&ListParams::default()).await?;
        let selector = |service: &Service| service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        Ok(found.items.iter().map(|service| (service.name_any(), selector(service))).collect())
    }

    async fn has_namespace(&mut self) -> Result<bool, kube::Error> {
        if !self.may(NAMESPACES).await? {
            return Ok(true);
        }
        Ok(Api::<Namespace>::all(self.client.clone()).get_metadata_opt(self.namespace).await?.is_some())
    }

    async fn classes(&mut self) -> Result<Option<Vec<(String, bool)>>, kube::Error> {
        if !self.may(CLASSES).await? {
            return Ok(None);
        }
        let found = Api::<StorageClass>::all(self.client.clone()).list(&ListParams::default()).await?;
        let class = |class: &StorageClass| {
            (class.name_any(), class.annotations().get(DEFAULT_CLASS).is_some_and(|is_default| is_default == "true"))
        };
        Ok(Some(found.items.iter().map(class).collect()))
    }

    /// Of what is needed, what is not there. Of Secrets, nothing but the metadata is read.
    async fn missing(&mut self, needs: &BTreeSet<Need>) -> Result<BTreeSet<Need>, kube::Error> {
        let sees_accounts = match needs.iter().any(|(kind, _)| *kind == "ServiceAccount") {
            true => self.may(ACCOUNTS).await?,
            false => false,
        };
        let mut missing = BTreeSet::new();
        for (kind, name) in needs {
            let client = self.client.clone();
            let is_there = match *kind {
                "Secret" => Api::<Secret>::namespaced(client, self.namespace).get_metadata_opt(name).await?.is_some(),
                "ServiceAccount" if sees_accounts => {
                    Api::<ServiceAccount>::namespaced(client, self.namespace).get_metadata_opt(name).await?.is_some()
                }
                "ServiceAccount" => true,
                kind => self.object(kind, name).await?.is_some(),
            };
            if !is_there {
                missing.insert((*kind, name.clone()));
            }
        }
        Ok(missing)
    }

    async fn object(&self, kind: &str, name: &str) -> Result<Option<Value>, kube::Error> {
        let Some(resource) = resource(kind) else { return Ok(None) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), self.namespace, &resource);
        let found = api.get_opt(name).await?;
        found.map(|found| serde_json::to_value(found).map_err(kube::Error::SerdeError)).transpose()
    }

    /// Of what is to be made, what is there.
    async fn taken(
        &self,
        objects: &[Object],
        claims: &BTreeSet<String>,
        uid: &str,
    ) -> Result<BTreeMap<(String, String), Taken>, kube::Error> {
        let mut taken = BTreeMap::new();
        for object in objects {
            let Some(there) = self.object(&object.kind, &object.name).await? else { continue };
            let marks = texts(&there["metadata"]["labels"]);
            let how = match marks.get(labels::RESTORE).is_some_and(|by| by == uid) {
                true => Taken::Ours,
                false if preflight::is_same(&there, &object.body) => Taken::Same,
                false => Taken::Other,
            };
            taken.insert((object.kind.clone(), object.name.clone()), how);
        }
        for claim in claims {
            if self.object("PersistentVolumeClaim", claim).await?.is_some() {
                taken.insert(("PersistentVolumeClaim".to_owned(), claim.clone()), Taken::Other);
            }
        }
        Ok(taken)
    }
}

impl Context {
    /// What is there for a copy.
    pub(super) async fn scene(
        &self,
        mut look: Look<'_>,
        copy: &Copy,
        address: &Address,
        repository: RepositoryKey,
        source: &Source,
        services: BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Scene, kube::Error> {
        let objects = preflight::objects(copy, address, &repository);
        let kinds: BTreeSet<&str> = objects.iter().map(|object| object.kind.as_str()).collect();
        for right in kinds.into_iter().filter_map(creates) {
            look.may(right).await?;
        }
        let has_namespace = look.has_namespace().await?;
        let classes = match copy.classes.is_empty() {
            true => None,
            false => look.classes().await?,
        };
        let missing = look.missing(&copy.needs).await?;
        let taken = look.taken(&objects, &copy.claims, &address.uid).await?;
        let there = self.with.objects.policies.state();
        let policies = there.iter().filter(|policy| policy.namespace().as_deref() == Some(&address.to));
        Ok(Scene {
            policies: policies.map(|policy| policy.name_any()).collect(),
            lodging: self.lodging(&repository, source),
            denied: look.denied,
            has_namespace,
            repository,
            taken,
            missing,
            classes,
            services,
        })
    }

    fn lodging(&self, key: &RepositoryKey, source: &Source) -> Lodging {
        let coordinator = match self.with.repositories.borrow().coordinator(key) {
            Ok(coordinator) => coordinator.clone(),
            Err(Unready::Missing) => return Lodging::Missing,
            Err(unready) => return Lodging::Away(unready.to_string()),
        };
        let (ours, theirs) = (&coordinator.shared().catalog, &source.coordinator.shared().catalog);
        let domain = |of: &crate::catalog::Catalog, namespace: &str| of.only().unwrap_or(namespace).to_owned();
        let wanted = domain(theirs, &source.key.namespace);
        if ours.repository().id() != theirs.repository().id() {
            Lodging::Other
        } else if domain(ours, &key.namespace) != wanted {
            Lodging::OtherDomain(wanted)
        } else {
            Lodging::Same
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifest::{Grant, grants};

    #[test]
    fn the_component_grants_what_is_asked_for() {
        let granted = grants("components/restore-beside/rbac.yaml");
        let kinds = ["Deployment", "StatefulSet", "ConfigMap", "PersistentVolumeClaim", "StatePolicy"];
        for (group, resource, verb) in kinds.into_iter().filter_map(creates).chain([SERVICES, NAMESPACES, ACCOUNTS, CLASSES]) {
            let is_it = |grant: &Grant| (&*grant.group, &*grant.resource, &*grant.verb) == (group, resource, verb);
            assert!(granted.iter().any(is_it), "{verb} {resource}");
        }
        assert!(kinds.iter().all(|kind| resource(kind).is_some()));
    }
}
