// SPDX-License-Identifier: Apache-2.0
//! What is to remain of which lineage, as the policies say that its pods bear now. Plain functions of the cluster's objects.

use crate::cluster::audit::guard::{Guard, guard, policy};
use crate::cluster::repositories::{domain_of, key_of};
use crate::cluster::{Repositories, RepositoryKey};
use holdfast_api::{StateLineage, StatePolicy, StateRepository, labels};
use holdfast_core::id::RepositoryId;
use holdfast_core::policy::Retention;
use holdfast_store::repository::Repository;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is to remain of lineages, by the names of their domains and their own. `None`, and what is not in here: everything.
pub(crate) type Wishes = HashMap<(String, String), Option<Retention>>;

/// A repository, however many StateRepositories lead to it.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// As the first of its StateRepositories opened it.
    pub(crate) repository: Repository,
    /// That StateRepository.
    pub(crate) key: RepositoryKey,
    /// All of them: they are told what was done.
    pub(crate) objects: Vec<ObjectReference>,
    pub(crate) wishes: Arc<Wishes>,
}

/// The cluster's objects at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight {
    pub(crate) lineages: Vec<Arc<StateLineage>>,
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) policies: Vec<Arc<StatePolicy>>,
    pub(crate) repositories: Vec<Arc<StateRepository>>,
}

/// The repositories that can be used, and what is to remain in them.
pub(crate) fn tasks(sight: &Sight, open: &Repositories) -> BTreeMap<RepositoryId, Task> {
    let mut tasks: BTreeMap<RepositoryId, (Task, Wishes)> = BTreeMap::new();
    let retentions = retentions(sight);
    let mut objects: Vec<_> = sight.repositories.iter().map(|object| (key_of(&**object), object)).collect();
    objects.sort_by(|one, two| one.0.cmp(&two.0));
    for (key, object) in objects {
        let Ok(coordinator) = open.coordinator(&key) else { continue };
        let repository = coordinator.shared.catalog.repository();
        let domain = domain_of(object);
        let (task, wishes) = tasks.entry(repository.id()).or_insert_with(|| {
            let task = Task { repository: repository.clone(), key: key.clone(), objects: Vec::new(), wishes: Arc::default() };
            (task, Wishes::new())
        });
        task.objects.push(object.object_ref(&()));
        for lineage in &sight.lineages {
            if (lineage.namespace().unwrap_or_default(), &lineage.spec.repository) != (key.namespace.clone(), &key.name) {
                continue;
            }
            let found = retentions.get(&(key.namespace.clone(), lineage.name_any())).cloned().flatten();
            let name = (domain.clone(), lineage.spec.lineage.clone());
            // two objects of one lineage: what either of them wants remains
            match wishes.remove(&name) {
                Some(before) => wishes.insert(name, both(before, found)),
                None => wishes.insert(name, found),
            };
        }
    }
    tasks.into_iter().map(|(id, (task, wishes))| (id, Task { wishes: Arc::new(wishes), ..task })).collect()
}

/// By namespace and StateLineage: what the policies of the pods say that bear it. A lineage without a pod has no entry, and so keeps what it
/// has: nothing in it ages, and whoever comes back may bear another policy. One of whose policies is gone or can't be understood keeps everything.
fn retentions(sight: &Sight) -> HashMap<(String, String), Option<Retention>> {
    let policies: HashMap<(String, String), &Arc<StatePolicy>> =
        sight.policies.iter().map(|policy| ((policy.namespace().unwrap_or_default(), policy.name_any()), policy)).collect();
    let mut found: HashMap<(String, String), Option<Retention>> = HashMap::new();
    for pod in &sight.pods {
        let Some(lineage) = pod.labels().get(labels::LINEAGE).filter(|_| guard(pod) != Guard::Over) else { continue };
        let namespace = pod.namespace().unwrap_or_default();
        let named = policy(&pod.metadata).and_then(|policy| policies.get(&(namespace.clone(), policy.to_owned())));
        let wish = named.and_then(|policy| policy.spec.resolve().policy).map(|policy| policy.retention);
        let name = (namespace, lineage.clone());
        match found.remove(&name) {
            Some(before) => found.insert(name, both(before, wish)),
            None => found.insert(name, wish),
        };
    }
    found
}

/// What remains if either of two wants it; who wants everything has his way.
fn both(one: Option<Retention>, two: Option<Retention>) -> Option<Retention> {
    let (one, two) = (one?, two?);
    let mut tiers = one.tiers;
    tiers.extend(two.tiers.into_iter().filter(|tier| !tiers.contains(tier)).collect::<Vec<_>>());
    Some(Retention { keep_all: one.keep_all.max(two.keep_all), tiers })
}
