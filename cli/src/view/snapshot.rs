// SPDX-License-Identifier: Apache-2.0
//! Snapshots.

use super::{CheckpointView, Labels, time};
use holdfast_proto::v1;
use serde::Serialize;

/// A named set of checkpoints.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotView {
    id: String,
    name: String,
    created: Option<String>,
    consistency: &'static str,
    skew_ns: u64,
    bytes: u64,
    labels: Labels,
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
struct MemberView {
    #[serde(flatten)]
    checkpoint: Option<CheckpointView>,
    flushed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ns: Option<u64>,
}

/// The word for how the members belong together.
pub(crate) const fn consistency(consistency: v1::Consistency) -> &'static str {
    match consistency {
        v1::Consistency::Unspecified => "unknown",
        v1::Consistency::Crash => "crash",
        v1::Consistency::Hooks => "hooks",
        v1::Consistency::Frozen => "frozen",
    }
}

impl From<&v1::Snapshot> for SnapshotView {
    fn from(snapshot: &v1::Snapshot) -> Self {
        let member = |member: &v1::SnapshotMember| MemberView {
            checkpoint: member.checkpoint.as_ref().map(CheckpointView::from),
            flushed: member.flushed,
            pause_ns: member.pause_ns,
        };
        Self {
            id: snapshot.id.clone(),
            name: snapshot.name.clone(),
            created: time(snapshot.created.as_ref()),
            consistency: consistency(snapshot.consistency()),
            skew_ns: snapshot.skew_ns,
            bytes: snapshot.bytes,
            labels: snapshot.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            members: snapshot.members.iter().map(member).collect(),
        }
    }
}
