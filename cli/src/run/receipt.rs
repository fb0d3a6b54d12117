// SPDX-License-Identifier: Apache-2.0
//! What was restored before the program started: a line for people, a file for programs.

use crate::human::{size, took};
use holdfast_agent::Restored;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The proof of a restore.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The checkpoint.
    pub(crate) checkpoint: u64,
    /// The end of its capture.
    pub(crate) captured: String,
    /// The root that was asked for, and the one computed from the disk.
    pub(crate) root_asked: String,
    pub(crate) root_found: String,
    pub(crate) entries: u64,
    pub(crate) written_bytes: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) took_ms: u64,
    /// The newest checkpoint, if it was left out because it is not clean, and when it was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passed_over: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passed_over_captured: Option<String>,
    /// What could not be restored as it was.
    pub(crate) deviations: Vec<String>,
}

impl From<&Restored> for Receipt {
    fn from(restored: &Restored) -> Self {
        let deviation = |deviation: &holdfast_store::restore::Deviation| {
            format!("{}: {}", holdfast_store::disk::display(&deviation.path), deviation.what)
        };
        Self {
            checkpoint: restored.sequence,
            captured: restored.last_close.to_string(),
            root_asked: restored.root.to_string(),
            root_found: restored.root_on_disk.to_string(),
            entries: restored.entries,
            written_bytes: restored.written_bytes,
            fetched_bytes: restored.fetched_bytes,
            took_ms: millis(restored.took),
            passed_over: restored.passed_over.map(|newer| newer.sequence),
            passed_over_captured: restored.passed_over.map(|newer| newer.last_close.to_string()),
            deviations: restored.deviations.iter().map(deviation).collect(),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// One line.
pub(super) fn line(restored: &Restored) -> String {
    let Restored { sequence, last_close, entries, written_bytes, .. } = restored;
    let proof = if restored.root == restored.root_on_disk { "the disk holds just what was captured" } else { "with deviations" };
    let (bytes, span) = (size(*written_bytes), took(restored.took));
    let newer = restored.passed_over.map_or_else(String::new, |newer| {
        format!("; checkpoint {} of {} is newer and was left out, since it is not clean", newer.sequence, newer.last_close)
    });
    format!("restored checkpoint {sequence} of {last_close}: {entries} entries, {bytes} in {span}; {proof}{newer}")
}

/// Writes it whole or not at all.
pub(super) fn write(path: &Path, restored: &Restored) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, serde_json::to_vec_pretty(&Receipt::from(restored))?)?;
    std::fs::rename(&temporary, path)
}
