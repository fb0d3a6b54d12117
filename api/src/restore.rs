// SPDX-License-Identifier: Apache-2.0
//! `StateRestore`: bring a state back, in place, beside the original, or into a volume.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns have types, and reasons are columns")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the message of a plan begins whose restore would be refused.
pub const WOULD_BE_REFUSED: &str = "nothing was done, and it would be refused";

/// What to bring back, and where.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StateRestore",
    plural = "staterestores",
    shortname = "hfr",
    category = "holdfast",
    namespaced,
    status = "StateRestoreStatus",
    derive = "PartialEq",
    doc = "Brings a state back, in place, beside the original, or into a volume. It never does nothing silently: its receipts say what was restored.",
    printcolumn(name = "Succeeded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].status"),
    printcolumn(name = "To", type_ = "date", json_path = ".status.restoredTo"),
    printcolumn(name = "Receipts", type_ = "integer", json_path = ".status.receiptCount"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a restore is done once: create another StateRestore instead of changing this one"))]
#[x_kube(validation = (
    "!has(self.paths) || size(self.paths) == 0 || (has(self.elsewhere) && has(self.elsewhere.claim))",
    "paths go into a PersistentVolumeClaim only: name it, as in elsewhere: {claim: {name: inspect}}"
))]
pub struct StateRestoreSpec {
    /// Which state.
    pub source: SourceSpec,
    /// Where to. Left out: in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<ElsewhereSpec>,
    /// Into a claim: only these files and directories, each with the label of its state path, as in data/etc/app.conf. Left empty: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 4096)))]
    pub paths: Vec<String>,
    /// What is agreed to beforehand.
    #[serde(default)]
    pub accept: AcceptSpec,
    /// Only plan it, and say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which state: exactly one of snapshot, time, checkpoint and undo.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(has(self.snapshot) ? 1 : 0) + (has(self.time) ? 1 : 0) + (has(self.checkpoint) ? 1 : 0) + (has(self.undo) ? 1 : 0) == 1",
        "must say one of snapshot, time, checkpoint and undo: write for example {snapshot: nightly-1}"),
    validation = ("!has(self.time) || size(self.policies) > 0", "time needs policies, to say whose state: write policies: [<name of a StatePolicy>]")
)]
pub struct SourceSpec {
    /// A StateSnapshot of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub snapshot: Option<String>,
    /// The newest consistent state at or before this moment: that of a snapshot which holds all replicas, or else each replica's own newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// One checkpoint of one lineage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,
    /// A StateRestore of this namespace: its replicas become again what they were before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub undo: Option<String>,
    /// Only replicas under these StatePolicies. Left empty: everything the snapshot, or the restore, holds.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub policies: Vec<String>,
}

/// One checkpoint of one lineage.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// The StateLineage.
    #[schemars(length(min = 1, max = 253))]
    pub lineage: String,
    /// The checkpoint's number.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub sequence: i64,
}

/// A new workload beside the original, or a volume.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.claim) || (has(self.namespace) && size(self.namespace) > 0)", "must name a namespace or a claim: write for example {namespace: inspection}"),
    validation = ("!has(self.claim) || !has(self.namePrefix) || size(self.namePrefix) == 0", "a claim has its own name: leave namePrefix out")
)]
pub struct ElsewhereSpec {
    /// The namespace, which must exist. With a claim: that of this object, and it may be left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Only the files, and no workload: they are written to this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimSpec>,
    /// What is put before the workloads' names. Left empty: nothing, which another namespace allows.
    #[serde(default)]
    #[schemars(length(max = 30))]
    pub name_prefix: String,
}

/// A PersistentVolumeClaim that the files are written to.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// Its name. It must exist, be empty, and no pod that runs may use it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What is agreed to beforehand.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AcceptSpec {
    /// The workload runs another image than the state was captured with.
    #[serde(default)]
    pub different_image: bool,
    /// All pods end together, whatever a PodDisruptionBudget says.
    #[serde(default)]
    pub disruption: bool,
    /// A fuzzy checkpoint is restored where no clean one is.
    #[serde(default)]
    pub fuzzy: bool,
}

/// What came of it.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct StateRestoreStatus {
    /// The spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is, for people: programs read the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhaseStatus>,
    /// When the coordinator saw it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Succeeded: every receipt is there and its roots agree. Unknown while it goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What would be done, or stands in the way, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub plan: Vec<String>,
    /// The StateRepository that holds the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The moment of the state that was restored: that of the newest checkpoint among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to: Option<Time>,
    /// How many replicas have given a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_count: Option<i32>,
    /// The receipts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub receipts: Vec<ReceiptStatus>,
    /// The replicas that stop and go back, and how far each is: what a coordinator that takes over goes on from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub members: Vec<RestoredMember>,
    /// Beside the original: the objects that are made, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub objects: Vec<MadeObject>,
    /// Into a claim: the pod that writes the files. No other pod is given the right to read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<DeliveryPod>,
}

/// A pod that the coordinator has made to write a state into a claim.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPod {
    /// Its name.
    pub name: String,
    /// Its UID. Empty: it is about to be made.
    #[serde(default)]
    pub uid: String,
    /// How many were before it.
    #[serde(default)]
    pub attempt: i32,
}

/// An object of a new workload, in the namespace that `elsewhere` names.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MadeObject {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// It was made.
    #[serde(default)]
    pub made: bool,
}

/// How far a restore is.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum RestorePhaseStatus {
    /// For what the condition says.
    Waiting,
    /// All gates are shut, and all pods end.
    Stopping,
    /// No pod runs: each replica's history goes back to the moment.
    GoingBack,
    /// Beside the original: the new replicas' histories begin, and their workload is made. Into a claim: a pod writes the files.
    Making,
    /// The gates are open, and the pods start on the state of the moment.
    Starting,
    /// It was only to be planned.
    Planned,
    /// Every replica has given its receipt.
    Restored,
    /// It was not carried out, or not as it was asked for.
    Failed,
}

/// A replica of a restore.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestoredMember {
    /// The StateLineage.
    pub lineage: String,
    /// The lineage's name in the repository.
    pub stored_as: String,
    /// The checkpoint that it goes back to. Beside the original: the one that it begins with, 0 until there is one.
    pub sequence: i64,
    /// Its root.
    pub root: String,
    /// Beside the original: whose state it begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginStatus>,
    /// The newest record of the lineage when this was planned.
    pub head: i64,
    /// What keeps the checkpoint until it is the lineage's state again: the number of a pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<i64>,
    /// The record that made the checkpoint the lineage's state again. Left out: it was not written yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<i64>,
    /// The newest checkpoint before that: what `undo` goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

/// A checkpoint of another lineage of the same repository.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OriginStatus {
    /// The lineage's name in the repository.
    pub stored_as: String,
    /// The checkpoint.
    pub sequence: i64,
}

/// What one replica's restore proves.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptStatus {
    /// The StateLineage.
    pub lineage: String,
    /// The checkpoint.
    pub sequence: i64,
    /// The checkpoint that proves it: the first capture of what was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<i64>,
    /// The newest checkpoint before the restore: what `undo` goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// The root asked for.
    pub root_asked: String,
    /// The root computed from disk. Empty where only paths were restored: their files were compared one by one.
    pub root_found: String,
    /// How many files are not as they were.
    pub deviations: i32,
    /// Into a claim: where the files lie, below the volume's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Into a claim: the lengths of the files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Into a claim: how long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<i64>,
}
