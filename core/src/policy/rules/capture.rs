// SPDX-License-Identifier: Apache-2.0
//! Rules about when and how to capture.

use super::{Rule, field_if};
use crate::policy::{Call, Hook, Policy, Quiesce, Severity, When};
use std::time::Duration;

/// On `spec.cadence`.
pub const SETTLE_OVER_LIMIT: Rule<Policy> = Rule {
    name: "settle-over-limit",
    severity: Severity::Error,
    sentence: "settle is longer than limit: write settle as the delay after a lone change (200ms) and limit as the longest delay of all (10s)",
    cel: "duration(self.settle) <= duration(self.limit)",
    broken: |policy| field_if(policy.paces.settle > policy.paces.limit, "spec.cadence.settle"),
};

/// On `spec.cadence`.
pub const QUIET_OVER_LIMIT: Rule<Policy> = Rule {
    name: "quiet-over-limit",
    severity: Severity::Error,
    sentence: "quiet is longer than limit, so it would never be waited out: write a limit of at least quiet",
    cel: "duration(self.quiet) <= duration(self.limit)",
    broken: |policy| field_if(policy.paces.quiet > policy.paces.limit, "spec.cadence.quiet"),
};

/// On `spec.cadence`.
pub const QUIET_SHORT: Rule<Policy> = Rule {
    name: "quiet-short",
    severity: Severity::Error,
    sentence: "quiet is shorter than 50ms, within which no write can be told from the next: write at least 50ms",
    cel: "duration(self.quiet) >= duration('50ms')",
    broken: |policy| field_if(policy.paces.quiet < Duration::from_millis(50), "spec.cadence.quiet"),
};

/// On `spec.cadence`.
pub const LIMIT_LONG: Rule<Policy> = Rule {
    name: "limit-long",
    severity: Severity::Error,
    sentence: "limit is longer than 1h, and a crash loses up to that much: write at most 1h",
    cel: "duration(self.limit) <= duration('1h')",
    broken: |policy| field_if(policy.paces.limit > Duration::from_hours(1), "spec.cadence.limit"),
};

/// On `spec.cadence`.
pub const SCAN_RANGE: Rule<Policy> = Rule {
    name: "scan-range",
    severity: Severity::Error,
    sentence: "scan is not within 10s and 24h: it compares every file with the last capture, to find what made no noise; 60s suits most",
    cel: "duration(self.scan) >= duration('10s') && duration(self.scan) <= duration('24h')",
    broken: |policy| {
        let range = Duration::from_secs(10)..=Duration::from_hours(24);
        field_if(!range.contains(&policy.paces.scan), "spec.cadence.scan")
    },
};

/// On `spec.snapshots`; CEL sees only whether there are five fields.
pub const CRON: Rule<Policy> = Rule {
    name: "cron",
    severity: Severity::Error,
    sentence: "is not a cron line of minute, hour, day of month, month and day of week: write for example '0 3 * * *' (every day at three), '*/30 * * * *' or @hourly",
    cel: "self.schedule.matches('^ *(@[a-zA-Z]+|[^ @]+( +[^ @]+){4}) *$')",
    broken: |policy| {
        field_if(policy.snapshots.as_ref().is_some_and(|schedule| !schedule.is_understood()), "spec.snapshots.schedule")
    },
};

/// On `spec.snapshots`. Whether the zone exists is found out by whoever has a zone database.
pub const TIME_ZONE: Rule<Policy> = Rule {
    name: "time-zone",
    severity: Severity::Error,
    sentence: "is not the name of a time zone: write for example UTC or Europe/Berlin",
    cel: "self.timeZone.matches('^[A-Za-z][-+A-Za-z0-9_]*(/[-+A-Za-z0-9_]+)*$')",
    broken: |policy| {
        field_if(policy.snapshots.as_ref().is_some_and(|schedule| !schedule.names_zone()), "spec.snapshots.timeZone")
    },
};

/// On `spec.consistency`.
pub const PAUSE_RANGE: Rule<Policy> = Rule {
    name: "pause-range",
    severity: Severity::Error,
    sentence: "pauseBudget is not within 100ms and 60s: write the longest time the application may stand still, for example 5s",
    cel: "duration(self.pauseBudget) >= duration('100ms') && duration(self.pauseBudget) <= duration('60s')",
    broken: |policy| {
        let range = Duration::from_millis(100)..=Duration::from_secs(60);
        field_if(!range.contains(&policy.consistency.pause_budget), "spec.consistency.pauseBudget")
    },
};

/// The field of each hook that `broken` says breaks a rule.
fn hooks_if(policy: &Policy, field: &str, broken: impl Fn(&Hook) -> bool) -> Vec<String> {
    let Some(hooks) = policy.consistency.hooks() else { return Vec::new() };
    let named = [("before", Some(&hooks.before)), ("after", hooks.after.as_ref())];
    let bad = named.into_iter().filter(|(_, hook)| hook.is_some_and(&broken));
    bad.map(|(name, _)| format!("spec.consistency.hooks.{name}{field}")).collect()
}

/// On each hook.
pub const HOOK_TIMEOUT: Rule<Policy> = Rule {
    name: "hook-timeout",
    severity: Severity::Error,
    sentence: "has no time to answer: write a timeout of at least 1ms, for example 2s",
    cel: "duration(self.timeout) > duration('0s')",
    broken: |policy| hooks_if(policy, ".timeout", |hook| hook.timeout.is_zero()),
};

/// On `spec.consistency`.
pub const HOOK_TIMEOUT_OVER_PAUSE: Rule<Policy> = Rule {
    name: "hook-timeout-over-pause",
    severity: Severity::Error,
    sentence: "the hook before may take longer than pauseBudget, which leaves no time to capture: write a shorter hooks.before.timeout or a longer pauseBudget",
    cel: "!has(self.hooks) || duration(self.hooks.before.timeout) < duration(self.pauseBudget)",
    broken: |policy| {
        let consistency = &policy.consistency;
        let over = consistency.hooks().is_some_and(|hooks| hooks.before.timeout >= consistency.pause_budget);
        field_if(over, "spec.consistency.hooks.before.timeout")
    },
};

/// On each hook.
pub const HOOK_HTTP_PATH: Rule<Policy> = Rule {
    name: "hook-http-path",
    severity: Severity::Error,
    sentence: "is not the path of a URL: begin it with a slash and leave out spaces, for example /freeze",
    cel: "!has(self.http) || self.http.path.matches('^/[!-~]*$')",
    broken: |policy| {
        let is_path = |path: &str| path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
        hooks_if(policy, ".http.path", |hook| matches!(&hook.call, Call::Http { path, .. } if !is_path(path)))
    },
};

/// On each hook.
pub const HOOK_SOCKET_PATH: Rule<Policy> = Rule {
    name: "hook-socket-path",
    severity: Severity::Error,
    sentence: "is not the absolute path of a socket of at most 107 bytes: write it as the container sees it, for example /run/app/control.sock",
    cel: "!has(self.unixSocket) || self.unixSocket.path.matches('^/.{1,106}$')",
    broken: |policy| {
        let is_path = |path: &str| path.starts_with('/') && (2..=107).contains(&path.len()) && !path.contains('\n');
        hooks_if(policy, ".unixSocket.path", |hook| matches!(&hook.call, Call::Socket { path, .. } if !is_path(path)))
    },
};

/// On each hook.
pub const HOOK_PROCESS: Rule<Policy> = Rule {
    name: "hook-process",
    severity: Severity::Error,
    sentence: "is not the name of a process: write it as in /proc/PID/comm, 1 to 15 characters without a slash, for example postgres",
    cel: "!has(self.signal) || self.signal.process.matches('^[^/ ]{1,15}$')",
    broken: |policy| {
        let is_name = |name: &str| (1..=15).contains(&name.len()) && !name.contains(['/', ' ']);
        hooks_if(policy, ".signal.process", |hook| matches!(&hook.call, Call::Signal { process, .. } if !is_name(process)))
    },
};

/// A warning.
pub const EVERY_CHECKPOINT: Rule<Policy> = Rule {
    name: "every-checkpoint",
    severity: Severity::Warning,
    sentence: "asks for rest at every checkpoint, and mode: None brings none: write mode: Freeze or Hooks",
    cel: "",
    broken: |policy| {
        let rests = matches!(policy.consistency.quiesce, Quiesce::Nothing) && policy.consistency.when == When::EveryCheckpoint;
        field_if(rests, "spec.consistency.when")
    },
};
