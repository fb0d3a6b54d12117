// SPDX-License-Identifier: Apache-2.0
//! An agent's status on the wire.

use crate::grant::wire_time;
use crate::problems::Problems;
use crate::status::{Phase, Status};
use holdfast_core::checkpoint::Quality;
use holdfast_core::time::{Monotonic, Timestamp};
use holdfast_proto::v1;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// What of a status is worth a report at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gist {
    phase: v1::Phase,
    sequence: u64,
    dirty: bool,
    trouble: Option<String>,
    problems: Option<Problems>,
}

impl Gist {
    pub(super) fn of(status: &Status) -> Self {
        let sequence = status.checkpoint.map_or(0, |checkpoint| checkpoint.sequence);
        let (trouble, problems) = (status.trouble.clone(), status.problems.clone());
        Self { phase: phase(status), sequence, dirty: status.oldest.is_some(), trouble, problems }
    }
}

pub(super) fn report(status: &Status, now: Timestamp, monotonic: Monotonic) -> v1::StatusReport {
    let live = v1::Live {
        phase: phase(status).into(),
        lag_ms: status.lag(monotonic).map_or(0, millis),
        lag_lately_ms: millis(status.lag_lately(monotonic)),
        dirty_paths: status.dirty_paths,
        heard: Some(wire_time(now)),
        trouble: trouble(status),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        uploaded_bytes: status.uploaded_bytes,
        checkpoints: status.checkpoints,
        problems: status.problems.as_ref().map_or(0, |problems| problems.count),
        problem: status.problems.as_ref().map(problem),
    };
    let checkpoint = status.checkpoint;
    let quality = checkpoint.map_or(v1::Quality::Unspecified, |checkpoint| match checkpoint.quality {
        Quality::Clean => v1::Quality::Clean,
        Quality::Fuzzy => v1::Quality::Fuzzy,
        Quality::Partial => v1::Quality::Partial,
    });
    v1::StatusReport {
        live: Some(live),
        sequence: checkpoint.map_or(0, |checkpoint| checkpoint.sequence),
        quality: quality.into(),
        last_close: checkpoint.map(|checkpoint| wire_time(checkpoint.last_close)),
        bytes: checkpoint.map_or(0, |_| status.totals.bytes),
    }
}

fn problem(problems: &Problems) -> v1::Problem {
    v1::Problem { path: problems.path.as_os_str().as_bytes().to_vec().into(), what: problems.what.clone() }
}

/// Rounded up: what is told is a bound.
fn millis(lag: Duration) -> u64 {
    u64::try_from(lag.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn trouble(status: &Status) -> String {
    match status.phase {
        Phase::Fenced => "another holder has taken over: nothing is captured here any more".to_owned(),
        _ => status.trouble.clone().unwrap_or_default(),
    }
}

fn phase(status: &Status) -> v1::Phase {
    match status.phase {
        Phase::Starting => v1::Phase::Waiting,
        Phase::Restoring => v1::Phase::Restoring,
        Phase::Protecting if status.checkpoint.is_none() => v1::Phase::Seeding,
        Phase::Protecting => v1::Phase::Streaming,
        Phase::Ending => v1::Phase::Ending,
        Phase::Fenced | Phase::Ended => v1::Phase::Ended,
    }
}
