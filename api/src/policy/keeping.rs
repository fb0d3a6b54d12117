// SPDX-License-Identifier: Apache-2.0
//! `spec.snapshots`, `spec.retention` and `spec.restore`: what is taken, what remains, what comes back.

use super::{cel, shapes};
use crate::text::AgeText;
use holdfast_core::policy::rules;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When consistent snapshots are taken by themselves.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cel(&rules::CRON), validation = cel(&rules::TIME_ZONE))]
pub struct SnapshotsSpec {
    /// Minute, hour, day of month, month and day of week, or @hourly, @daily, @weekly, @monthly, @yearly.
    #[schemars(length(max = 128))]
    pub schedule: String,
    /// The IANA name of the time zone the schedule is read in.
    #[serde(default = "default_time_zone")]
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// So many of the snapshots taken by the schedule are kept. Those that people took stay until people delete them.
    #[serde(default = "default_snapshots")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep: i32,
    /// For now, none are taken.
    #[serde(default)]
    pub suspend: bool,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

const fn default_snapshots() -> i32 {
    14
}

/// Which checkpoints remain as they age; times are cut into windows in UTC, and the last checkpoint of a window is the one that stays.
/// Write none of hourly to yearly and keepEvery, and it is hourly: 48, daily: 30, monthly: 12. Write any, and it is exactly what you write.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default = "RetentionSpec::default")]
#[x_kube(validation = cel(&rules::KEEP_ALL_SHORT), validation = cel(&shapes::RETENTION_EITHER))]
pub struct RetentionSpec {
    /// Every checkpoint younger than this.
    pub keep_all: AgeText,
    /// One for each of so many hours, the present one included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub hourly: Option<i32>,
    /// One for each of so many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub daily: Option<i32>,
    /// One for each of so many weeks, which begin on Monday.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub weekly: Option<i32>,
    /// One for each of so many months.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub monthly: Option<i32>,
    /// One for each of so many years.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub yearly: Option<i32>,
    /// Tiers of your own, instead of hourly to yearly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub keep_every: Vec<KeepEverySpec>,
}

impl Default for RetentionSpec {
    fn default() -> Self {
        let keep_all = AgeText::from("1h");
        Self { keep_all, hourly: None, daily: None, weekly: None, monthly: None, yearly: None, keep_every: Vec::new() }
    }
}

/// One checkpoint per stretch of time, for a time.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = cel(&rules::TIER_EMPTY))]
pub struct KeepEverySpec {
    /// How far apart.
    pub every: AgeText,
    /// How far back.
    pub r#for: AgeText,
}

/// What a start may do with the disk.
#[derive(KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default = "RestoreSpec::default")]
#[x_kube(validation = cel(&rules::ALWAYS_PREFERS_DISK), validation = cel(&rules::NEVER_PREFERS_STORE))]
pub struct RestoreSpec {
    /// IfEmpty: restore if the state paths are empty. Always: whatever the disk holds. Never: only when somebody asks.
    pub mode: RestoreModeSpec,
    /// Clean: the newest checkpoint under which nothing changed. Newest: the newest of all.
    pub take: TakeSpec,
    /// Who wins when the pod comes with another volume while the store is newer. Wait: nobody, until a person has decided.
    pub on_divergence: DivergenceSpec,
    /// What a start does while no coordinator answers. SameVolume: it goes on if the disk is the very volume of the last checkpoint.
    pub without_coordinator: WithoutCoordinatorSpec,
    /// Restore set-id bits, file capabilities and devices, too.
    pub special_files: bool,
}

impl Default for RestoreSpec {
    fn default() -> Self {
        Self {
            mode: RestoreModeSpec::IfEmpty,
            take: TakeSpec::Clean,
            on_divergence: DivergenceSpec::Wait,
            without_coordinator: WithoutCoordinatorSpec::Wait,
            special_files: false,
        }
    }
}

/// When a start restores.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum RestoreModeSpec {
    /// If the state paths are empty.
    IfEmpty,
    /// Whatever the disk holds.
    Always,
    /// Only when somebody asks.
    Never,
}

/// Which checkpoint an automatic restore takes.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum TakeSpec {
    /// The newest that nothing changed under.
    Clean,
    /// The newest of all.
    Newest,
}

/// Who wins when disk and store disagree.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum DivergenceSpec {
    /// Nobody until a person has decided.
    Wait,
    /// The disk.
    PreferDisk,
    /// The store.
    PreferStore,
}

/// What a start does while no coordinator answers.
#[derive(JsonSchema, Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[schemars(inline)]
pub enum WithoutCoordinatorSpec {
    /// It waits.
    Wait,
    /// It goes on, on the volume it had.
    SameVolume,
}
