// SPDX-License-Identifier: Apache-2.0
//! Which checkpoint was the state when.

use super::Log;
use super::timeline::Mark;
use crate::error::Result;
use holdfast_core::checkpoint::Quality;
use holdfast_core::time::Timestamp;

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
            Selector::Sequence(sequence) => match self.read_body(sequence).await {
                Err(error) if error.is_missing() => Ok(None),
                other => Ok(Mark::of(&other?)),
            },
            Selector::Newest => {
                let mut timeline = self.timeline(u64::MAX);
                while let Some(mark) = timeline.next().await? {
                    if accepted(&mark, clean_only) {
                        return Ok(Some(mark));
                    }
                }
                Ok(None)
            }
            Selector::At(moment) => self.find_at(moment, clean_only).await,
        }
    }

    /// Times ascend within a generation only (a clock may have been wrong), so each is searched by halves; the latest time wins.
    async fn find_at(&self, moment: Timestamp, clean_only: bool) -> Result<Option<Mark>> {
        let mut best: Option<Mark> = None;
        let mut fruitless = 0;
        let mut end = u64::MAX - 1;
        while let Some(newest) = self.existing_at_or_below(end).await? {
            let record = self.read_body(newest).await?;
            let claimed = record.claimed.clamp(1, newest);
            let last = Mark::of(&record).map_or(record.written, |mark| mark.last_close);
            let hopeless = best.is_some_and(|best| last <= best.last_close);
            let found = if hopeless { None } else { self.find_between(moment, clean_only, claimed, newest).await? };
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

    async fn existing_at_or_below(&self, sequence: u64) -> Result<Option<u64>> {
        Ok(self.listed(sequence, 1).await?.first().copied())
    }

    /// The newest acceptable checkpoint of one generation that was captured at or before the moment.
    async fn find_between(&self, moment: Timestamp, clean_only: bool, claimed: u64, newest: u64) -> Result<Option<Mark>> {
        let (mut low, mut high) = (claimed, newest);
        let mut last_not_after = None;
        while low <= high {
            let middle = low + (high - low) / 2;
            // retention leaves gaps: the answer is about what exists at or below the middle
            match self.existing_at_or_below(middle).await?.filter(|existing| *existing >= low) {
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
