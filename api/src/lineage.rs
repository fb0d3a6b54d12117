// SPDX-License-Identifier: Apache-2.0
//! `StateLineage`: the history of one replica's state, as the cluster shows it. The coordinator writes it; deleting it
//! deletes nothing in the store.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns have types, and reasons are columns")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose history it is.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StateLineage",
    plural = "statelineages",
    shortname = "hfl",
    category = "holdfast",
    namespaced,
    status = "StateLineageStatus",
    derive = "PartialEq",
    doc = "The history of one replica's state. Written by the coordinator; deleting it deletes nothing in the store.",
    printcolumn(name = "Protected", type_ = "string", json_path = ".status.conditions[?(@.type==\"Protected\")].status"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workload.name"),
    printcolumn(name = "Slot", type_ = "string", json_path = ".spec.slot"),
    printcolumn(
        name = "Lag",
        type_ = "integer",
        json_path = ".status.lagSeconds",
        description = "Seconds since the oldest change that is not durable"
    ),
    printcolumn(name = "Checkpoint", type_ = "date", json_path = ".status.checkpoint.time"),
    printcolumn(name = "Quality", type_ = "string", json_path = ".status.checkpoint.quality"),
    printcolumn(
        name = "Bytes",
        type_ = "integer",
        json_path = ".status.checkpoint.bytes",
        description = "The lengths of its files together",
        priority = 1
    ),
    printcolumn(
        name = "Verified",
        type_ = "integer",
        json_path = ".status.verifiedSequence",
        description = "Up to which checkpoint everything was read back",
        priority = 1
    ),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node", priority = 1),
    printcolumn(name = "Pod", type_ = "string", json_path = ".status.holder", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Protected\")].reason",
        priority = 1
    ),
    selectable = ".spec.policy",
    selectable = ".spec.workload.name"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a lineage is whose it is: what must change is a new lineage, which the coordinator makes"))]
pub struct StateLineageSpec {
    /// The StatePolicy it began under.
    #[schemars(length(min = 1, max = 253))]
    pub policy: String,
    /// The StateRepository it is in.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Its name in the repository.
    #[schemars(length(min = 1, max = 512))]
    pub lineage: String,
    /// The topmost controller of its pods.
    pub workload: WorkloadSpec,
    /// Which replica: an ordinal, a slot, a completion index, a node, or "shared".
    #[schemars(length(min = 1, max = 253))]
    pub slot: String,
}

/// A controller of pods, in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// Deployment, StatefulSet, DaemonSet, Job, or the kind of an operator's resource.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How a lineage is.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct StateLineageStatus {
    /// Protected: its changes are durable within the cadence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The pod that writes it, or wrote it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// That pod's UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_uid: Option<String>,
    /// The node that the pod runs on, or ran on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How often it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The age of the oldest change that is not durable, in seconds: the greatest of the last moments. It grows with silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// Changes were not durable when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// What could not be captured when its agent looked last, in a sentence: the newest checkpoint lacks it, or has it as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// Up to which checkpoint everything was read back and verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_sequence: Option<i64>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_time: Option<Time>,
}

/// A checkpoint, in short.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its number.
    pub sequence: i64,
    /// When its capture ended.
    pub time: Time,
    /// Whether it is one moment.
    pub quality: QualityStatus,
    /// The lengths of its files together.
    pub bytes: i64,
}

/// Whether a checkpoint is one moment of its state.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum QualityStatus {
    /// Nothing changed while it was captured.
    Clean,
    /// Something did.
    Fuzzy,
    /// The capture was not finished.
    Partial,
}
