// SPDX-License-Identifier: Apache-2.0
//! What a policy's form must obey: which fields go together. The meaning of its values is ruled in
//! [`holdfast_core::policy::rules`], whose types can't even hold what is refused here.

use super::{ConsistencyMode, HookSpec, ProvisionSpec, StatePolicySpec};
use holdfast_core::policy::Severity;
use holdfast_core::policy::rules::Rule;

/// Every rule about form, in the order of the fields.
pub const SHAPES: &[&Rule<StatePolicySpec>] =
    &[&PROVISION_ONE, &HOOKS_MISSING, &HOOKS_UNUSED, &HOOK_ONE, &RETENTION_EITHER, &OWNER_EITHER];

fn field_if(broken: bool, field: &str) -> Vec<String> {
    broken.then(|| field.to_owned()).into_iter().collect()
}

fn has_one_volume(provision: &ProvisionSpec) -> bool {
    provision.ephemeral_volume.is_some() != provision.empty_dir.is_some()
}

/// On each `provision`.
pub const PROVISION_ONE: Rule<StatePolicySpec> = Rule {
    name: "provision-one",
    severity: Severity::Error,
    sentence: "must say one of ephemeralVolume and emptyDir: write for example provision: {ephemeralVolume: {size: 10Gi}}",
    cel: "has(self.ephemeralVolume) != has(self.emptyDir)",
    broken: |spec| {
        let paths = spec.paths.iter().enumerate();
        let bad = paths.filter(|(_, path)| path.provision.as_ref().is_some_and(|provision| !has_one_volume(provision)));
        bad.map(|(index, _)| format!("spec.paths[{index}].provision")).collect()
    },
};

/// On `spec.consistency`.
pub const HOOKS_MISSING: Rule<StatePolicySpec> = Rule {
    name: "hooks-missing",
    severity: Severity::Error,
    sentence: "mode: Hooks needs hooks: write for example hooks: {before: {http: {port: 8080, path: /freeze}}, after: {http: {port: 8080, path: /thaw}}}",
    cel: "self.mode != 'Hooks' || has(self.hooks)",
    broken: |spec| {
        let consistency = &spec.consistency;
        field_if(consistency.mode == ConsistencyMode::Hooks && consistency.hooks.is_none(), "spec.consistency.hooks")
    },
};

/// On `spec.consistency`.
pub const HOOKS_UNUSED: Rule<StatePolicySpec> = Rule {
    name: "hooks-unused",
    severity: Severity::Error,
    sentence: "hooks are called with mode: Hooks only: write mode: Hooks, or remove hooks",
    cel: "self.mode == 'Hooks' || !has(self.hooks)",
    broken: |spec| {
        let consistency = &spec.consistency;
        field_if(consistency.mode != ConsistencyMode::Hooks && consistency.hooks.is_some(), "spec.consistency.hooks")
    },
};

fn has_one_call(hook: &HookSpec) -> bool {
    [hook.http.is_some(), hook.unix_socket.is_some(), hook.signal.is_some()].into_iter().filter(|said| *said).count() == 1
}

/// On each hook.
pub const HOOK_ONE: Rule<StatePolicySpec> = Rule {
    name: "hook-one",
    severity: Severity::Error,
    sentence: "must say one of http, unixSocket and signal: write for example {http: {port: 8080, path: /freeze}}",
    cel: "(has(self.http) ? 1 : 0) + (has(self.unixSocket) ? 1 : 0) + (has(self.signal) ? 1 : 0) == 1",
    broken: |spec| {
        let Some(hooks) = &spec.consistency.hooks else { return Vec::new() };
        let named = [("before", Some(&hooks.before)), ("after", hooks.after.as_ref())];
        let bad = named.into_iter().filter(|(_, hook)| hook.is_some_and(|hook| !has_one_call(hook)));
        bad.map(|(name, _)| format!("spec.consistency.hooks.{name}")).collect()
    },
};

/// On `spec.retention`.
pub const RETENTION_EITHER: Rule<StatePolicySpec> = Rule {
    name: "retention-either",
    severity: Severity::Error,
    sentence: "keepEvery stands instead of hourly, daily, weekly, monthly and yearly: write one or the other",
    cel: "!has(self.keepEvery) || size(self.keepEvery) == 0 || !(has(self.hourly) || has(self.daily) || has(self.weekly) || has(self.monthly) || has(self.yearly))",
    broken: |spec| {
        let keep = &spec.retention;
        let named = [keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly].iter().any(Option::is_some);
        field_if(named && !keep.keep_every.is_empty(), "spec.retention.keepEvery")
    },
};

/// On `spec`.
pub const OWNER_EITHER: Rule<StatePolicySpec> = Rule {
    name: "owner-either",
    severity: Severity::Error,
    sentence: "runAs and preserveOwner: true exclude each other: write runAs for an application with one user, preserveOwner for files of several owners",
    cel: "!(has(self.runAs) && self.preserveOwner)",
    broken: |spec| field_if(spec.run_as.is_some() && spec.preserve_owner, "spec.preserveOwner"),
};
