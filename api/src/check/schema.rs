// SPDX-License-Identifier: Apache-2.0
//! Compares YAML with a schema, as the API server does, but all at once, with lines, and in sentences.

use super::nearest::nearest;
use super::yaml::{Content, Entry, Node, Place};
use serde_json::{Map, Value};

/// Something that doesn't fit the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    pub(crate) place: Place,
    pub(crate) field: String,
    pub(crate) sentence: String,
}

/// Compares a document with its schema. What fits remains: so that whatever else is wrong can be found, too.
pub(crate) fn compare(document: &Node, schema: &Value) -> (Option<Value>, Vec<Misfit>) {
    let mut comparison = Comparison { root: schema, misfits: Vec::new() };
    let fitting = comparison.value(document, schema, "");
    (fitting, comparison.misfits)
}

struct Comparison<'a> {
    root: &'a Value,
    misfits: Vec<Misfit>,
}

impl<'a> Comparison<'a> {
    fn misfit(&mut self, place: Place, field: &str, sentence: String) {
        self.misfits.push(Misfit { place, field: field.to_owned(), sentence });
    }

    /// What of this value fits.
    fn value(&mut self, node: &Node, schema: &'a Value, field: &str) -> Option<Value> {
        let wanted = schema["type"].as_str().unwrap_or_default();
        let fitting = match (&node.content, wanted) {
            (Content::Null, _) => {
                // a field without a value is as good as none
                if schema["nullable"] != true {
                    self.misfit(node.place, field, "has no value: write one, or remove the field".to_owned());
                }
                return None;
            }
            (Content::Map(entries), "object") => self.map(node, entries, schema, field)?,
            (Content::List(items), "array") => self.list(node, items, schema, field)?,
            (Content::Text(text), "string") => Value::from(text.as_str()),
            (Content::Bool(value, _), "boolean") => Value::from(*value),
            (Content::Integer(number, _), "integer" | "number") => Value::from(*number),
            (Content::Float(number, _), "number") => Value::from(*number),
            _ => {
                self.misfit(node.place, field, wrong_type(&node.content, wanted));
                return None;
            }
        };
        match unfit(&fitting, schema) {
            Some(sentence) => {
                self.misfit(node.place, field, sentence);
                None
            }
            None => Some(fitting),
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &'a Value, field: &str) -> Option<Value> {
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        if items.len() as u64 > most {
            self.misfit(node.place, field, format!("has {} entries: write at most {most}", items.len()));
        }
        let mut fitting = Vec::new();
        let mut whole = true;
        for (index, item) in items.iter().enumerate() {
            let value = self.value(item, &schema["items"], &format!("{field}[{index}]"));
            whole &= value.is_some();
            fitting.extend(value);
        }
        // an entry that is left out would give the others new numbers, and what is said of them a wrong line
        whole.then_some(Value::Array(fitting))
    }

    fn map(&mut self, node: &Node, entries: &[Entry], schema: &'a Value, field: &str) -> Option<Value> {
        let Some(properties) = schema["properties"].as_object() else {
            return Some(Value::Object(Map::new())); // metadata, about which the schema says nothing
        };
        let mut fitting = Map::new();
        for (index, entry) in entries.iter().enumerate() {
            let inner = if field.is_empty() { entry.name.clone() } else { format!("{field}.{}", entry.name) };
            if let Some(first) = entries[..index].iter().find(|other| other.name == entry.name) {
                let sentence = format!("is written twice, first on line {}: keep one of them", first.place.line);
                self.misfit(entry.place, &inner, sentence);
            } else if let Some(property) = properties.get(&entry.name) {
                fitting.extend(self.value(&entry.value, property, &inner).map(|value| (entry.name.clone(), value)));
            } else {
                self.misfit(entry.place, &inner, unknown(&entry.name, properties, self.root));
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut whole = true;
        for name in required.filter(|name| !fitting.contains_key(*name)) {
            whole = false;
            if !entries.iter().any(|entry| entry.name == name) {
                let what = properties[name]["description"].as_str().unwrap_or_default().trim_end_matches('.');
                let inner = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
                self.misfit(node.place, &inner, format!("is missing: write it ({})", lower_first(what)));
            }
        }
        whole.then_some(Value::Object(fitting))
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// What a value of the wrong type should be.
fn wrong_type(content: &Content, wanted: &str) -> String {
    let is = match content {
        Content::Null => "nothing",
        Content::Bool(..) => "true or false",
        Content::Integer(..) | Content::Float(..) => "a number",
        Content::Text(_) => "a text",
        Content::List(_) => "a list",
        Content::Map(_) => "a map of fields",
    };
    let (must, hint) = match (content, wanted) {
        (Content::Bool(_, raw), "string") => {
            ("a text", format!("Kubernetes takes a bare {raw} for true or false, write \"{raw}\""))
        }
        (Content::Integer(_, raw) | Content::Float(_, raw), "string") => {
            ("a text", format!("write it with its unit, or in quotes: \"{raw}\""))
        }
        (Content::Text(text), "integer" | "number") => ("a number", format!("write digits without quotes instead of \"{text}\"")),
        (_, "string") => ("a text", "write one".to_owned()),
        (_, "boolean") => ("true or false", "write true or false without quotes".to_owned()),
        (_, "integer") => ("a whole number", "write one".to_owned()),
        (_, "number") => ("a number", "write one".to_owned()),
        (_, "array") => ("a list", "write its entries on lines of their own, each after '- '".to_owned()),
        (_, "object") => ("a map of fields", "write its fields on lines of their own, indented".to_owned()),
        (_, other) => (other, "write one".to_owned()),
    };
    format!("is {is}, but must be {must}: {hint}")
}

/// What is wrong with a value of the right type.
fn unfit(value: &Value, schema: &Value) -> Option<String> {
    if let Some(allowed) = schema["enum"].as_array() {
        let words: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        let word = value.as_str().unwrap_or_default();
        if !words.contains(&word) {
            let meant = nearest(word, words.iter().copied()).map(|meant| format!(": did you mean {meant}?"));
            return Some(format!("{word:?} is not one of {}{}", words.join(", "), meant.unwrap_or_default()));
        }
    }
    if let Some(number) = value.as_f64() {
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if let Some(least) = least.filter(|least| number < *least) {
            return Some(format!("is {number}: write at least {least}"));
        }
        return most.filter(|most| number > *most).map(|most| format!("is {number}: write at most {most}"));
    }
    let length = value.as_str().map(|text| text.chars().count() as u64)?;
    let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
    let least = schema["minLength"].as_u64().unwrap_or(0);
    if length > most {
        return Some(format!("has {length} characters: write at most {most}"));
    }
    (length < least).then(|| "is empty: write something, or remove the field".to_owned())
}

/// What to write instead of a field that isn't there.
fn unknown(name: &str, properties: &Map<String, Value>, root: &Value) -> String {
    if let Some(meant) = nearest(name, properties.keys().map(String::as_str)) {
        return format!("there is no such field here: did you mean {meant}?");
    }
    let spec = &root["properties"]["spec"];
    let elsewhere = elsewhere(name, spec, "spec");
    if let [place] = elsewhere.as_slice() {
        return format!("there is no such field here: write it as {place}");
    }
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    if known.is_empty() {
        return "there is no such field here, nor any other".to_owned();
    }
    format!("there is no such field here: write one of {}", known.join(", "))
}

/// Where else in a schema a field with this name is.
fn elsewhere(name: &str, schema: &Value, field: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(properties) = schema["properties"].as_object() {
        for (inner, property) in properties {
            let path = format!("{field}.{inner}");
            if inner == name {
                found.push(path.clone());
            }
            found.extend(elsewhere(name, property, &path));
        }
    }
    if schema["items"].is_object() {
        found.extend(elsewhere(name, &schema["items"], &format!("{field}[]")));
    }
    found
}
