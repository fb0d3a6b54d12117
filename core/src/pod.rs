// SPDX-License-Identifier: Apache-2.0
//! What a pod's agent is told by whoever injected it: resolved, and plain enough to be read in the pod's specification.

use crate::policy::{
    Call, Consistency, Divergence, Hook, Policy, Quiesce, RestoreMode, StatePath, Take, When, WithoutCoordinator,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The variable of the agent's environment that holds a [`PodConfig`] as JSON.
pub const CONFIG_VARIABLE: &str = "HOLDFAST_POD_CONFIG";

/// What a pod's agent is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodConfig {
    /// Of this structure: [`PodConfig::VERSION`].
    pub version: u32,
    /// The state paths, sorted by label.
    pub paths: Vec<PodPath>,
    /// A capture follows the first change after a rest this soon, in milliseconds.
    pub settle_ms: u64,
    /// While changes go on, a capture waits until there was none for so long, in milliseconds.
    pub quiet_ms: u64,
    /// But no longer than this after the first change that isn't captured, in milliseconds.
    pub limit_ms: u64,
    /// Everything is compared with the disk this often, in milliseconds.
    pub scan_ms: u64,
    /// When a start restores.
    pub restore: PodRestore,
    /// An automatic restore takes clean checkpoints only.
    pub clean_only: bool,
    /// Set-id bits, file capabilities and devices are restored, too.
    pub special_files: bool,
    /// Who wins when another volume holds a state while the store's is newer.
    pub on_divergence: PodDivergence,
    /// Without an answer of a coordinator, a start goes on if the disk is the very volume of the last checkpoint.
    pub start_alone: bool,
    /// What the agent may use of a processor, in thousandths of a core.
    pub cpu_millis: u32,
    /// Its memory limit, in bytes.
    pub memory_bytes: u64,
    /// Its own disk space, in bytes.
    pub scratch_bytes: u64,
    /// Reading the application's files; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<u64>,
    /// Sending to the store; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_bytes_per_second: Option<u64>,
    /// How the application is brought to rest; `None`: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesce: Option<PodQuiesce>,
}

impl PodConfig {
    /// The version that this program writes and reads.
    pub const VERSION: u32 = 1;

    /// What a policy says to agents, of whatever pod.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let mut paths: Vec<PodPath> = policy.paths.iter().map(PodPath::of).collect();
        paths.sort_by(|one, other| one.label.cmp(&other.label));
        let (paces, restore, budgets) = (&policy.paces, &policy.restore, &policy.budgets);
        Self {
            version: Self::VERSION,
            paths,
            settle_ms: millis(paces.settle),
            quiet_ms: millis(paces.quiet),
            limit_ms: millis(paces.limit),
            scan_ms: millis(paces.scan),
            restore: match restore.mode {
                RestoreMode::IfEmpty => PodRestore::IfEmpty,
                RestoreMode::Always => PodRestore::Always,
                RestoreMode::Never => PodRestore::Never,
            },
            clean_only: restore.take == Take::Clean,
            special_files: restore.special_files,
            on_divergence: match restore.on_divergence {
                Divergence::Wait => PodDivergence::Wait,
                Divergence::PreferDisk => PodDivergence::PreferDisk,
                Divergence::PreferStore => PodDivergence::PreferStore,
            },
            start_alone: restore.without_coordinator == WithoutCoordinator::SameVolume,
            cpu_millis: budgets.cpu_millis,
            memory_bytes: budgets.memory_bytes,
            scratch_bytes: budgets.scratch_bytes,
            read_bytes_per_second: budgets.read_bytes_per_second,
            upload_bytes_per_second: budgets.upload_bytes_per_second,
            quiesce: PodQuiesce::of(&policy.consistency),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One directory that is state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodPath {
    /// Its name inside the lineage.
    pub label: String,
    /// Where the application's containers, and the agent's, see it.
    pub path: String,
    /// Patterns of what is state; none: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of what is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The application mounts it read-only: it is captured and never restored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

impl PodPath {
    fn of(path: &StatePath) -> Self {
        let (include, exclude) = (path.include.clone(), path.exclude.clone());
        Self { label: path.label.clone(), path: path.path.clone(), include, exclude, read_only: false }
    }
}

/// How the application is brought to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodQuiesce {
    /// By which means.
    pub means: PodMeans,
    /// It goes on after this long, whatever has come of it, in milliseconds.
    pub pause_budget_ms: u64,
    /// At every checkpoint, not for snapshots only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_checkpoint: bool,
}

impl PodQuiesce {
    fn of(consistency: &Consistency) -> Option<Self> {
        let means = match &consistency.quiesce {
            Quiesce::Nothing => return None,
            Quiesce::Freeze => PodMeans::Freeze,
            Quiesce::Hooks(hooks) => {
                PodMeans::Hooks { before: PodHook::of(&hooks.before), after: hooks.after.as_ref().map(PodHook::of) }
            }
        };
        let every_checkpoint = consistency.when == When::EveryCheckpoint;
        Some(Self { means, pause_budget_ms: millis(consistency.pause_budget), every_checkpoint })
    }
}

/// By which means an application is brought to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PodMeans {
    /// It is asked.
    Hooks {
        /// To come to rest.
        before: PodHook,
        /// To go on; `None`: it goes on by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<PodHook>,
    },
    /// Its processes are stopped.
    Freeze,
}

/// One request to the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodHook {
    /// How it is asked.
    pub call: Call,
    /// How long it may take to answer, in milliseconds.
    pub timeout_ms: u64,
}

impl PodHook {
    fn of(hook: &Hook) -> Self {
        Self { call: hook.call.clone(), timeout_ms: millis(hook.timeout) }
    }
}

/// When a start restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodRestore {
    /// If the state paths are empty.
    IfEmpty,
    /// Whatever the disk holds.
    Always,
    /// Only when somebody asks.
    Never,
}

/// Who wins when disk and store disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodDivergence {
    /// Nobody until a person has decided.
    Wait,
    /// What is on the disk.
    PreferDisk,
    /// What is in the store.
    PreferStore,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Signal;

    #[test]
    fn it_reads_what_it_writes_and_refuses_what_it_does_not_know() {
        let text = r#"{"version":1,"paths":[{"label":"data","path":"/data","exclude":["*.tmp"]}],"settleMs":200,"quietMs":1000,
            "limitMs":10000,"scanMs":60000,"restore":"IfEmpty","cleanOnly":true,"specialFiles":false,"onDivergence":"Wait","startAlone":true,
            "cpuMillis":500,"memoryBytes":67108864,"scratchBytes":1073741824}"#;
        let config: PodConfig = serde_json::from_str(text).expect("read");
        assert_eq!(config.paths[0].exclude, ["*.tmp"]);
        let again = serde_json::to_string(&config).expect("written");
        assert_eq!(serde_json::from_str::<PodConfig>(&again).expect("read again"), config);
        assert!(serde_json::from_str::<PodConfig>(&again.replace("settleMs", "setleMs")).is_err());
        assert!(!again.contains("quiesce"), "a policy without one has the digest that it always had");
        let resting = r#"{"means":{"hooks":{"before":{"call":{"signal":{"signal":"usr1","process":"x"}},"timeoutMs":50}}},"pauseBudgetMs":9}"#;
        let text = again.replace("\"version\":1,", &format!("\"version\":1,\"quiesce\":{resting},"));
        let config: PodConfig = serde_json::from_str(&text).expect("read");
        let call = Call::Signal { signal: Signal::Usr1, process: "x".to_owned() };
        let means = PodMeans::Hooks { before: PodHook { call, timeout_ms: 50 }, after: None };
        assert_eq!(config.quiesce, Some(PodQuiesce { means, pause_budget_ms: 9, every_checkpoint: false }));
        assert_eq!(serde_json::to_string(&config.quiesce).expect("written"), resting);
    }
}
