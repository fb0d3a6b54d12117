// SPDX-License-Identifier: Apache-2.0
//! Which records of a lineage retention takes, and where its boundary comes to lie.

use super::Looks;
use crate::checkpoint::Quality;
use crate::policy::Retention;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why a record stays below the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The policy wants it.
    Policy,
    /// It is, or leads to, the newest state.
    Newest,
    /// The newest claim, or what it goes on from.
    Claim,
    /// The lineage's first record: it says what a fork began with.
    Birth,
    /// Somebody has pinned it.
    Pinned,
    /// A snapshot has it.
    Snapshot,
}

/// A checkpoint at or above the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its number.
    pub sequence: u64,
    /// What its writer said of the end of its capture.
    pub said: Timestamp,
    /// Its quality.
    pub quality: Quality,
}

/// A record that stays below the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub sequence: u64,
    /// When it was made, settled once and for all when the boundary passed it.
    pub time: Timestamp,
    /// Its quality; `None`: it is no checkpoint.
    pub quality: Option<Quality>,
}

/// A lineage that is to be thinned.
#[derive(Debug, Clone)]
pub struct Thinning<'a> {
    /// The collector's clock.
    pub now: Timestamp,
    /// What is to remain.
    pub retention: &'a Retention,
    /// Nothing younger than this goes, whatever the policy says: whoever reads it needs no pin.
    pub margin: Duration,
    /// The boundary so far; at least 1.
    pub boundary: u64,
    /// What remains below it.
    pub kept: &'a [Kept],
    /// The heads that collectors saw.
    pub looks: &'a Looks,
    /// How far `points` go: at most the head.
    pub upto: u64,
    /// All checkpoints from the boundary to `upto`, oldest first.
    pub points: &'a [Point],
    /// The newest checkpoint that is not partial.
    pub newest: Point,
    /// What must stay whatever the policy says.
    pub needed: &'a BTreeMap<u64, Why>,
    /// What an earlier collector was about to delete: the policy can't save it any more.
    pub condemned: &'a BTreeSet<u64>,
    /// Records that may go at once: what is left is for the next time.
    pub gone_max: usize,
}

/// What becomes of a lineage's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinned {
    /// The new boundary: from it on every record stays.
    pub boundary: u64,
    /// What stays below it, and why, oldest first.
    pub kept: Vec<(Kept, Why)>,
    /// What goes, oldest first.
    pub gone: Vec<u64>,
}

/// Plans the thinning of a lineage.
///
/// Ages count from the newest checkpoint, or from the collector's clock if that is earlier: a lineage that nobody writes to keeps what it
/// has, and a clock that leaps ahead ages nothing.
#[must_use]
pub fn thin(lineage: &Thinning<'_>) -> Thinned {
    let time_of = |point: &Point| lineage.looks.time_of(point.sequence, point.said, lineage.now);
    let present = lineage.now.min(time_of(&lineage.newest));
    let young = present.minus(lineage.retention.keep_all.max(lineage.margin));
    let first_young = lineage.points.iter().find(|point| time_of(point) > young).map_or(lineage.upto, |point| point.sequence);
    let most = lineage.boundary.saturating_add(u64::try_from(lineage.gone_max).unwrap_or(u64::MAX));
    let boundary = first_young.min(lineage.upto).min(most).max(lineage.boundary);

    let above =
        lineage.points.iter().map(|point| Kept { sequence: point.sequence, time: time_of(point), quality: Some(point.quality) });
    let known: BTreeMap<u64, Kept> = lineage.kept.iter().copied().chain(above).map(|kept| (kept.sequence, kept)).collect();
    let wanted = wanted(lineage, present, &known);
    let mut kept: BTreeMap<u64, (Kept, Why)> = BTreeMap::new();
    for sequence in wanted.range(..boundary) {
        kept.extend(known.get(sequence).map(|one| (*sequence, (*one, Why::Policy))));
    }
    for (sequence, why) in lineage.needed.range(..boundary) {
        let plain = Kept { sequence: *sequence, time: present, quality: None };
        // below the old boundary only what it listed is history
        let found = known.get(sequence).copied().or((*sequence >= lineage.boundary).then_some(plain));
        kept.extend(found.map(|one| (*sequence, (one, *why))));
    }
    let before = lineage.kept.iter().map(|kept| kept.sequence).chain(lineage.boundary..boundary);
    let gone = before.filter(|sequence| !kept.contains_key(sequence)).collect();
    Thinned { boundary, kept: kept.into_values().collect(), gone }
}

/// What the policy wants: by all checkpoints, and by the clean ones alone, since those are what is restored.
fn wanted(lineage: &Thinning<'_>, present: Timestamp, known: &BTreeMap<u64, Kept>) -> BTreeSet<u64> {
    let mut wanted = BTreeSet::new();
    for worst in [Quality::Fuzzy, Quality::Clean] {
        let of_this = known.values().filter(|kept| kept.quality.is_some_and(|quality| quality >= worst));
        // of several of one moment the last is the state then
        let by_time: BTreeMap<Timestamp, u64> =
            of_this.filter(|kept| !lineage.condemned.contains(&kept.sequence)).map(|kept| (kept.time, kept.sequence)).collect();
        let times: Vec<Timestamp> = by_time.keys().copied().collect();
        wanted.extend(lineage.retention.kept(present, &times).iter().filter_map(|time| by_time.get(time)));
    }
    wanted
}

#[cfg(test)]
mod tests;
