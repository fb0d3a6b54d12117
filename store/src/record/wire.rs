// SPDX-License-Identifier: Apache-2.0
//! The bodies of documents as Protocol Buffers messages: the declarations of `docs/format.md` in Rust.

use holdfast_core::checkpoint as core;
use holdfast_core::time::Timestamp;
use prost::{Message, Oneof};

/// An entry of a log.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// Version of the format.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// What a reader must understand.
    #[prost(string, repeated, tag = "2")]
    pub features: Vec<String>,
    /// The lineage.
    #[prost(bytes = "vec", tag = "3")]
    pub lineage: Vec<u8>,
    /// Its number.
    #[prost(uint64, tag = "4")]
    pub sequence: u64,
    /// Claims so far.
    #[prost(uint64, tag = "5")]
    pub generation: u64,
    /// Its own id.
    #[prost(bytes = "vec", tag = "6")]
    pub id: Vec<u8>,
    /// SHA-256 of the record before.
    #[prost(bytes = "vec", tag = "7")]
    pub previous: Vec<u8>,
    /// The checkpoint it continues, or that is the state after it.
    #[prost(uint64, tag = "8")]
    pub base: u64,
    /// The writer's clock.
    #[prost(sint64, tag = "9")]
    pub written_ns: i64,
    /// What it says.
    #[prost(oneof = "Kind", tags = "10, 11, 12, 13")]
    pub kind: Option<Kind>,
    /// The newest boundary entry seen.
    #[prost(uint64, tag = "15")]
    pub boundary: u64,
    /// This generation's claim.
    #[prost(uint64, tag = "16")]
    pub claimed: u64,
    /// The lineage's name.
    #[prost(string, tag = "17")]
    pub name: String,
}

/// What a record says.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// A takeover.
    #[prost(message, tag = "10")]
    Claim(Claim),
    /// A state.
    #[prost(message, tag = "11")]
    Checkpoint(Box<Checkpoint>),
    /// Nothing.
    #[prost(message, tag = "12")]
    Void(Void),
    /// An end in good order.
    #[prost(message, tag = "13")]
    Seal(Seal),
}

/// A takeover.
#[derive(Clone, PartialEq, Message)]
pub struct Claim {
    /// The owning cluster or machine.
    #[prost(bytes = "vec", tag = "1")]
    pub owner: Vec<u8>,
    /// The holder, for people.
    #[prost(string, tag = "2")]
    pub holder: String,
    /// Why.
    #[prost(int32, tag = "3")]
    pub reason: i32,
    /// A fork's beginning.
    #[prost(message, optional, tag = "4")]
    pub origin: Option<Origin>,
    /// The holder, for programs.
    #[prost(bytes = "vec", tag = "5")]
    pub holder_key: Vec<u8>,
    /// The partial checkpoint that the capture goes on from.
    #[prost(uint64, tag = "6")]
    pub resume: u64,
}

/// A fork's beginning.
#[derive(Clone, PartialEq, Message)]
pub struct Origin {
    /// The lineage.
    #[prost(bytes = "vec", tag = "1")]
    pub lineage: Vec<u8>,
    /// The checkpoint.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// SHA-256 of its record.
    #[prost(bytes = "vec", tag = "3")]
    pub record: Vec<u8>,
}

/// Gives a number up.
#[derive(Clone, PartialEq, Message)]
pub struct Void {}

/// An end in good order.
#[derive(Clone, PartialEq, Message)]
pub struct Seal {
    /// Why.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// A state.
#[derive(Clone, PartialEq, Message)]
pub struct Checkpoint {
    /// Root id.
    #[prost(bytes = "vec", tag = "1")]
    pub root: Vec<u8>,
    /// Canonical bytes of the roots leaf.
    #[prost(bytes = "vec", tag = "2")]
    pub roots: Vec<u8>,
    /// Its hints.
    #[prost(bytes = "vec", tag = "3")]
    pub roots_hints: Vec<u8>,
    /// Begin of the capture.
    #[prost(sint64, tag = "4")]
    pub first_open_ns: i64,
    /// End of the capture.
    #[prost(sint64, tag = "5")]
    pub last_close_ns: i64,
    /// Error of the clock.
    #[prost(uint64, tag = "6")]
    pub clock_error_ns: u64,
    /// Clean, fuzzy or partial.
    #[prost(int32, tag = "7")]
    pub quality: i32,
    /// The newest fold.
    #[prost(uint64, tag = "8")]
    pub fold: u64,
    /// The newest consolidations.
    #[prost(uint64, repeated, tag = "9")]
    pub levels: Vec<u64>,
    /// What it covers.
    #[prost(message, optional, tag = "10")]
    pub scope: Option<Scope>,
    /// What it holds.
    #[prost(message, optional, tag = "11")]
    pub totals: Option<Totals>,
    /// The first root's volume.
    #[prost(bytes = "vec", tag = "12")]
    pub volume: Vec<u8>,
    /// Checkpoints since the fold.
    #[prost(message, repeated, tag = "13")]
    pub recent: Vec<Recent>,
    /// What could not be captured.
    #[prost(message, repeated, tag = "14")]
    pub problems: Vec<Problem>,
    /// Of each level: consolidations of the level below since its newest.
    #[prost(uint64, repeated, tag = "15")]
    pub counts: Vec<u64>,
}

/// What a checkpoint covers.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// By label.
    #[prost(message, repeated, tag = "1")]
    pub roots: Vec<ScopeRoot>,
}

/// One state path.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeRoot {
    /// Its label.
    #[prost(string, tag = "1")]
    pub label: String,
    /// Its path.
    #[prost(string, tag = "2")]
    pub path: String,
    /// What is state.
    #[prost(string, repeated, tag = "3")]
    pub include: Vec<String>,
    /// What is not.
    #[prost(string, repeated, tag = "4")]
    pub exclude: Vec<String>,
}

/// What a checkpoint holds.
#[derive(Clone, PartialEq, Message)]
pub struct Totals {
    /// Files.
    #[prost(uint64, tag = "1")]
    pub files: u64,
    /// Directories.
    #[prost(uint64, tag = "2")]
    pub directories: u64,
    /// Others.
    #[prost(uint64, tag = "3")]
    pub others: u64,
    /// Names of hard links.
    #[prost(uint64, tag = "4")]
    pub links: u64,
    /// Bytes of files.
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    /// What could not be captured.
    #[prost(uint64, tag = "6")]
    pub problems: u64,
}

/// A line of the timeline.
#[derive(Clone, PartialEq, Message)]
pub struct Recent {
    /// The checkpoint.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// The end of its capture.
    #[prost(sint64, tag = "2")]
    pub last_close_ns: i64,
    /// Its quality.
    #[prost(int32, tag = "3")]
    pub quality: i32,
}

/// What could not be captured.
#[derive(Clone, PartialEq, Message)]
pub struct Problem {
    /// Where.
    #[prost(bytes = "vec", tag = "1")]
    pub path: Vec<u8>,
    /// Why.
    #[prost(string, tag = "2")]
    pub what: String,
}

/// A domain's secrets of one epoch.
#[derive(Clone, PartialEq, Message)]
pub struct DomainKeys {
    /// The domain's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// What seals.
    #[prost(bytes = "vec", tag = "3")]
    pub secret: Vec<u8>,
    /// What names.
    #[prost(bytes = "vec", tag = "4")]
    pub identity: Vec<u8>,
}

/// Which records remain below a sequence.
#[derive(Clone, PartialEq, Message)]
pub struct Boundary {
    /// The sequence.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// What remains below it.
    #[prost(message, repeated, tag = "2")]
    pub kept: Vec<Kept>,
}

/// A record that remains.
#[derive(Clone, PartialEq, Message)]
pub struct Kept {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// SHA-256 of it.
    #[prost(bytes = "vec", tag = "2")]
    pub record: Vec<u8>,
    /// When the collector first saw it.
    #[prost(sint64, tag = "3")]
    pub seen_ns: i64,
}

/// A checkpoint that must stay.
#[derive(Clone, PartialEq, Message)]
pub struct Pin {
    /// For what.
    #[prost(string, tag = "1")]
    pub purpose: String,
    /// The checkpoint.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// SHA-256 of its record.
    #[prost(bytes = "vec", tag = "3")]
    pub record: Vec<u8>,
    /// Who needs it.
    #[prost(bytes = "vec", tag = "4")]
    pub by: Vec<u8>,
    /// When.
    #[prost(sint64, tag = "5")]
    pub created_ns: i64,
}

/// A named set of checkpoints.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// Version of the format.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// What a reader must understand.
    #[prost(string, repeated, tag = "2")]
    pub features: Vec<String>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// When it was taken.
    #[prost(sint64, tag = "4")]
    pub created_ns: i64,
    /// `crash`, `hooks` or `frozen`.
    #[prost(string, tag = "5")]
    pub consistency: String,
    /// The checkpoints.
    #[prost(message, repeated, tag = "6")]
    pub members: Vec<Member>,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "7")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its own id.
    #[prost(bytes = "vec", tag = "8")]
    pub id: Vec<u8>,
    /// Its members' moments are no farther apart, if they were brought to one.
    #[prost(uint64, optional, tag = "9")]
    pub skew_ns: Option<u64>,
}

/// A checkpoint of a snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct Member {
    /// Its domain.
    #[prost(bytes = "vec", tag = "1")]
    pub domain: Vec<u8>,
    /// Its lineage.
    #[prost(bytes = "vec", tag = "2")]
    pub lineage: Vec<u8>,
    /// Its number.
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    /// SHA-256 of its record.
    #[prost(bytes = "vec", tag = "4")]
    pub record: Vec<u8>,
    /// Its root id.
    #[prost(bytes = "vec", tag = "5")]
    pub root: Vec<u8>,
    /// The lineage's name.
    #[prost(string, tag = "6")]
    pub name: String,
    /// Its pin's number.
    #[prost(uint64, tag = "7")]
    pub pin: u64,
    /// It was at rest for so long, if it was brought to one moment with the others.
    #[prost(uint64, optional, tag = "8")]
    pub pause_ns: Option<u64>,
}

/// An entry of the collector's log.
#[derive(Clone, PartialEq, Message)]
pub struct Collection {
    /// Version of the format.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// What a reader must understand.
    #[prost(string, repeated, tag = "2")]
    pub features: Vec<String>,
    /// The holder of the role, for programs.
    #[prost(bytes = "vec", tag = "3")]
    pub holder_key: Vec<u8>,
    /// The owning cluster or machine.
    #[prost(bytes = "vec", tag = "4")]
    pub owner: Vec<u8>,
    /// The holder, for people.
    #[prost(string, tag = "5")]
    pub holder: String,
    /// Names that are about to be deleted.
    #[prost(string, repeated, tag = "6")]
    pub condemned: Vec<String>,
    /// Packs that are being compacted.
    #[prost(string, repeated, tag = "7")]
    pub compacting: Vec<String>,
}

/// Where a compacted pack's frames went.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// Sorted by offset; none: the compaction was called off.
    #[prost(message, repeated, tag = "1")]
    pub moves: Vec<Move>,
}

/// Where one frame went.
#[derive(Clone, PartialEq, Message)]
pub struct Move {
    /// Its offset in the old pack.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// The new pack's sequence.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Its epoch.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// Its nonce.
    #[prost(bytes = "vec", tag = "4")]
    pub nonce: Vec<u8>,
    /// The offset there.
    #[prost(uint64, tag = "5")]
    pub to: u64,
}

/// The quality with this code.
pub(super) fn quality(code: i32) -> Option<core::Quality> {
    [core::Quality::Clean, core::Quality::Fuzzy, core::Quality::Partial].into_iter().find(|one| quality_code(*one) == code)
}

/// The code of a quality.
pub(super) const fn quality_code(quality: core::Quality) -> i32 {
    match quality {
        core::Quality::Clean => 1,
        core::Quality::Fuzzy => 2,
        core::Quality::Partial => 3,
    }
}

/// The reason with this code.
pub(super) fn reason(code: i32) -> Option<core::Reason> {
    use core::Reason::{Adopt, Fork, Repair, Restore, Start, Undo};
    [Start, Restore, Undo, Fork, Adopt, Repair].into_iter().find(|one| reason_code(*one) == code)
}

/// The code of a reason.
pub(super) const fn reason_code(reason: core::Reason) -> i32 {
    match reason {
        core::Reason::Start => 1,
        core::Reason::Restore => 2,
        core::Reason::Undo => 3,
        core::Reason::Fork => 4,
        core::Reason::Adopt => 5,
        core::Reason::Repair => 6,
    }
}

impl Scope {
    pub(super) fn into_core(self) -> core::Scope {
        let root = |root: ScopeRoot| core::ScopeRoot {
            label: root.label,
            path: root.path,
            include: root.include,
            exclude: root.exclude,
        };
        core::Scope { roots: self.roots.into_iter().map(root).collect() }
    }

    pub(super) fn from_core(scope: &core::Scope) -> Self {
        let root = |root: &core::ScopeRoot| ScopeRoot {
            label: root.label.clone(),
            path: root.path.clone(),
            include: root.include.clone(),
            exclude: root.exclude.clone(),
        };
        Self { roots: scope.roots.iter().map(root).collect() }
    }
}

impl Totals {
    pub(super) fn into_core(self) -> core::Totals {
        core::Totals {
            files: self.files,
            directories: self.directories,
            others: self.others,
            links: self.links,
            bytes: self.bytes,
            problems: self.problems,
        }
    }

    pub(super) fn from_core(totals: &core::Totals) -> Self {
        Self {
            files: totals.files,
            directories: totals.directories,
            others: totals.others,
            links: totals.links,
            bytes: totals.bytes,
            problems: totals.problems,
        }
    }
}

impl Recent {
    pub(super) fn to_core(&self) -> Option<core::Recent> {
        let last_close = Timestamp::from_nanos(self.last_close_ns);
        Some(core::Recent { sequence: self.sequence, last_close, quality: quality(self.quality)? })
    }

    pub(super) fn from_core(recent: &core::Recent) -> Self {
        Self { sequence: recent.sequence, last_close_ns: recent.last_close.nanos(), quality: quality_code(recent.quality) }
    }
}

impl Problem {
    pub(super) fn from_core(problem: &core::Problem) -> Self {
        let mut what = problem.what.clone();
        what.truncate(what.floor_char_boundary(4096));
        Self { path: problem.path.iter().copied().take(4096).collect(), what }
    }
}
