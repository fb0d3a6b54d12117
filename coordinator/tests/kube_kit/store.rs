// SPDX-License-Identifier: Apache-2.0
//! The objects of the API server of tests, and what became of them.

use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub type Refusal = (StatusCode, &'static str, String);

/// Where an object is. Plurals of two groups must not be the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub plural: String,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(plural: &str, namespace: &str, name: &str) -> Self {
        Self { plural: plural.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn of(plural: &str, object: &Value) -> Self {
        let meta = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Self { plural: plural.to_owned(), namespace: meta("namespace"), name: meta("name") }
    }
}

/// One write.
#[derive(Debug, Clone)]
pub struct Change {
    pub plural: String,
    pub version: u64,
    pub before: Option<Value>,
    pub object: Value,
    pub deleted: bool,
}

#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<Key, Value>,
    changes: Vec<Change>,
    version: u64,
    uids: u64,
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub fn all(&self, plural: &str) -> Vec<&Value> {
        self.objects.iter().filter(|(key, _)| key.plural == plural).map(|(_, object)| object).collect()
    }

    /// The changes after a version, and up to which they reach.
    pub fn since(&self, plural: &str, version: u64) -> (Vec<Change>, u64) {
        let new = self.changes.iter().filter(|change| change.version > version && change.plural == plural);
        (new.cloned().collect(), self.version.max(version))
    }

    /// Writes, whatever was there.
    pub fn replace(&mut self, key: &Key, mut object: Value) -> Value {
        let before = self.objects.get(key).cloned();
        let meta = |object: &Value, field: &str| object["metadata"].get(field).cloned();
        let uid = before.as_ref().and_then(|old| meta(old, "uid")).or_else(|| meta(&object, "uid"));
        let uid = uid.unwrap_or_else(|| {
            self.uids += 1;
            json!(format!("00000000-0000-4000-8000-{:012}", self.uids))
        });
        let generation = match &before {
            Some(old) if old.get("spec") == object.get("spec") => old["metadata"]["generation"].as_i64().unwrap_or(1),
            Some(old) => old["metadata"]["generation"].as_i64().unwrap_or(1) + 1,
            None => 1,
        };
        object["metadata"]["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(key.namespace);
        }
        object["metadata"]["uid"] = uid;
        object["metadata"]["generation"] = json!(generation);
        if let Some(old) = &before {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if *old == object {
                return object;
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let change = Change { plural: key.plural.clone(), version: self.version, before, object: object.clone(), deleted: false };
        self.changes.push(change);
        self.objects.insert(key.clone(), object.clone());
        object
    }

    pub fn delete(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        let before = Some(object.clone());
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.changes.push(Change {
            plural: key.plural.clone(),
            version: self.version,
            before,
            object: object.clone(),
            deleted: true,
        });
        Some(object)
    }

    pub fn create(&mut self, plural: &str, namespace: &str, mut object: Value) -> Result<Value, Refusal> {
        if object["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            self.uids += 1;
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or("made-").to_owned();
            object["metadata"]["name"] = json!(format!("{prefix}{}", self.uids));
        }
        let key = Key::new(plural, namespace, object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&key) {
            return Err((StatusCode::CONFLICT, "AlreadyExists", format!("{plural} {:?} already exists", key.name)));
        }
        Ok(self.replace(&key, object))
    }

    pub fn update(&mut self, key: &Key, mut object: Value, sub: &str) -> Result<Value, Refusal> {
        let Some(old) = self.objects.get(key) else {
            return Err((StatusCode::NOT_FOUND, "NotFound", format!("{} {:?} not found", key.plural, key.name)));
        };
        conflict(old, &object)?;
        keep(old, &mut object, sub);
        Ok(self.replace(key, object))
    }

    pub fn patch(&mut self, key: &Key, patch: &Value, sub: &str, apply: bool) -> Result<Value, Refusal> {
        let old = match self.objects.get(key) {
            Some(old) => {
                conflict(old, patch)?;
                old.clone()
            }
            None if apply && sub.is_empty() => json!({}),
            None => return Err((StatusCode::NOT_FOUND, "NotFound", format!("{} {:?} not found", key.plural, key.name))),
        };
        let mut object = old.clone();
        merge(&mut object, patch);
        keep(&old, &mut object, sub);
        Ok(self.replace(key, object))
    }
}

/// A write that names a version must name the present one.
fn conflict(old: &Value, new: &Value) -> Result<(), Refusal> {
    let named = new["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
    if named.is_some_and(|version| old["metadata"]["resourceVersion"] != version) {
        return Err((StatusCode::CONFLICT, "Conflict", "the object has been modified".to_owned()));
    }
    Ok(())
}

/// A write to the status changes nothing else, and any other doesn't change the status of our own kinds.
fn keep(old: &Value, new: &mut Value, sub: &str) {
    let own = new["apiVersion"].as_str().is_some_and(|version| version.starts_with("holdfast.dev/"));
    let status = new.get("status").cloned();
    let settle = |object: &mut Value, status: Option<Value>| match status {
        Some(status) => object["status"] = status,
        None => {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
    };
    if sub == "status" {
        *new = old.clone();
        settle(new, status);
    } else if own && old.get("metadata").is_some() {
        settle(new, old.get("status").cloned());
    }
}

/// What elements of lists are told apart by.
const KEYS: [&str; 3] = ["type", "name", "uid"];

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => merge_fields(into, from),
        (Value::Array(into), Value::Array(from)) if keyed(into).is_some() || keyed(from).is_some() => {
            let key = keyed(from).or_else(|| keyed(into)).unwrap();
            for element in from {
                match into.iter_mut().find(|old| old[key] == element[key]) {
                    Some(old) => merge(old, element),
                    None => into.push(element.clone()),
                }
            }
        }
        (into, Value::Object(from)) => {
            let mut fields = Map::new();
            merge_fields(&mut fields, from);
            *into = Value::Object(fields);
        }
        (into, from) => *into = from.clone(),
    }
}

fn merge_fields(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (field, value) in from {
        match value {
            Value::Null => {
                into.remove(field);
            }
            value => merge(into.entry(field.clone()).or_insert(Value::Null), value),
        }
    }
}

/// The key by which a list's elements are told apart, if there is one: other lists are replaced as a whole.
fn keyed(list: &[Value]) -> Option<&'static str> {
    let tells_apart = |key: &&str| {
        let mut seen: Vec<&str> = list.iter().filter_map(|element| element[*key].as_str()).collect();
        seen.sort_unstable();
        seen.dedup();
        !list.is_empty() && seen.len() == list.len()
    };
    KEYS.into_iter().find(tells_apart)
}
