// SPDX-License-Identifier: Apache-2.0
//! What was forgotten, as it is shown.

use crate::human::size;
use crate::table::Cell;
use holdfast_core::collection::Why;
use holdfast_store::collect::{Ended, OfLineage, Reason, Report, Tally};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a collection came to.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    ended: &'static str,
    lineages: Vec<Lineage>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Lineage {
    domain: String,
    lineage: String,
    head: u64,
    boundary: u64,
    kept: Vec<Kept>,
    gone: BTreeMap<String, Gone>,
    rewritten: Gone,
    left_alone: Option<String>,
}

#[derive(Debug, Serialize)]
struct Kept {
    record: u64,
    time: Option<String>,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct Gone {
    objects: u64,
    bytes: u64,
}

impl From<&Tally> for Gone {
    fn from(tally: &Tally) -> Self {
        Self { objects: tally.objects, bytes: tally.bytes }
    }
}

const fn why(why: Why) -> &'static str {
    match why {
        Why::Policy => "policy",
        Why::Newest => "newest",
        Why::Claim => "claim",
        Why::Birth => "birth",
        Why::Pinned => "pinned",
        Why::Snapshot => "snapshot",
    }
}

pub(super) fn document(report: &Report, lineages: &[&OfLineage]) -> Document {
    let lineage = |one: &&OfLineage| Lineage {
        domain: one.domain_name.clone(),
        lineage: one.name.clone(),
        head: one.head,
        boundary: one.boundary,
        kept: one
            .kept
            .iter()
            .map(|kept| Kept { record: kept.sequence, time: kept.time.map(|time| time.to_string()), why: why(kept.why) })
            .collect(),
        gone: one.gone.iter().map(|(reason, tally)| (reason.to_string(), tally.into())).collect(),
        rewritten: (&one.rewritten).into(),
        left_alone: one.left_alone.clone(),
    };
    let ended = match report.ended {
        Ended::Done => "done",
        Ended::Planned => "planned",
        Ended::Superseded => "superseded",
    };
    Document { ended, lineages: lineages.iter().map(lineage).collect(), problems: report.problems.clone() }
}

/// One line of the table.
pub(super) fn row(one: &OfLineage) -> [Cell; 6] {
    let of =
        |records: bool| one.gone.iter().filter(move |(reason, _)| matches!(reason, Reason::Thinned | Reason::Stray) == records);
    let sum = |records: bool| of(records).map(|(_, tally)| tally.objects).sum::<u64>();
    let freed: u64 = one.gone.values().map(|tally| tally.bytes).sum();
    [
        one.name.as_str().into(),
        one.domain_name.as_str().into(),
        one.kept.len().to_string().into(),
        sum(true).to_string().into(),
        sum(false).to_string().into(),
        size(freed).into(),
    ]
}
