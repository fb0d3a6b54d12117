// SPDX-License-Identifier: Apache-2.0
//! What a check found.

use crate::error::{Result, StoreError};
use std::collections::BTreeMap;
use std::fmt;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// An object that is referred to does not exist.
    Missing,
    /// An object is not what was written.
    Damaged,
    /// The keys at hand don't open it.
    WrongKey,
    /// The log contradicts itself.
    History,
    /// A tree is not built as trees are.
    Shape,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::WrongKey => "wrong-key",
            Self::History => "history",
            Self::Shape => "shape",
        })
    }
}

/// One thing that is wrong, and what it spoils.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// With which object.
    pub object: String,
    /// In words.
    pub what: String,
    /// The first checkpoints that it spoils; at most [`LISTED`].
    pub checkpoints: Vec<u64>,
    /// How many it spoils, of those that were looked at.
    pub checkpoint_count: u64,
    /// The first paths, from the label on; at most [`LISTED`]. Of a directory: everything beneath may be concerned.
    pub paths: Vec<Vec<u8>>,
    /// How many were found; the same path counts once for each checkpoint.
    pub path_count: u64,
}

/// Checkpoints and paths that a finding lists.
pub const LISTED: usize = 20;
/// Findings that a report lists.
pub const FINDINGS: usize = 1000;

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The newest record's number; 0: there is none.
    pub head: u64,
    /// The newest checkpoint that may be restored, as far as it can be read.
    pub newest: Option<u64>,
    /// Records read.
    pub records: u64,
    /// Checkpoints whose trees were gone through.
    pub checkpoints: u64,
    /// Nodes loaded.
    pub nodes: u64,
    /// Chunks that trees refer to.
    pub chunks: u64,
    /// Packs that hold them.
    pub packs: u64,
    /// Bytes fetched to look into chunks.
    pub data_bytes: u64,
    /// What is wrong; at most [`FINDINGS`].
    pub findings: Vec<Finding>,
    /// How much is.
    pub finding_count: u64,
}

/// Gathers findings: the same thing found again adds to what it spoils.
#[derive(Debug, Default)]
pub(super) struct Collector {
    findings: Vec<Finding>,
    /// The last checkpoint that each was found in.
    last: Vec<Option<u64>>,
    index: BTreeMap<(String, String), usize>,
    dropped: u64,
}

/// What an error says about an object. `None`: nothing; the store, not the repository, has failed.
pub(super) fn verdict(error: &StoreError) -> Option<(Kind, String, String)> {
    match error {
        StoreError::Missing { object, what } => {
            Some((Kind::Missing, object.clone(), format!("it does not exist, and with it {what}")))
        }
        StoreError::Damaged { object, what } => Some((Kind::Damaged, object.clone(), what.clone())),
        StoreError::WrongKey { object } => Some((Kind::WrongKey, object.clone(), "it was sealed under another key".to_owned())),
        _ => None,
    }
}

impl Collector {
    /// Adds a finding; returns its number, or `None` if there are too many.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        object: &str,
        what: &str,
        checkpoint: Option<u64>,
        path: Option<&[u8]>,
    ) -> Option<usize> {
        let key = (object.to_owned(), what.to_owned());
        let index = match self.index.get(&key) {
            Some(index) => *index,
            None if self.findings.len() >= FINDINGS => {
                self.dropped += 1;
                return None;
            }
            None => {
                let (object, what) = key.clone();
                let finding =
                    Finding { kind, object, what, checkpoints: vec![], checkpoint_count: 0, paths: vec![], path_count: 0 };
                self.findings.push(finding);
                self.last.push(None);
                self.index.insert(key, self.findings.len() - 1);
                self.findings.len() - 1
            }
        };
        self.again(index, checkpoint, path);
        Some(index)
    }

    /// Adds an error, if it speaks of an object.
    pub(super) fn add_error(&mut self, error: StoreError, checkpoint: Option<u64>, path: Option<&[u8]>) -> Result<Option<usize>> {
        match verdict(&error) {
            Some((kind, object, what)) => Ok(self.add(kind, &object, &what, checkpoint, path)),
            None => Err(error),
        }
    }

    /// A finding spoils something else, too.
    pub(super) fn again(&mut self, index: usize, checkpoint: Option<u64>, path: Option<&[u8]>) {
        let Some(finding) = self.findings.get_mut(index) else { return };
        // checkpoints are gone through one after the other: a new one differs from the last
        if checkpoint.is_some() && self.last[index] != checkpoint {
            self.last[index] = checkpoint;
            finding.checkpoint_count += 1;
            if finding.checkpoints.len() < LISTED {
                finding.checkpoints.extend(checkpoint);
            }
        }
        if let Some(path) = path {
            finding.path_count += 1;
            if finding.paths.len() < LISTED && !finding.paths.iter().any(|known| known == path) {
                finding.paths.push(path.to_vec());
            }
        }
    }

    /// Adds what another found.
    pub(super) fn append(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.dropped += other.dropped;
    }

    /// Hands everything over, the worst first.
    pub(super) fn into(mut self, report: &mut Report) {
        self.findings.sort_by(|one, two| one.kind.cmp(&two.kind).then_with(|| one.object.cmp(&two.object)));
        report.finding_count = self.findings.len() as u64 + self.dropped;
        self.findings.truncate(FINDINGS);
        report.findings = self.findings;
    }
}
