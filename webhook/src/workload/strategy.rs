// SPDX-License-Identifier: Apache-2.0
//! How Deployments and DaemonSets replace their pods. A surge starts a pod before its predecessor has ended, and so before
//! the predecessor's last state is there; a DaemonSet would wait for ever, the new pod for the old one's end, and the old
//! one for the new one to be ready. A Deployment's default surge is taken away, and one that somebody wrote is refused.

use super::Change;
use crate::around::{Around, Known};
use crate::ops::Ops;
use crate::raw;
use crate::reason::{Refusal, Said, Warning, say};
use holdfast_api::labels::SURGE;
use holdfast_core::policy::{Policy, Scope};
use serde_json::{Value, json};

const ROLLING: [&str; 3] = ["spec", "strategy", "rollingUpdate"];

/// What the API server fills in for a Deployment, which can't be told from what somebody wrote.
const DEFAULT: &str = "25%";

/// Where a workload says how its pods are replaced, and the way in which none starts before its predecessor has ended at all.
struct Place {
    field: &'static str,
    without_rolling: &'static str,
}

/// Of kinds whose pods may surge.
fn place(kind: &str) -> Option<Place> {
    match kind {
        "Deployment" => Some(Place { field: ROLLING[1], without_rolling: "Recreate" }),
        "DaemonSet" => Some(Place { field: "updateStrategy", without_rolling: "OnDelete" }),
        _ => None,
    }
}

fn field(object: &Value, name: &str) -> Option<Value> {
    raw::at(object, &[ROLLING[0], ROLLING[1], ROLLING[2], name]).cloned()
}

fn is_zero(value: &Value) -> bool {
    value.as_u64() == Some(0) || value.as_str().is_some_and(|text| text.trim_end_matches('%').parse() == Ok(0))
}

/// A number or a share, as one would write it.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn policy(around: &Around) -> Option<&Policy> {
    match &around.policy {
        Known::Usable(policy) => Some(policy),
        Known::Missing | Known::Unusable(_) => None,
    }
}

/// Whether it is a workload of this kind that rolls.
fn rolls(change: &Change<'_>, kind: &str) -> bool {
    let strategy = place(kind).and_then(|place| raw::text(change.object, &["spec", place.field, "type"]));
    change.kind == kind && strategy.unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// Whether its pods are replaced in this way by this very change. Controllers, which write down what they do, never change that.
pub(super) fn is_new(change: &Change<'_>) -> bool {
    let Some(Place { field, .. }) = place(change.kind) else { return false };
    let of = |object| raw::at(object, &["spec", field]);
    change.old.is_none_or(|old| of(old) != of(change.object))
}

fn refuse(kind: &str, surge: &Value, unavailable: &Value) -> Result<(), Said<Refusal>> {
    let Some(Place { field, without_rolling }) = place(kind) else { return Ok(()) };
    let (surge, unavailable) = (shown(surge), shown(unavailable));
    let words = [("surge", &*surge), ("unavailable", &*unavailable), ("field", field), ("other", without_rolling)];
    Err(say(Refusal::Surge, &words))
}

/// Sees to it that no pod starts before its predecessor has ended, where each has a state of its own.
pub(super) fn check_surge(
    ops: &mut Ops<'_>,
    change: &Change<'_>,
    around: &Around,
    warnings: &mut Vec<Said<Warning>>,
) -> Result<(), Said<Refusal>> {
    if policy(around).is_none_or(|policy| policy.scope == Scope::Shared) {
        Ok(())
    } else if rolls(change, "Deployment") {
        remove_surge(ops, change, warnings)
    } else if rolls(change, "DaemonSet") {
        check_daemon_set(change)
    } else {
        Ok(())
    }
}

/// It has no surge unless somebody wrote one.
fn check_daemon_set(change: &Change<'_>) -> Result<(), Said<Refusal>> {
    let of = |name| raw::at(change.object, &["spec", "updateStrategy", "rollingUpdate", name]).cloned();
    let surge = of("maxSurge").unwrap_or(json!(0));
    if is_zero(&surge) {
        return Ok(());
    }
    refuse("DaemonSet", &surge, &of("maxUnavailable").unwrap_or(json!(0)))
}

/// Takes a Deployment's default surge away.
fn remove_surge(ops: &mut Ops<'_>, change: &Change<'_>, warnings: &mut Vec<Said<Warning>>) -> Result<(), Said<Refusal>> {
    let surge = field(change.object, "maxSurge").unwrap_or(json!(DEFAULT));
    let unavailable = field(change.object, "maxUnavailable").unwrap_or(json!(DEFAULT));
    if is_zero(&surge) {
        return Ok(());
    }
    if surge != DEFAULT || is_zero(&unavailable) {
        return refuse("Deployment", &surge, &unavailable);
    }
    let is_default = unavailable == DEFAULT;
    ops.set(&[ROLLING[0], ROLLING[1], ROLLING[2], "maxSurge"], json!(0));
    if is_default {
        // a quarter of up to three replicas is none, and then nothing would ever roll
        ops.set(&[ROLLING[0], ROLLING[1], ROLLING[2], "maxUnavailable"], json!(1));
    }
    let before = format!("{}/{}", shown(&surge), shown(&unavailable));
    ops.set(&["metadata", "annotations", SURGE], json!(before));
    let now = if is_default { "1".to_owned() } else { shown(&unavailable) };
    warnings.push(say(Warning::SurgeRemoved, &[("unavailable", &now)]));
    Ok(())
}

/// What was taken away comes back with the label's end, unless somebody has written something else since.
pub(super) fn give_back_surge(ops: &mut Ops<'_>, change: &Change<'_>) {
    let Some(before) = raw::annotation(change.object, SURGE) else { return };
    let is_ours = field(change.object, "maxSurge").is_some_and(|surge| is_zero(&surge));
    if let (true, true, Some((surge, unavailable))) = (rolls(change, "Deployment"), is_ours, before.split_once('/')) {
        let number = |text: &str| text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number));
        let set_by_us = unavailable == DEFAULT && field(change.object, "maxUnavailable") == Some(json!(1));
        if surge == DEFAULT {
            ops.set(&[ROLLING[0], ROLLING[1], ROLLING[2], "maxSurge"], number(surge));
        }
        if set_by_us {
            ops.set(&[ROLLING[0], ROLLING[1], ROLLING[2], "maxUnavailable"], number(unavailable));
        }
    }
    ops.remove(&["metadata", "annotations", SURGE]);
}

/// Several replicas of a Deployment mount the same claim, each with a state of its own.
pub(super) fn warn_of_claims(change: &Change<'_>, template: &Value, around: &Around, warnings: &mut Vec<Said<Warning>>) {
    let replicas = raw::at(change.object, &["spec", "replicas"]).and_then(Value::as_u64).unwrap_or(1);
    let is_own = policy(around).is_some_and(|policy| policy.scope == Scope::Replica);
    if change.kind != "Deployment" || replicas < 2 || !is_own || !change.is_new() {
        return;
    }
    let volumes = raw::list(template, &["spec", "volumes"]).iter();
    let claim = volumes.filter_map(|volume| raw::text(volume, &["persistentVolumeClaim", "claimName"])).next();
    if let Some(claim) = claim {
        warnings.push(say(Warning::SharedClaim, &[("replicas", &replicas.to_string()), ("claim", claim)]));
    }
}
