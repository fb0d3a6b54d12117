// SPDX-License-Identifier: Apache-2.0
//! Writes what is to be added as a patch of the pod as it came, which may have some of it already.

use super::mounts::Provisioned;
use super::parts::{Parts, is_our_container, is_our_volume};
use crate::ops::{Ops, is_as_written};
use crate::raw;
use holdfast_api::labels::{AGENT_CONTAINER, GATE_CONTAINER, LINEAGE};
use serde_json::{Value, json};

const INITS: &[&str] = &["spec", "initContainers"];
const VOLUMES: &[&str] = &["spec", "volumes"];

/// Removes elements that are ours and not as they should be, from the last to the first; the names of what remains.
fn remove_stale<'a>(
    ops: &mut Ops<'_>,
    path: &[&str],
    list: &'a [Value],
    wanted: &[&Value],
    is_ours: fn(&str) -> bool,
) -> Vec<&'a str> {
    let keeps = |element: &Value| {
        let own = wanted.iter().find(|wanted| raw::name(wanted) == raw::name(element));
        !is_ours(raw::name(element)) || own.is_some_and(|wanted| is_as_written(element, wanted))
    };
    let mut kept = Vec::new();
    for (index, element) in list.iter().enumerate().rev() {
        // a second one of the same name can't be ours, whatever it is
        let is_double = is_ours(raw::name(element)) && kept.contains(&raw::name(element));
        if keeps(element) && !is_double {
            kept.push(raw::name(element));
        } else {
            let index = index.to_string();
            ops.remove(&path.iter().copied().chain([index.as_str()]).collect::<Vec<_>>());
        }
    }
    kept.reverse();
    kept
}

/// Our volumes, in any place.
pub(crate) fn volumes(ops: &mut Ops<'_>, parts: &Parts<'_>, wanted: &[Value]) {
    let list = raw::list(parts.pod, VOLUMES);
    let kept = remove_stale(ops, VOLUMES, list, &wanted.iter().collect::<Vec<_>>(), is_our_volume);
    for volume in wanted.iter().filter(|volume| !kept.contains(&raw::name(volume))) {
        ops.push(VOLUMES, volume.clone());
    }
}

/// The mounts of volumes that were made for a path, in the containers of others.
pub(crate) fn provisioned(ops: &mut Ops<'_>, parts: &Parts<'_>, wanted: &[Provisioned]) {
    for (index, container) in parts.containers.iter().enumerate() {
        let number = index.to_string();
        let path = ["spec", "containers", number.as_str(), "volumeMounts"];
        let own = wanted.iter().filter(|provisioned| provisioned.container == index);
        let own: Vec<Value> = own.map(|made| json!({"name": raw::name(&made.volume), "mountPath": made.path})).collect();
        let list = raw::list(container, &["volumeMounts"]);
        let kept = remove_stale(ops, &path, list, &own.iter().collect::<Vec<_>>(), is_our_volume);
        for mount in own.iter().filter(|mount| !kept.contains(&raw::name(mount))) {
            ops.push(&path, mount.clone());
        }
    }
}

/// Our two containers, one after the other, `index` others before them.
pub(crate) fn containers(ops: &mut Ops<'_>, parts: &Parts<'_>, index: usize, agent: Value, gate: Value) {
    let list = raw::list(parts.pod, INITS);
    let mut names = remove_stale(ops, INITS, list, &[&agent, &gate], is_our_container);
    put(ops, &mut names, agent, |names| {
        let mut others = names.iter().enumerate().filter(|(_, name)| !is_our_container(name)).map(|(at, _)| at);
        // before the first of the others that come after; the gate may stand there already
        match index.checked_sub(1) {
            Some(last) => others.nth(last).map_or(names.len(), |at| at + 1),
            None => 0,
        }
    });
    put(ops, &mut names, gate, |names| names.iter().position(|name| *name == AGENT_CONTAINER).map_or(0, |at| at + 1));
}

/// Puts one of ours where `place` says, which counts without it.
fn put(ops: &mut Ops<'_>, names: &mut Vec<&str>, container: Value, place: impl Fn(&[&str]) -> usize) {
    let name = if raw::name(&container) == AGENT_CONTAINER { AGENT_CONTAINER } else { GATE_CONTAINER };
    let was = names.iter().position(|other| *other == name);
    if let Some(was) = was {
        names.remove(was);
    }
    let to = place(names);
    names.insert(to, name);
    match was {
        Some(was) if was == to => {}
        Some(was) => ops.shift(INITS, was, to),
        None => ops.insert(INITS, &to.to_string(), container),
    }
}

/// Our annotations; and not the name of a lineage that the pod was not granted: it came with a copy.
pub(crate) fn marks(ops: &mut Ops<'_>, pod: &Value, marks: &[(&str, String)]) {
    for (key, value) in marks {
        if raw::annotation(pod, key) != Some(value) {
            ops.set(&["metadata", "annotations", key], json!(value));
        }
    }
    if raw::label(pod, LINEAGE).is_some() {
        ops.remove(&["metadata", "labels", LINEAGE]);
    }
}
