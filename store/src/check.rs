// SPDX-License-Identifier: Apache-2.0
//! Whether everything that a lineage refers to is there, and is what it should be.
//!
//! First the log: every record that must exist is read, opened, and held against the one before it. Then the trees: every node that the chosen
//! checkpoints reach is loaded and checked, and every pack that holds a chunk must exist and be long enough. With `read_data` the chunks
//! themselves are fetched, opened and hashed. What is damaged becomes a [`Finding`] and the check goes on; a store that does not answer ends it.
//!
//! Memory is bounded: by what is remembered of nodes seen ([`seen`]), by one batch of chunks, by an entry for each pack.

use crate::error::Result;
use crate::log::Log;
use crate::reader::Reader;
use holdfast_core::checkpoint::Quality;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

mod chain;
mod data;
mod packs;
mod report;
pub(crate) mod seen;
mod walk;

pub use report::{FINDINGS, Finding, Kind, LISTED, Report};

use data::Known;
use report::Collector;
use walk::Walk;

/// How thorough to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Every checkpoint instead of the newest one.
    pub all: bool,
    /// Fetch, open and hash every chunk.
    pub read_data: bool,
}

/// How far a check is; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records read.
    pub records: AtomicU64,
    /// Checkpoints whose trees were gone through.
    pub checkpoints: AtomicU64,
    /// Nodes loaded.
    pub nodes: AtomicU64,
    /// Chunks found, or with `read_data` hashed.
    pub chunks: AtomicU64,
    /// Bytes fetched for chunks.
    pub bytes: AtomicU64,
}

/// What to check.
#[derive(Debug)]
pub struct Request<'a> {
    /// The lineage's log.
    pub log: &'a Log,
    /// Reads its domain.
    pub reader: &'a Arc<Reader>,
    /// How thoroughly.
    pub options: Options,
    /// Set from outside to end early.
    pub cancel: &'a AtomicBool,
    /// Kept up to date for whoever shows it.
    pub progress: &'a Progress,
}

/// Checks a lineage. Must not be called from a thread that drives asynchronous tasks; directories may nest deeply, so that its stack should be large.
///
/// # Errors
/// If the store does not answer, a newer program wrote what is there, or it was called off. Damage is no error.
pub fn check(request: &Request<'_>) -> Result<Report> {
    let mut collector = Collector::default();
    let chain = request.reader.runtime().block_on(chain::read(request, &mut collector))?;
    let mut report = Report { head: chain.head, records: chain.records, ..Report::default() };
    report.newest =
        chain.checkpoints.iter().rev().find(|(_, quality)| *quality != Quality::Partial).map(|(sequence, _)| *sequence);
    let chosen: Vec<u64> = match request.options.all {
        true => chain.checkpoints.iter().rev().map(|(sequence, _)| *sequence).collect(),
        false => report.newest.into_iter().collect(),
    };
    report.checkpoints = chosen.len() as u64;
    let mut trees = walk_all(request, &chosen, request.options.read_data, Known::default(), &mut report)?;
    if !trees.bad.is_empty() {
        // what refers to the damaged chunks is found by a second look at the trees, now that they are known
        trees = walk_all(request, &chosen, false, trees.bad, &mut Report::default())?;
    }
    collector.append(trees.collector);
    collector.into(&mut report);
    Ok(report)
}

struct Trees {
    collector: Collector,
    bad: Known,
}

/// Goes through the trees of these checkpoints, of which what was gone through before is left out.
fn walk_all(request: &Request<'_>, chosen: &[u64], read_data: bool, known: Known, report: &mut Report) -> Result<Trees> {
    let mut walk = Walk::new(request, read_data, known);
    for sequence in chosen {
        let entry = match request.reader.runtime().block_on(request.log.read(*sequence)) {
            Ok(entry) => entry,
            Err(error) => {
                walk.record(*sequence, error)?;
                continue;
            }
        };
        request.reader.know(&entry);
        if let Some(checkpoint) = entry.record.checkpoint() {
            walk.checkpoint(*sequence, checkpoint)?;
        }
        request.progress.checkpoints.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    let (collector, bad, counts) = walk.finish()?;
    report.nodes = counts.nodes;
    report.chunks = counts.chunks;
    report.packs = counts.packs;
    report.data_bytes = counts.data_bytes;
    Ok(Trees { collector, bad })
}

#[cfg(test)]
mod tests;
