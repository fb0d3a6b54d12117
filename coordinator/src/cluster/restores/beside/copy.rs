// SPDX-License-Identifier: Apache-2.0
//! What a copy of recorded workloads consists of: objects with new names, and what they need that is not made. A plain function of what was recorded.

use super::words::{self, Relabelled};
use super::{strip, words::texts};
use crate::cluster::hindrance::Hindrance;
use crate::cluster::name::{LineageName, SHARED};
use holdfast_api::labels;
use holdfast_store::snapshot::{Image, Manifest, Setting};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Longest name of a StatefulSet whose pods can be made: a label of theirs holds it with a hash.
const NAME_MAX: usize = 52;

/// Where a copy goes, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The namespace.
    pub(super) to: String,
    /// What is put before names. Empty: everything is called as it was.
    pub(super) prefix: String,
    /// The UID of the StateRestore.
    pub(super) uid: String,
}

/// An object to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) body: Value,
}

/// Something that pods need and nobody makes: kind, name.
pub(super) type Need = (&'static str, String);

/// A replica of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replica {
    /// What it is called.
    pub(super) name: LineageName,
    pub(super) policy: String,
    /// The name in the repository of the lineage that its state comes from.
    pub(super) origin: String,
}

/// What a copy consists of.
#[derive(Debug, Default)]
pub(super) struct Copy {
    /// ConfigMaps and claims, then workloads.
    pub(super) objects: Vec<Object>,
    /// What must be there.
    pub(super) needs: BTreeSet<Need>,
    /// The classes that new volumes are asked for; an empty name: the default one.
    pub(super) classes: BTreeSet<String>,
    /// Claims that StatefulSets would take for their own if they were there.
    pub(super) claims: BTreeSet<String>,
    /// Services that StatefulSets name: workload, Service.
    pub(super) services: BTreeSet<(String, String)>,
    /// The labels of each workload's pods.
    pub(super) pods: Vec<(String, BTreeMap<String, String>)>,
    /// By name: what was recorded of the policy.
    pub(super) policies: BTreeMap<String, Option<Value>>,
    pub(super) replicas: Vec<Replica>,
    /// Members of the snapshot that have no place in it, and why.
    pub(super) left: Vec<(String, String)>,
    /// In sentences, for people.
    pub(super) notes: Vec<String>,
    pub(super) obstacles: Vec<Hindrance>,
}

/// A member of a snapshot: kind, name, slot, and its name in the repository.
type Member<'a> = (&'a str, &'a str, &'a str, &'a str);

/// What the parts of a name in the repository say. What follows an `@` tells histories of the same slot apart.
fn member(stored_as: &str) -> Option<Member<'_>> {
    let plain = stored_as.split_once('@').map_or(stored_as, |(plain, _)| plain);
    let mut parts = plain.splitn(3, '/');
    Some((parts.next()?, parts.next()?, parts.next()?, stored_as))
}

/// The copy of the workloads that members of a snapshot were replicas of. `services` are the selectors of the Services where it goes.
pub(super) fn copy(
    setting: &Setting,
    members: &[String],
    policies: &[String],
    address: &Address,
    services: &[BTreeMap<String, String>],
) -> Copy {
    let mut copy = Copy::default();
    let mut workloads: BTreeMap<(&str, &str), Vec<Member<'_>>> = BTreeMap::new();
    for stored_as in members {
        match member(stored_as) {
            Some(member) => workloads.entry((member.0, member.1)).or_default().push(member),
            None => copy.left.push((stored_as.clone(), "it is of no workload".to_owned())),
        }
    }
    for ((kind, name), members) in workloads {
        let is_it = |manifest: &&Manifest| manifest.kind.eq_ignore_ascii_case(kind) && manifest.name == name;
        let found = setting.manifests.iter().find(is_it);
        let Some(body) = found.and_then(body) else {
            let message = format!("what {kind} {name} ran as is not in the snapshot");
            copy.obstacles.push(Hindrance::lasting("NotRecorded", message));
            continue;
        };
        let policy = policy_of(&body);
        if !policies.is_empty() && !policy.as_ref().is_some_and(|policy| policies.contains(policy)) {
            continue;
        }
        let Some(policy) = policy else {
            copy.obstacles
                .push(Hindrance::lasting("NotRecorded", format!("{kind} {name} was recorded without a policy's label")));
            continue;
        };
        let recorded = Recorded { setting, address, services, name, policy, members };
        match body["kind"].as_str() {
            Some(kind @ ("StatefulSet" | "Deployment")) => recorded.add(kind, strip::object(body.clone()), &mut copy),
            _ => {
                let message = format!("{kind} {name} can't be made beside the original: StatefulSets and Deployments can");
                copy.obstacles.push(Hindrance::lasting("KindNotMade", message));
            }
        }
    }
    copy
}

fn body(manifest: &Manifest) -> Option<Value> {
    serde_json::from_slice(&manifest.json).ok()
}

fn policy_of(workload: &Value) -> Option<String> {
    let places = ["/spec/template/metadata/labels", "/metadata/labels"];
    places.iter().find_map(|place| Some(workload.pointer(place)?.get(labels::POLICY)?.as_str()?.to_owned()))
}

/// A workload as it was recorded.
struct Recorded<'a> {
    setting: &'a Setting,
    address: &'a Address,
    services: &'a [BTreeMap<String, String>],
    name: &'a str,
    policy: String,
    members: Vec<Member<'a>>,
}

impl Recorded<'_> {
    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.address.prefix)
    }

    fn add(&self, kind: &str, mut workload: Value, copy: &mut Copy) {
        let name = self.named(self.name);
        if name.len() > NAME_MAX {
            let message =
                format!("{kind} {name} would have a name of more than {NAME_MAX} characters: choose a shorter namePrefix");
            copy.obstacles.push(Hindrance::lasting("Invalid", message));
        }
        self.replicas(kind, &name, &workload, copy);
        self.pin(kind, &name, &mut workload, copy);
        if let Some(pod) = workload.pointer_mut("/spec/template/spec") {
            self.rename(pod, copy);
        }
        if !self.address.prefix.is_empty() {
            let new: Relabelled = words::relabelled(&self.address.prefix, &workload, self.services);
            words::relabel(&mut workload, &new);
            let said: Vec<String> = new.iter().map(|(key, (_, new))| format!("{key}={new}")).collect();
            copy.notes.push(format!(
                "the pods of {kind} {name} are labelled {}: what selects the original's does not select them",
                said.join(", ")
            ));
        }
        if kind == "StatefulSet" {
            self.stateful(&name, &mut workload, copy);
        }
        workload["metadata"]["name"] = json!(name);
        copy.pods.push((name.clone(), texts(&workload["spec"]["template"]["metadata"]["labels"])));
        let policy =
            self.setting.manifests.iter().find(|manifest| manifest.kind == "StatePolicy" && manifest.name == self.policy);
        copy.policies.entry(self.policy.clone()).or_insert_with(|| policy.and_then(body).map(strip::object));
        self.push(copy, kind, name, workload);
    }

    /// An object, marked as this restore's.
    fn push(&self, copy: &mut Copy, kind: &str, name: String, mut body: Value) {
        body["metadata"]["namespace"] = json!(self.address.to);
        body["metadata"]["labels"][labels::RESTORE] = json!(self.address.uid);
        copy.objects.push(Object { kind: kind.to_owned(), name, body });
    }

    /// Which member becomes which replica.
    fn replicas(&self, kind: &str, name: &str, workload: &Value, copy: &mut Copy) {
        let ordinals = ordinals(workload);
        let wanted = ordinals.end - ordinals.start;
        let mut members = self.members.clone();
        members.sort_by_key(|(_, _, slot, _)| slot.parse::<u64>().unwrap_or(u64::MAX));
        let mut given = 0;
        for (_, _, slot, stored_as) in members {
            // pods of a Deployment are all alike, and begin with the lowest number
            let (new, has_place) = match (slot.parse::<u64>(), kind) {
                _ if slot == SHARED => (SHARED.to_owned(), wanted > 0),
                (Ok(_), "Deployment") => (given.to_string(), given < wanted),
                (Ok(ordinal), _) => (ordinal.to_string(), ordinals.contains(&ordinal)),
                (Err(_), _) => (slot.to_owned(), false),
            };
            if !has_place {
                copy.left.push((stored_as.to_owned(), format!("{kind} {name} has {wanted} replicas, and no place for it")));
                continue;
            }
            given += 1;
            let name = LineageName { kind: kind.to_owned(), name: name.to_owned(), slot: new };
            copy.replicas.push(Replica { name, policy: self.policy.clone(), origin: stored_as.to_owned() });
        }
        let is_shared = self.members.iter().any(|(_, _, slot, _)| *slot == SHARED);
        copy.notes.push(format!("{kind} {name} is made, of {wanted} replicas"));
        if given < wanted && !is_shared {
            copy.notes.push(format!(
                "{} of the replicas of {kind} {name} begin empty: the snapshot holds no state of them",
                wanted - given
            ));
        }
    }

    /// The images that the nodes had resolved.
    fn pin(&self, kind: &str, name: &str, workload: &mut Value, copy: &mut Copy) {
        let ran = |container: &str| -> Vec<&Image> {
            let is_of =
                |image: &&Image| image.container == container && self.members.iter().any(|member| member.3 == image.lineage);
            self.setting.images.iter().filter(is_of).collect()
        };
        let containers = workload.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let of = container["name"].as_str().unwrap_or_default().to_owned();
            let image = container["image"].as_str().unwrap_or_default().to_owned();
            let (ran, what) = (ran(&of), format!("container {of} of {kind} {name}"));
            let mut pinned: Vec<String> = ran.iter().filter_map(|ran| words::pinned(&image, &ran.digest)).collect();
            pinned.dedup();
            match &pinned[..] {
                [] => copy.notes.push(format!("{what} runs {image}: no digest of it was recorded that a registry knows")),
                [one] => copy.notes.push(format!("{what} runs {one}")),
                [one, ..] => copy.notes.push(format!("{what} runs {one}, although its replicas ran different images")),
            }
            if let Some(one) = pinned.first() {
                container["image"] = json!(one);
            }
        }
    }

    /// What pods name gets its new name, if it is made with them; otherwise it must be there.
    fn rename(&self, pod: &mut Value, copy: &mut Copy) {
        let mut made: BTreeSet<(&'static str, String)> = BTreeSet::new();
        let recorded = |kind: &str, name: &str| {
            self.setting.manifests.iter().find(|of| of.kind == kind && of.name == name && !of.json.is_empty())
        };
        words::names(pod, &mut |kind, name, optional| {
            if matches!(kind, "ConfigMap" | "PersistentVolumeClaim") && recorded(kind, name).is_some() {
                made.insert((kind, name.clone()));
                *name = self.named(name);
            } else if !optional {
                copy.needs.insert((kind, name.clone()));
            }
        });
        for (kind, old) in made {
            let (name, found) = (self.named(&old), recorded(kind, &old).and_then(body));
            let is_there = copy.objects.iter().any(|object| object.kind == kind && object.name == name);
            let (Some(found), false) = (found, is_there) else { continue };
            let mut object = strip::object(found);
            object["metadata"]["name"] = json!(name);
            if kind == "PersistentVolumeClaim" {
                class(&object["spec"], copy);
            }
            self.push(copy, kind, name, object);
        }
    }

    fn stateful(&self, name: &str, workload: &mut Value, copy: &mut Copy) {
        if let Some(service) = workload["spec"]["serviceName"].as_str().filter(|service| !service.is_empty()) {
            let service = self.named(service);
            copy.services.insert((name.to_owned(), service.clone()));
            workload["spec"]["serviceName"] = json!(service);
        }
        let ordinals = ordinals(workload);
        for template in workload["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
            class(&template["spec"], copy);
            let of = template["metadata"]["name"].as_str().unwrap_or_default();
            copy.claims.extend(ordinals.clone().map(|ordinal| format!("{of}-{name}-{ordinal}")));
        }
    }
}

/// The numbers of a workload's replicas, as it was recorded.
fn ordinals(workload: &Value) -> Range<u64> {
    let wanted = workload["spec"]["replicas"].as_u64().unwrap_or(1);
    let first = workload.pointer("/spec/ordinals/start").and_then(Value::as_u64).unwrap_or(0);
    first..first + wanted
}

/// The class of a new volume; one that is asked for without any is found by hand.
fn class(claim: &Value, copy: &mut Copy) {
    match claim.get("storageClassName").and_then(Value::as_str) {
        Some("") => {}
        class => drop(copy.classes.insert(class.unwrap_or_default().to_owned())),
    }
}

#[cfg(test)]
mod tests;
