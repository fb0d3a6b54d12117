// SPDX-License-Identifier: Apache-2.0
//! What a restore reads from lineages' logs, and the one record that it writes to each: the claim that makes an older checkpoint the state again.

use super::unsigned;
use crate::catalog::Place;
use crate::shared::Shared;
use crate::status;
use holdfast_api::restore::RestoredMember;
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::time::Timestamp;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::LineageRef;
use holdfast_store::lineages::Lineage;
use holdfast_store::log::{Log, Mark};
use holdfast_store::reader::Reader;
use holdfast_store::record::{Record, RecordKind};
use holdfast_store::snapshot::{self, Purpose};
use holdfast_store::write::{Opening, Session, Takeover, Tuning};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tonic::Status;

/// Generations that are looked through at most for a restore's own claim.
const GENERATIONS_MAX: usize = 1000;

/// How a lineage stands before it goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// The number of its newest record.
    pub(super) head: u64,
    /// Its newest complete checkpoint: number, time.
    pub(super) newest: Option<(u64, Timestamp)>,
    /// The cluster that owns it.
    pub(super) owner: OwnerId,
}

/// A lineage that went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WentBack {
    /// The number of the claim that did it.
    pub(super) claim: u64,
    /// The newest complete checkpoint before; 0: there was none.
    pub(super) before: u64,
}

/// What proves that a lineage was restored: the first checkpoint after it went back, made from what lay on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) sequence: u64,
    pub(super) root: String,
}

/// Where a lineage is to go, and for whom.
pub(super) struct Way<'a> {
    /// The checkpoint.
    pub(super) sequence: u64,
    /// Nothing at or below this record was written for this restore.
    pub(super) floor: u64,
    /// Who this is for: the same for each try.
    pub(super) key: HolderKey,
    /// Who this is for, for people.
    pub(super) holder: String,
    /// Whether all gates are still shut: asked after the log was looked at.
    pub(super) is_shut: &'a (dyn Fn() -> bool + Sync),
}

/// What a restore signs its claims with: whoever leads knows them by it.
pub(super) fn key_of(uid: &str, lineage: &str) -> HolderKey {
    HolderKey::new(digest(&format!("staterestore {uid} {lineage}")))
}

/// What a restore's pins are known by.
pub(super) fn pin_of(uid: &str) -> [u8; 16] {
    digest(&format!("staterestore {uid}"))
}

fn digest(text: &str) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    first
}

/// Where a lineage of a repository is.
pub(super) async fn place(shared: &Shared, namespace: &str, lineage: &str) -> Result<Place, Status> {
    let domain = shared.catalog.only().unwrap_or(namespace).to_owned();
    shared.catalog.lineage(Some(LineageRef { domain, lineage: lineage.to_owned() }), "lineage").await
}

/// How a lineage stands; `None`: it has no log.
pub(super) async fn standing(place: &Place) -> Result<Option<Standing>, Status> {
    let read = Lineage::read(place.log.clone()).await.map_err(status::store)?;
    Ok(read.map(|read| Standing {
        head: read.head.sequence,
        newest: read.newest.and_then(|entry| Some((entry.record.sequence, entry.record.checkpoint()?.interval.last_close))),
        owner: read.claim.owner,
    }))
}

/// What a member's restore takes its state from: the lineage, the checkpoint, and what that is kept for.
pub(super) fn source(member: &RestoredMember) -> (&str, u64, Purpose) {
    match &member.origin {
        Some(origin) => (&origin.stored_as, unsigned(origin.sequence), Purpose::Fork),
        None => (&member.stored_as, unsigned(member.sequence), Purpose::Restore),
    }
}

/// Makes a checkpoint stay until it is the state again, or a copy's for ever; returns the pin's number, which is an earlier try's, if one has pinned it.
pub(super) async fn keep(shared: &Shared, place: &Place, sequence: u64, purpose: Purpose, by: [u8; 16]) -> Result<u64, Status> {
    let there = snapshot::pins(&place.log).await.map_err(status::store)?;
    let ours = there.iter().find(|pin| pin.by == by && pin.sequence == sequence && pin.purpose == purpose.text());
    if let Some(pin) = ours {
        return Ok(pin.number);
    }
    let repository = shared.catalog.repository();
    let pinned = snapshot::pin(repository, &place.log, sequence, purpose, by, shared.clock.now()).await;
    pinned.map(|pinned| pinned.number).map_err(status::store)
}

/// Lets go of what [`keep`] has kept.
pub(super) async fn let_go(place: &Place, pin: u64) -> Result<(), Status> {
    snapshot::unpin(&place.log, pin).await.map_err(status::store)
}

/// Makes an older checkpoint the state of a lineage again, once: a later try finds what an earlier one has written.
pub(super) async fn go_back(shared: &Shared, place: &Place, way: &Way<'_>) -> Result<WentBack, Status> {
    let log = &place.log;
    let head = log.head(0).await.map_err(status::store)?;
    let head = log.read(head).await.map_err(status::store)?;
    if let Some(claim) = own_claim(log, &head.record, way).await? {
        return Ok(WentBack { claim, before: before(log, claim).await? });
    }
    // a gate that was opened after the log was looked at leads to another record there, after which nothing is claimed
    if !(way.is_shut)() {
        return Err(status::because(Reason::Fenced, "the restore was given up"));
    }
    let (runtime, transport) = (tokio::runtime::Handle::current(), Arc::clone(log.transport()));
    let opening = Opening {
        reader: Arc::new(Reader::new(transport, Arc::clone(place.domain()), runtime, None)),
        name: place.names.lineage.clone(),
        owner: shared.owner,
        holder: way.holder.clone(),
        holder_key: way.key,
        takeover: Takeover::After(head.hash),
        watermark: None,
        back_to: Some(way.sequence),
        tuning: Tuning::default(),
        now: shared.clock.now(),
    };
    // it is not closed: the claim must be the newest record until the replica starts
    let session = Session::open(opening).await.map_err(status::store)?;
    let claim = session.head().map_or(0, |head| head.sequence);
    Ok(WentBack { claim, before: before(log, claim).await? })
}

/// The claim that this restore has written before, if it has.
async fn own_claim(log: &Log, head: &Record, way: &Way<'_>) -> Result<Option<u64>, Status> {
    let mut claimed = head.claimed;
    for _ in 0..GENERATIONS_MAX {
        if claimed <= way.floor {
            return Ok(None);
        }
        match log.read_body(claimed).await {
            Ok(Record { kind: RecordKind::Claim(claim), .. }) if claim.holder_key == way.key => return Ok(Some(claimed)),
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(status::of_store(&error)),
        }
        let Some(older) = log.listed(claimed - 1, 1).await.map_err(status::store)?.first().copied() else { return Ok(None) };
        // a claim is its own; should that be missing, it goes on below
        claimed = log.read_body(older).await.map_err(status::store)?.claimed.min(older);
    }
    Ok(None)
}

/// The newest complete checkpoint on the chain that a claim has left.
async fn before(log: &Log, claim: u64) -> Result<u64, Status> {
    let Some(last) = log.listed(claim.saturating_sub(1), 1).await.map_err(status::store)?.first().copied() else { return Ok(0) };
    let mut record = log.read_body(last).await.map_err(status::store)?;
    loop {
        match record.checkpoint() {
            Some(checkpoint) if checkpoint.quality != Quality::Partial => return Ok(record.sequence),
            _ if record.base == 0 => return Ok(0),
            _ => record = log.read_body(record.base).await.map_err(status::store)?,
        }
    }
}

/// What proves that a lineage which went back with this claim was restored; `None`: not yet.
pub(super) async fn proof(place: &Place, claim: u64) -> Result<Option<Proof>, Status> {
    let mut timeline = place.log.timeline(u64::MAX);
    let mut first: Option<Mark> = None;
    while let Some(mark) = timeline.next().await.map_err(status::store)?.filter(|mark| mark.sequence > claim) {
        if mark.quality != Quality::Partial {
            first = Some(mark);
        }
    }
    let Some(first) = first else { return Ok(None) };
    let record = place.log.read_body(first.sequence).await.map_err(status::store)?;
    Ok(record.checkpoint().map(|checkpoint| Proof { sequence: first.sequence, root: checkpoint.root.to_string() }))
}
