// SPDX-License-Identifier: Apache-2.0
//! A lineage being written: from its claim to its seal.

use super::Tuning;
use super::adopt::Adoption;
use super::compose::{Composed, Composer};
use super::consolidate::{Consolidation, Odometer};
use super::nodes::Inline;
use crate::document::DocumentBuilder;
use crate::error::{Result, StoreError};
use crate::log::{Drive, LogWriter};
use crate::name::Name;
use crate::reader::Reader;
use crate::record::{Checkpoint, RECENT_MAX, Record, RecordKind, root_id};
use crate::seal::{Kind, random};
use crate::tree::hints::Home;
use crate::tree::{Frame, MapKind, Node, Object, RootItem, Roots};
use holdfast_core::checkpoint::{Problem, Quality, Recent, Scope, Totals};
use holdfast_core::id::{LineageId, RecordHash, RecordId, RootId, VolumeId};
use holdfast_core::lineage::Head;
use holdfast_core::time::{Interval, Timestamp};
use std::sync::Arc;

mod claim;
#[cfg(test)]
pub(super) use claim::complete_base;
pub use claim::{Opening, Takeover};

/// What is said of a checkpoint besides its trees.
#[derive(Debug, Clone)]
pub struct CheckpointMeta {
    /// When it was captured; moved forward if it would lie before the last one.
    pub interval: Interval,
    /// Whether it is one moment.
    pub quality: Quality,
    /// What it covers.
    pub scope: Scope,
    /// What it holds.
    pub totals: Totals,
    /// The volume of the first state path.
    pub volume: Option<VolumeId>,
    /// What could not be captured.
    pub problems: Vec<Problem>,
    /// The writer's clock.
    pub now: Timestamp,
}

/// A checkpoint that is durable, and history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of its record.
    pub record: RecordHash,
    /// Its root id.
    pub root: RootId,
    /// Its capture, as recorded.
    pub interval: Interval,
    /// Its quality.
    pub quality: Quality,
    /// Whether it is a fold.
    pub fold: bool,
    /// Bytes handed to the store for it.
    pub uploaded_bytes: u64,
}

/// The state that the next checkpoint continues.
#[derive(Debug, Clone, Default)]
struct Standing {
    roots: Vec<RootItem>,
    /// Sequence of the checkpoint it is; 0: none.
    base: u64,
    quality: Option<Quality>,
    root: Option<RootId>,
    /// The capture it came from, if it was of this generation: times ascend only within one.
    interval: Option<Interval>,
    scope: Scope,
    totals: Totals,
    volume: Option<VolumeId>,
    fold: u64,
    since_fold: u64,
    recent: Vec<Recent>,
}

/// The one writer of a lineage. After an error it has ended: what it had not committed is garbage, and a new one goes on from the store.
#[derive(Debug)]
pub struct Session {
    reader: Arc<Reader>,
    writer: LogWriter,
    composer: Composer,
    lineage: LineageId,
    name: String,
    tuning: Tuning,
    standing: Standing,
    odometer: Odometer,
    ended: bool,
}

impl Session {
    /// The lineage's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lineage.
    #[must_use]
    pub const fn lineage(&self) -> LineageId {
        self.lineage
    }

    /// The generation of its claim.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.writer.generation()
    }

    /// The newest record of the log: its number and hash.
    #[must_use]
    pub const fn head(&self) -> Option<Head> {
        self.writer.head()
    }

    /// What keeps the store from answering, if something does.
    #[must_use]
    pub fn trouble(&self) -> crate::log::Trouble {
        self.writer.trouble()
    }

    /// The trees of the newest checkpoint; they may be partly in memory.
    #[must_use]
    pub fn roots(&self) -> &[RootItem] {
        &self.standing.roots
    }

    /// Sequence of the newest checkpoint, 0 if there is none.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.standing.base
    }

    /// Its root id.
    #[must_use]
    pub const fn root(&self) -> Option<RootId> {
        self.standing.root
    }

    /// Its quality.
    #[must_use]
    pub const fn quality(&self) -> Option<Quality> {
        self.standing.quality
    }

    /// What it covers.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.standing.scope
    }

    /// What it holds.
    #[must_use]
    pub const fn totals(&self) -> &Totals {
        &self.standing.totals
    }

    /// The volume that its first state path lay on.
    #[must_use]
    pub const fn volume(&self) -> Option<VolumeId> {
        self.standing.volume
    }

    /// What reads this lineage.
    #[must_use]
    pub const fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Takes chunks and nodes of the next checkpoint.
    pub fn composer(&mut self) -> &mut Composer {
        &mut self.composer
    }

    /// Whether these trees are the newest checkpoint's state.
    #[must_use]
    pub fn is_standing(&self, roots: &Composed) -> bool {
        self.standing.root == Some(self.root_of(roots))
    }

    /// The root id that these trees have together.
    #[must_use]
    pub fn root_of(&self, roots: &Composed) -> RootId {
        root_id(self.reader.domain(), &Node::<Roots>::Leaf(roots.clone()))
    }

    /// Takes over what a capture learnt about files that are as they were, without a checkpoint. Only for trees that
    /// [`is_standing`](Self::is_standing) says are the same, and only while nothing of them went to packs.
    pub fn refresh(&mut self, roots: Composed) {
        if !self.composer.streaming && self.is_standing(&roots) {
            self.standing.roots = roots;
        }
    }

    /// Makes these trees the next checkpoint: durable, acknowledged, and what [`roots`](Self::roots) are from now on.
    ///
    /// Blocks until it is so, for as long as the store does not answer.
    ///
    /// # Errors
    /// Whatever ends the session.
    pub fn commit(&mut self, roots: &Composed, meta: CheckpointMeta) -> Result<Acknowledged> {
        if self.ended {
            return Err(StoreError::Ended);
        }
        self.ended = true;
        let acknowledged = self.try_commit(roots, meta)?;
        self.ended = false;
        Ok(acknowledged)
    }

    fn try_commit(&mut self, roots: &Composed, meta: CheckpointMeta) -> Result<Acknowledged> {
        let sequence = self.writer.next_sequence();
        let record = Object::Record { lineage: self.lineage, sequence };
        let must_fold = self.composer.streaming || self.standing.since_fold + 1 >= self.tuning.fold_after;
        let inline = if must_fold { None } else { self.inline(roots, record)? };
        let fold = inline.is_none();
        let (roots, inline) = match inline {
            Some(inline) => (roots.clone(), inline),
            None => (self.fold(roots, sequence)?, Inlined { target: self.target(record)?, roots: None }),
        };
        let hints = roots_hints(inline.roots.as_deref().unwrap_or(&roots), record, &inline.target)?;
        let checkpoint = self.checkpoint(&roots, &meta, fold, sequence);
        let (root, interval, quality) = (checkpoint.root, checkpoint.interval, checkpoint.quality);
        let body =
            self.record(sequence, meta.now, RecordKind::Checkpoint(Box::new(checkpoint)), self.standing.base)?.to_body(hints);
        let bytes = inline.target.document.finish(&body)?;
        let uploaded_bytes = self.composer.uploaded_bytes() + bytes.len() as u64;
        let hash = self.submit(bytes)?;
        self.stand_on(roots, sequence, fold, root, interval, meta);
        self.composer.streaming &= quality == Quality::Partial;
        self.composer.advance(self.writer.next_sequence());
        Ok(Acknowledged { sequence, record: hash, root, interval, quality, fold, uploaded_bytes })
    }

    fn target(&self, record: Object) -> Result<Inline> {
        let Object::Record { sequence, .. } = record else { return Err(StoreError::Ended) };
        let domain = self.reader.domain();
        let name = Name::record(domain.keys.id, self.lineage, sequence);
        Ok(Inline::new(DocumentBuilder::new(domain, Kind::Record, *self.lineage.as_bytes(), &name)?, record))
    }

    /// Everything that is not in packs, carried in the record; `None` if that is too much.
    fn inline(&mut self, roots: &Composed, record: Object) -> Result<Option<Inlined>> {
        self.composer.drop_dead(roots)?;
        let mut target = self.target(record)?;
        for held in &self.composer.held {
            target.push_frame(&held.frame, held.codec, &held.payload, held.plain_len)?;
        }
        let (roots, target) = super::nodes::write_inline(roots, target)?;
        let fits = target.document.inline_len() <= self.tuning.fold_bytes;
        Ok(fits.then_some(Inlined { target, roots: Some(roots) }))
    }

    /// Moves everything to packs, and consolidates when it is time.
    fn fold(&mut self, roots: &Composed, sequence: u64) -> Result<Composed> {
        let was_streaming = self.composer.streaming;
        self.composer.drop_dead(roots)?;
        self.composer.place_held()?;
        self.composer.streaming = true;
        let consolidate = self.odometer.fold(sequence);
        let mut stored = if consolidate.is_none() || was_streaming { self.composer.store_roots(roots)? } else { roots.clone() };
        if let Some(since) = consolidate {
            if was_streaming {
                self.composer.flush()?; // what was just written must be readable
            }
            let mut consolidation = Consolidation::new(&mut self.composer, self.lineage, since)?;
            stored = stored.iter().map(|root| Roots::rebuild(root, &mut consolidation)).collect::<Result<_>>()?;
            consolidation.close()?;
        }
        self.composer.flush()?;
        Ok(stored)
    }

    fn checkpoint(&self, roots: &Composed, meta: &CheckpointMeta, fold: bool, sequence: u64) -> Checkpoint {
        let node = Node::<Roots>::Leaf(roots.clone());
        Checkpoint {
            root: root_id(self.reader.domain(), &node),
            roots: roots.clone(),
            interval: meta.interval.after(self.standing.interval),
            quality: meta.quality,
            fold: if fold { sequence } else { self.standing.fold },
            levels: self.odometer.levels.clone(),
            counts: self.odometer.counts.clone(),
            scope: meta.scope.clone(),
            totals: meta.totals,
            volume: meta.volume,
            recent: if fold { Vec::new() } else { self.standing.recent.clone() },
            problems: meta.problems.clone(),
        }
    }

    fn record(&self, sequence: u64, now: Timestamp, kind: RecordKind, base: u64) -> Result<Record> {
        let head = self.writer.head().ok_or(StoreError::Ended)?;
        Ok(Record {
            lineage: self.lineage,
            sequence,
            generation: self.writer.generation(),
            id: RecordId::new(random()?),
            previous: Some(head.hash),
            base,
            written: now,
            boundary: head.boundary_entry,
            claimed: self.writer.claimed(),
            name: self.name.clone(),
            kind,
        })
    }

    fn submit(&mut self, bytes: bytes::Bytes) -> Result<RecordHash> {
        // what a reader would refuse must not become history
        Record::open(self.reader.domain(), self.lineage, self.writer.next_sequence(), bytes.clone())?;
        let hash = self.writer.submit(bytes);
        match self.reader.runtime().block_on(self.writer.drive())? {
            Drive::Ready(_) => Ok(hash),
            Drive::Claim(_) => Err(StoreError::Fenced { lineage: self.name.clone() }),
        }
    }

    fn stand_on(&mut self, roots: Composed, sequence: u64, fold: bool, root: RootId, interval: Interval, meta: CheckpointMeta) {
        let standing = &mut self.standing;
        if fold {
            standing.recent.clear();
            standing.fold = sequence;
            standing.since_fold = 0;
        } else {
            standing.since_fold += 1;
        }
        standing.recent.push(Recent { sequence, last_close: interval.last_close, quality: meta.quality });
        if standing.recent.len() > RECENT_MAX {
            standing.recent.remove(0);
        }
        standing.roots = roots;
        standing.base = sequence;
        standing.root = Some(root);
        standing.quality = Some(meta.quality);
        standing.interval = Some(interval);
        standing.scope = meta.scope;
        standing.totals = meta.totals;
        standing.volume = meta.volume;
    }

    /// Says that the holder ends in good order. Nothing can be committed after it.
    ///
    /// # Errors
    /// Whatever ends the session.
    pub fn seal(mut self, reason: &str, now: Timestamp) -> Result<()> {
        if self.ended {
            return Err(StoreError::Ended);
        }
        let sequence = self.writer.next_sequence();
        let base = self.standing.base;
        let body = self.record(sequence, now, RecordKind::Seal { reason: reason.to_owned() }, base)?.to_body(Vec::new());
        let target = self.target(Object::Record { lineage: self.lineage, sequence })?;
        self.submit(target.document.finish(&body)?).map(|_| ())
    }
}

/// Inline frames, and the trees as they refer to them.
struct Inlined {
    target: Inline,
    roots: Option<Composed>,
}

pub(super) fn roots_hints(roots: &[RootItem], record: Object, target: &Inline) -> Result<Vec<u8>> {
    use super::nodes::FrameTarget;
    let nowhere = Frame::pending();
    let resolve = |frame: &Arc<Frame>| target.resolve(frame);
    let mut hints = Vec::new();
    let node = Node::<Roots>::Leaf(roots.to_vec());
    node.hints(Home { object: record, frame: &nowhere, resolve: &resolve }, &mut hints)
        .map(|_| hints)
        .ok_or_else(|| StoreError::damaged("record", "its roots refer to something that has no place"))
}

/// The state of a record, with what lies inside it in memory.
fn stand(
    reader: &Arc<Reader>,
    lineage: LineageId,
    entry: &crate::log::Entry,
    composer: &mut Composer,
) -> Result<(Standing, Odometer)> {
    let none = Odometer { levels: Vec::new(), counts: Vec::new() };
    let Some(checkpoint) = entry.record.checkpoint() else { return Ok((Standing::default(), none)) };
    let object = Object::Record { lineage: entry.record.lineage, sequence: entry.record.sequence };
    let (roots, held) = Adoption::adopt(reader, &entry.document, object, &checkpoint.roots)?;
    composer.held = held;
    let state = Standing {
        roots,
        quality: Some(checkpoint.quality),
        root: Some(checkpoint.root),
        scope: checkpoint.scope.clone(),
        totals: checkpoint.totals,
        volume: checkpoint.volume,
        ..Standing::default()
    };
    if entry.record.lineage != lineage {
        // a fork's first: its numbers will be its own
        return Ok((state, none));
    }
    let mut recent = if checkpoint.fold == entry.record.sequence { Vec::new() } else { checkpoint.recent.clone() };
    recent.push(Recent {
        sequence: entry.record.sequence,
        last_close: checkpoint.interval.last_close,
        quality: checkpoint.quality,
    });
    let standing =
        Standing { base: entry.record.sequence, fold: checkpoint.fold, since_fold: recent.len() as u64 - 1, recent, ..state };
    Ok((standing, Odometer { levels: checkpoint.levels.clone(), counts: checkpoint.counts.clone() }))
}
