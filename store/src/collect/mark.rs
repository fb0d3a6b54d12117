// SPDX-License-Identifier: Apache-2.0
//! What is reachable: every frame that a tree of a checkpoint that stays refers to, by place.
//!
//! By place and never by id: the same bytes may be stored twice, and each place counts for itself.

use super::frames::Frames;
use crate::check::seen::Seen;
use crate::error::{Result, StoreError};
use crate::forward::Forward;
use crate::log::Entry;
use crate::reader::FORWARDS_MAX;
use crate::seal::Domain;
use crate::transport::Transport;
use crate::tree::visit::rebuild_node;
use crate::tree::{At, ContentMap, Directory, FramePlace, Links, MapKind, Node, NodeRef, Object, Place, Roots, Visitor};
use holdfast_core::id::{ChunkId, LineageId, Nonce};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of a pack is reachable.
#[derive(Debug)]
pub(super) struct Live {
    /// The pack.
    pub(super) object: Object,
    /// Its frames: offset and sealed length. Sorted and distinct up to `sorted`.
    frames: Vec<(u32, u32)>,
    sorted: usize,
    /// How many forwards led here.
    pub(super) depth: usize,
}

impl Live {
    const fn new(object: Object, depth: usize) -> Self {
        Self { object, frames: Vec::new(), sorted: 0, depth }
    }

    fn add(&mut self, offset: u64, sealed_len: u32) {
        let frame = (u32::try_from(offset).unwrap_or(u32::MAX), sealed_len);
        if self.frames.last() == Some(&frame) {
            return;
        }
        self.frames.push(frame);
        if self.frames.len() > 2 * self.sorted + 64 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.frames.sort_unstable();
        self.frames.dedup();
        self.sorted = self.frames.len();
    }

    /// The frames, in order.
    pub(super) fn frames(&mut self) -> &[(u32, u32)] {
        self.settle();
        &self.frames
    }

    /// Bytes of the frames as they are stored.
    pub(super) fn bytes(&mut self) -> u64 {
        self.frames().iter().map(|(_, len)| u64::from(*len)).sum()
    }
}

/// A pack of the domain.
pub(super) type PackKey = (LineageId, u64, Nonce);

/// What is reachable in a domain.
#[derive(Debug, Default)]
pub(super) struct Marks {
    packs: BTreeMap<PackKey, Live>,
    seen: Seen,
}

/// A node that is to be gone through.
enum Task {
    Directory(NodeRef<Directory>),
    Content(NodeRef<ContentMap>),
    Links(NodeRef<Links>),
}

fn key_of(object: Object) -> Option<PackKey> {
    match object {
        Object::Pack { lineage, sequence, nonce, .. } => Some((lineage, sequence, nonce)),
        Object::Record { .. } => None,
    }
}

impl Marks {
    /// Marks everything that a checkpoint reaches.
    pub(super) async fn checkpoint(&mut self, frames: &mut Frames<'_>, entry: &Entry) -> Result<()> {
        let Some(checkpoint) = entry.record.checkpoint() else { return Ok(()) };
        let object = Object::Record { lineage: entry.record.lineage, sequence: entry.record.sequence };
        frames.know_record(object, Arc::clone(&entry.document));
        let mut tasks = Vec::new();
        for root in &checkpoint.roots {
            Roots::rebuild(root, &mut Gather { marks: self, tasks: &mut tasks })?;
        }
        while let Some(task) = tasks.pop() {
            match task {
                Task::Directory(node) => self.node(frames, &node, &mut tasks).await?,
                Task::Content(node) => self.node(frames, &node, &mut tasks).await?,
                Task::Links(node) => self.node(frames, &node, &mut tasks).await?,
            }
        }
        Ok(())
    }

    async fn node<K: MapKind>(&mut self, frames: &mut Frames<'_>, node: &NodeRef<K>, tasks: &mut Vec<Task>) -> Result<()> {
        let key = match &node.at {
            At::Stored(stored) => self.seen.key_of(&stored.place),
            _ => None,
        };
        // what is not found must not be taken for garbage
        let key = key.ok_or_else(|| StoreError::damaged(format_args!("node {}", node.id), "it lies nowhere"))?;
        if self.seen.has(key) {
            return Ok(());
        }
        let (place, loaded): (FramePlace, Node<K>) = frames.node(node).await?;
        self.frame(&place);
        rebuild_node(&loaded, &mut Gather { marks: self, tasks })?;
        self.seen.add(key);
        Ok(())
    }

    fn frame(&mut self, place: &FramePlace) {
        if let Some(key) = key_of(place.object) {
            self.packs.entry(key).or_insert_with(|| Live::new(place.object, 0)).add(place.offset, place.sealed_len);
        }
    }

    /// Whether anything of a pack is reachable.
    pub(super) fn reaches(&self, lineage: LineageId, sequence: u64, nonce: Nonce) -> bool {
        self.packs.contains_key(&(lineage, sequence, nonce))
    }

    /// What of a pack is reachable.
    pub(super) fn live(&mut self, lineage: LineageId, sequence: u64, nonce: Nonce) -> Option<&mut Live> {
        self.packs.get_mut(&(lineage, sequence, nonce))
    }

    /// What lies behind the forwards of the reachable packs of one sequence: compacted packs keep it, so that it is alive as they are.
    pub(super) async fn follow(
        &mut self,
        transport: &dyn Transport,
        domain: &Domain,
        lineage: LineageId,
        sequence: u64,
    ) -> Result<()> {
        let (first, last) = (Nonce::new([0; 16]), Nonce::new([0xff; 16]));
        let of_sequence = self.packs.range((lineage, sequence, first)..=(lineage, sequence, last));
        let mut open: Vec<PackKey> = of_sequence.map(|(key, _)| *key).collect();
        while let Some(key) = open.pop() {
            let Some(live) = self.packs.get_mut(&key) else { continue };
            let (object, depth, frames) = (live.object, live.depth, live.frames().to_vec());
            let Some(forward) = Forward::read(transport, domain, object).await? else { continue };
            for (offset, sealed_len) in frames {
                let place = FramePlace { object, offset: offset.into(), sealed_len, plain_len: 0 };
                let Some((to, target)) = forward.place(&place).and_then(|to| Some((to, key_of(to.object)?))) else { continue };
                if depth >= FORWARDS_MAX {
                    continue;
                }
                let target_live = self.packs.entry(target).or_insert_with(|| Live::new(to.object, depth + 1));
                target_live.depth = target_live.depth.max(depth + 1);
                target_live.add(to.offset, sealed_len);
                if !open.contains(&target) {
                    open.push(target);
                }
            }
        }
        Ok(())
    }
}

/// Notes places of chunks, and nodes that are still to be gone through.
struct Gather<'a> {
    marks: &'a mut Marks,
    tasks: &'a mut Vec<Task>,
}

impl Visitor for Gather<'_> {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        let any: &dyn Any = node;
        let task = any.downcast_ref::<NodeRef<Directory>>().map(|node| Task::Directory(node.clone()));
        let task = task.or_else(|| any.downcast_ref::<NodeRef<ContentMap>>().map(|node| Task::Content(node.clone())));
        let task = task.or_else(|| any.downcast_ref::<NodeRef<Links>>().map(|node| Task::Links(node.clone())));
        match task {
            Some(task) => self.tasks.push(task),
            // a kind that this doesn't know would be taken for garbage
            None => return Err(StoreError::damaged(format_args!("node {}", node.id), "nodes of its kind are not referred to")),
        }
        Ok(node.clone())
    }

    fn chunk(&mut self, place: &Place, _: u32, _: &ChunkId) -> Result<Place> {
        match place.frame.place() {
            Some(frame) => self.marks.frame(frame),
            None => return Err(StoreError::damaged("chunk", "it lies nowhere")),
        }
        Ok(place.clone())
    }
}
