// SPDX-License-Identifier: Apache-2.0
//! What a policy must obey. Every rule stands here once: the sentence, the test in Rust, and the same test in CEL for
//! the API server. The API types carry the CEL texts; a test there runs both over one table of good and bad policies.

use super::{Finding, Policy, Severity};

mod budgets;
mod capture;
mod paths;
mod restore;

pub use budgets::*;
pub use capture::*;
pub use paths::*;
pub use restore::*;

/// One thing that a `T` must obey.
#[derive(Debug)]
pub struct Rule<T: 'static> {
    /// What it is called in tests.
    pub name: &'static str,
    /// How bad it is to break it.
    pub severity: Severity,
    /// What to write instead.
    pub sentence: &'static str,
    /// The same in CEL, over the part of the schema that carries it; empty if CEL can't tell. It may let pass what
    /// `broken` finds, and never refuses what `broken` lets pass.
    pub cel: &'static str,
    /// The fields that break it.
    pub broken: fn(&T) -> Vec<String>,
}

/// What these rules find in `subject`.
#[must_use]
pub fn findings<T>(rules: &[&Rule<T>], subject: &T) -> Vec<Finding> {
    let found = |rule: &&Rule<T>| {
        let (severity, sentence) = (rule.severity, rule.sentence);
        let finding = move |field| Finding { field, severity, sentence: sentence.to_owned() };
        (rule.broken)(subject).into_iter().map(finding)
    };
    rules.iter().flat_map(found).collect()
}

/// `field` if it breaks a rule.
fn field_if(broken: bool, field: &str) -> Vec<String> {
    broken.then(|| field.to_owned()).into_iter().collect()
}

/// Every rule, in the order of the fields.
pub const RULES: &[&Rule<Policy>] = &[
    &PATHS_EMPTY,
    &PATH_ABSOLUTE,
    &PATH_SYSTEM,
    &PATHS_NESTED,
    &LABEL_FORM,
    &LABEL_TWICE,
    &PATTERN,
    &PROVISION_SIZE,
    &PROVISION_SHARED,
    &PROVISION_EMPTY_DIR,
    &SETTLE_OVER_LIMIT,
    &QUIET_OVER_LIMIT,
    &QUIET_SHORT,
    &LIMIT_LONG,
    &SCAN_RANGE,
    &CRON,
    &TIME_ZONE,
    &PAUSE_RANGE,
    &HOOK_TIMEOUT,
    &HOOK_TIMEOUT_OVER_PAUSE,
    &HOOK_HTTP_PATH,
    &HOOK_SOCKET_PATH,
    &HOOK_PROCESS,
    &EVERY_CHECKPOINT,
    &KEEP_ALL_SHORT,
    &TIER_EMPTY,
    &TIER_LONG,
    &ALWAYS_PREFERS_DISK,
    &NEVER_PREFERS_STORE,
    &ALWAYS_SHARED,
    &ALWAYS_LOSES,
    &SAME_VOLUME_EPHEMERAL,
    &CPU_SMALL,
    &MEMORY_SMALL,
    &SCRATCH_SMALL,
    &READ_SMALL,
    &UPLOAD_SMALL,
    &RUN_AS_ROOT,
];
