// SPDX-License-Identifier: Apache-2.0
//! The last word: what is durable, where the kubelet picks it up when the agent has ended, however it ended.

use crate::clock::SystemClock;
use crate::status::{Phase, Status};
use holdfast_core::checkpoint::Quality;
use holdfast_core::time::Timestamp;
use holdfast_store::capture::Clock;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// The kubelet takes no more.
const BYTES_MAX: usize = 4096;
/// A text of ours in it.
const TEXT_MAX: usize = 1024;
/// Between two, while the agent runs: it is for an agent that is killed.
const PAUSE: Duration = Duration::from_secs(5);

/// What is durable of a pod's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The lineage.
    pub lineage: String,
    /// The newest durable checkpoint; 0: none.
    pub checkpoint: u64,
    /// How long ago its capture ended, in seconds; negative if the clocks disagree.
    pub age_seconds: f64,
    /// Whether it is one moment of the state.
    pub clean: bool,
    /// What it holds, in bytes.
    pub bytes: u64,
    /// Whether the lineage was closed: nothing was left to be captured.
    pub sealed: bool,
    /// What this start restored; 0: nothing.
    pub restored: u64,
    /// A newer checkpoint that was left out, since it is not clean; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed_over: u64,
    /// What keeps the rest from being durable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Receipt {
    fn of(lineage: &str, status: &Status, now: Timestamp) -> Self {
        let cut = |text: &str| text[..text.floor_char_boundary(TEXT_MAX)].to_owned();
        let age = |close: Timestamp| now.since(close).as_secs_f64() - close.since(now).as_secs_f64();
        Self {
            lineage: cut(lineage),
            checkpoint: status.checkpoint.map_or(0, |last| last.sequence),
            age_seconds: status.checkpoint.map_or(0.0, |last| (age(last.last_close) * 1000.0).round() / 1000.0),
            clean: status.checkpoint.is_some_and(|last| last.quality == Quality::Clean),
            bytes: status.totals.bytes,
            sealed: status.phase == Phase::Ended,
            restored: status.restored.map_or(0, |restored| restored.sequence),
            passed_over: status.restored.and_then(|restored| restored.passed_over).map_or(0, |newer| newer.sequence),
            trouble: status.trouble.as_deref().map(cut).unwrap_or_default(),
        }
    }
}

/// Writes it, if there is such a file.
pub(super) fn write(path: &std::path::Path, lineage: &str, status: &Status) {
    let receipt = Receipt::of(lineage, status, SystemClock.now());
    let Ok(text) = serde_json::to_vec(&receipt) else { return };
    // what is too long would be cut, and be no JSON any more
    if text.len() > BYTES_MAX {
        return;
    }
    // outside of a cluster there is none, and none is made
    let written = std::fs::File::options().write(true).truncate(true).open(path).and_then(|mut file| {
        use std::io::Write;
        file.write_all(&text)
    });
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "there is no place for a last word");
    }
}

/// Keeps it up to date for as long as it is polled.
pub(super) async fn keep(path: PathBuf, lineage: String, mut status: watch::Receiver<Status>) {
    let gist = |status: &Status| (status.checkpoint, status.phase, status.trouble.clone());
    let mut told = None;
    loop {
        let now = gist(&status.borrow_and_update());
        if told.as_ref() != Some(&now) {
            let current = status.borrow().clone();
            write(&path, &lineage, &current);
            told = Some(now);
            tokio::time::sleep(PAUSE).await;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::LastCheckpoint;
    use holdfast_core::id::RootId;

    #[test]
    fn it_fits_whatever_it_says() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let last = LastCheckpoint { sequence: 7, last_close: at(100), quality: Quality::Clean, root: RootId::new([0; 32]) };
        let status =
            Status { checkpoint: Some(last), trouble: Some("ä".repeat(5000)), phase: Phase::Ended, ..Status::default() };
        let receipt = Receipt::of(&"x".repeat(5000), &status, at(103));
        assert_eq!((receipt.checkpoint, receipt.age_seconds, receipt.clean, receipt.sealed), (7, 3.0, true, true));
        let text = serde_json::to_string(&receipt).expect("JSON");
        assert!(text.len() <= BYTES_MAX, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Receipt>(&text).expect("read"), receipt);
        assert_eq!(Receipt::of("x", &Status::default(), at(1)).checkpoint, 0);
    }

    #[test]
    fn it_is_written_where_there_is_a_place_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        write(&path, "x", &Status::default());
        assert!(!path.exists());
        std::fs::write(&path, "longer than what comes ".repeat(99)).expect("a file");
        write(&path, "x", &Status::default());
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(serde_json::from_str::<Receipt>(&text).expect("JSON").lineage, "x");
    }
}
