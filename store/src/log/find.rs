// SPDX-License-Identifier: Apache-2.0
//! Which checkpoint was the state when.

use super::timeline::{Mark, told_by};
use super::{Boundary, Log};
use crate::error::{Result, StoreError};
use holdfast_core::checkpoint::Quality;
use holdfast_core::time::Timestamp;
use std::ops::RangeInclusive;

/// Which checkpoint is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// The newest that may be restored.
    Newest,
    /// The newest whose capture ended at or before a moment.
    At(Timestamp),
    /// One by its number.
    Sequence(u64),
}

/// After a checkpoint was found, so many older generations are asked whether they know a later one: one whose clock was behind may have hidden them.
const MORE_GENERATIONS: u32 = 16;

fn accepted(mark: &Mark, clean_only: bool) -> bool {
    match mark.quality {
        Quality::Partial => false,
        Quality::Fuzzy => !clean_only,
        Quality::Clean => true,
    }
}

impl Log {
    /// Finds a checkpoint; `None` if there is none such. Partial ones are found by number only; `clean_only` leaves out fuzzy ones.
    ///
    /// # Errors
    /// If the store fails or a record is damaged.
    pub async fn find(&self, selector: Selector, clean_only: bool) -> Result<Option<Mark>> {
        match selector {
            Selector::Sequence(sequence) if !self.boundary().await?.contains(sequence) => Ok(None),
            Selector::Sequence(sequence) => match self.read_body(sequence).await {
                Err(error) if error.is_missing() => Ok(None),
                other => Ok(Mark::of(&other?)),
            },
            Selector::Newest => self.find_newest(clean_only).await,
            Selector::At(moment) => self.find_at(moment, clean_only).await,
        }
    }

    /// What is first reached from the head along the bases: after a restore, newer checkpoints lie on a branch that was left.
    async fn find_newest(&self, clean_only: bool) -> Result<Option<Mark>> {
        let mut next = self.head(0).await?;
        while next > 0 {
            let record = match self.read_body(next).await {
                // retention has taken what lay between: what it kept below is all there is
                Err(error) if error.is_missing() => return self.find_at_or_below(next, clean_only).await,
                other => other?,
            };
            if let Some(mark) = Mark::of(&record).filter(|mark| accepted(mark, clean_only)) {
                return Ok(Some(mark));
            }
            // a record tells of those before it, so that a thousand fuzzy ones cost a few reads
            let told: Vec<Mark> =
                record.checkpoint().map(|checkpoint| told_by(&record, checkpoint).collect()).unwrap_or_default();
            for mark in told.iter().rev().filter(|mark| accepted(mark, clean_only)) {
                match self.read_body(mark.sequence).await {
                    Err(error) if error.is_missing() => {}
                    other => return other.map(|record| Mark::of(&record)),
                }
            }
            let before = told.first().map_or(record.base, |oldest| oldest.sequence);
            if before >= next {
                return Err(StoreError::damaged(self.name(next), "it continues a later record"));
            }
            next = before;
        }
        Ok(None)
    }

    async fn find_at_or_below(&self, sequence: u64, clean_only: bool) -> Result<Option<Mark>> {
        let mut timeline = self.timeline(sequence);
        while let Some(mark) = timeline.next().await? {
            if accepted(&mark, clean_only) {
                return Ok(Some(mark));
            }
        }
        Ok(None)
    }

    /// Times ascend within a generation only (a clock may have been wrong), so each is searched by halves; the latest time wins.
    async fn find_at(&self, moment: Timestamp, clean_only: bool) -> Result<Option<Mark>> {
        let boundary = self.boundary().await?;
        let mut best: Option<Mark> = None;
        let mut fruitless = 0;
        let mut end = u64::MAX - 1;
        while let Some(newest) = self.existing_at_or_below(&boundary, end).await? {
            let record = self.read_body(newest).await?;
            let claimed = record.claimed.clamp(1, newest);
            let last = Mark::of(&record).map_or(record.written, |mark| mark.last_close);
            let hopeless = best.is_some_and(|best| last <= best.last_close);
            let found = if hopeless { None } else { self.find_between(&boundary, moment, clean_only, claimed..=newest).await? };
            match found {
                Some(mark) if best.is_none_or(|best| mark.last_close > best.last_close) => {
                    best = Some(mark);
                    fruitless = 0;
                }
                _ if best.is_some() => fruitless += 1,
                _ => {}
            }
            if fruitless == MORE_GENERATIONS || claimed == 1 {
                break;
            }
            end = claimed - 1;
        }
        Ok(best)
    }

    async fn existing_at_or_below(&self, boundary: &Boundary, mut sequence: u64) -> Result<Option<u64>> {
        while let Some(found) = self.listed(sequence, 1).await?.first().copied() {
            if boundary.contains(found) {
                return Ok(Some(found));
            }
            let Some(below) = found.checked_sub(1) else { break };
            sequence = below;
        }
        Ok(None)
    }

    /// The newest acceptable checkpoint of one generation that was captured at or before the moment.
    async fn find_between(
        &self,
        boundary: &Boundary,
        moment: Timestamp,
        clean_only: bool,
        generation: RangeInclusive<u64>,
    ) -> Result<Option<Mark>> {
        let claimed = *generation.start();
        let (mut low, mut high) = generation.into_inner();
        let mut last_not_after = None;
        while low <= high {
            let middle = low + (high - low) / 2;
            // retention leaves gaps: the answer is about what exists at or below the middle
            match self.existing_at_or_below(boundary, middle).await?.filter(|existing| *existing >= low) {
                None => low = middle + 1,
                Some(existing) => {
                    let record = self.read_body(existing).await?;
                    let time = Mark::of(&record).map_or(record.written, |mark| mark.last_close);
                    if time <= moment {
                        last_not_after = Some(existing);
                        low = middle + 1;
                    } else if existing == 0 {
                        break;
                    } else {
                        high = existing - 1;
                    }
                }
            }
        }
        let Some(start) = last_not_after else { return Ok(None) };
        let mut timeline = self.timeline(start);
        while let Some(mark) = timeline.next().await?.filter(|mark| mark.sequence >= claimed) {
            if accepted(&mark, clean_only) && mark.last_close <= moment {
                return Ok(Some(mark));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{Kdf, Repository};
    use crate::testkit::Dice;
    use crate::transport::memory::Memory;
    use crate::transport::{Body, Transport};
    use crate::write::scribe::{Archive, Scribe, Start};
    use std::sync::Arc;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    async fn world() -> (Arc<Memory>, Log, Archive) {
        let memory = Arc::new(Memory::default());
        let transport: Arc<dyn Transport> = memory.clone();
        let created = Repository::create(Arc::clone(&transport), b"secret", Kdf::QUICK, Timestamp::default());
        let repository = created.await.expect("a repository");
        let domain = Arc::new(repository.domain("default").await.expect("keys"));
        let lineage = domain.keys.identity.lineage_id("web");
        (memory, Log::new(transport, domain, lineage), Archive::default())
    }

    #[tokio::test]
    async fn the_newest_is_what_the_head_continues() {
        let (_, log, archive) = world().await;
        let mut dice = Dice::new(1);
        let mut scribe = Scribe::claim(log.clone(), "web", Start::Newest, &archive, at(1)).await.expect("a claim");
        for second in 2..6 {
            let quality = if second == 2 { Quality::Clean } else { Quality::Fuzzy };
            scribe.checkpoint(&mut dice, second == 2, false, quality, at(second)).await.expect("a checkpoint");
        }
        let newest = async |clean_only| log.find(Selector::Newest, clean_only).await.expect("a log").map(|mark| mark.sequence);
        assert_eq!((newest(false).await, newest(true).await), (Some(5), Some(2)));
        // the state goes back to the third record: what came after it is a branch that was left
        let mut scribe = Scribe::claim(log.clone(), "web", Start::Restore(3), &archive, at(9)).await.expect("a claim");
        assert_eq!((newest(false).await, newest(true).await), (Some(3), Some(2)));
        let next = scribe.checkpoint(&mut dice, false, false, Quality::Partial, at(10)).await.expect("a checkpoint");
        assert_eq!((next, newest(false).await, newest(true).await), (7, Some(3), Some(2)));
        let next = scribe.checkpoint(&mut dice, false, false, Quality::Clean, at(11)).await.expect("a checkpoint");
        assert_eq!((newest(false).await, newest(true).await), (Some(next), Some(next)));
    }

    #[tokio::test]
    async fn what_is_no_history_is_not_found() {
        let (memory, log, archive) = world().await;
        let mut dice = Dice::new(1);
        let mut scribe = Scribe::claim(log.clone(), "web", Start::Newest, &archive, at(1)).await.expect("a claim");
        for second in 2..8 {
            scribe.checkpoint(&mut dice, true, false, Quality::Clean, at(second)).await.expect("a checkpoint");
        }
        let boundary = Boundary { entry: 1, sequence: 6, ..Boundary::default() };
        log.boundaries().put(1, &boundary.to_body()).await.expect("a boundary");
        let mut timeline = log.timeline(u64::MAX);
        let mut found = Vec::new();
        while let Some(mark) = timeline.next().await.expect("a log") {
            found.push(mark.sequence);
        }
        assert_eq!(found, [7, 6], "what lies below was left by a writer that had been replaced");
        assert_eq!(log.find(Selector::Sequence(4), false).await.expect("a log"), None);
        assert_eq!(log.find(Selector::At(at(5)), false).await.expect("a log"), None);
        let late = Body::new(memory.objects()[&log.name(5)].clone());
        assert!(memory.create(&log.name(1), &late).await.is_ok());
        assert_eq!(log.find(Selector::Newest, false).await.expect("a log").map(|mark| mark.sequence), Some(7));
    }
}
