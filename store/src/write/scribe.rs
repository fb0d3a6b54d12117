// SPDX-License-Identifier: Apache-2.0
//! A writer for simulations: the real log protocol and the real bytes, with a state of a few small files and without a thread.

use super::nodes::{FrameTarget, Inline, NodeFrames, write_inline};
use super::session::{complete_base, roots_hints};
use crate::document::DocumentBuilder;
use crate::error::{Result, StoreError};
use crate::log::{Drive, Entry, Log, LogWriter};
use crate::pack::{Contents, PackBuilder};
use crate::record::{Checkpoint, Claim, Origin, Record, RecordKind, root_id};
use crate::repository::PATIENCE;
use crate::seal::{Kind, random};
use crate::testkit::Dice;
use crate::transport::{Body as Bytes, settle};
use crate::tree::{
    At, Body, Content, Directory, Entry as TreeEntry, Frame, FramePlace, Inode, MapKind, MapRef, Mtime, Name, Node, NodeRef,
    Object, Place, RootItem, Roots, Stamp, StoredNode, Visitor, Xattrs,
};
use holdfast_core::checkpoint::{Quality, Reason, Recent, Scope, Totals};
use holdfast_core::id::{ChunkId, HolderKey, LineageId, OwnerId, RecordHash, RecordId};
use holdfast_core::time::{Interval, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Files of a state: enough for a directory that is a node of its own.
const FILES: usize = 14;

/// A file of a state.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) bytes: Arc<Vec<u8>>,
    frame: Arc<Frame>,
    inner: u32,
    /// What the frame holds, while it is in no pack.
    held: Option<Arc<Vec<u8>>>,
}

/// What a checkpoint holds, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) files: Vec<File>,
    /// The packs that it refers to, by name.
    pub(crate) packs: BTreeSet<crate::name::Name>,
    lineage: Option<LineageId>,
    sequence: u64,
    fold: u64,
    recent: Vec<Recent>,
    quality: Option<Quality>,
    last_close: Timestamp,
}

impl State {
    /// The same state with frames of its own: where another writer puts them is no concern of it.
    fn detached(&self) -> Self {
        let mut frames: BTreeMap<*const Frame, Arc<Frame>> = BTreeMap::new();
        let mut state = self.clone();
        for file in &mut state.files {
            let own = frames.entry(Arc::as_ptr(&file.frame)).or_insert_with(|| match file.frame.place() {
                Some(place) => Frame::stored(*place),
                None => Frame::pending(),
            });
            file.frame = Arc::clone(own);
        }
        state
    }
}

/// Every state that was ever sent, by its record.
pub(crate) type Archive = Arc<Mutex<BTreeMap<RecordHash, Arc<State>>>>;

/// How a lineage is taken over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// From its newest state.
    Newest,
    /// From this checkpoint.
    Restore(u64),
    /// As a fork of this checkpoint.
    Fork(Origin),
}

pub(crate) struct Scribe {
    log: Log,
    name: String,
    writer: LogWriter,
    state: State,
    archive: Archive,
}

fn inode(body: Body) -> Inode {
    let mtime = Mtime { seconds: 1, nanos: 2 };
    Inode { mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Xattrs::None, body, stamp: Stamp::default() }
}

impl Scribe {
    /// Claims a lineage.
    pub(crate) async fn claim(log: Log, name: &str, start: Start, archive: &Archive, now: Timestamp) -> Result<Self> {
        let mut writer = LogWriter::new(log.clone(), None, name.to_owned())?;
        let mut ground: Option<Entry> = None;
        loop {
            match writer.drive().await? {
                Drive::Ready(_) => break,
                Drive::Claim(turn) => {
                    let after = turn.after.as_deref();
                    let Pending { base, resume, reason, origin } = pending(&log, start, after).await?;
                    ground = match (base.max(resume), origin) {
                        (0, Some(origin)) => {
                            let of = Log::new(Arc::clone(log.transport()), Arc::clone(log.domain()), origin.lineage);
                            Some(of.read(origin.sequence).await?)
                        }
                        (0, None) => None,
                        (newest, _) => Some(log.read(newest).await?),
                    };
                    let claim = Claim {
                        owner: OwnerId::new([1; 16]),
                        holder: "a scribe".to_owned(),
                        reason,
                        origin,
                        holder_key: HolderKey::new(random()?),
                        resume,
                    };
                    let record = Record {
                        lineage: log.lineage(),
                        sequence: turn.sequence,
                        generation: turn.generation,
                        id: RecordId::new(random()?),
                        previous: after.map(|after| after.hash),
                        base,
                        written: now,
                        boundary: turn.boundary,
                        claimed: turn.sequence,
                        name: name.to_owned(),
                        kind: RecordKind::Claim(claim),
                    };
                    writer.submit(document(&log, turn.sequence)?.finish(&record.to_body(Vec::new()))?);
                }
            }
        }
        let known = archive.lock().unwrap_or_else(PoisonError::into_inner);
        let state = ground.and_then(|entry| known.get(&entry.hash).map(|state| state.detached()));
        let mut state = state.unwrap_or_default();
        if state.lineage != Some(log.lineage()) {
            // a fork's first: its numbers are its own
            (state.recent, state.sequence, state.fold, state.lineage) = (Vec::new(), 0, 0, Some(log.lineage()));
        }
        drop(known);
        Ok(Self { log, name: name.to_owned(), writer, state, archive: Arc::clone(archive) })
    }

    /// Makes the next checkpoint: a few files change; with `fold` everything new goes to packs, with `gather` everything old, too.
    pub(crate) async fn checkpoint(
        &mut self,
        dice: &mut Dice,
        fold: bool,
        gather: bool,
        quality: Quality,
        now: Timestamp,
    ) -> Result<u64> {
        let sequence = self.writer.next_sequence();
        let mut state = self.state.detached();
        change(&mut state, dice, gather);
        let (roots, hints, target) =
            if fold { self.fold(&mut state, sequence).await? } else { self.inline(&mut state, sequence)? };
        let last_close = now.max(self.state.last_close);
        let interval = Interval { first_open: last_close, last_close, clock_error: Duration::ZERO };
        let recent = if fold { Vec::new() } else { self.told() };
        let node = Node::<Roots>::Leaf(roots.clone());
        let fold_at = if fold { sequence } else { self.state.fold };
        let checkpoint = Checkpoint {
            root: root_id(self.log.domain(), &node),
            roots,
            interval,
            quality,
            fold: fold_at,
            levels: Vec::new(),
            counts: Vec::new(),
            scope: Scope::default(),
            totals: Totals {
                files: FILES as u64,
                bytes: state.files.iter().map(|file| file.bytes.len() as u64).sum(),
                ..Totals::default()
            },
            volume: None,
            recent: recent.clone(),
            problems: Vec::new(),
        };
        (state.sequence, state.fold, state.recent, state.quality, state.last_close) =
            (sequence, fold_at, recent, Some(quality), last_close);
        let head = self.writer.head().ok_or(StoreError::Ended)?;
        let record = Record {
            lineage: self.log.lineage(),
            sequence,
            generation: self.writer.generation(),
            id: RecordId::new(random()?),
            previous: Some(head.hash),
            base: self.state.sequence,
            written: now,
            boundary: head.boundary_entry,
            claimed: self.writer.claimed(),
            name: self.name.clone(),
            kind: RecordKind::Checkpoint(Box::new(checkpoint)),
        };
        let bytes = target.finish(&record.to_body(hints))?;
        let hash = self.writer.submit(bytes);
        self.archive.lock().unwrap_or_else(PoisonError::into_inner).insert(hash, Arc::new(state.detached()));
        match self.writer.drive().await? {
            Drive::Ready(_) => {
                self.state = state;
                Ok(sequence)
            }
            Drive::Claim(_) => Err(StoreError::Ended),
        }
    }

    /// The checkpoints since the fold, with the last one.
    fn told(&self) -> Vec<Recent> {
        let mut recent = if self.state.fold == self.state.sequence { Vec::new() } else { self.state.recent.clone() };
        if let Some(quality) = self.state.quality.filter(|_| self.state.sequence > 0) {
            recent.push(Recent { sequence: self.state.sequence, last_close: self.state.last_close, quality });
        }
        recent
    }

    /// Everything that is in no pack goes to packs.
    async fn fold(&self, state: &mut State, sequence: u64) -> Result<(Vec<RootItem>, Vec<u8>, DocumentBuilder)> {
        let (domain, lineage) = (self.log.domain(), self.log.lineage());
        let mut chunks = PackBuilder::new(domain, lineage, sequence, false)?;
        for file in &mut state.files {
            if let Some(held) = file.held.take()
                && file.frame.place().is_none()
            {
                let len = u32::try_from(held.len()).unwrap_or(u32::MAX);
                file.frame.store(chunks.push(Contents::Chunks, 0, &held, len)?);
            }
        }
        let mut nodes = Nodes(PackBuilder::new(domain, lineage, sequence, false)?);
        let mut frames = NodeFrames::new()?;
        let roots = roots(&self.log, state);
        let stored: Vec<RootItem> = roots
            .iter()
            .map(|root| Roots::rebuild(root, &mut Storing { frames: &mut frames, nodes: &mut nodes }))
            .collect::<Result<_>>()?;
        frames.close(&mut nodes)?;
        let record = Object::Record { lineage, sequence };
        let target = Inline::new(document(&self.log, sequence)?, record);
        let hints = roots_hints(&stored, record, &target)?;
        let places = state.files.iter().filter_map(|file| file.frame.place());
        state.packs = places.map(|place| place.object.name(domain.keys.id)).collect();
        for pack in [chunks, nodes.0] {
            if !pack.is_empty() {
                let (name, bytes) = pack.finish()?;
                settle::create_unique(&**self.log.transport(), &name, &Bytes::new(bytes), PATIENCE).await?;
                state.packs.insert(name);
            }
        }
        Ok((stored, hints, target.document))
    }

    /// What is in no pack goes into the record.
    fn inline(&self, state: &mut State, sequence: u64) -> Result<(Vec<RootItem>, Vec<u8>, DocumentBuilder)> {
        let record = Object::Record { lineage: self.log.lineage(), sequence };
        let mut target = Inline::new(document(&self.log, sequence)?, record);
        let mut done: BTreeSet<*const Frame> = BTreeSet::new();
        for file in &state.files {
            if let Some(held) = &file.held
                && done.insert(Arc::as_ptr(&file.frame))
            {
                target.push_frame(&file.frame, 0, held, u32::try_from(held.len()).unwrap_or(u32::MAX))?;
            }
        }
        let (roots, target) = write_inline(&roots(&self.log, state), target)?;
        let hints = roots_hints(&roots, record, &target)?;
        let places = state.files.iter().filter_map(|file| file.frame.place());
        state.packs = places.map(|place| place.object.name(self.log.domain().keys.id)).collect();
        Ok((roots, hints, target.document))
    }
}

fn document(log: &Log, sequence: u64) -> Result<DocumentBuilder> {
    DocumentBuilder::new(log.domain(), Kind::Record, *log.lineage().as_bytes(), &log.name(sequence))
}

/// What a claim goes on from.
struct Pending {
    base: u64,
    resume: u64,
    reason: Reason,
    origin: Option<Origin>,
}

async fn pending(log: &Log, start: Start, after: Option<&Entry>) -> Result<Pending> {
    match (start, after) {
        (Start::Restore(base), _) => return Ok(Pending { base, resume: 0, reason: Reason::Restore, origin: None }),
        (Start::Fork(origin), None) => return Ok(Pending { base: 0, resume: 0, reason: Reason::Fork, origin: Some(origin) }),
        (Start::Fork(_), Some(_)) => return Err(StoreError::Ended),
        (Start::Newest, _) => {}
    }
    let Some(after) = after else { return Ok(Pending { base: 0, resume: 0, reason: Reason::Start, origin: None }) };
    let (reason, resume, origin) = match &after.record.kind {
        RecordKind::Claim(claim) if matches!(claim.reason, Reason::Restore | Reason::Undo | Reason::Fork) => {
            (claim.reason, claim.resume, claim.origin)
        }
        RecordKind::Claim(claim) => (Reason::Start, claim.resume, None),
        _ => (Reason::Start, 0, None),
    };
    let newest = if resume > 0 { resume } else { after.record.state() };
    if newest == 0 {
        return Ok(Pending { base: 0, resume: 0, reason, origin });
    }
    let base = complete_base(log, &log.read_body(newest).await?).await?;
    Ok(Pending { base, resume: if base == newest { 0 } else { newest }, reason, origin })
}

/// A few files get other bytes, in one frame or two; with `gather` all others are written anew, too.
fn change(state: &mut State, dice: &mut Dice, gather: bool) {
    let mut changed: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let count = if state.files.is_empty() { FILES } else { 1 + dice.roll(4) };
    for index in 0..count {
        let index = if state.files.is_empty() { index } else { dice.roll(FILES) };
        let len = 65 + dice.roll(400);
        changed.insert(index, dice.bytes(len));
    }
    if gather {
        for (index, file) in state.files.iter().enumerate() {
            changed.entry(index).or_insert_with(|| file.bytes.to_vec());
        }
    }
    if state.files.is_empty() {
        let none = File { bytes: Arc::default(), frame: Frame::pending(), inner: 0, held: None };
        state.files = vec![none; FILES];
    }
    let changed: Vec<_> = changed.into_iter().collect();
    for group in changed.chunks(2) {
        let (frame, held) = (Frame::pending(), Arc::new(group.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>()));
        let mut inner = 0;
        for (index, bytes) in group {
            let bytes = Arc::new(bytes.clone());
            state.files[*index] =
                File { bytes: Arc::clone(&bytes), frame: Arc::clone(&frame), inner, held: Some(Arc::clone(&held)) };
            inner += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        }
    }
}

/// The tree of a state, its node in memory.
fn roots(log: &Log, state: &State) -> Vec<RootItem> {
    let identity = &log.domain().keys.identity;
    let entry = |(index, file): (usize, &File)| {
        let place = Place { frame: Arc::clone(&file.frame), inner: file.inner };
        let content = Content::Chunk { id: identity.chunk_id(&file.bytes), place };
        let name = Name::new(format!("file-{index:02}").as_bytes())?;
        Some((name, TreeEntry::Inode(Box::new(inode(Body::File { size: file.bytes.len() as u64, content })))))
    };
    let items: Vec<_> = state.files.iter().enumerate().filter_map(entry).collect();
    let node = Node::<Directory>::Leaf(items);
    let (id, entries) = (identity.node_id(&node.canonical()), node.entries());
    let map = MapRef::Node(NodeRef { id, level: 0, entries, at: At::Memory(Arc::new(node)) });
    vec![RootItem {
        label: "data".to_owned(),
        directory: inode(Body::Directory { map, sums: Totals::default() }),
        links: MapRef::Empty,
    }]
}

struct Nodes(PackBuilder);

impl FrameTarget for Nodes {
    fn object(&mut self) -> Result<Object> {
        Ok(self.0.object())
    }

    fn push(&mut self, frame: &Arc<Frame>, codec: u8, payload: &[u8], plain_len: u32) -> Result<()> {
        frame.store(self.0.push(Contents::Nodes, codec, payload, plain_len)?);
        Ok(())
    }

    fn resolve(&self, frame: &Arc<Frame>) -> Option<FramePlace> {
        frame.place().copied()
    }
}

struct Storing<'a> {
    frames: &'a mut NodeFrames,
    nodes: &'a mut Nodes,
}

impl Visitor for Storing<'_> {
    fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<NodeRef<K>> {
        let At::Memory(loaded) = &node.at else { return Ok(node.clone()) };
        let stored: StoredNode = self.frames.write(&**loaded, self.nodes)?;
        Ok(NodeRef { at: At::Stored(stored), ..node.clone() })
    }

    fn chunk(&mut self, place: &Place, _: u32, _: &ChunkId) -> Result<Place> {
        Ok(place.clone())
    }
}
