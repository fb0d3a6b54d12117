// SPDX-License-Identifier: Apache-2.0
//! `StateSnapshot`: a consistent set of checkpoints, asked for or taken by a schedule.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns have types, and reasons are columns")]

use crate::lineage::QualityStatus;
use crate::text::DurationText;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
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
    doc = "A consistent set of checkpoints of many replicas: all or nothing. Deleting it deletes nothing in the store.",
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.memberCount"),
    printcolumn(name = "Consistency", type_ = "string", json_path = ".status.consistency"),
    printcolumn(name = "Pause ms", type_ = "integer", json_path = ".status.pauseMillis"),
    printcolumn(name = "Skew ms", type_ = "integer", json_path = ".status.skewMillis"),
    printcolumn(
        name = "Bytes",
        type_ = "integer",
        json_path = ".status.bytes",
        description = "The lengths of its members' files together",
        priority = 1
    ),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".status.snapshotName", priority = 1),
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
        "nothing is selected: write policies: [<name of a StatePolicy>], or everything: true for the whole namespace"),
    validation = ("!self.namespaces.exists(name, name == '*') || size(self.namespaces) == 1",
        "'*' stands for all namespaces: write namespaces: ['*'] alone, or names")
)]
pub struct StateSnapshotSpec {
    /// Every replica under these StatePolicies.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub policies: Vec<String>,
    /// Every protected replica of the namespaces.
    #[serde(default)]
    pub everything: bool,
    /// In these namespaces, or in all of the cluster: `['*']`. Left empty: this one. Others than its own are for StateSnapshots of Holdfast's own namespace
    /// alone, and their StateRepositories must name one place.
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
    /// The spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is, for people: programs read the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseStatus>,
    /// When the coordinator saw it first: its deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Succeeded: it is visible and can be restored. Unknown while it is being taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Its identity in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Its name there: the object's own, unless that was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_name: Option<String>,
    /// The StateRepository that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// How far its members agree: by the weakest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<ConsistencyStatus>,
    /// When it was cut: by then the state of every member was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_time: Option<Time>,
    /// How many replicas it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_count: Option<i32>,
    /// The longest that a replica stood still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_millis: Option<i64>,
    /// The moments of any two members are no farther apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_millis: Option<i64>,
    /// The lengths of all members' files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The objects that stand recorded with it, as far as they fit here: workloads, what they name, policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub recorded: Vec<String>,
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
    /// How long its application stood still, by its agent's clock. Left out: it took part in no barrier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_millis: Option<i64>,
    /// The lengths of its files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
}

/// How far a snapshot is.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum PhaseStatus {
    /// For what the condition says.
    Waiting,
    /// Agents make durable what is dirty, so that little is left.
    Preparing,
    /// Applications come to rest.
    Freezing,
    /// Their states are captured.
    Cutting,
    /// They go on; what was captured becomes durable.
    Sealing,
    /// The set becomes visible.
    Committing,
    /// It was broken: everybody goes on.
    Aborting,
    /// It exists.
    Taken,
    /// It does not.
    Failed,
}

/// How far the members of a snapshot agree.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum ConsistencyStatus {
    /// One member at least is a moment of its own.
    Crash,
    /// All had been asked to come to rest before any was captured.
    Hooks,
    /// All stood still before any was captured.
    Frozen,
}
