// SPDX-License-Identifier: Apache-2.0
//! What a running coordinator knows of its lineages: from their agents, and from their logs.

use super::judge::{Newest, Seen};
use crate::{Coordinator, convert};
use holdfast_core::time::Timestamp;
use holdfast_proto::v1::{self, Phase, Quality};
use holdfast_store::lineages::Lineage;
use std::collections::HashMap;
use std::time::Duration;
use tonic::Status;

/// What a log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) generation: u64,
    /// The newest checkpoint, and the lengths of its files together.
    pub(crate) newest: Option<(Newest, u64)>,
    pub(crate) sealed: bool,
}

impl Coordinator {
    /// What the agents say that have a session now, by the names of their lineages.
    pub(crate) fn seen(&self) -> HashMap<String, Seen> {
        let desk = &self.shared.desk;
        let seen = |guest: crate::session::Guest| {
            let (report, dirty) = desk.report(guest.key)?;
            let live = report.live.as_ref()?;
            let seen = Seen {
                holder: guest.holder,
                phase: Phase::try_from(live.phase).unwrap_or_default(),
                lag: Duration::from_millis(live.lag_ms),
                peak: Duration::from_millis(live.lag_lately_ms),
                trouble: live.trouble.clone(),
                dirty,
                unreadable: unreadable(live),
                newest: newest(&report).map(|newest| (newest, report.bytes)),
            };
            Some((guest.names.lineage, seen))
        };
        desk.guests().into_iter().filter_map(seen).collect()
    }

    /// What a lineage's log says; `None` if it has none. Costs some requests to the store.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn logged(&self, domain: &str, lineage: &str) -> Result<Option<Logged>, Status> {
        let names = v1::LineageRef { domain: domain.to_owned(), lineage: lineage.to_owned() };
        let catalog = &self.shared.catalog;
        let Some(domain) = catalog.domain(domain).await? else { return Ok(None) };
        let read = Lineage::read(catalog.place(names, domain).log).await.map_err(crate::status::store)?;
        Ok(read.map(|read| Logged {
            generation: read.head.generation,
            sealed: read.is_sealed(),
            newest: read.newest.as_ref().and_then(|entry| {
                let checkpoint = entry.record.checkpoint()?;
                let (time, quality) = (checkpoint.interval.last_close, convert::quality(checkpoint.quality));
                Some((Newest { sequence: entry.record.sequence, time, quality }, checkpoint.totals.bytes))
            }),
        }))
    }
}

/// What an agent can't capture, for people.
fn unreadable(live: &v1::Live) -> String {
    let Some(first) = &live.problem else { return String::new() };
    let path = String::from_utf8_lossy(&first.path);
    let more = match live.problems.saturating_sub(1) {
        0 => String::new(),
        more => format!(", nor {more} more"),
    };
    format!(
        "{path} can't be captured ({}){more}: a start elsewhere would bring back what was captured of it before, if anything",
        first.what
    )
}

/// The checkpoint that a report names.
fn newest(report: &v1::StatusReport) -> Option<Newest> {
    let time: Timestamp = convert::moment(report.last_close.as_ref()?)?;
    let quality = Quality::try_from(report.quality).unwrap_or_default();
    (report.sequence > 0).then_some(Newest { sequence: report.sequence, time, quality })
}
