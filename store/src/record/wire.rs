// SPDX-License-Identifier: Apache-2.0
//! The bodies of documents as Protocol Buffers messages: the declarations of `docs/format.md` in Rust.

use prost::{Message, Oneof};

mod meaning;
mod others;

pub(crate) use meaning::{quality, quality_code};
pub(super) use meaning::{reason, reason_code};
pub use others::{Boundary, Collection, DomainKeys, Forward, Image, Kept, Look, Manifest, Member, Move, Pin, Snapshot};

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
