// SPDX-License-Identifier: Apache-2.0
//! The second look: what was condemned is durable, so whoever needs something from now on sees it. What was needed before is seen here.

use super::history::History;
use super::survey::{Members, OneLineage, asked_for};
use crate::error::Result;
use crate::log::Boundary;
use crate::name::Located;
use holdfast_core::collection::Why;
use std::collections::BTreeMap;

/// What the second look at a lineage found.
#[derive(Debug, Clone, Default)]
pub(super) struct Second {
    /// The boundary now.
    pub(super) boundary: Boundary,
    /// Records that were condemned and are needed all the same.
    pub(super) rescued: BTreeMap<u64, Why>,
    /// Another collector has moved the boundary: what was planned rests on an older one.
    pub(super) stale: bool,
}

impl Second {
    /// Whether the packs that the plan gives up are garbage for certain: whatever makes a record needed has been seen by the plan.
    pub(super) fn confirms(&self) -> bool {
        self.rescued.is_empty() && !self.stale
    }

    /// Reads pins, snapshots, head and boundary again. Pins before the head: a restore withdraws its pin once its claim is won.
    pub(super) async fn look(one: &OneLineage, members: &Members) -> Result<Self> {
        let mut needed = asked_for(&one.log, members).await?;
        let Some(now) = History::read(&one.log).await? else { return Ok(Self::default()) };
        needed.extend(now.needed.iter().map(|(sequence, why)| (*sequence, *why)));
        for base in now.claimed_after(&one.log, one.history.head).await? {
            needed.insert(base, Why::Claim);
        }
        let inherited = one.inherited.iter().filter_map(|located| match located {
            Located::Record(sequence) => Some(*sequence),
            _ => None,
        });
        let leaving = one.thinned.iter().flat_map(|thinned| thinned.gone.iter().copied()).chain(inherited);
        let rescued = leaving.filter(|sequence| now.contains(*sequence));
        let rescued = rescued.filter_map(|sequence| Some((sequence, *needed.get(&sequence)?))).collect();
        let stale = now.boundary.entry != one.history.boundary.entry;
        Ok(Self { boundary: now.boundary, rescued, stale })
    }
}
