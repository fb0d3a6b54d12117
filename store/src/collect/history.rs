// SPDX-License-Identifier: Apache-2.0
//! What a lineage's log says about what must stay.

use crate::error::{Result, StoreError};
use crate::log::{Boundary, Log, Mark, Selector, told_by};
use crate::record::{Claim, Record, RecordKind};
use holdfast_core::checkpoint::Quality;
use holdfast_core::collection::{Point, Why};
use std::collections::BTreeMap;

/// A lineage as its log was at one moment.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) boundary: Boundary,
    /// The newest record.
    pub(super) head: u64,
    /// The lineage's name.
    pub(super) name: String,
    /// The newest claim.
    pub(super) claim: Claim,
    /// That claim's number.
    pub(super) claimed: u64,
    /// What the log itself needs.
    pub(super) needed: BTreeMap<u64, Why>,
    /// The newest checkpoint that may be restored.
    pub(super) newest: Option<Mark>,
}

impl History {
    /// Reads it; `None` if there is no record yet.
    pub(super) async fn read(log: &Log) -> Result<Option<Self>> {
        let head = log.head(0).await?;
        if head == 0 {
            return Ok(None);
        }
        // read after the head: what the boundary takes is old then, and the head is not
        let boundary = log.boundary().await?;
        let record = log.read_body(head).await?;
        let claim = claim(log, &record).await?;
        let mut history = Self {
            head: head.max(boundary.sequence),
            boundary,
            name: record.name.clone(),
            claimed: record.claimed,
            needed: BTreeMap::new(),
            newest: log.find(Selector::Newest, false).await?,
            claim,
        };
        history.need(1, Why::Birth);
        history.need(record.claimed, Why::Claim);
        history.chain(log, record.state()).await?;
        history.chain(log, history.claim.resume).await?;
        if let Some(clean) = log.find(Selector::Newest, true).await? {
            history.need(clean.sequence, Why::Newest);
        }
        if let Some(newest) = history.newest {
            history.need(newest.sequence, Why::Newest);
        }
        Ok(Some(history))
    }

    /// Whether a record with that number is history.
    pub(super) fn contains(&self, sequence: u64) -> bool {
        sequence <= self.head && self.boundary.contains(sequence)
    }

    fn need(&mut self, sequence: u64, why: Why) {
        self.needed.entry(sequence).or_insert(why);
    }

    /// A checkpoint, and if it is partial those before it down to one that is not: a capture goes on from them.
    async fn chain(&mut self, log: &Log, mut sequence: u64) -> Result<()> {
        while sequence > 0 && self.contains(sequence) {
            self.need(sequence, Why::Newest);
            let record = log.read_body(sequence).await?;
            match record.checkpoint() {
                Some(checkpoint) if checkpoint.quality != Quality::Partial => return Ok(()),
                _ if record.base >= sequence => {
                    return Err(StoreError::damaged(log.name(sequence), "it continues a later record"));
                }
                _ => sequence = record.base,
            }
        }
        Ok(())
    }

    /// The bases of the claims that were won after `since`: what they go on from is needed by whatever follows them.
    pub(super) async fn claimed_after(&self, log: &Log, since: u64) -> Result<Vec<u64>> {
        let mut bases = Vec::new();
        let mut claimed = self.claimed;
        while claimed > since {
            let record = log.read_body(claimed).await?;
            let resume = match &record.kind {
                RecordKind::Claim(claim) => claim.resume,
                _ => return Err(StoreError::damaged(log.name(claimed), "it should be a claim")),
            };
            bases.extend([record.base, resume].into_iter().filter(|base| *base > 0));
            if claimed - 1 <= since.max(self.boundary.sequence) {
                break;
            }
            claimed = log.read_body(claimed - 1).await?.claimed;
        }
        Ok(bases)
    }

    /// All checkpoints from the boundary to `upto`, oldest first; no listing takes part.
    pub(super) async fn points(&self, log: &Log, upto: u64) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        let mut told: BTreeMap<u64, Mark> = BTreeMap::new();
        for sequence in (self.boundary.sequence.max(1)..=upto).rev() {
            let mark = match told.remove(&sequence) {
                Some(mark) => Some(mark),
                None => {
                    let record = log.read_body(sequence).await?;
                    if let Some(checkpoint) = record.checkpoint() {
                        told = told_by(&record, checkpoint).map(|mark| (mark.sequence, mark)).collect();
                    }
                    Mark::of(&record)
                }
            };
            points.extend(mark.map(|mark| Point { sequence, said: mark.last_close, quality: mark.quality }));
        }
        points.reverse();
        Ok(points)
    }

    /// Of the records from `from` on, checkpoints that together reach whatever any of them reaches in packs named below `from`: in each
    /// generation the first complete one, and the partial ones before it. What follows them reaches that, or what is named later.
    pub(super) async fn entrances(&self, log: &Log, from: u64) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        let mut end = self.head;
        while end >= from {
            let claimed = log.read_body(end).await?.claimed;
            for sequence in claimed.max(from)..=end {
                let record = log.read_body(sequence).await?;
                let Some(checkpoint) = record.checkpoint() else { continue };
                found.push(sequence);
                if checkpoint.quality != Quality::Partial {
                    break;
                }
            }
            if claimed <= from {
                break;
            }
            end = claimed - 1;
        }
        Ok(found)
    }
}

async fn claim(log: &Log, head: &Record) -> Result<Claim> {
    let kind = match &head.kind {
        RecordKind::Claim(claim) => return Ok(claim.clone()),
        _ => log.read_body(head.claimed).await?.kind,
    };
    match kind {
        RecordKind::Claim(claim) => Ok(claim),
        _ => Err(StoreError::damaged(log.name(head.claimed), "it should be a claim")),
    }
}
