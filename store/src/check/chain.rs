// SPDX-License-Identifier: Apache-2.0
//! The log: every record that must exist, one after the other.

use super::Request;
use super::report::{Collector, Kind};
use crate::error::{Result, StoreError};
use crate::log::{Boundary, Entry, Log};
use crate::record::{Record, RecordKind};
use crate::transport::{Range, TransportError};
use bytes::Bytes;
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::RecordHash;
use holdfast_core::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::JoinSet;

/// What the log turned out to hold.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) head: u64,
    pub(super) records: u64,
    /// Checkpoints that can be opened, oldest first.
    pub(super) checkpoints: Vec<(u64, Quality)>,
}

/// Records read at once: each has at most 16 MiB.
const AT_ONCE: usize = 8;

/// What is known of the record before.
#[derive(Debug)]
struct Before {
    sequence: u64,
    hash: RecordHash,
    generation: u64,
    claimed: u64,
    epoch: u32,
    last_close: Option<Timestamp>,
}

/// Reads the whole log.
pub(super) async fn read(request: &Request<'_>, collector: &mut Collector) -> Result<Chain> {
    let log = request.log;
    // above it all records must exist, below it those that it lists, with these hashes
    let boundary = match log.boundary().await {
        Ok(boundary) => boundary,
        Err(error) => {
            collector.add_error(error, None, None)?;
            Boundary::default()
        }
    };
    let listed = log.listed(u64::MAX - 1, 1).await?.first().copied().unwrap_or(0);
    // a record that was lost above the boundary must not pass for the log's end
    let found = match log.head(0).await {
        Ok(found) => found,
        Err(error) => {
            collector.add_error(error, None, None)?;
            0
        }
    };
    let head = found.max(listed);
    if head < boundary.sequence {
        let what = format!("the log ends at record {head}, but its boundary speaks of record {}", boundary.sequence);
        collector.add(Kind::Missing, log.name(boundary.sequence).as_str(), &what, None, None);
    }
    let mut chain = Chain { head, ..Chain::default() };
    let mut before: Option<Before> = None;
    let kept: Vec<u64> = boundary.kept.keys().copied().collect();
    let mut sequences = kept.into_iter().chain(boundary.sequence.max(1)..=head);
    loop {
        let batch: Vec<u64> = sequences.by_ref().take(AT_ONCE).collect();
        if batch.is_empty() {
            return Ok(chain);
        }
        for (sequence, read) in fetch(log, &batch).await {
            if request.cancel.load(Ordering::Relaxed) {
                return Err(StoreError::Cancelled);
            }
            if read.as_ref().is_err_and(TransportError::is_not_found)
                && log.boundary().await.is_ok_and(|now| !now.contains(sequence))
            {
                before = None; // retention has taken it since the boundary was read
                continue;
            }
            let Some(entry) = open(log, sequence, read, &boundary, collector)? else {
                before = None;
                continue;
            };
            chain.records += 1;
            request.progress.records.fetch_add(1, Ordering::Relaxed);
            follows(log, before.as_ref(), &entry, collector);
            chain.checkpoints.extend(entry.record.checkpoint().map(|checkpoint| (sequence, checkpoint.quality)));
            before = Some(remember(before, &entry));
        }
    }
}

async fn fetch(log: &Log, batch: &[u64]) -> BTreeMap<u64, std::result::Result<Bytes, TransportError>> {
    let mut reads = JoinSet::new();
    for sequence in batch.iter().copied() {
        let (transport, name) = (Arc::clone(log.transport()), log.name(sequence));
        reads.spawn(async move { (sequence, transport.get(&name, Range::All).await) });
    }
    reads.join_all().await.into_iter().collect()
}

/// Opens a record; `None` if it can't be relied on.
fn open(
    log: &Log,
    sequence: u64,
    read: std::result::Result<Bytes, TransportError>,
    boundary: &Boundary,
    collector: &mut Collector,
) -> Result<Option<Entry>> {
    let name = log.name(sequence);
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            let what = format!("record {sequence} of the log does not exist");
            collector.add(Kind::Missing, name.as_str(), &what, Some(sequence), None);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let entry = match log.open(sequence, bytes) {
        Ok(entry) => entry,
        Err(error) => {
            collector.add_error(error, Some(sequence), None)?;
            return Ok(None);
        }
    };
    if !boundary.is_history(sequence, entry.hash) {
        let what = format!("record {sequence} is another than the boundary says was kept");
        collector.add(Kind::History, name.as_str(), &what, Some(sequence), None);
        return Ok(None);
    }
    Ok(Some(entry))
}

/// Holds a record against the one before it.
fn follows(log: &Log, before: Option<&Before>, entry: &Entry, collector: &mut Collector) {
    let record = &entry.record;
    let name = log.name(record.sequence);
    let mut wrong = |what: String| collector.add(Kind::History, name.as_str(), &what, Some(record.sequence), None);
    if log.domain().keys.identity.lineage_id(&record.name) != log.lineage() {
        wrong(format!("record {} bears the name of another lineage", record.sequence));
    }
    if record.base >= record.sequence {
        wrong(format!("record {} continues a later one", record.sequence));
    }
    if record.sequence == 1 && record.previous.is_some() {
        wrong("the first record has one before it".to_owned());
    }
    let is_claim = matches!(record.kind, RecordKind::Claim(_));
    if is_claim && record.claimed != record.sequence {
        wrong(format!("claim {} says that it is claim {}", record.sequence, record.claimed));
    }
    let Some(before) = before else { return };
    if entry.document.epoch() < before.epoch {
        wrong(format!("record {} is sealed under an older key than the one before it", record.sequence));
    }
    if before.sequence + 1 != record.sequence {
        return; // retention took what lay between
    }
    if record.previous != Some(before.hash) {
        wrong(format!(
            "record {} does not continue record {}: it says that another one was there",
            record.sequence, before.sequence
        ));
    }
    let grows = record.generation > before.generation;
    let stays = record.generation == before.generation && record.claimed == before.claimed;
    if (is_claim && !grows) || (!is_claim && !stays) {
        wrong(format!("record {} is of generation {}, after one of {}", record.sequence, record.generation, before.generation));
    }
    if let (Some(last), Some(now)) = (before.last_close, last_close(record))
        && now < last
        && !is_claim
    {
        wrong(format!("checkpoint {} was captured before the one before it", record.sequence));
    }
}

fn last_close(record: &Record) -> Option<Timestamp> {
    record.checkpoint().map(|checkpoint| checkpoint.interval.last_close)
}

fn remember(before: Option<Before>, entry: &Entry) -> Before {
    let record = &entry.record;
    // a claim begins anew: times ascend within a generation only
    let earlier = before.filter(|before| before.generation == record.generation).and_then(|before| before.last_close);
    Before {
        sequence: record.sequence,
        hash: entry.hash,
        generation: record.generation,
        claimed: record.claimed,
        epoch: entry.document.epoch(),
        last_close: last_close(record).or(earlier),
    }
}
