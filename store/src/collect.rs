// SPDX-License-Identifier: Apache-2.0
//! Retention, collection and compaction (`docs/format.md`, section 9).
//!
//! ```text
//! survey   read the role's log, every lineage's log, pins and snapshots; plan; mark what stays, by place
//! carry    win the role's next entry, which names all that may go: from here on nobody makes it needed again
//!          read pins, snapshots, heads and boundaries again: what they need now stays
//!          win each lineage's next boundary, then delete: records, then packs; rewrite packs that are mostly dead
//!          win a closing entry without what is gone
//! ```
//!
//! A death between any two requests leaves a repository that is whole, and what the next collector needs to go on. Listings only supply
//! candidates; no clock takes part in what is safe.

use crate::error::Result;
use crate::repository::Repository;
use holdfast_core::collection::{Why, Worth};
use holdfast_core::id::{DomainId, HolderKey, LineageId, OwnerId};
use holdfast_core::policy::Retention;
use holdfast_core::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

mod carry;
mod compact;
mod frames;
mod history;
mod listing;
mod mark;
mod recheck;
mod role;
mod survey;
mod sweep;

use role::Role;

/// How thorough a collection is, and how much it does at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Nothing younger than this is thinned, whatever the policy says.
    pub margin: Duration,
    /// Also look for packs that nothing reaches: that reads the trees of all checkpoints that stay.
    pub packs: bool,
    /// When a pack is worth rewriting; `None`: never. Takes `packs`.
    pub rewrite: Option<Worth>,
    /// Plan only.
    pub dry_run: bool,
    /// Names that are condemned at once.
    pub names_max: usize,
    /// Packs that are rewritten at once.
    pub rewrites_max: usize,
    /// So many checkpoints above the boundary are marked one by one; of more, packs named above it are left alone until it has passed.
    pub exact_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            margin: Duration::from_hours(1),
            packs: true,
            rewrite: Some(Worth::default()),
            dry_run: false,
            names_max: 20_000,
            rewrites_max: 256,
            exact_max: 512,
        }
    }
}

/// A collection that is asked for.
pub struct Request<'a> {
    /// Of which repository.
    pub repository: &'a Repository,
    /// Whose lineages may be touched.
    pub owner: OwnerId,
    /// Who collects, for people.
    pub holder: String,
    /// Who collects, for programs.
    pub holder_key: HolderKey,
    /// The collector's clock.
    pub now: Timestamp,
    /// What is to remain of a lineage, by the names of its domain and its own; `None`: everything.
    pub retention: &'a (dyn Fn(&str, &str) -> Option<Retention> + Sync),
    /// How thorough to be.
    pub options: Options,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({}, {:?})", self.holder, self.options)
    }
}

/// Why an object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Retention has thinned the record.
    Thinned,
    /// A record that is not history: its writer had been replaced, or a collector died before it was gone.
    Stray,
    /// No record that stays reaches the pack.
    Unreachable,
    /// The pack's live frames are in another one now.
    Rewritten,
    /// The forward of a pack that nothing reaches.
    Forward,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thinned => "thinned",
            Self::Stray => "stray",
            Self::Unreachable => "unreachable",
            Self::Rewritten => "rewritten",
            Self::Forward => "forward",
        })
    }
}

/// How many objects, and their bytes as far as they are known: a record's are not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Bytes of those whose size is known.
    pub bytes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// A record that stays below the boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// Its number.
    pub sequence: u64,
    /// When it was made; `None`: it is no checkpoint.
    pub time: Option<Timestamp>,
    /// What keeps it.
    pub why: Why,
}

/// What was planned for a lineage, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfLineage {
    /// Its domain.
    pub domain: DomainId,
    /// The domain's name.
    pub domain_name: String,
    /// The lineage.
    pub lineage: LineageId,
    /// Its name.
    pub name: String,
    /// Its newest record.
    pub head: u64,
    /// From this number on every record stays.
    pub boundary: u64,
    /// What stays below it.
    pub kept: Vec<Remains>,
    /// What goes, or has gone.
    pub gone: BTreeMap<Reason, Tally>,
    /// Packs that are worth rewriting, or were rewritten, and the bytes that come free.
    pub rewritten: Tally,
    /// Why nothing of it is touched, if so.
    pub left_alone: Option<String>,
}

/// How a collection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ended {
    /// It did all it could.
    #[default]
    Done,
    /// It was to be planned only.
    Planned,
    /// Another collector has won the role: it goes on.
    Superseded,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How it ended.
    pub ended: Ended,
    /// Each lineage.
    pub lineages: Vec<OfLineage>,
    /// What kept it from doing more, in words.
    pub problems: Vec<String>,
    /// There is more to do of the same kind: ask again.
    pub more: bool,
}

impl Report {
    /// What went, by reason, of all lineages.
    #[must_use]
    pub fn gone(&self) -> BTreeMap<Reason, Tally> {
        let mut all: BTreeMap<Reason, Tally> = BTreeMap::new();
        for (reason, tally) in self.lineages.iter().flat_map(|lineage| &lineage.gone) {
            *all.entry(*reason).or_default() += *tally;
        }
        all
    }
}

/// Thins lineages as their policies say, deletes what nothing reaches, and rewrites packs that are mostly dead.
///
/// Safe beside any number of writers, readers with pins, and other collectors, whatever their clocks say. Cancel-safe: a dropped future is a
/// death between two requests.
///
/// # Errors
/// If the store fails, or what a decision rests on is damaged: then nothing was deleted on its account.
pub async fn collect(request: &Request<'_>) -> Result<Report> {
    let role = Role::read(request.repository, 0).await?;
    let mut survey = Box::pin(survey::survey(request, &role)).await?;
    if request.options.dry_run {
        return Ok(survey.report(Ended::Planned));
    }
    let ended = if survey.is_idle(&role) {
        carry::remember(&mut survey).await?;
        Ended::Done
    } else {
        Box::pin(carry::carry(request, &mut survey, role)).await?
    };
    let report = survey.report(ended);
    for (reason, tally) in report.gone() {
        tracing::info!(%reason, objects = tally.objects, bytes = tally.bytes, "collected");
    }
    for problem in &report.problems {
        tracing::warn!(%problem, "not everything could be collected");
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
