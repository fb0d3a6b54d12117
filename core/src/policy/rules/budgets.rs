// SPDX-License-Identifier: Apache-2.0
//! Rules about what the agent may use, and as whom it runs. All but the last stand on `spec.budgets`.

use super::{Rule, field_if};
use crate::policy::{Policy, Severity, User};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Below this it can't keep up with its own heartbeats.
pub const CPU_SMALL: Rule<Policy> = Rule {
    name: "cpu-small",
    severity: Severity::Error,
    sentence: "cpu is below 10m, with which an agent can't even report: write at least 10m; 500m suits most",
    cel: "quantity(self.cpu).compareTo(quantity('10m')) >= 0",
    broken: |policy| field_if(policy.budgets.cpu_millis < 10, "spec.budgets.cpu"),
};

/// Below this it is killed in the middle of an upload.
pub const MEMORY_SMALL: Rule<Policy> = Rule {
    name: "memory-small",
    severity: Severity::Error,
    sentence: "memory is below 32Mi, with which an agent is killed in the middle of an upload: write at least 32Mi; 64Mi suits most",
    cel: "quantity(self.memory).compareTo(quantity('32Mi')) >= 0",
    broken: |policy| field_if(policy.budgets.memory_bytes < 32 * MIB, "spec.budgets.memory"),
};

/// Below this its index has no room.
pub const SCRATCH_SMALL: Rule<Policy> = Rule {
    name: "scratch-small",
    severity: Severity::Error,
    sentence: "scratch is below 64Mi, which holds the index of few files: write at least 64Mi; 1Gi suits most",
    cel: "quantity(self.scratch).compareTo(quantity('64Mi')) >= 0",
    broken: |policy| field_if(policy.budgets.scratch_bytes < 64 * MIB, "spec.budgets.scratch"),
};

/// Below this a scan never ends.
pub const READ_SMALL: Rule<Policy> = Rule {
    name: "read-small",
    severity: Severity::Error,
    sentence: "read is below 1MiB/s, with which a capture falls behind for good: write at least 1MiB/s, or leave it out for no limit",
    cel: "!has(self.read) || quantity(self.read.replace('B/s', '')).compareTo(quantity('1Mi')) >= 0",
    broken: |policy| field_if(policy.budgets.read_bytes_per_second.is_some_and(|rate| rate < MIB), "spec.budgets.read"),
};

/// Below this the smallest checkpoint takes seconds.
pub const UPLOAD_SMALL: Rule<Policy> = Rule {
    name: "upload-small",
    severity: Severity::Error,
    sentence: "upload is below 64KiB/s, with which an upload falls behind for good: write at least 64KiB/s, or leave it out for no limit",
    cel: "!has(self.upload) || quantity(self.upload.replace('B/s', '')).compareTo(quantity('64Ki')) >= 0",
    broken: |policy| field_if(policy.budgets.upload_bytes_per_second.is_some_and(|rate| rate < 64 * KIB), "spec.budgets.upload"),
};

/// On `spec`.
pub const RUN_AS_ROOT: Rule<Policy> = Rule {
    name: "run-as-root",
    severity: Severity::Error,
    sentence: "runAs.user: 0 is root with no capability, which restores no owner: write preserveOwner: true instead of runAs",
    cel: "!has(self.runAs) || self.runAs.user != 0",
    broken: |policy| field_if(matches!(policy.user, User::RunAs { user: 0, .. }), "spec.runAs.user"),
};
