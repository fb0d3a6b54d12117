// SPDX-License-Identifier: Apache-2.0
//! YAML as a tree that remembers where everything was written.

use super::scalar;
use granit_parser::{Event, Parser, ScanError, Span};
use std::collections::HashMap;

/// Nodes of one file at most: aliases can make a few lines mean a billion.
const NODES_MAX: usize = 100_000;
/// Levels of nesting at most.
const DEPTH_MAX: usize = 64;

/// Where something begins, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// A value, as Kubernetes reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    Bool(bool, String),
    Integer(i64, String),
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) value: Node,
}

/// What is wrong with the file as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) place: Place,
    pub(crate) sentence: String,
}

impl From<ScanError> for Malformed {
    fn from(error: ScanError) -> Self {
        let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
        Self { place, sentence: format!("this is not YAML: {}", error.info()) }
    }
}

impl Node {
    /// The field of this map with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The text of the field with this name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where a field such as `spec.paths[0].label` was written, or the closest thing around it that was.
    pub(crate) fn place_of(&self, field: &str) -> Place {
        let mut place = self.place;
        let mut node = self;
        for step in field.split(['.', '[']) {
            let next = match (&node.content, step.strip_suffix(']')) {
                (Content::List(items), Some(index)) => {
                    index.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item.place, item))
                }
                (Content::Map(entries), None) => {
                    entries.iter().find(|entry| entry.name == step).map(|entry| (entry.place, &entry.value))
                }
                _ => None,
            };
            let Some((at, inner)) = next else { return place };
            (place, node) = (at, inner);
        }
        place
    }
}

/// The documents of a file, as far as it is YAML, and what is wrong with the rest.
pub(crate) fn documents(text: &str) -> (Vec<Node>, Option<Malformed>) {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => return (documents, None),
            Err(malformed) => return (documents, Some(malformed)),
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Malformed> {
        loop {
            match self.events.next() {
                // comments are told of because somebody else in the same program wants to hear of them
                Some(Ok((Event::StreamStart | Event::Anchor(..) | Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(None),
            }
        }
    }

    /// The next document that holds anything.
    fn document(&mut self) -> Result<Option<Node>, Malformed> {
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(..) => self.anchors.clear(),
                Event::StreamEnd => return Ok(None),
                Event::DocumentEnd => {}
                event => {
                    let node = self.node(event, &span, 0)?;
                    if node.content != Content::Null {
                        return Ok(Some(node));
                    }
                }
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Malformed> {
        let place = Place::of(span);
        let refuse = |sentence: &str| Malformed { place, sentence: sentence.to_owned() };
        self.nodes += 1;
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            return Err(refuse("this is too large or too deep to be meant: leave out aliases of aliases"));
        }
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar::read(&text, style, tag.is_some()), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(refuse("here should be a value")),
        };
        let node = Node { place, content };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// What an alias stands for. It counts in full each time.
    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Malformed> {
        let refuse = |sentence: &str| Malformed { place, sentence: sentence.to_owned() };
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(refuse("this alias stands for something that it is a part of"));
        };
        self.nodes += size(node);
        if self.nodes > NODES_MAX {
            return Err(refuse("this is too large to be meant: leave out aliases of aliases"));
        }
        Ok(Node { place, ..node.clone() })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Malformed> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
        Ok(Content::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Content, Malformed> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            let place = Place::of(&span);
            let name = match event {
                Event::MappingEnd => break,
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return Err(Malformed { place, sentence: "the name of a field must be a plain word".to_owned() }),
            };
            let Some((event, span)) = self.next()? else { break };
            entries.push(Entry { place, name, value: self.node(event, &span, depth + 1)? });
        }
        Ok(Content::Map(entries))
    }
}

/// How many values a value holds, itself included.
fn size(node: &Node) -> usize {
    match &node.content {
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|entry| size(&entry.value)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_knows_where_it_was_written() {
        let (documents, malformed) = documents("a: 1\n---\n# nothing\n---\nspec:\n  paths:\n  - label: data\n    path: /data\n");
        assert_eq!((documents.len(), malformed), (2, None));
        let place = |field| documents[1].place_of(field);
        assert_eq!(place("spec.paths[0].path"), Place { line: 8, column: 5 });
        assert_eq!(place("spec.paths[0].label"), Place { line: 7, column: 5 });
        assert_eq!(place("spec.paths[0].provision.emptyDir"), Place { line: 7, column: 5 }, "the closest that is there");
        assert_eq!(place("spec.cadence"), Place { line: 5, column: 1 });
    }

    #[test]
    fn what_is_not_yaml_is_said_where() {
        let (documents, malformed) = documents("a: 1\n---\nb: [1\nc: }\n");
        let malformed = malformed.expect("not YAML");
        assert_eq!(documents.len(), 1);
        assert!(malformed.place.line >= 3 && malformed.sentence.starts_with("this is not YAML: "), "{malformed:?}");
    }

    #[test]
    fn aliases_are_followed_but_not_for_ever() {
        let (documents, _) = documents("a: &x {b: 1}\nc: *x\n");
        assert_eq!(
            documents[0].field("c").and_then(|c| c.field("b")).map(|b| &b.content),
            Some(&Content::Integer(1, "1".into()))
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let (_, malformed) = super::documents(&bomb);
        assert!(malformed.expect("too large").sentence.contains("too large"));
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        assert!(super::documents(&deep).1.is_some());
    }
}
