// SPDX-License-Identifier: Apache-2.0
//! What `-o json` writes. The names of fields are kept; `docs/cli.md` lists them.

use holdfast_core::time::Timestamp;
use holdfast_proto::v1;
use serde::Serialize;
use std::collections::BTreeMap;

mod file;
mod snapshot;
pub(crate) use file::FileView;
pub(crate) use snapshot::{SnapshotView, consistency};

/// Bytes that are mostly, but not always, text: a path, a link's target, an attribute.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum Text {
    Plain(String),
    Hex { bytes: String },
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Hex { bytes: hex::encode(bytes) },
        }
    }
}

/// A moment of the interface.
pub(crate) fn moment(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_nanos(at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into()))
}

/// A moment for the interface.
pub(crate) fn stamp(at: Timestamp) -> prost_types::Timestamp {
    let nanos = at.nanos();
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

/// RFC 3339.
pub(crate) fn time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    at.map(|at| moment(at).to_string())
}

/// The word for a quality.
pub(crate) const fn quality(quality: v1::Quality) -> &'static str {
    match quality {
        v1::Quality::Unspecified => "unknown",
        v1::Quality::Clean => "clean",
        v1::Quality::Fuzzy => "fuzzy",
        v1::Quality::Partial => "partial",
    }
}

/// The word for what an agent does.
pub(crate) const fn phase(phase: v1::Phase) -> &'static str {
    match phase {
        v1::Phase::Unspecified => "unknown",
        v1::Phase::Waiting => "waiting",
        v1::Phase::Restoring => "restoring",
        v1::Phase::Seeding => "seeding",
        v1::Phase::Streaming => "streaming",
        v1::Phase::Ending => "ending",
        v1::Phase::Ended => "ended",
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct LineageView {
    domain: String,
    lineage: String,
    id: String,
    owner: String,
    holder: String,
    generation: u64,
    head: u64,
    sealed: bool,
    newest: Option<CheckpointView>,
    live: Option<LiveView>,
}

#[derive(Debug, Serialize)]
struct LiveView {
    phase: &'static str,
    lag_ms: u64,
    lag_lately_ms: u64,
    dirty_paths: u64,
    heard: Option<String>,
    trouble: Option<String>,
    agent_version: String,
    uploaded_bytes: u64,
    checkpoints: u64,
    problems: u64,
    problem: Option<ProblemView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CheckpointView {
    domain: String,
    lineage: String,
    checkpoint: u64,
    quality: &'static str,
    first_open: Option<String>,
    last_close: Option<String>,
    clock_error_ns: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    record: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    root: String,
    #[serde(skip_serializing_if = "is_zero")]
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<TotalsView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<StatePathView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<ProblemView>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Serialize)]
struct TotalsView {
    files: u64,
    directories: u64,
    others: u64,
    links: u64,
    bytes: u64,
    problems: u64,
}

#[derive(Debug, Serialize)]
struct StatePathView {
    label: String,
    path: String,
    include: Vec<String>,
    exclude: Vec<String>,
}

/// Something that is not as it was.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemView {
    pub(crate) path: Text,
    pub(crate) what: String,
}

impl From<&v1::Problem> for ProblemView {
    fn from(problem: &v1::Problem) -> Self {
        Self { path: Text::from(&*problem.path), what: problem.what.clone() }
    }
}

fn names(reference: Option<&v1::LineageRef>) -> (String, String) {
    reference.map(|reference| (reference.domain.clone(), reference.lineage.clone())).unwrap_or_default()
}

impl From<&v1::Lineage> for LineageView {
    fn from(lineage: &v1::Lineage) -> Self {
        let (domain, name) = names(lineage.r#ref.as_ref());
        Self {
            domain,
            lineage: name,
            id: lineage.id.clone(),
            owner: lineage.owner.clone(),
            holder: lineage.holder.clone(),
            generation: lineage.generation,
            head: lineage.head,
            sealed: lineage.sealed,
            newest: lineage.newest.as_ref().map(CheckpointView::from),
            live: lineage.live.as_ref().map(LiveView::from),
        }
    }
}

impl From<&v1::Live> for LiveView {
    fn from(live: &v1::Live) -> Self {
        Self {
            phase: phase(live.phase()),
            lag_ms: live.lag_ms,
            lag_lately_ms: live.lag_lately_ms,
            dirty_paths: live.dirty_paths,
            heard: time(live.heard.as_ref()),
            trouble: (!live.trouble.is_empty()).then(|| live.trouble.clone()),
            agent_version: live.agent_version.clone(),
            uploaded_bytes: live.uploaded_bytes,
            checkpoints: live.checkpoints,
            problems: live.problems,
            problem: live.problem.as_ref().map(ProblemView::from),
        }
    }
}

impl From<&v1::Checkpoint> for CheckpointView {
    fn from(checkpoint: &v1::Checkpoint) -> Self {
        let (domain, lineage) = names(checkpoint.lineage.as_ref());
        let path = |path: &v1::StatePath| StatePathView {
            label: path.label.clone(),
            path: path.path.clone(),
            include: path.include.clone(),
            exclude: path.exclude.clone(),
        };
        let totals = |totals: &v1::Totals| TotalsView {
            files: totals.files,
            directories: totals.directories,
            others: totals.others,
            links: totals.links,
            bytes: totals.bytes,
            problems: totals.problems,
        };
        Self {
            domain,
            lineage,
            checkpoint: checkpoint.sequence,
            quality: quality(checkpoint.quality()),
            first_open: time(checkpoint.first_open.as_ref()),
            last_close: time(checkpoint.last_close.as_ref()),
            clock_error_ns: checkpoint.clock_error_ns,
            record: checkpoint.record.clone(),
            root: checkpoint.root.clone(),
            generation: checkpoint.generation,
            totals: checkpoint.totals.as_ref().map(totals),
            paths: checkpoint.paths.iter().map(path).collect(),
            problems: checkpoint.problems.iter().map(ProblemView::from).collect(),
        }
    }
}

/// Names and what they stand for.
pub(crate) type Labels = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_written_in_hex() {
        let json = |bytes: &[u8]| serde_json::to_string(&Text::from(bytes)).expect("JSON");
        assert_eq!(json(b"data/a\nb"), r#""data/a\nb""#);
        assert_eq!(json(b"\xff\x00"), r#"{"bytes":"ff00"}"#);
    }

    #[test]
    fn moments_go_there_and_back() {
        for nanos in [0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_000] {
            assert_eq!(moment(&stamp(Timestamp::from_nanos(nanos))).nanos(), nanos);
        }
    }
}
