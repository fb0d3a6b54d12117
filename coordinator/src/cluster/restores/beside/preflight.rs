// SPDX-License-Identifier: Apache-2.0
//! What making a copy would come to, in sentences, and all that is missing for it, before anything is made. Plain functions of what was recorded and of
//! what is there.

use super::copy::{Address, Copy, Need, Object};
use super::course::is_workload;
use super::words::selects;
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::whole_seconds;
use crate::cluster::hindrance::{Hindrance, listed};
use crate::cluster::restores::plan::{MEMBERS_MAX, Plan, moment, number};
use holdfast_api::labels;
use holdfast_api::restore::{AcceptSpec, OriginStatus, RestoredMember};
use holdfast_core::time::Timestamp;
use holdfast_proto::v1::Quality;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Sentences of a plan: as many as its status holds.
const SENTENCES_MAX: usize = 256;
/// Objects of a copy: as many as its status holds.
const OBJECTS_MAX: usize = 512;

/// A checkpoint that a replica begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) sequence: u64,
    pub(super) root: String,
    pub(super) time: Timestamp,
    pub(super) quality: Quality,
    /// The lengths of its files together.
    pub(super) bytes: u64,
}

/// How the repository of the copy stands to that of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lodging {
    /// It is the same, with the same keys.
    Same,
    /// There is none.
    Missing,
    /// It can't be used, for now.
    Away(String),
    /// It is another one.
    Other,
    /// It is the same, and its states are in another domain than this.
    OtherDomain(String),
}

/// What has the name of something that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// This restore has made it.
    Ours,
    /// It says the same.
    Same,
    /// It is something else.
    Other,
}

/// What is there where the copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scene {
    /// What this coordinator may not do, as rules.
    pub(super) denied: Vec<String>,
    pub(super) has_namespace: bool,
    /// The StateRepository that the policies name there.
    pub(super) repository: RepositoryKey,
    pub(super) lodging: Lodging,
    /// Of what is to be made, what is there: kind, name.
    pub(super) taken: BTreeMap<(String, String), Taken>,
    /// Of what is needed, what is not there.
    pub(super) missing: BTreeSet<Need>,
    /// Classes of volumes: name, whether it is the default. `None`: they can't be listed.
    pub(super) classes: Option<Vec<(String, bool)>>,
    /// Services by name, with their selectors.
    pub(super) services: BTreeMap<String, BTreeMap<String, String>>,
    /// StatePolicies by name.
    pub(super) policies: BTreeSet<String>,
}

/// A plan, and the objects that it makes.
#[derive(Debug)]
pub(super) struct Sketch {
    pub(super) plan: Plan,
    pub(super) objects: Vec<Object>,
}

/// The name in the repository of a lineage of the copy: never one that a workload would have by itself, since namespaces may share a domain.
pub(super) fn stored_as(plain: &str, uid: &str) -> String {
    let id = hex::encode(super::super::history::pin_of(uid));
    format!("{plain}@{}", &id[..8])
}

/// All objects of a copy in the order in which they are made: the histories before what would begin empty ones, the workloads last.
pub(super) fn objects(copy: &Copy, address: &Address, repository: &RepositoryKey) -> Vec<Object> {
    let marked = json!({ labels::RESTORE: address.uid });
    let lineages = copy.replicas.iter().map(|replica| {
        let name = replica.name.object();
        let body = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateLineage",
            "metadata": { "name": name, "namespace": address.to, "labels": marked },
            "spec": { "policy": replica.policy, "repository": repository.name, "lineage": stored_as(&replica.name.lineage(), &address.uid),
                "workload": { "kind": replica.name.kind, "name": replica.name.name }, "slot": replica.name.slot },
        });
        Object { kind: "StateLineage".to_owned(), name, body }
    });
    let policies = copy.policies.iter().filter_map(|(name, recorded)| {
        let mut body = recorded.clone()?;
        body["metadata"]["name"] = json!(name);
        body["metadata"]["namespace"] = json!(address.to);
        body["metadata"]["labels"][labels::RESTORE] = json!(address.uid);
        Some(Object { kind: "StatePolicy".to_owned(), name: name.clone(), body })
    });
    let is_last = |object: &&Object| is_workload(&object.kind);
    let others = copy.objects.iter().filter(|object| !is_last(object)).cloned();
    let last = copy.objects.iter().filter(is_last).cloned();
    lineages.chain(others).chain(policies).chain(last).collect()
}

/// What would be done, and what stands in its way.
pub(super) fn sketch(
    how: &str,
    copy: &Copy,
    origins: &BTreeMap<String, Origin>,
    address: &Address,
    scene: &Scene,
    accept: &AcceptSpec,
) -> Sketch {
    let all = objects(copy, address, &scene.repository);
    let there = |object: &Object| match object.kind.as_str() {
        // that of the namespace counts, whatever was recorded
        "StatePolicy" => scene.policies.contains(&object.name),
        _ => scene.taken.get(&(object.kind.clone(), object.name.clone())) == Some(&Taken::Same),
    };
    let used: Vec<String> =
        all.iter().filter(|object| there(object)).map(|object| format!("{} {}", object.kind, object.name)).collect();
    let made: Vec<Object> = all.into_iter().filter(|object| !there(object)).collect();
    let mut obstacles = copy.obstacles.clone();
    obstacles.extend(missing(copy, address, scene));
    obstacles.extend(taken(copy, &made, scene));
    obstacles.extend(too_many(copy, &made));
    let fuzzy = fuzzy(copy, origins);
    let mut sentences = vec![how.to_owned()];
    sentences.extend(obstacles.iter().map(|hindrance| hindrance.message.clone()));
    sentences.extend(fuzzy.iter().map(|hindrance| match accept.fuzzy {
        true => format!("agreed to: {}", hindrance.message),
        false => hindrance.message.clone(),
    }));
    obstacles.extend(fuzzy.filter(|_| !accept.fuzzy));
    sentences.extend(copy.notes.iter().cloned());
    sentences.extend(copy.replicas.iter().filter_map(|replica| begins(&replica.name.object(), &replica.origin, origins)));
    let others =
        made.iter().filter(|object| matches!(object.kind.as_str(), "ConfigMap" | "PersistentVolumeClaim" | "StatePolicy"));
    sentences.extend(others.map(|object| match object.kind.as_str() {
        "PersistentVolumeClaim" => format!("PersistentVolumeClaim {} is made, of a new volume", object.name),
        kind => format!("{kind} {} is made as it was recorded", object.name),
    }));
    sentences.extend(used.into_iter().map(|used| format!("{used} is there, and used as it is")));
    sentences.extend(services(copy, scene));
    sentences.extend(copy.left.iter().map(|(name, why)| format!("{name} is left out: {why}")));
    if sentences.len() > SENTENCES_MAX {
        let more = sentences.len() - SENTENCES_MAX + 1;
        sentences.truncate(SENTENCES_MAX - 1);
        sentences.push(format!("and {more} more"));
    }
    let newest = copy.replicas.iter().filter_map(|replica| origins.get(&replica.origin)).map(|origin| origin.time).max();
    let plan = Plan {
        members: copy.replicas.iter().filter_map(|replica| member(replica, origins, address)).collect(),
        sentences,
        obstacle: joined(obstacles),
        restored_to: newest.map(whole_seconds),
        short: format!("{} replicas beside the original, in namespace {}: {how}", copy.replicas.len(), address.to),
    };
    Sketch { plan, objects: made }
}

/// All obstacles as one, with the first one's name.
fn joined(obstacles: Vec<Hindrance>) -> Option<Hindrance> {
    let messages: Vec<&str> = obstacles.iter().map(|hindrance| hindrance.message.as_str()).collect();
    let message = messages.join("; ");
    obstacles.first().map(|first| Hindrance::lasting(first.reason, message))
}

fn member(replica: &super::copy::Replica, origins: &BTreeMap<String, Origin>, address: &Address) -> Option<RestoredMember> {
    let origin = origins.get(&replica.origin)?;
    Some(RestoredMember {
        lineage: replica.name.object(),
        stored_as: stored_as(&replica.name.lineage(), &address.uid),
        sequence: 0,
        root: origin.root.clone(),
        origin: Some(OriginStatus { stored_as: replica.origin.clone(), sequence: number(origin.sequence) }),
        head: 0,
        kept: None,
        claim: None,
        before: None,
    })
}

fn begins(lineage: &str, of: &str, origins: &BTreeMap<String, Origin>) -> Option<String> {
    let Origin { sequence, time, quality, bytes, .. } = origins.get(of)?;
    let quality = if *quality == Quality::Fuzzy { "fuzzy" } else { "clean" };
    Some(format!("{lineage} begins with checkpoint {sequence} of {of}, of {} ({quality}; {bytes} bytes of files)", moment(*time)))
}

/// What is not there, and what this coordinator may not do.
fn missing(copy: &Copy, address: &Address, scene: &Scene) -> Vec<Hindrance> {
    let mut found = Vec::new();
    if !scene.has_namespace {
        found.push(Hindrance::lasting("NotThere", format!("there is no namespace {}: create it", address.to)));
    }
    if !scene.denied.is_empty() {
        let rules: Vec<&str> = scene.denied.iter().map(String::as_str).collect();
        let message = format!(
            "the coordinator may not make workloads: add the component deploy/components/restore-beside; it lacks {}",
            listed(&rules)
        );
        found.push(Hindrance::lasting("RightsMissing", message));
    }
    found.extend(lodging(scene));
    let absent: Vec<String> = scene.missing.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    if !absent.is_empty() {
        let message = format!("namespace {} lacks what the workloads name: {}", address.to, listed(&absent));
        found.push(Hindrance::lasting("NotThere", message));
    }
    for class in scene.classes.iter().flat_map(|known| copy.classes.iter().filter(|class| !has_class(known, class))) {
        let message = match class.as_str() {
            "" => "the cluster has no default StorageClass, and a new volume names none".to_owned(),
            class => format!("the cluster lacks StorageClass {class}"),
        };
        found.push(Hindrance::lasting("NotThere", message));
    }
    for (name, _) in copy.policies.iter().filter(|(name, recorded)| recorded.is_none() && !scene.policies.contains(*name)) {
        let message = format!("namespace {} has no StatePolicy {name}, and the snapshot holds none: create it", address.to);
        found.push(Hindrance::lasting("NotThere", message));
    }
    found
}

fn has_class(known: &[(String, bool)], class: &str) -> bool {
    known.iter().any(|(name, is_default)| if class.is_empty() { *is_default } else { name == class })
}

fn lodging(scene: &Scene) -> Option<Hindrance> {
    let key = &scene.repository;
    let message = match &scene.lodging {
        Lodging::Same => return None,
        Lodging::Missing => {
            format!("there is no StateRepository {key}: create one with the bucket, prefix and domain of the snapshot's")
        }
        Lodging::Away(why) => format!("StateRepository {key} can't be used: {why}"),
        Lodging::Other => {
            format!("StateRepository {key} is another one than the snapshot's: histories go on in one repository alone")
        }
        Lodging::OtherDomain(domain) => {
            format!(
                "StateRepository {key} keeps its states in another domain than the snapshot's: create one with domain: {domain}"
            )
        }
    };
    Some(Hindrance::lasting("OtherRepository", message))
}

fn taken(copy: &Copy, made: &[Object], scene: &Scene) -> Option<Hindrance> {
    let is_taken = |kind: &str, name: &str| scene.taken.get(&(kind.to_owned(), name.to_owned())) == Some(&Taken::Other);
    let objects = made.iter().map(|object| (object.kind.as_str(), object.name.as_str()));
    let claims = copy.claims.iter().map(|name| ("PersistentVolumeClaim", name.as_str()));
    let names: Vec<String> =
        objects.chain(claims).filter(|(kind, name)| is_taken(kind, name)).map(|(kind, name)| format!("{kind} {name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = format!("names are taken: {}; choose another namePrefix or namespace, or delete them", listed(&names));
    (!names.is_empty()).then(|| Hindrance::lasting("NamesTaken", message))
}

fn too_many(copy: &Copy, made: &[Object]) -> Option<Hindrance> {
    if copy.replicas.is_empty() && copy.obstacles.is_empty() {
        return Some(Hindrance::lasting("NothingStored", "no replica of the snapshot has a place in a copy"));
    }
    let is_much = copy.replicas.len() > MEMBERS_MAX || made.len() > OBJECTS_MAX;
    let message = format!(
        "{} replicas and {} objects are more than one restore makes ({MEMBERS_MAX}, {OBJECTS_MAX}): name policies, and create a StateRestore for each",
        copy.replicas.len(),
        made.len()
    );
    is_much.then(|| Hindrance::lasting("TooMany", message))
}

fn fuzzy(copy: &Copy, origins: &BTreeMap<String, Origin>) -> Option<Hindrance> {
    let is_fuzzy = |origin: &&str| origins.get(*origin).is_some_and(|origin| origin.quality == Quality::Fuzzy);
    let names: Vec<&str> = copy.replicas.iter().map(|replica| replica.origin.as_str()).filter(is_fuzzy).collect();
    let message = format!(
        "something changed while the states of {} were captured: write accept: {{fuzzy: true}} to take them",
        listed(&names)
    );
    (!names.is_empty()).then(|| Hindrance::lasting("OnlyFuzzy", message))
}

/// What Services have to do with the copy's pods.
fn services(copy: &Copy, scene: &Scene) -> Vec<String> {
    let mut said = Vec::new();
    for (workload, service) in copy.services.iter().filter(|(_, service)| !scene.services.contains_key(service)) {
        said.push(format!(
            "there is no Service {service}: without it the pods of StatefulSet {workload} have no names of their own in DNS"
        ));
    }
    for (name, selector) in &scene.services {
        let selected: Vec<&str> =
            copy.pods.iter().filter(|(_, labels)| selects(selector, labels)).map(|(workload, _)| workload.as_str()).collect();
        if !selected.is_empty() {
            said.push(format!("Service {name} selects the pods of {}", listed(&selected)));
        }
    }
    said
}

/// Whether an object that is there says the same as one that would be made: then it is used.
pub(super) fn is_same(there: &Value, made: &Value) -> bool {
    let said = |object: &Value, field: &str| object.get(field).filter(|value| !value.is_null()).cloned();
    made["kind"] == "ConfigMap" && ["data", "binaryData"].iter().all(|field| said(there, field) == said(made, field))
}

#[cfg(test)]
mod tests;
