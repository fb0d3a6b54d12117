// SPDX-License-Identifier: Apache-2.0
//! Whether a workload's label goes into its pod template, or out of it.

use super::Change;
use crate::ops::Ops;
use crate::pod::policy_of;
use crate::raw;
use crate::reason::{Refusal, Said, say};
use holdfast_api::labels::{CARRIED, POLICY};
use serde_json::{Value, json};

/// What to do with the template's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carry {
    /// Leave it.
    Nothing,
    /// Set it, and write down that we did.
    Set(String),
    /// Take it out: we set it.
    Remove,
    /// Leave it, and forget that we set it: it is somebody else's by now.
    Forget,
}

/// What to do with the template's label.
pub(super) fn decide(change: &Change<'_>, template: &Value) -> Result<Carry, Said<Refusal>> {
    let carried = raw::annotation(change.object, CARRIED);
    let in_template = policy_of(template);
    let ours = carried.is_some() && carried == in_template;
    Ok(match (policy_of(change.object), in_template) {
        (None, _) if carried.is_none() => Carry::Nothing,
        (None, _) if ours => Carry::Remove,
        (None, _) => Carry::Forget,
        (Some(own), Some(there)) if own == there => Carry::Nothing,
        (Some(own), Some(there)) if !ours => {
            return Err(say(Refusal::LabelsDiffer, &[("one", own), ("other", there)]));
        }
        (Some(own), _) => Carry::Set(own.to_owned()),
    })
}

/// Does it.
pub(super) fn write(ops: &mut Ops<'_>, carry: &Carry, template: &[&str]) {
    let label: Vec<&str> = template.iter().copied().chain(["metadata", "labels", POLICY]).collect();
    match carry {
        Carry::Nothing => {}
        Carry::Set(policy) => {
            ops.set(&label, json!(policy));
            ops.set(&["metadata", "annotations", CARRIED], json!(policy));
        }
        Carry::Remove => {
            ops.remove(&label);
            ops.remove(&["metadata", "annotations", CARRIED]);
        }
        Carry::Forget => ops.remove(&["metadata", "annotations", CARRIED]),
    }
}
