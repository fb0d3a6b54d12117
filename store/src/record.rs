// SPDX-License-Identifier: Apache-2.0
//! Records: the entries of a lineage's log (`docs/format.md`, section 7).

use crate::document::Document;
use crate::error::{Result, StoreError};
use crate::name::Name;
use crate::seal::{Domain, Kind};
use crate::tree::{Frame, Node, Object, RootItem, Roots};
use bytes::Bytes;
use holdfast_core::checkpoint::{Problem, Quality, Reason, Recent, Scope, Totals};
use holdfast_core::id::{HolderKey, LineageId, OwnerId, RecordHash, RecordId, RootId, VolumeId};
use holdfast_core::time::{Interval, Timestamp};
use prost::Message;

pub mod wire;

/// The features that this program understands.
pub const FEATURES: &[&str] = &[];
/// Most problems that a record lists.
pub const PROBLEMS_MAX: usize = 16;
/// Most lines of the timeline that a record carries.
pub const RECENT_MAX: usize = 512;

/// An entry of a lineage's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Whose log.
    pub lineage: LineageId,
    /// Its number.
    pub sequence: u64,
    /// How many times the lineage had been claimed.
    pub generation: u64,
    /// Its own id.
    pub id: RecordId,
    /// The record before it; `None` in record 1.
    pub previous: Option<RecordHash>,
    /// The checkpoint that it continues or that is the state after it; 0: none.
    pub base: u64,
    /// The writer's clock.
    pub written: Timestamp,
    /// The newest boundary entry the writer had seen.
    pub boundary: u64,
    /// The number of this generation's claim.
    pub claimed: u64,
    /// The lineage's name.
    pub name: String,
    /// What it says.
    pub kind: RecordKind,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordKind {
    /// A writer takes the lineage over.
    Claim(Claim),
    /// A state.
    Checkpoint(Box<Checkpoint>),
    /// Nothing; the number is given up.
    Void,
    /// The holder has ended in good order.
    Seal {
        /// Why.
        reason: String,
    },
}

/// A takeover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The cluster or machine that owns the lineage.
    pub owner: OwnerId,
    /// Who writes from now on, for people.
    pub holder: String,
    /// Why.
    pub reason: Reason,
    /// What a fork begins with.
    pub origin: Option<Origin>,
    /// This holder and no other.
    pub holder_key: HolderKey,
    /// The partial checkpoint that the capture goes on from; 0: none.
    pub resume: u64,
}

/// The checkpoint that a fork begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its lineage, of the same domain.
    pub lineage: LineageId,
    /// Its number.
    pub sequence: u64,
    /// Its record.
    pub record: RecordHash,
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The root id.
    pub root: RootId,
    /// The state paths with their trees.
    pub roots: Vec<RootItem>,
    /// When it was captured.
    pub interval: Interval,
    /// Whether it is one moment.
    pub quality: Quality,
    /// The newest fold at or below this number; 0: none.
    pub fold: u64,
    /// The number of the newest consolidation of each level, from level 1.
    pub levels: Vec<u64>,
    /// Of each level, folds (level 1) or consolidations of the level below since its newest.
    pub counts: Vec<u64>,
    /// What it covers.
    pub scope: Scope,
    /// What it holds.
    pub totals: Totals,
    /// The volume of the first state path.
    pub volume: Option<VolumeId>,
    /// The checkpoints since the fold.
    pub recent: Vec<Recent>,
    /// What could not be captured; at most 16.
    pub problems: Vec<Problem>,
}

impl Record {
    /// The checkpoint it is, if it is one.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match &self.kind {
            RecordKind::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        }
    }

    /// The number of the checkpoint that is the state after this record; 0: none.
    #[must_use]
    pub fn state(&self) -> u64 {
        if self.checkpoint().is_some() { self.sequence } else { self.base }
    }

    /// Opens a record that was read under its name.
    ///
    /// # Errors
    /// If it is damaged, of a newer format, or not what its name says.
    pub fn open(domain: &Domain, lineage: LineageId, sequence: u64, bytes: Bytes) -> Result<(Self, Document)> {
        let name = Name::record(domain.keys.id, lineage, sequence);
        let document = Document::open(domain, Kind::Record, *lineage.as_bytes(), &name, bytes)?;
        let wire = wire::Record::decode(&*document.body).map_err(|error| StoreError::damaged(&name, error))?;
        refuse_unknown(&name, wire.format, &wire.features)?;
        if wire.lineage != lineage.as_bytes() || wire.sequence != sequence {
            return Err(StoreError::damaged(&name, "it is another record than its name says"));
        }
        let record = Self::from_wire(domain, wire).map_err(|what| StoreError::damaged(&name, what))?;
        Ok((record, document))
    }

    /// The body's bytes. The roots' hints are given apart, since they depend on where things were put.
    #[must_use]
    pub fn to_body(&self, roots_hints: Vec<u8>) -> Vec<u8> {
        self.to_wire(roots_hints).encode_to_vec()
    }
}

/// Refuses what a newer program wrote, by name.
///
/// # Errors
/// If the version or one of the features is unknown.
pub(crate) fn refuse_unknown(name: &Name, format: u32, features: &[String]) -> Result<()> {
    let unsupported = |needs: String| Err(StoreError::Unsupported { object: name.to_string(), needs });
    if format != u32::from(crate::seal::FORMAT_VERSION) {
        return unsupported(format!("format version {format}"));
    }
    match features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        Some(feature) => unsupported(format!("the feature {feature:?}")),
        None => Ok(()),
    }
}

/// The id of a state with these roots.
#[must_use]
pub fn root_id(domain: &Domain, roots: &Node<Roots>) -> RootId {
    RootId::new(*domain.keys.identity.node_id(&roots.canonical()).as_bytes())
}

type Parsed<T> = std::result::Result<T, String>;

fn id<'a, T: TryFrom<&'a [u8]>>(bytes: &'a [u8], what: &str) -> Parsed<T> {
    T::try_from(bytes).map_err(|_| format!("its {what} has {} bytes", bytes.len()))
}

fn optional<'a, T: TryFrom<&'a [u8]>>(bytes: &'a [u8], what: &str) -> Parsed<Option<T>> {
    if bytes.is_empty() { Ok(None) } else { id(bytes, what).map(Some) }
}

impl Record {
    fn from_wire(domain: &Domain, wire: wire::Record) -> Parsed<Self> {
        let kind = wire.kind.ok_or("it says nothing that this program understands")?;
        let lineage: LineageId = id(&wire.lineage, "lineage")?;
        Ok(Self {
            lineage,
            sequence: wire.sequence,
            generation: wire.generation,
            id: id(&wire.id, "id")?,
            previous: optional(&wire.previous, "predecessor")?,
            base: wire.base,
            written: Timestamp::from_nanos(wire.written_ns),
            boundary: wire.boundary,
            claimed: wire.claimed,
            name: wire.name,
            kind: match kind {
                wire::Kind::Claim(claim) => RecordKind::Claim(Claim::from_wire(claim)?),
                wire::Kind::Checkpoint(checkpoint) => {
                    let object = Object::Record { lineage, sequence: wire.sequence };
                    RecordKind::Checkpoint(Box::new(Checkpoint::from_wire(domain, object, *checkpoint)?))
                }
                wire::Kind::Void(_) => RecordKind::Void,
                wire::Kind::Seal(seal) => RecordKind::Seal { reason: seal.reason },
            },
        })
    }

    fn to_wire(&self, roots_hints: Vec<u8>) -> wire::Record {
        wire::Record {
            format: crate::seal::FORMAT_VERSION.into(),
            features: Vec::new(),
            lineage: self.lineage.as_bytes().to_vec(),
            sequence: self.sequence,
            generation: self.generation,
            id: self.id.as_bytes().to_vec(),
            previous: self.previous.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default(),
            base: self.base,
            written_ns: self.written.nanos(),
            boundary: self.boundary,
            claimed: self.claimed,
            name: self.name.clone(),
            kind: Some(match &self.kind {
                RecordKind::Claim(claim) => wire::Kind::Claim(claim.to_wire()),
                RecordKind::Checkpoint(checkpoint) => wire::Kind::Checkpoint(Box::new(checkpoint.to_wire(roots_hints))),
                RecordKind::Void => wire::Kind::Void(wire::Void {}),
                RecordKind::Seal { reason } => wire::Kind::Seal(wire::Seal { reason: reason.clone() }),
            }),
        }
    }
}

impl Claim {
    fn from_wire(wire: wire::Claim) -> Parsed<Self> {
        let origin = wire.origin.map(|origin| {
            Ok::<_, String>(Origin {
                lineage: id(&origin.lineage, "origin")?,
                sequence: origin.sequence,
                record: id(&origin.record, "origin's record")?,
            })
        });
        Ok(Self {
            owner: id(&wire.owner, "owner")?,
            reason: wire::reason(wire.reason).ok_or("its reason is unknown")?,
            holder: wire.holder,
            origin: origin.transpose()?,
            holder_key: id(&wire.holder_key, "holder's key")?,
            resume: wire.resume,
        })
    }

    fn to_wire(&self) -> wire::Claim {
        wire::Claim {
            owner: self.owner.as_bytes().to_vec(),
            holder: self.holder.clone(),
            reason: wire::reason_code(self.reason),
            origin: self.origin.map(|origin| wire::Origin {
                lineage: origin.lineage.as_bytes().to_vec(),
                sequence: origin.sequence,
                record: origin.record.as_bytes().to_vec(),
            }),
            holder_key: self.holder_key.as_bytes().to_vec(),
            resume: self.resume,
        }
    }
}

impl Checkpoint {
    fn from_wire(domain: &Domain, object: Object, wire: wire::Checkpoint) -> Parsed<Self> {
        // the roots lie in the body, not in a frame: nothing can refer to this one
        let nowhere = Frame::pending();
        let roots = Node::<Roots>::decode(&wire.roots, &wire.roots_hints, object, &nowhere).map_err(|error| error.to_string())?;
        let root = id(&wire.root, "root id")?;
        if root_id(domain, &roots) != root {
            return Err("its roots are not those of its root id".to_owned());
        }
        let Node::Leaf(roots) = roots else { return Err("its roots are no leaf".to_owned()) };
        let interval = Interval {
            first_open: Timestamp::from_nanos(wire.first_open_ns),
            last_close: Timestamp::from_nanos(wire.last_close_ns),
            clock_error: std::time::Duration::from_nanos(wire.clock_error_ns),
        };
        if interval.first_open > interval.last_close {
            return Err("its capture ended before it began".to_owned());
        }
        Ok(Self {
            root,
            roots,
            interval,
            quality: wire::quality(wire.quality).ok_or("its quality is unknown")?,
            fold: wire.fold,
            levels: wire.levels,
            counts: wire.counts,
            scope: wire.scope.map(wire::Scope::into_core).unwrap_or_default(),
            totals: wire.totals.map(wire::Totals::into_core).unwrap_or_default(),
            volume: optional(&wire.volume, "volume")?,
            recent: wire.recent.iter().filter_map(wire::Recent::to_core).collect(),
            problems: wire.problems.into_iter().map(|problem| Problem { path: problem.path, what: problem.what }).collect(),
        })
    }

    fn to_wire(&self, roots_hints: Vec<u8>) -> wire::Checkpoint {
        wire::Checkpoint {
            root: self.root.as_bytes().to_vec(),
            roots: Node::<Roots>::Leaf(self.roots.clone()).canonical(),
            roots_hints,
            first_open_ns: self.interval.first_open.nanos(),
            last_close_ns: self.interval.last_close.nanos(),
            clock_error_ns: u64::try_from(self.interval.clock_error.as_nanos()).unwrap_or(u64::MAX),
            quality: wire::quality_code(self.quality),
            fold: self.fold,
            levels: self.levels.clone(),
            counts: self.counts.clone(),
            scope: Some(wire::Scope::from_core(&self.scope)),
            totals: Some(wire::Totals::from_core(&self.totals)),
            volume: self.volume.map(|volume| volume.as_bytes().to_vec()).unwrap_or_default(),
            recent: self.recent.iter().map(wire::Recent::from_core).collect(),
            problems: self.problems.iter().take(PROBLEMS_MAX).map(wire::Problem::from_core).collect(),
        }
    }
}
