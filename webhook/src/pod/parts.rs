// SPDX-License-Identifier: Apache-2.0
//! A pod taken apart: what is ours, and what is everybody else's.

use super::mesh::{self, Mesh};
use crate::raw;
use crate::reason::{Refusal, Said, say};
use holdfast_api::labels::{AGENT_CONTAINER, GATE_CONTAINER, INJECTED};
use serde_json::Value;

/// The volume with the agent's token.
pub(crate) const TOKEN_VOLUME: &str = "holdfast-token";

/// The volume with the coordinator's authorities.
pub(crate) const CA_VOLUME: &str = "holdfast-ca";

/// What the names of volumes begin with that are made for a path.
pub(crate) const STATE_VOLUMES: &str = "holdfast-state-";

/// Whether a volume of this name is ours.
pub(crate) fn is_our_volume(name: &str) -> bool {
    name == TOKEN_VOLUME || name == CA_VOLUME || name.starts_with(STATE_VOLUMES)
}

/// Whether a container of this name is ours.
pub(crate) fn is_our_container(name: &str) -> bool {
    name == AGENT_CONTAINER || name == GATE_CONTAINER
}

/// A pod without what is ours.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// The pod, as it came.
    pub(crate) pod: &'a Value,
    /// The init containers of others.
    pub(crate) inits: Vec<&'a Value>,
    /// The containers.
    pub(crate) containers: &'a [Value],
    /// The volumes of others.
    pub(crate) volumes: Vec<&'a Value>,
    /// The meshes that it is in.
    pub(crate) meshes: Vec<&'static Mesh>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(pod: &'a Value) -> Result<Self, Said<Refusal>> {
        check_shape(pod)?;
        let injected = raw::annotation(pod, INJECTED).is_some_and(is_our_mark);
        let containers = raw::list(pod, &["spec", "containers"]);
        let all_inits = raw::list(pod, &["spec", "initContainers"]);
        let all_volumes = raw::list(pod, &["spec", "volumes"]);
        let taken = |thing: &str, name: &str| Err(say(Refusal::NameTaken, &[("thing", thing), ("name", name)]));
        let mut ours_or_not = all_inits.iter().filter(|_| !injected).chain(containers);
        if let Some(container) = ours_or_not.find(|container| is_our_container(raw::name(container))) {
            return taken("container", raw::name(container));
        }
        if let Some(volume) = all_volumes.iter().find(|volume| !injected && is_our_volume(raw::name(volume))) {
            return taken("volume", raw::name(volume));
        }
        let inits: Vec<_> = all_inits.iter().filter(|container| !is_our_container(raw::name(container))).collect();
        let meshes = mesh::present(&inits, containers);
        let volumes = all_volumes.iter().filter(|volume| !is_our_volume(raw::name(volume))).collect();
        Ok(Self { pod, inits, containers, volumes, meshes })
    }

    /// Whether a field of the specification is true.
    pub(crate) fn is(&self, field: &str) -> bool {
        raw::at(self.pod, &["spec", field]).and_then(Value::as_bool) == Some(true)
    }

    /// The time to end in, in seconds.
    pub(crate) fn grace_seconds(&self) -> i64 {
        let written = raw::at(self.pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
        written.unwrap_or(30)
    }

    /// A volume of others.
    pub(crate) fn volume(&self, name: &str) -> Option<&'a Value> {
        self.volumes.iter().find(|volume| raw::name(volume) == name).copied()
    }

    /// The mounts of a container, without those that we gave it.
    pub(crate) fn mounts(&self, container: &'a Value) -> impl Iterator<Item = &'a Value> {
        raw::list(container, &["volumeMounts"]).iter().filter(|mount| !is_our_volume(raw::name(mount)))
    }

    /// Every container of others.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = &'a Value> {
        self.inits.iter().copied().chain(self.containers)
    }
}

/// Whether an annotation is one that we write.
fn is_our_mark(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|mark| mark.get("revision").is_some_and(Value::is_u64))
}

/// Whether what is added to is of the type that it is added to as.
fn check_shape(pod: &Value) -> Result<(), Said<Refusal>> {
    let objects: [&[&str]; 4] = [&["metadata"], &["metadata", "labels"], &["metadata", "annotations"], &["spec"]];
    let lists: [&[&str]; 3] = [&["spec", "containers"], &["spec", "initContainers"], &["spec", "volumes"]];
    let wrong_object = objects.into_iter().find(|path| raw::at(pod, path).is_some_and(|value| !value.is_object()));
    let wrong_list = lists.into_iter().find(|path| raw::at(pod, path).is_some_and(|value| !value.is_array()));
    let mut elements = lists.into_iter().flat_map(|path| raw::list(pod, path));
    let wrong_mounts = |container: &Value| raw::at(container, &["volumeMounts"]).is_some_and(|mounts| !mounts.is_array());
    let wrong = match (wrong_object.or(wrong_list), elements.any(|element| !element.is_object() || wrong_mounts(element))) {
        (Some(path), _) => path.join("."),
        (None, true) => "a container or volume".to_owned(),
        (None, false) if raw::at(pod, &["spec"]).is_none() => "spec".to_owned(),
        (None, false) => return Ok(()),
    };
    Err(say(Refusal::Malformed, &[("field", &wrong)]))
}
