// SPDX-License-Identifier: Apache-2.0
//! What the store could give back: the newest state of a lineage, along its chain and not on a branch.

use holdfast_core::checkpoint::{Quality, Reason};
use holdfast_core::disk::Stored;
use holdfast_core::time::Timestamp;
use holdfast_store::StoreError;
use holdfast_store::log::Log;
use holdfast_store::record::{Record, RecordKind};

/// Records read at most to find a clean checkpoint; each tells of a few hundred checkpoints.
const READS_MAX: usize = 1000;

/// Newer checkpoints that a restore of clean ones leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOver {
    /// The newest of them.
    pub sequence: u64,
    /// The end of its capture.
    pub last_close: Timestamp,
}

/// The newest state of a lineage, and what would be left out by restoring it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest {
    pub(crate) stored: Stored,
    pub(crate) passed_over: Option<PassedOver>,
}

/// The newest state that there is; `None` if there is none at all.
pub(crate) async fn newest(log: &Log, clean_only: bool) -> Result<Option<Newest>, StoreError> {
    let head = log.head(0).await?;
    if head == 0 {
        return Ok(None);
    }
    let head = log.read_body(head).await?;
    let pinned =
        matches!(&head.kind, RecordKind::Claim(claim) if matches!(claim.reason, Reason::Restore | Reason::Undo | Reason::Fork));
    let Some(record) = complete(log, head).await? else { return Ok(None) };
    let Some(checkpoint) = record.checkpoint() else { return Ok(None) };
    let (sequence, generation, volume) = (record.sequence, record.generation, checkpoint.volume);
    let last_close = checkpoint.interval.last_close;
    // what somebody asked for is restored whatever it is; and better a fuzzy one than none
    let clean = if clean_only && !pinned { newest_clean(log, &record).await? } else { None };
    let restore = clean.unwrap_or(sequence);
    let passed_over = (restore != sequence).then_some(PassedOver { sequence, last_close });
    Ok(Some(Newest { stored: Stored { sequence, generation, volume, restore, pinned }, passed_over }))
}

/// The newest checkpoint at a record or below it on its chain that is not partial.
async fn complete(log: &Log, mut record: Record) -> Result<Option<Record>, StoreError> {
    loop {
        match record.checkpoint() {
            Some(checkpoint) if checkpoint.quality != Quality::Partial => return Ok(Some(record)),
            _ if record.base == 0 => return Ok(None),
            // it must be there: what the newest state rests on is never removed
            _ => record = log.read_body(record.base).await?,
        }
    }
}

/// The newest clean checkpoint on a record's chain that still exists.
async fn newest_clean(log: &Log, from: &Record) -> Result<Option<u64>, StoreError> {
    let mut owned;
    let mut record = from;
    for _ in 0..READS_MAX {
        let Some(checkpoint) = record.checkpoint() else { return Ok(None) };
        if checkpoint.quality == Quality::Clean {
            return Ok(Some(record.sequence));
        }
        for recent in checkpoint.recent.iter().rev().filter(|recent| recent.quality == Quality::Clean) {
            match log.read_body(recent.sequence).await {
                Ok(_) => return Ok(Some(recent.sequence)),
                Err(error) if error.is_missing() => {} // it has aged away
                Err(error) => return Err(error),
            }
        }
        let before = match checkpoint.recent.first() {
            None => Ok(record.base),
            Some(oldest) => log.read_body(oldest.sequence).await.map(|oldest| oldest.base),
        };
        let next = match before {
            Ok(0) => return Ok(None),
            Ok(base) => log.read_body(base).await,
            Err(error) => Err(error),
        };
        owned = match next {
            Ok(next) => next,
            // the chain has aged away here: what there is below it can only be found by looking
            Err(error) if error.is_missing() => {
                let below = checkpoint.recent.first().map_or(record.sequence, |oldest| oldest.sequence);
                return listed_clean(log, below).await;
            }
            Err(error) => return Err(error),
        };
        record = &owned;
    }
    Ok(None)
}

async fn listed_clean(log: &Log, below: u64) -> Result<Option<u64>, StoreError> {
    let mut timeline = log.timeline(below.saturating_sub(1));
    for _ in 0..READS_MAX {
        match timeline.next().await? {
            None => return Ok(None),
            Some(mark) if mark.quality == Quality::Clean => return Ok(Some(mark.sequence)),
            Some(_) => {}
        }
    }
    Ok(None)
}
