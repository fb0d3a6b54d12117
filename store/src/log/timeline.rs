// SPDX-License-Identifier: Apache-2.0
//! The checkpoints of a log, by time.

use super::{Boundary, Log};
use crate::error::Result;
use crate::record::{Checkpoint, Record};
use holdfast_core::checkpoint::{Quality, Recent};
use holdfast_core::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One checkpoint of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its number.
    pub sequence: u64,
    /// The end of its capture.
    pub last_close: Timestamp,
    /// Its quality.
    pub quality: Quality,
}

impl Mark {
    /// That of a record; `None` if it is no checkpoint.
    pub fn of(record: &Record) -> Option<Self> {
        let checkpoint = record.checkpoint()?;
        Some(Self { sequence: record.sequence, last_close: checkpoint.interval.last_close, quality: checkpoint.quality })
    }
}

impl From<&Recent> for Mark {
    fn from(recent: &Recent) -> Self {
        Self { sequence: recent.sequence, last_close: recent.last_close, quality: recent.quality }
    }
}

/// The checkpoints of its own generation that a record tells of, oldest first: a fork's first ones also tell of its origin's.
pub(crate) fn told_by(record: &Record, checkpoint: &Checkpoint) -> impl DoubleEndedIterator<Item = Mark> {
    let own = record.claimed..record.sequence;
    checkpoint.recent.iter().map(Mark::from).filter(move |mark| own.contains(&mark.sequence))
}

/// A walk over a log's checkpoints, newest first.
#[derive(Debug)]
pub struct Timeline<'a> {
    log: &'a Log,
    /// What is history; read before the first listing.
    boundary: Option<Boundary>,
    /// Told of by a record that was read, not yet handed out.
    told: BTreeMap<u64, Mark>,
    /// Numbers that exist, as a listing showed them, down to `listed_from`.
    existing: BTreeSet<u64>,
    listed_from: u64,
    /// Everything above this number has been handed out.
    next: u64,
}

/// Numbers listed at once.
const PAGE: u16 = 1000;

impl Log {
    /// The checkpoints at and below a sequence (all: `u64::MAX`), newest first. A record tells of those since its fold, so that
    /// a second's resolution costs a read for every few hundred checkpoints.
    #[must_use]
    pub fn timeline(&self, from: u64) -> Timeline<'_> {
        let next = from.min(u64::MAX - 1);
        Timeline { log: self, boundary: None, told: BTreeMap::new(), existing: BTreeSet::new(), listed_from: u64::MAX, next }
    }
}

impl Timeline<'_> {
    /// The next older checkpoint that exists.
    ///
    /// # Errors
    /// If the store fails or a record is damaged.
    pub async fn next(&mut self) -> Result<Option<Mark>> {
        while let Some(newest) = self.newest().await? {
            self.next = newest.saturating_sub(1);
            if let Some(mark) = self.told.remove(&newest) {
                return Ok(Some(mark));
            }
            let record = self.log.read_body(newest).await?;
            if let Some(checkpoint) = record.checkpoint() {
                self.told = told_by(&record, checkpoint).map(|mark| (mark.sequence, mark)).collect();
                return Ok(Mark::of(&record));
            }
        }
        Ok(None)
    }

    /// The newest existing number that has not been handed out.
    async fn newest(&mut self) -> Result<Option<u64>> {
        if self.next == 0 {
            return Ok(None);
        }
        if self.listed_from > self.next {
            let listed = self.log.listed(self.next, PAGE).await?;
            self.listed_from = if listed.len() < usize::from(PAGE) { 0 } else { listed.last().copied().unwrap_or(0) };
            let boundary = match &mut self.boundary {
                Some(boundary) => boundary,
                unread => unread.insert(self.log.boundary().await?),
            };
            // a writer that was replaced long ago may have left records there
            self.existing = listed.into_iter().filter(|sequence| boundary.contains(*sequence)).collect();
        }
        let newest = self.existing.range(..=self.next).next_back().copied();
        if newest.is_none() && self.listed_from > 0 {
            self.next = self.listed_from - 1;
            return Box::pin(self.newest()).await;
        }
        Ok(newest)
    }
}
