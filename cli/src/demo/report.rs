// SPDX-License-Identifier: Apache-2.0
//! The figures at the end.

use super::narrator::Narrator;
use crate::human::{size, took};
use serde::Serialize;
use std::time::Duration;

/// What was measured, and proven. The names of fields are kept.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub(super) struct Figures {
    /// Bytes of files that are protected, and files.
    pub(super) protected_bytes: u64,
    pub(super) protected_files: u64,
    /// What the S3 server holds and was asked.
    pub(super) stored_bytes: u64,
    pub(super) stored_objects: u64,
    pub(super) s3_requests: u64,
    pub(super) checkpoints: u64,
    /// How long changes waited to be durable.
    pub(super) lag_median_ms: u64,
    pub(super) lag_max_ms: u64,
    /// From the end of the last capture to the kill: what could be lost, in time.
    pub(super) rpo_ms: u64,
    /// Candidates that had to be searched again.
    pub(super) lost_candidates: u64,
    /// Until the state was back on disk and proven, and until the search went on, both from the kill.
    pub(super) restore_ms: u64,
    pub(super) recovery_ms: u64,
    pub(super) snapshot: String,
    pub(super) snapshot_ms: u64,
    /// An earlier second in a fresh directory.
    pub(super) earlier_checkpoint: u64,
    pub(super) earlier_ms: u64,
    pub(super) number: u64,
    pub(super) solution: [u64; 2],
    pub(super) prime: bool,
    pub(super) seconds: f64,
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Figures {
    pub(super) fn tell(&self, narrator: &mut Narrator) {
        let span = |millis: u64| took(Duration::from_millis(millis));
        let [one, other] = self.solution;
        let solution = match self.prime {
            true => format!("{} is prime", self.number),
            false => format!("{} = {one} x {other}", self.number),
        };
        let rows = [
            (
                "protected",
                format!("{} in {} files; {} checkpoints", size(self.protected_bytes), self.protected_files, self.checkpoints),
            ),
            (
                "stored",
                format!("{} in {} objects; {} requests to S3", size(self.stored_bytes), self.stored_objects, self.s3_requests),
            ),
            (
                "lag",
                format!("{} (median), {} (most) until a change was durable", span(self.lag_median_ms), span(self.lag_max_ms)),
            ),
            ("lost", format!("{} of work ({} candidates) with a dead node", span(self.rpo_ms), self.lost_candidates)),
            (
                "recovery",
                format!(
                    "{} to restore and prove, {} from the kill until the search went on",
                    span(self.restore_ms),
                    span(self.recovery_ms)
                ),
            ),
            ("snapshot", format!("{} in {}", self.snapshot, span(self.snapshot_ms))),
            ("time travel", format!("checkpoint {} in {}", self.earlier_checkpoint, span(self.earlier_ms))),
            ("solution", solution),
        ];
        narrator.say("");
        for (name, value) in rows {
            narrator.say(&format!("    {name:<12} {value}"));
        }
    }
}
