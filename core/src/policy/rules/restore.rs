// SPDX-License-Identifier: Apache-2.0
//! Rules about what is kept, and what a start may do.

use super::{Rule, field_if};
use crate::policy::{Divergence, Policy, Provision, RestoreMode, Scope, Severity, Tier, Window, WithoutCoordinator};
use std::time::Duration;

/// On `spec.retention`.
pub const KEEP_ALL_SHORT: Rule<Policy> = Rule {
    name: "keep-all-short",
    severity: Severity::Error,
    sentence: "keepAll is shorter than 10m: write how far back every checkpoint is kept, for example 1h",
    cel: "int(self.keepAll.substring(0, self.keepAll.size() - 1)) * {'m': 1, 'h': 60, 'd': 1440, 'w': 10080, 'y': 525600}[self.keepAll.substring(self.keepAll.size() - 1)] >= 10",
    broken: |policy| field_if(policy.retention.keep_all < Duration::from_mins(10), "spec.retention.keepAll"),
};

fn tiers_if(policy: &Policy, broken: impl Fn(Duration, &Tier) -> bool) -> Vec<String> {
    let every = |tier: &Tier| match tier.window {
        Window::Every(length) => Some(length),
        Window::Hour | Window::Day | Window::Week | Window::Month | Window::Year => None,
    };
    let tiers = policy.retention.tiers.iter().enumerate();
    let bad = tiers.filter(|(_, tier)| every(tier).is_some_and(|length| broken(length, tier)));
    bad.map(|(index, _)| format!("spec.retention.keepEvery[{index}]")).collect()
}

/// On each of `spec.retention.keepEvery`.
pub const TIER_EMPTY: Rule<Policy> = Rule {
    name: "tier-empty",
    severity: Severity::Error,
    sentence: "keeps one for a time that is no longer than the distance to the next: write a longer for, for example {every: 15m, for: 2d}",
    cel: "int(self.every.substring(0, self.every.size() - 1)) * {'m': 1, 'h': 60, 'd': 1440, 'w': 10080, 'y': 525600}[self.every.substring(self.every.size() - 1)] \
          < int(self.__for__.substring(0, self.__for__.size() - 1)) * {'m': 1, 'h': 60, 'd': 1440, 'w': 10080, 'y': 525600}[self.__for__.substring(self.__for__.size() - 1)]",
    broken: |policy| tiers_if(policy, |_, tier| tier.count <= 1),
};

/// A warning.
pub const TIER_LONG: Rule<Policy> = Rule {
    name: "tier-long",
    severity: Severity::Warning,
    sentence: "keeps more than 5000 checkpoints: every one costs a request when it is verified; write a longer every, or a shorter for with a coarser tier after it",
    cel: "",
    broken: |policy| tiers_if(policy, |_, tier| tier.count > 5000),
};

/// On `spec.restore`.
pub const ALWAYS_PREFERS_DISK: Rule<Policy> = Rule {
    name: "always-prefers-disk",
    severity: Severity::Error,
    sentence: "mode: Always restores over the disk, and onDivergence: PreferDisk never does: write mode: IfEmpty to keep the disk, or leave onDivergence out",
    cel: "!(self.mode == 'Always' && self.onDivergence == 'PreferDisk')",
    broken: |policy| {
        let restore = &policy.restore;
        let both = restore.mode == RestoreMode::Always && restore.on_divergence == Divergence::PreferDisk;
        field_if(both, "spec.restore.onDivergence")
    },
};

/// On `spec.restore`.
pub const NEVER_PREFERS_STORE: Rule<Policy> = Rule {
    name: "never-prefers-store",
    severity: Severity::Error,
    sentence: "onDivergence: PreferStore restores over the disk, and mode: Never forbids it: write onDivergence: Wait or PreferDisk, or mode: IfEmpty",
    cel: "!(self.mode == 'Never' && self.onDivergence == 'PreferStore')",
    broken: |policy| {
        let restore = &policy.restore;
        let both = restore.mode == RestoreMode::Never && restore.on_divergence == Divergence::PreferStore;
        field_if(both, "spec.restore.onDivergence")
    },
};

/// On `spec`.
pub const ALWAYS_SHARED: Rule<Policy> = Rule {
    name: "always-shared",
    severity: Severity::Error,
    sentence: "mode: Always would restore a shared volume under the pods that use it whenever one starts: write mode: IfEmpty",
    cel: "!(self.scope == 'Shared' && self.restore.mode == 'Always')",
    broken: |policy| {
        let both = policy.scope == Scope::Shared && policy.restore.mode == RestoreMode::Always;
        field_if(both, "spec.restore.mode")
    },
};

/// A warning.
pub const ALWAYS_LOSES: Rule<Policy> = Rule {
    name: "always-loses",
    severity: Severity::Warning,
    sentence: "discards at every start what was not uploaded before the last end, even on a healthy disk: write mode: IfEmpty unless the disk is never to be trusted",
    cel: "",
    broken: |policy| {
        let always = policy.restore.mode == RestoreMode::Always && policy.scope == Scope::Replica;
        field_if(always, "spec.restore.mode")
    },
};

/// A warning.
pub const SAME_VOLUME_EPHEMERAL: Rule<Policy> = Rule {
    name: "same-volume-ephemeral",
    severity: Severity::Warning,
    sentence: "has no effect for a new pod: a provisioned volume is new with every pod, so a start will wait for a coordinator all the same",
    cel: "",
    broken: |policy| {
        let ephemeral =
            |provision: &Provision| matches!(provision, Provision::EphemeralVolume { .. } | Provision::EmptyDir { .. });
        let provisioned = policy.paths.iter().filter_map(|path| path.provision.as_ref()).any(ephemeral);
        let asked = policy.restore.without_coordinator == WithoutCoordinator::SameVolume;
        field_if(asked && provisioned, "spec.restore.withoutCoordinator")
    },
};
