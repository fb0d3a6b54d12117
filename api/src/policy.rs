// SPDX-License-Identifier: Apache-2.0
//! `StatePolicy`: which state matters and how to keep it, as people write it.

#![allow(unreachable_pub, reason = "the derive of KubeSchema makes public structs inside functions")]
#![allow(clippy::duplicated_attributes, reason = "columns have types, and reasons are columns")]

use crate::text::{BytesText, CpuText, DurationText, RateText};
use holdfast_core::policy::rules;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod consistency;
mod keeping;
mod resolve;
pub mod shapes;

pub use consistency::{
    ConsistencyMode, ConsistencySpec, HookSpec, HooksSpec, HttpSpec, PauseWhen, SignalName, SignalSpec, SocketSpec,
};
pub use keeping::{
    DivergenceSpec, KeepEverySpec, RestoreModeSpec, RestoreSpec, RetentionSpec, SnapshotsSpec, TakeSpec, WithoutCoordinatorSpec,
};
pub use resolve::Resolved;

/// The rule of a finding, as the schema carries it.
pub(crate) fn cel<T>(rule: &rules::Rule<T>) -> kube::core::Rule {
    kube::core::Rule::new(rule.cel).message(rule.sentence)
}

/// Which state of an application matters, and how to keep it. Label a Deployment, StatefulSet, DaemonSet or Job of the
/// same namespace with holdfast.dev/policy=<name of this policy>.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "holdfast.dev",
    version = "v1alpha1",
    kind = "StatePolicy",
    plural = "statepolicies",
    shortname = "hfp",
    category = "holdfast",
    namespaced,
    status = "StatePolicyStatus",
    derive = "PartialEq",
    doc = "Which state of an application matters, and how to keep it. Label a workload of the same namespace with holdfast.dev/policy=<name of this policy>.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Protected",
        type_ = "integer",
        json_path = ".status.protected",
        description = "Replicas whose state is durable within the cadence"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(
        name = "Unguarded",
        type_ = "integer",
        json_path = ".status.unguarded",
        description = "Pods that run without an agent",
        priority = 1
    ),
    printcolumn(name = "Last Snapshot", type_ = "date", json_path = ".status.lastSnapshotTime"),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repositoryRef.name", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.repositoryRef.name"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = cel(&rules::PATHS_EMPTY),
    validation = cel(&rules::PATHS_NESTED),
    validation = cel(&rules::LABEL_TWICE),
    validation = cel(&rules::PROVISION_SHARED),
    validation = cel(&rules::ALWAYS_SHARED),
    validation = cel(&rules::RUN_AS_ROOT),
    validation = cel(&shapes::OWNER_EITHER)
)]
pub struct StatePolicySpec {
    /// The StateRepository of this namespace that the state goes to.
    #[serde(default)]
    pub repository_ref: RepositoryRef,
    /// Replica: every replica has a state of its own. Shared: all replicas share one ReadWriteMany volume, and one of them writes its history.
    #[serde(default)]
    pub scope: ScopeSpec,
    /// The directories that are state.
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["label".into()]))]
    pub paths: Vec<PathSpec>,
    /// When changes are captured.
    #[serde(default)]
    pub cadence: CadenceSpec,
    /// When consistent snapshots are taken by themselves. Left out: only when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsSpec>,
    /// How the application is brought to rest for a capture.
    #[serde(default)]
    pub consistency: ConsistencySpec,
    /// Which checkpoints remain as they age.
    #[serde(default)]
    pub retention: RetentionSpec,
    /// What a start may do with the disk.
    #[serde(default)]
    pub restore: RestoreSpec,
    /// What the agent may use.
    #[serde(default)]
    pub budgets: BudgetsSpec,
    /// The user the agent runs as, where the image chooses or switches its user itself (postgres: 999). Left out: the user that the pod declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<RunAsSpec>,
    /// The agent runs as root with CHOWN, DAC_OVERRIDE and FOWNER only, so that files of any owner are read and restored. Needs Pod Security "baseline".
    #[serde(default)]
    pub preserve_owner: bool,
}

/// The name of a StateRepository.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRef {
    /// Its name.
    #[serde(default = "default_repository")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn default_repository() -> String {
    "default".to_owned()
}

impl Default for RepositoryRef {
    fn default() -> Self {
        Self { name: default_repository() }
    }
}

/// Whose state it is.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[schemars(inline)]
pub enum ScopeSpec {
    /// Every replica's own.
    #[default]
    Replica,
    /// Everybody's.
    Shared,
}

/// A directory that is state.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = cel(&rules::PATH_ABSOLUTE),
    validation = cel(&rules::PATH_SYSTEM),
    validation = cel(&rules::LABEL_FORM),
    validation = cel(&rules::PROVISION_SIZE)
)]
pub struct PathSpec {
    /// A short name that stays when the directory moves: the state is found again by it.
    #[schemars(length(max = 63))]
    pub label: String,
    /// The directory, as the containers see it.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Patterns of what is state: gitignore-like, relative to the path; without a slash they match a name at any depth. Left out: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub include: Vec<String>,
    /// Patterns of what is not state. They win over include.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub exclude: Vec<String>,
    /// The volume to add to the pod where none of its own covers the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provision: Option<ProvisionSpec>,
}

/// A volume that comes and goes with the pod: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cel(&shapes::PROVISION_ONE))]
pub struct ProvisionSpec {
    /// A generic ephemeral volume: it does not keep a node from being drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_volume: Option<EphemeralVolumeSpec>,
    /// A directory of the node, for clusters without a storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirSpec>,
}

/// A generic ephemeral volume.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralVolumeSpec {
    /// How much to ask for.
    pub size: BytesText,
    /// Of which class. Left out: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

/// A directory of the node.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirSpec {
    /// The pod is evicted beyond this. Left out: whatever the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<BytesText>,
}

/// When changes are captured.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default = "CadenceSpec::default")]
#[x_kube(
    validation = cel(&rules::SETTLE_OVER_LIMIT),
    validation = cel(&rules::QUIET_OVER_LIMIT),
    validation = cel(&rules::QUIET_SHORT),
    validation = cel(&rules::LIMIT_LONG),
    validation = cel(&rules::SCAN_RANGE)
)]
pub struct CadenceSpec {
    /// After a rest, the first change is captured this soon.
    pub settle: DurationText,
    /// While changes go on, a capture waits until there was none for this long.
    pub quiet: DurationText,
    /// But no longer than this after the first change that is not captured.
    pub limit: DurationText,
    /// Everything is compared with the disk this often, for writes that make no noise (memory-mapped files, other nodes).
    pub scan: DurationText,
}

impl Default for CadenceSpec {
    fn default() -> Self {
        let [settle, quiet, limit, scan] = ["200ms", "1s", "10s", "60s"].map(DurationText::from);
        Self { settle, quiet, limit, scan }
    }
}

/// What the agent may use.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default = "BudgetsSpec::default")]
#[x_kube(
    validation = cel(&rules::CPU_SMALL),
    validation = cel(&rules::MEMORY_SMALL),
    validation = cel(&rules::SCRATCH_SMALL),
    validation = cel(&rules::READ_SMALL),
    validation = cel(&rules::UPLOAD_SMALL)
)]
pub struct BudgetsSpec {
    /// Processor.
    pub cpu: CpuText,
    /// Memory: a limit, not a guess.
    pub memory: BytesText,
    /// Disk space of its own; losing it costs time only.
    pub scratch: BytesText,
    /// Reading the application's files. Left out: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<RateText>,
    /// Sending to the store. Left out: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<RateText>,
}

impl Default for BudgetsSpec {
    fn default() -> Self {
        let (memory, scratch) = (BytesText::from("64Mi"), BytesText::from("1Gi"));
        Self { cpu: CpuText::from("500m"), memory, scratch, read: None, upload: None }
    }
}

/// A numeric user and group.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunAsSpec {
    /// The user.
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub user: i64,
    /// The group. Left out: the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub group: Option<i64>,
}

/// How the replicas under a policy are.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct StatePolicyStatus {
    /// The spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: every replica under this policy is protected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Pods with this policy's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Those whose state is durable within the cadence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<i32>,
    /// Those that run without an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unguarded: Option<i32>,
    /// The moment of the schedule for which a snapshot was begun last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_snapshot_time: Option<Time>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_snapshot_time: Option<Time>,
}
