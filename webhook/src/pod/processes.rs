// SPDX-License-Identifier: Apache-2.0
//! Whether the agent may signal the application's processes: only where a policy asks for it, since a pod whose
//! containers share processes has no process 1 of its own.

use super::mounts::Mounts;
use super::parts::Parts;
use super::policy_of;
use super::user::{Who, user_of};
use crate::raw;
use crate::reason::{Refusal, Said, Warning, say};
use holdfast_core::policy::{Call, Policy, Quiesce};
use serde_json::Value;

/// Whether a policy's way to bring an application to rest is to signal it.
pub(crate) fn signals(policy: &Policy) -> bool {
    match &policy.consistency.quiesce {
        Quiesce::Nothing => false,
        Quiesce::Freeze => true,
        Quiesce::Hooks(hooks) => {
            let mut all = std::iter::once(&hooks.before).chain(&hooks.after);
            all.any(|hook| matches!(hook.call, Call::Signal { .. }))
        }
    }
}

/// Whether the pod's containers must share a process namespace.
pub(crate) fn share(
    parts: &Parts<'_>,
    policy: &Policy,
    user: &Who,
    mounts: &Mounts<'_>,
    warnings: &mut Vec<Said<Warning>>,
) -> Result<bool, Said<Refusal>> {
    if !signals(policy) {
        return Ok(false);
    }
    let name = policy_of(parts.pod).unwrap_or_default();
    let apart = |field| say(Refusal::ProcessesApart, &[("policy", name), ("field", field)]);
    if parts.is("hostPID") {
        return Err(apart("hostPID: true"));
    }
    let shared = raw::at(parts.pod, &["spec", "shareProcessNamespace"]).and_then(Value::as_bool);
    if shared == Some(false) {
        return Err(apart("shareProcessNamespace: false"));
    }
    for container in mounts.containers.iter().filter(|_| !user.keeps_owners) {
        let other = user_of(parts, container).filter(|other| user.user.is_some_and(|user| user != *other));
        if let (Some(other), Some(own)) = (other, user.user) {
            let (own, other) = (own.to_string(), other.to_string());
            let words = [("user", own.as_str()), ("container", raw::name(container)), ("second", &other), ("policy", name)];
            return Err(say(Refusal::ProcessesOthers, &words));
        }
    }
    if shared.is_none() {
        warnings.push(say(Warning::ProcessesShared, &[("policy", name)]));
    }
    Ok(true)
}
