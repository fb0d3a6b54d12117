// SPDX-License-Identifier: Apache-2.0
//! Taking a lineage over.

use super::{Odometer, Session, Standing, stand};
use crate::document::DocumentBuilder;
use crate::error::{Result, StoreError};
use crate::log::{Drive, Entry, Log, LogWriter, Turn};
use crate::reader::Reader;
use crate::record::{Claim, Origin, Record, RecordKind};
use crate::seal::{Kind, random};
use crate::write::{Composer, Tuning};
use bytes::Bytes;
use holdfast_core::checkpoint::{Quality, Reason};
use holdfast_core::id::{HolderKey, LineageId, OwnerId, RecordHash, RecordId};
use holdfast_core::time::Timestamp;
use std::sync::Arc;

/// Whom a lineage may be taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// From a holder of the same owner that closed it, or that is known to be gone (its key is given).
    Polite(Option<HolderKey>),
    /// From any holder of the same owner: whoever asks knows that it may.
    SameOwner,
    /// From any holder of the same owner, as long as this is the log's newest record: whoever asks has looked at it up to there.
    After(RecordHash),
    /// From anybody.
    Anybody,
}

/// How a lineage is to be opened for writing.
#[derive(Debug, Clone)]
pub struct Opening {
    /// What reads its domain.
    pub reader: Arc<Reader>,
    /// The lineage's name.
    pub name: String,
    /// The cluster or machine that this is.
    pub owner: OwnerId,
    /// Who this is, for people.
    pub holder: String,
    /// Who this is, for programs.
    pub holder_key: HolderKey,
    /// Whom it may be taken from.
    pub takeover: Takeover,
    /// The newest record this place has seen: an older head is refused.
    pub watermark: Option<(u64, RecordHash)>,
    /// The checkpoint that is to be the state again: what came after it stays as a branch. `None`: the newest.
    pub back_to: Option<u64>,
    /// Sizes.
    pub tuning: Tuning,
    /// The clock.
    pub now: Timestamp,
}

/// What a claim goes on from.
#[derive(Debug, Default)]
struct Ground {
    /// The newest complete checkpoint.
    base: u64,
    /// A partial one after it.
    resume: u64,
    reason: Option<Reason>,
    /// The checkpoint of another lineage that this one begins with: said by its first record alone.
    origin: Option<Origin>,
    /// The record of whichever the capture goes on from.
    entry: Option<Entry>,
}

impl Session {
    /// Claims a lineage and goes on from its newest state.
    ///
    /// # Errors
    /// If it may not be taken over ([`StoreError::Held`], [`StoreError::ForeignOwner`]), the store shows an older history than was seen,
    /// refuses, or holds damage where the state should be.
    pub async fn open(opening: Opening) -> Result<Self> {
        Self::claim(opening, None).await
    }

    /// Claims a lineage that begins with a checkpoint of another lineage of its domain, which must be pinned. One that has a log already is claimed as
    /// [`open`](Self::open) does: an earlier try may have begun it.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`StoreError::Missing`] if there is no such checkpoint.
    pub async fn fork(opening: Opening, origin: Origin) -> Result<Self> {
        Self::claim(opening, Some(origin)).await
    }

    async fn claim(opening: Opening, origin: Option<Origin>) -> Result<Self> {
        let domain = Arc::clone(opening.reader.domain());
        let lineage = domain.keys.identity.lineage_id(&opening.name);
        let log = Log::new(Arc::clone(opening.reader.transport()), domain, lineage);
        let mut writer = LogWriter::new(log.clone(), opening.watermark, opening.name.clone())?;
        let mut ground = Ground::default();
        loop {
            match writer.drive().await? {
                Drive::Ready(_) => break,
                Drive::Claim(turn) => {
                    ground = match (turn.after.as_deref(), origin) {
                        (None, Some(origin)) => begin_fork(&log, origin).await?,
                        (after, _) => examine(&log, &opening, after).await?,
                    };
                    let bytes = claim(&opening, lineage, &turn, &ground)?;
                    writer.submit(bytes);
                }
            }
        }
        tracing::info!(lineage = %opening.name, generation = writer.generation(), base = ground.base, "claimed the lineage");
        // reading the state blocks, and so belongs on a thread of its own
        let reader = Arc::clone(&opening.reader);
        let (tuning, next) = (opening.tuning.clone(), writer.next_sequence());
        let stood = tokio::task::spawn_blocking(move || {
            let mut composer = Composer::new(Arc::clone(&reader), lineage, next, tuning)?;
            let (standing, odometer) = match &ground.entry {
                Some(entry) => stand(&reader, lineage, entry, &mut composer)?,
                None => (Standing::default(), Odometer { levels: Vec::new(), counts: Vec::new() }),
            };
            composer.advance(next);
            Ok::<_, StoreError>((composer, standing, odometer))
        });
        let (composer, standing, odometer) = stood.await.map_err(|_| StoreError::Cancelled)??;
        let (reader, name, tuning) = (opening.reader, opening.name, opening.tuning);
        Ok(Self { reader, writer, composer, lineage, name, tuning, standing, odometer, ended: false })
    }
}

/// Whether the lineage may be taken, and what its state is.
async fn examine(log: &Log, opening: &Opening, head: Option<&Entry>) -> Result<Ground> {
    if let Takeover::After(newest) = opening.takeover
        && head.is_none_or(|head| head.hash != newest)
    {
        return Err(StoreError::Fenced { lineage: opening.name.clone() });
    }
    let Some(head) = head else { return Ok(Ground::default()) };
    let newest_claim = match &head.record.kind {
        RecordKind::Claim(claim) => claim.clone(),
        _ => match log.read_body(head.record.claimed).await?.kind {
            RecordKind::Claim(claim) => claim,
            _ => return Err(StoreError::damaged(log.name(head.record.claimed), "it should be a claim")),
        },
    };
    may_take(opening, &newest_claim, matches!(head.record.kind, RecordKind::Seal { .. }))?;
    if let Some(sequence) = opening.back_to {
        return back_to(log, sequence).await;
    }
    // a restore that was claimed and never captured is still to be done
    let pending = match &head.record.kind {
        RecordKind::Claim(claim) if matches!(claim.reason, Reason::Restore | Reason::Undo | Reason::Fork) => Some(claim.reason),
        _ => None,
    };
    let resume = match &head.record.kind {
        RecordKind::Claim(claim) => claim.resume,
        _ => 0,
    };
    let mut entry = match if resume > 0 { resume } else { head.record.state() } {
        0 => None,
        sequence => Some(log.read(sequence).await?),
    };
    let mut ground = Ground { reason: pending, ..Ground::default() };
    if let Some(found) = &entry {
        ground.base = complete_base(log, &found.record).await?;
        ground.resume = if ground.base == found.record.sequence { 0 } else { found.record.sequence };
    }
    if entry.is_none() && pending == Some(Reason::Fork) {
        // however often it was claimed since: only the first record says it
        if let RecordKind::Claim(Claim { origin: Some(origin), .. }) = log.read_body(1).await?.kind {
            entry = Some(read_origin(log, origin).await?);
        }
    }
    ground.entry = entry;
    Ok(ground)
}

/// The first record of a lineage that begins with another's checkpoint.
async fn begin_fork(log: &Log, origin: Origin) -> Result<Ground> {
    let entry = read_origin(log, origin).await?;
    Ok(Ground { base: 0, resume: 0, reason: Some(Reason::Fork), origin: Some(origin), entry: Some(entry) })
}

async fn read_origin(log: &Log, origin: Origin) -> Result<Entry> {
    let from = Log::new(Arc::clone(log.transport()), Arc::clone(log.domain()), origin.lineage);
    let entry = from.read(origin.sequence).await?;
    let complete = entry.record.checkpoint().is_some_and(|checkpoint| checkpoint.quality != Quality::Partial);
    if entry.hash != origin.record || !complete {
        let what = "the checkpoint that the lineage begins with".to_owned();
        return Err(StoreError::Missing { object: from.name(origin.sequence).to_string(), what });
    }
    Ok(entry)
}

/// An older checkpoint as the state: until there is a newer one, whoever claims after this one repeats it.
async fn back_to(log: &Log, sequence: u64) -> Result<Ground> {
    let entry = log.read(sequence).await?;
    let partial = entry.record.checkpoint().is_none_or(|checkpoint| checkpoint.quality == Quality::Partial);
    // one that retention has taken may still lie there
    if partial || !log.boundary().await?.is_history(sequence, entry.hash) {
        return Err(StoreError::Missing {
            object: log.name(sequence).to_string(),
            what: "the checkpoint to go back to".to_owned(),
        });
    }
    Ok(Ground { base: sequence, reason: Some(Reason::Restore), entry: Some(entry), ..Ground::default() })
}

fn may_take(opening: &Opening, claim: &Claim, sealed: bool) -> Result<()> {
    let (lineage, holder) = (opening.name.clone(), claim.holder.clone());
    match opening.takeover {
        Takeover::Anybody => Ok(()),
        _ if claim.owner != opening.owner => Err(StoreError::ForeignOwner { lineage, owner: claim.owner.to_string(), holder }),
        Takeover::SameOwner | Takeover::After(_) => Ok(()),
        Takeover::Polite(gone) if sealed || gone == Some(claim.holder_key) => Ok(()),
        Takeover::Polite(_) => Err(StoreError::Held { lineage, holder }),
    }
}

/// The newest checkpoint on the chain that is not partial; 0 if there is none.
pub(in crate::write) async fn complete_base(log: &Log, record: &Record) -> Result<u64> {
    let is_partial = |record: &Record| record.checkpoint().is_some_and(|checkpoint| checkpoint.quality == Quality::Partial);
    if !is_partial(record) {
        return Ok(record.state());
    }
    let mut base = record.base;
    while base > 0 {
        let record = log.read_body(base).await?;
        if !is_partial(&record) {
            return Ok(record.state());
        }
        base = record.base;
    }
    Ok(0)
}

/// The bytes of a claim.
fn claim(opening: &Opening, lineage: LineageId, turn: &Turn, ground: &Ground) -> Result<Bytes> {
    let domain = opening.reader.domain();
    let foreign = turn.after.as_ref().is_some_and(|_| opening.takeover == Takeover::Anybody);
    let claim = Claim {
        owner: opening.owner,
        holder: opening.holder.clone(),
        reason: ground.reason.unwrap_or(if foreign { Reason::Adopt } else { Reason::Start }),
        origin: ground.origin,
        holder_key: opening.holder_key,
        resume: ground.resume,
    };
    let record = Record {
        lineage,
        sequence: turn.sequence,
        generation: turn.generation,
        id: RecordId::new(random()?),
        previous: turn.after.as_ref().map(|after| after.hash),
        base: ground.base,
        written: opening.now,
        boundary: turn.boundary,
        claimed: turn.sequence,
        name: opening.name.clone(),
        kind: RecordKind::Claim(claim),
    };
    let name = crate::name::Name::record(domain.keys.id, lineage, turn.sequence);
    DocumentBuilder::new(domain, Kind::Record, *lineage.as_bytes(), &name)?.finish(&record.to_body(Vec::new()))
}
