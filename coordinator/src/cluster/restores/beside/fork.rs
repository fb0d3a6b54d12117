// SPDX-License-Identifier: Apache-2.0
//! How the history of a copy's replica begins: with a checkpoint of another lineage, which is kept for it, and a claim that has it restored whatever the
//! policy says of starts.
//!
//! ```text
//! record 1   claim: a fork of that checkpoint    what its agent may read follows from it
//! record 2   the same state, as its own           nothing is copied: it refers to the packs of the other
//! record 3   claim: restore that                   the first checkpoint after it proves what was restored
//! ```

use crate::catalog::Place;
use crate::cluster::restores::history::{self, Way};
use crate::shared::Shared;
use crate::status;
use holdfast_api::restore::{OriginStatus, RestoredMember};
use holdfast_core::id::HolderKey;
use holdfast_proto::problem::Reason;
use holdfast_store::log::Entry;
use holdfast_store::reader::Reader;
use holdfast_store::record::Origin;
use holdfast_store::write::{CheckpointMeta, Opening, Session, Takeover, Tuning};
use std::sync::Arc;
use tonic::Status;

/// A history that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// The checkpoint that it begins with, by its own number.
    pub(super) sequence: u64,
    /// The claim after which it is restored.
    pub(super) claim: u64,
}

/// Begins the history of a member, once: a later try finds what an earlier one has written.
pub(super) async fn begin(
    shared: &Shared,
    namespace: &str,
    member: &RestoredMember,
    origin: &OriginStatus,
    way: &Way<'_>,
) -> Result<Begun, Status> {
    let place = history::place(shared, namespace, &member.stored_as).await?;
    let head = place.log.head(0).await.map_err(status::store)?;
    let state = match head {
        0 => 0,
        head => place.log.read_body(head).await.map_err(status::store)?.state(),
    };
    let sequence = match state {
        0 => {
            let from = history::place(shared, namespace, &origin.stored_as).await?;
            let entry = from.log.read(super::super::unsigned(origin.sequence)).await.map_err(status::store)?;
            first(shared, &place, &from, entry, way).await?
        }
        // of an earlier try
        state => state,
    };
    let record = place.log.read_body(sequence).await.map_err(status::store)?;
    if record.checkpoint().is_none_or(|checkpoint| checkpoint.root.to_string() != member.root) {
        let message = format!("lineage {} holds another state than it should begin with", place.text());
        return Err(status::because(Reason::Damaged, message));
    }
    let went = history::go_back(shared, &place, &Way { sequence, floor: sequence, holder: way.holder.clone(), ..*way }).await?;
    Ok(Begun { sequence, claim: went.claim })
}

/// Writes a lineage's first checkpoint: the other one's state.
async fn first(shared: &Shared, place: &Place, from: &Place, entry: Entry, way: &Way<'_>) -> Result<u64, Status> {
    let (runtime, transport) = (tokio::runtime::Handle::current(), Arc::clone(place.log.transport()));
    let now = shared.clock.now();
    let opening = Opening {
        reader: Arc::new(Reader::new(transport, Arc::clone(place.domain()), runtime, None)),
        name: place.names.lineage.clone(),
        owner: shared.owner,
        holder: way.holder.clone(),
        // the claim that follows is known by the restore's own
        holder_key: HolderKey::new(shared.random_id()?),
        takeover: Takeover::SameOwner,
        watermark: None,
        back_to: None,
        tuning: Tuning::default(),
        now,
    };
    let origin = Origin { lineage: from.log.lineage(), sequence: entry.record.sequence, record: entry.hash };
    let mut session = Session::fork(opening, origin).await.map_err(status::store)?;
    if session.base() > 0 {
        return Ok(session.base());
    }
    let captured = entry.record.checkpoint().ok_or_else(|| status::not_found("checkpoint", from.text()))?;
    let meta = CheckpointMeta {
        interval: captured.interval,
        quality: captured.quality,
        scope: captured.scope.clone(),
        totals: captured.totals,
        // it lies on none yet
        volume: None,
        problems: captured.problems.clone(),
        now,
    };
    let committed = tokio::task::spawn_blocking(move || {
        let roots = session.roots().to_vec();
        session.commit(&roots, meta)
    });
    let acknowledged = committed.await.map_err(|_| status::lost())?.map_err(status::store)?;
    Ok(acknowledged.sequence)
}
