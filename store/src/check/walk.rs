// SPDX-License-Identifier: Apache-2.0
//! Through the trees: every node once, whatever is wrong on the way.

use super::data::{Data, Known};
use super::packs::Packs;
use super::report::{Collector, Kind};
use super::seen::Seen;
use super::{Progress, Request};
use crate::error::{Result, StoreError};
use crate::reader::Reader;
use crate::record::Checkpoint;
use crate::tree::node::{LEVEL_MAX, is_cut};
use crate::tree::{
    At, Body, Child, Content, Directory, Inode, MapKind, MapRef, Node, NodeRef, NodeStore, Place, RootItem, Xattrs,
};
use holdfast_core::id::ChunkId;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod kinds;
mod links;

use links::LinkCount;

/// Directories inside one another.
const DEPTH_MAX: usize = 4096;

/// What was gone through.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) nodes: u64,
    pub(super) chunks: u64,
    pub(super) packs: u64,
    pub(super) data_bytes: u64,
}

/// Goes through one tree after another.
pub(super) struct Walk<'a> {
    reader: &'a Arc<Reader>,
    progress: &'a Progress,
    cancel: &'a AtomicBool,
    collector: Collector,
    seen: Seen,
    /// Nodes beneath which something is wrong: which findings.
    spoiled: HashMap<u128, Vec<usize>>,
    /// Findings met since the walk began, in order; a node's are those since it was entered.
    met: Vec<usize>,
    packs: Packs,
    data: Option<Data>,
    known: Known,
    counts: Counts,
    sequence: u64,
    path: Vec<u8>,
    depth: usize,
    /// Size of the file at hand.
    size: u64,
    links: LinkCount,
}

/// What each kind of map has besides its nodes.
trait Walked: MapKind {
    fn item(walk: &mut Walk<'_>, item: &Self::Item) -> Result<()>;
}

impl<'a> Walk<'a> {
    pub(super) fn new(request: &Request<'a>, read_data: bool, known: Known) -> Self {
        Self {
            reader: request.reader,
            progress: request.progress,
            cancel: request.cancel,
            collector: Collector::default(),
            seen: Seen::default(),
            spoiled: HashMap::new(),
            met: Vec::new(),
            packs: Packs::new(request.reader),
            data: read_data.then(|| Data::new(request.reader)),
            known,
            counts: Counts::default(),
            sequence: 0,
            path: Vec::new(),
            depth: 0,
            size: 0,
            links: LinkCount::default(),
        }
    }

    /// What was found, and the chunks that turned out bad.
    pub(super) fn finish(mut self) -> Result<(Collector, Known, Counts)> {
        let mut bad = Known::new();
        if let Some(data) = &mut self.data {
            data.flush()?;
            self.counts.data_bytes = data.fetched_bytes;
            bad = std::mem::take(&mut data.bad);
        }
        self.counts.packs = self.packs.used();
        Ok((self.collector, bad, self.counts))
    }

    /// A record that can no longer be read.
    pub(super) fn record(&mut self, sequence: u64, error: StoreError) -> Result<()> {
        self.collector.add_error(error, Some(sequence), None).map(drop)
    }

    /// Goes through a checkpoint's trees.
    pub(super) fn checkpoint(&mut self, sequence: u64, checkpoint: &Checkpoint) -> Result<()> {
        self.sequence = sequence;
        self.met.clear();
        for RootItem { label, directory, links } in &checkpoint.roots {
            self.links = LinkCount::default();
            self.path = label.as_bytes().to_vec();
            self.map(links)?;
            self.inode(directory)?;
            self.compare_links();
        }
        Ok(())
    }

    fn found(&mut self, kind: Kind, object: &str, what: &str) {
        self.met.extend(self.collector.add(kind, object, what, Some(self.sequence), Some(&self.path)));
    }

    fn shape(&mut self, object: impl ToString, what: &str) {
        self.found(Kind::Shape, &object.to_string(), what);
    }

    fn map<K: Walked>(&mut self, map: &MapRef<K>) -> Result<()> {
        match map {
            MapRef::Empty => Ok(()),
            MapRef::Inline(node) => node.items().iter().try_for_each(|item| K::item(self, item)),
            MapRef::Node(node) => {
                let root = Position { key: None, before: None, is_last: true };
                self.node(node, root)
            }
        }
    }

    fn node<K: Walked>(&mut self, node: &NodeRef<K>, position: Position<'_>) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(StoreError::Cancelled);
        }
        let At::Stored(stored) = &node.at else { return Ok(()) };
        let Some(key) = self.seen.key_of(&stored.place) else {
            self.shape(format_args!("node {}", node.id), "it lies nowhere");
            return Ok(());
        };
        if self.seen.has(key) {
            self.links.incomplete = true;
            for index in self.spoiled.get(&key).cloned().unwrap_or_default() {
                self.collector.again(index, Some(self.sequence), Some(&self.path));
                self.met.push(index);
            }
            return Ok(());
        }
        let before = self.met.len();
        match self.reader.load(node) {
            Ok(loaded) => {
                self.counts.nodes += 1;
                self.progress.nodes.fetch_add(1, Ordering::Relaxed);
                self.check_node(node, &loaded, &position);
                self.beneath(&loaded, &position)?;
            }
            Err(error) => {
                self.links.incomplete = true;
                self.met.extend(self.collector.add_error(error, Some(self.sequence), Some(&self.path))?);
            }
        }
        self.seen.add(key);
        if self.met.len() > before {
            let mut spoiled = self.met[before..].to_vec();
            spoiled.sort_unstable();
            spoiled.dedup();
            self.spoiled.insert(key, spoiled);
        }
        Ok(())
    }

    fn beneath<K: Walked>(&mut self, node: &Node<K>, position: &Position<'_>) -> Result<()> {
        match node {
            Node::Leaf(items) => items.iter().try_for_each(|item| K::item(self, item)),
            Node::Inner(_, children) => {
                let mut before = position.before;
                for (index, Child { key, node }) in children.iter().enumerate() {
                    let is_last = position.is_last && index + 1 == children.len();
                    self.node(node, Position { key: Some(key), before, is_last })?;
                    before = Some(key);
                }
                Ok(())
            }
        }
    }

    /// Order and cuts: what readers rely on without looking.
    fn check_node<K: Walked>(&mut self, node: &NodeRef<K>, loaded: &Node<K>, position: &Position<'_>) {
        let name = format!("node {}", node.id);
        let last = loaded.last_key();
        if position.key.is_some_and(|key| last.is_none_or(|last| last.as_ref() != key)) {
            self.shape(&name, "its last key is not the one that its parent holds it under");
        }
        if position.before.is_some_and(|before| loaded.key(0).is_none_or(|first| first.as_ref() <= before)) {
            self.shape(&name, "its first key does not follow what lies before it");
        }
        if position.key.is_none() && loaded.level() > 0 && loaded.len() < 2 {
            self.shape(&name, "it is the root of a map that needs no such node");
        }
        let identity = &self.reader.domain().keys.identity;
        let cut = |index: usize| {
            let key = loaded.key(index);
            key.is_some_and(|key| is_cut(index + 1, identity.cut_hash(K::CODE, loaded.level(), key.as_ref())))
        };
        let end = loaded.len().saturating_sub(1);
        let early = (0..end).any(cut) && loaded.level() < LEVEL_MAX;
        if early || (!position.is_last && !cut(end)) {
            self.shape(&name, "it is cut at another place than its keys say");
        }
    }

    fn inode(&mut self, inode: &Inode) -> Result<()> {
        if let Xattrs::Chunk { len, id, place } = &inode.xattrs {
            self.chunk(place, *len, id)?;
        }
        match &inode.body {
            Body::Directory { map, .. } => self.directory(map),
            Body::File { size, content } => match content {
                Content::None | Content::Inline(_) => Ok(()),
                Content::Chunk { id, place } => self.chunk(place, u32::try_from(*size).unwrap_or(u32::MAX), id),
                Content::Extents { map, .. } => {
                    self.size = *size;
                    self.map(map)
                }
            },
            _ => Ok(()),
        }
    }

    fn directory(&mut self, map: &MapRef<Directory>) -> Result<()> {
        if self.depth == DEPTH_MAX {
            self.shape("tree", "more than 4096 directories lie inside one another");
            return Ok(());
        }
        self.depth += 1;
        let walked = self.map(map);
        self.depth -= 1;
        walked
    }

    fn chunk(&mut self, place: &Place, len: u32, id: &ChunkId) -> Result<()> {
        self.counts.chunks += 1;
        self.progress.chunks.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = place.frame.place().copied() else {
            self.shape(format_args!("chunk {id}"), "it lies nowhere");
            return Ok(());
        };
        let name = || frame.object.name(self.reader.domain().keys.id).to_string();
        if u64::from(place.inner) + u64::from(len) > u64::from(frame.plain_len) {
            self.found(Kind::Damaged, &name(), "a chunk lies beyond its frame");
            return Ok(());
        }
        if let Some((kind, object, what)) = self.known.get(&(frame, place.inner)).cloned() {
            self.found(kind, &object, &what);
            return Ok(());
        }
        if let Some((kind, object, what)) = self.packs.holds(&frame)? {
            self.found(kind, &object, &what);
            return Ok(());
        }
        if let Some(data) = &mut self.data {
            let before = data.fetched_bytes;
            match frame.object {
                // it is at hand
                crate::tree::Object::Record { .. } => {
                    if let Err(error) = self.reader.chunk(place, len, id) {
                        self.met.extend(self.collector.add_error(error, Some(self.sequence), Some(&self.path))?);
                    }
                    return Ok(());
                }
                crate::tree::Object::Pack { .. } => data.push(frame, place.inner, len, *id)?,
            }
            self.progress.bytes.fetch_add(data.fetched_bytes - before, Ordering::Relaxed);
        }
        Ok(())
    }

    fn compare_links(&mut self) {
        for what in std::mem::take(&mut self.links).wrong() {
            self.shape("tree", what);
        }
    }
}

/// Where a node should be in its map.
#[derive(Debug, Clone, Copy)]
struct Position<'a> {
    /// The key that its parent holds it under.
    key: Option<&'a [u8]>,
    /// The last key of what lies before it.
    before: Option<&'a [u8]>,
    /// Whether it is the last of its level.
    is_last: bool,
}
