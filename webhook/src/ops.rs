// SPDX-License-Identifier: Apache-2.0
//! Writes a patch: additions with the parents that are missing, and removals and moves of what is ours.

use crate::raw;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, MoveOperation, PatchOperation, RemoveOperation};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A patch of one object in the making.
#[derive(Debug)]
pub(crate) struct Ops<'a> {
    object: &'a Value,
    /// Parents that an operation above has added.
    made: BTreeSet<Vec<String>>,
    list: Vec<PatchOperation>,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(object: &'a Value) -> Self {
        Self { object, made: BTreeSet::new(), list: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<PatchOperation> {
        self.list
    }

    /// Sets a field of an object.
    pub(crate) fn set(&mut self, path: &[&str], value: Value) {
        if let Some((_, parents)) = path.split_last() {
            for depth in 1..=parents.len() {
                self.make(&parents[..depth], json!({}));
            }
        }
        self.add(path, value);
    }

    /// Appends to a list, which is made if it isn't there.
    pub(crate) fn push(&mut self, list: &[&str], value: Value) {
        self.insert(list, "-", value);
    }

    /// Inserts into a list, which is made if it isn't there.
    pub(crate) fn insert(&mut self, list: &[&str], index: &str, value: Value) {
        self.make(list, json!([]));
        let path: Vec<&str> = list.iter().copied().chain([index]).collect();
        self.add(&path, value);
    }

    pub(crate) fn remove(&mut self, path: &[&str]) {
        self.list.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
    }

    /// Moves an element of a list; `to` counts as if it had been taken out.
    pub(crate) fn shift(&mut self, list: &[&str], from: usize, to: usize) {
        let element = |index: usize| pointer(&list.iter().copied().chain([index.to_string().as_str()]).collect::<Vec<_>>());
        self.list.push(PatchOperation::Move(MoveOperation { from: element(from), path: element(to) }));
    }

    fn add(&mut self, path: &[&str], value: Value) {
        self.list.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    fn make(&mut self, path: &[&str], empty: Value) {
        let key: Vec<String> = path.iter().map(|&name| name.to_owned()).collect();
        // lists in lists have numbers in their path
        let is_there = pointer(path).resolve(self.object).is_ok_and(|found| !found.is_null());
        if !is_there && self.made.insert(key) {
            self.add(path, empty);
        }
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

/// Keys under which anything more than what we wrote would change what our container does.
const EXACT: &[&str] = &["capabilities", "args"];

/// What others may not add to our container.
const UNWANTED: &[&str] = &["command", "livenessProbe", "readinessProbe", "startupProbe", "privileged"];

/// Whether `found` is what we `wrote`, with what the API server and other webhooks may have added: defaults, and
/// elements of lists under other names.
pub(crate) fn is_as_written(found: &Value, wrote: &Value) -> bool {
    match (found, wrote) {
        (Value::Object(found), Value::Object(wrote)) => {
            let kept = wrote.iter().all(|(key, value)| {
                let there = found.get(key);
                if EXACT.contains(&key.as_str()) {
                    return there == Some(value);
                }
                there.is_some_and(|there| is_as_written(there, value))
            });
            kept && UNWANTED.iter().all(|key| wrote.contains_key(*key) || !found.contains_key(*key))
        }
        (Value::Array(found), Value::Array(wrote)) => match wrote.first().and_then(key_of) {
            Some(_) => wrote.iter().all(|element| is_once_in(found, element)),
            None => found.len() == wrote.len() && found.iter().zip(wrote).all(|(found, wrote)| is_as_written(found, wrote)),
        },
        (found, wrote) => found == wrote || raw::quantity(found).is_some_and(|quantity| Some(quantity) == raw::quantity(wrote)),
    }
}

/// What an element of a list is told from the others by.
fn key_of(element: &Value) -> Option<(&'static str, &str)> {
    ["mountPath", "name"].into_iter().find_map(|key| Some((key, raw::text(element, &[key])?)))
}

fn is_once_in(found: &[Value], element: &Value) -> bool {
    let Some((key, name)) = key_of(element) else { return false };
    let mut same = found.iter().filter(|candidate| raw::text(candidate, &[key]) == Some(name));
    same.next().is_some_and(|candidate| is_as_written(candidate, element)) && same.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_made_once_and_keys_escaped() {
        let object = json!({"metadata": {"labels": null}, "spec": {}});
        let mut ops = Ops::new(&object);
        ops.set(&["metadata", "labels", "a/b~c"], json!("x"));
        ops.set(&["metadata", "labels", "d"], json!("y"));
        ops.push(&["spec", "volumes"], json!({"name": "v"}));
        ops.insert(&["spec", "volumes"], "0", json!({"name": "u"}));
        let mut changed = object.clone();
        json_patch::patch(&mut changed, &ops.finish()).expect("applies");
        assert_eq!(
            changed,
            json!({"metadata": {"labels": {"a/b~c": "x", "d": "y"}}, "spec": {"volumes": [{"name": "u"}, {"name": "v"}]}})
        );
    }

    #[test]
    fn what_others_may_add_is_no_difference_and_what_they_may_not_is() {
        let wrote = json!({"name": "a", "args": ["serve"], "env": [{"name": "X", "value": "1"}],
            "securityContext": {"capabilities": {"drop": ["ALL"]}}, "resources": {"limits": {"memory": "64Mi"}}});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut found = wrote.clone();
            change(&mut found);
            is_as_written(&found, &wrote)
        };
        assert!(with(&|_| {}));
        assert!(with(&|found| found["terminationMessagePath"] = json!("/dev/termination-log")));
        assert!(with(&|found| found["env"] = json!([{"name": "AWS", "value": ""}, {"name": "X", "value": "1"}])));
        assert!(with(&|found| found["resources"]["limits"]["memory"] = json!("65536Ki")));
        assert!(!with(&|found| found["env"] = json!([{"name": "X", "value": "1"}, {"name": "X", "value": "2"}])));
        assert!(!with(&|found| found["command"] = json!(["sh"])));
        assert!(!with(&|found| found["args"] = json!(["serve", "--more"])));
        assert!(!with(&|found| found["securityContext"]["privileged"] = json!(true)));
        assert!(!with(&|found| found["securityContext"]["capabilities"]["add"] = json!(["SYS_ADMIN"])));
        assert!(!with(&|found| found["env"] = json!([])));
    }
}
