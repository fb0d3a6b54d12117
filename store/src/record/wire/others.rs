// SPDX-License-Identifier: Apache-2.0
//! The bodies that are no records: keys, boundaries, pins, snapshots, and what the collector writes.

use prost::Message;

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
    /// Heads that collectors saw, oldest first.
    #[prost(message, repeated, tag = "3")]
    pub looks: Vec<Look>,
}

/// A head that a collector saw.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Look {
    /// The newest record then.
    #[prost(uint64, tag = "1")]
    pub head: u64,
    /// When, by the collector's clock.
    #[prost(sint64, tag = "2")]
    pub seen_ns: i64,
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
    /// When it was made, as the collector settled it.
    #[prost(sint64, tag = "3")]
    pub seen_ns: i64,
    /// Its quality; 0: it is no checkpoint.
    #[prost(int32, tag = "4")]
    pub quality: i32,
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
    /// What its members ran as.
    #[prost(message, repeated, tag = "10")]
    pub manifests: Vec<Manifest>,
    /// What its members ran.
    #[prost(message, repeated, tag = "11")]
    pub images: Vec<Image>,
}

/// An object of Kubernetes.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// As Kubernetes writes it.
    #[prost(string, tag = "1")]
    pub api_version: String,
    /// As Kubernetes writes it.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Where it was.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Its name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// The object, without what the cluster had added; empty: only its name is recorded.
    #[prost(bytes = "vec", tag = "5")]
    pub json: Vec<u8>,
}

/// The image of a member's container.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// The member's name.
    #[prost(string, tag = "1")]
    pub lineage: String,
    /// The container's name.
    #[prost(string, tag = "2")]
    pub container: String,
    /// As the pod asked for it.
    #[prost(string, tag = "3")]
    pub image: String,
    /// As the node resolved it.
    #[prost(string, tag = "4")]
    pub digest: String,
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
