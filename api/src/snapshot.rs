// SPDX-License-Identifier: Apache-2.0
//! `StateSnapshot`: a consistent set of checkpoints, asked for or taken by a schedule.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns have types, and reasons are columns")]

use crate::lineage::QualityStatus;
use crate::text::DurationText;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What to take a snapshot of.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StateSnapshot",
    plural = "statesnapshots",
    shortname = "hfs",
    category = "holdfast",
    namespaced,
    status = "StateSnapshotStatus",
    derive = "PartialEq",
    doc = "A consistent set of checkpoints of many replicas: all or nothing. Deleting it lets go of what it holds.",
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.memberCount"),
    printcolumn(name = "Pause ms", type_ = "integer", json_path = ".status.pauseMillis"),
    printcolumn(name = "Skew ms", type_ = "integer", json_path = ".status.skewMillis"),
    printcolumn(name = "Taken", type_ = "date", json_path = ".status.cutTime"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self == oldSelf", "a snapshot is taken once: create another StateSnapshot instead of changing this one"),
    validation = ("size(self.policies) > 0 || self.everything",
        "nothing is selected: write policies: [<name of a StatePolicy>], or everything: true for the whole namespace")
)]
pub struct StateSnapshotSpec {
    /// Every replica under these StatePolicies.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub policies: Vec<String>,
    /// Every protected replica of the namespaces.
    #[serde(default)]
    pub everything: bool,
    /// In these namespaces. Left empty: this one. Whoever creates the snapshot must have the right to in each.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// All replicas go on after this long, whatever has come of it.
    #[serde(default = "default_pause")]
    pub pause_budget: DurationText,
    /// It fails after this long.
    #[serde(default = "default_deadline")]
    pub deadline: DurationText,
}

fn default_pause() -> DurationText {
    DurationText::from("10s")
}

fn default_deadline() -> DurationText {
    DurationText::from("15m")
}

/// What came of it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct StateSnapshotStatus {
    /// Succeeded: it is visible and can be restored. Unknown while it is being taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Its identity in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// When it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_time: Option<Time>,
    /// How many replicas it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_count: Option<i32>,
    /// The longest that a replica stood still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_millis: Option<i64>,
    /// Between the first cut and the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_millis: Option<i64>,
    /// The replicas, as far as they fit here; the whole list is in the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub members: Vec<MemberStatus>,
}

/// One replica of a snapshot.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its namespace.
    pub namespace: String,
    /// The StateLineage.
    pub lineage: String,
    /// Its checkpoint.
    pub sequence: i64,
    /// Whether it is one moment.
    pub quality: QualityStatus,
}
