// SPDX-License-Identifier: Apache-2.0
//! What is said of a StateSnapshot: its status, in the order in which it comes about.

use super::{Context, SUCCEEDED};
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{self, Saying, Truth, whole_seconds};
use crate::cluster::hindrance::Hindrance;
use crate::cluster::once::{self, Manager};
use crate::convert;
use holdfast_api::lineage::QualityStatus;
use holdfast_api::snapshot::{ConsistencyStatus, MemberStatus, PhaseStatus};
use holdfast_api::{StateSnapshot, StateSnapshotStatus};
use holdfast_core::time::Timestamp;
use holdfast_proto::v1::{Consistency, LineageRef, Quality, Snapshot, SnapshotMember};
use holdfast_store::snapshot::{Manifest, Setting};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// One moment's progress may be written over another's: what was taken stands in the repository.
const MANAGER: Manager = Manager { name: "holdfast-snapshots", alone: false };
/// Members in a status: as many as the schema lets in.
const MEMBERS_MAX: usize = 256;
/// Names of recorded objects in a status: as many as the schema lets in.
const RECORDED_MAX: usize = 256;

/// Writes one object's status.
pub(super) struct Teller<'a> {
    context: &'a Context,
    pub(super) object: StateSnapshot,
}

impl<'a> Teller<'a> {
    pub(super) const fn new(context: &'a Context, object: StateSnapshot) -> Self {
        Self { context, object }
    }

    /// What stands there.
    pub(super) fn status(&self) -> StateSnapshotStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// What stands in its way, as was said last.
    pub(super) fn standing(&self) -> Hindrance {
        let status = self.status();
        let said = conditions::find(&status.conditions, SUCCEEDED).map(|said| said.message.clone());
        Hindrance::passing("NotInTime", said.unwrap_or_default())
    }

    /// Says that it was seen, once; returns when that was.
    pub(super) async fn begin(&mut self) -> Result<Timestamp, kube::Error> {
        let before = self.status();
        if let Some(began) = before.start_time {
            return Ok(began.0.into());
        }
        let now = whole_seconds(self.context.with.clock.now());
        let began = now.0.into();
        let status = StateSnapshotStatus { start_time: Some(now), phase: Some(PhaseStatus::Waiting), ..before };
        self.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "Accepted", "it will be taken")).await?;
        Ok(began)
    }

    /// Says where it will be, before anything of it is there: a later leader looks there.
    pub(super) async fn announce(&mut self, repository: &RepositoryKey) -> Result<(), kube::Error> {
        let status = StateSnapshotStatus {
            repository: Some(repository.to_string()),
            phase: Some(PhaseStatus::Preparing),
            ..self.status()
        };
        self.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "InProgress", "it is being taken")).await
    }

    /// Says how far it is. What can't be said is no reason not to go on.
    pub(super) async fn progress(&mut self, phase: PhaseStatus) {
        let status = StateSnapshotStatus { phase: Some(phase), ..self.status() };
        let saying = Saying::new(SUCCEEDED, Truth::Unknown, "InProgress", "it is being taken");
        if let Err(error) = self.settle(status, &saying).await {
            tracing::debug!(snapshot = self.object.name_any(), %error, "its progress could not be told");
        }
    }

    /// Writes a status with its condition, if it says anything new.
    pub(super) async fn settle(&mut self, status: StateSnapshotStatus, saying: &Saying) -> Result<(), kube::Error> {
        match once::settle(&self.context.with, &MANAGER, &self.object, status, saying).await {
            Ok(Some(object)) => self.object = object,
            Ok(None) => {}
            // it was deleted meanwhile
            Err(kube::Error::Api(refused)) if refused.is_not_found() || refused.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The phase that a barrier's word means.
pub(super) fn phase(word: &str) -> Option<PhaseStatus> {
    use PhaseStatus::{Aborting, Committing, Cutting, Freezing, Preparing, Sealing};
    [Preparing, Freezing, Cutting, Sealing, Committing, Aborting].into_iter().find(|phase| format!("{phase:?}") == word)
}

/// The status of one that was taken; `object` says namespace and name of the StateLineage of a lineage.
pub(super) fn taken(
    snapshot: &Snapshot,
    repository: &RepositoryKey,
    object: &dyn Fn(&LineageRef) -> (String, String),
    before: StateSnapshotStatus,
) -> StateSnapshotStatus {
    let pause = snapshot.members.iter().filter_map(|member| member.pause_ns).max();
    StateSnapshotStatus {
        phase: Some(PhaseStatus::Taken),
        snapshot_id: Some(snapshot.id.clone()),
        snapshot_name: Some(snapshot.name.clone()),
        repository: Some(repository.to_string()),
        consistency: Some(match snapshot.consistency() {
            Consistency::Frozen => ConsistencyStatus::Frozen,
            Consistency::Hooks => ConsistencyStatus::Hooks,
            Consistency::Crash | Consistency::Unspecified => ConsistencyStatus::Crash,
        }),
        cut_time: cut_time(snapshot),
        member_count: Some(i32::try_from(snapshot.members.len()).unwrap_or(i32::MAX)),
        pause_millis: pause.map(millis),
        skew_millis: Some(millis(snapshot.skew_ns)),
        bytes: Some(amount(snapshot.bytes)),
        members: snapshot.members.iter().take(MEMBERS_MAX).filter_map(|one| member(one, object)).collect(),
        ..before
    }
}

/// The objects that stand recorded with it, as far as they fit: those of which only the name does are marked so.
pub(super) fn recorded(setting: &Setting, spans: bool) -> Vec<String> {
    let word = |manifest: &Manifest| {
        let only = if manifest.json.is_empty() { " (name only)" } else { "" };
        let of = if spans { format!("{}/", manifest.namespace) } else { String::new() };
        format!("{} {of}{}{only}", manifest.kind, manifest.name)
    };
    setting.manifests.iter().take(RECORDED_MAX).map(word).collect()
}

/// When the last member's capture had ended.
fn cut_time(snapshot: &Snapshot) -> Option<Time> {
    let ends = snapshot.members.iter().filter_map(|member| convert::moment(member.checkpoint.as_ref()?.last_close.as_ref()?));
    let made = || convert::moment(snapshot.created.as_ref()?);
    ends.max().or_else(made).map(|moment| Time(moment.to_jiff()))
}

fn member(one: &SnapshotMember, object: &dyn Fn(&LineageRef) -> (String, String)) -> Option<MemberStatus> {
    let checkpoint = one.checkpoint.as_ref()?;
    let (namespace, lineage) = object(checkpoint.lineage.as_ref()?);
    Some(MemberStatus {
        namespace,
        lineage,
        sequence: amount(checkpoint.sequence),
        quality: match checkpoint.quality() {
            Quality::Fuzzy => QualityStatus::Fuzzy,
            Quality::Partial => QualityStatus::Partial,
            Quality::Clean | Quality::Unspecified => QualityStatus::Clean,
        },
        pause_millis: one.pause_ns.map(millis),
        bytes: checkpoint.totals.as_ref().map(|totals| amount(totals.bytes)),
    })
}

/// Rounded up: what is told is a bound.
fn millis(nanos: u64) -> i64 {
    amount(nanos.div_ceil(1_000_000))
}

fn amount(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// One that was taken, in a sentence.
pub(super) fn in_words(status: &StateSnapshotStatus) -> String {
    let members = match status.member_count.unwrap_or_default() {
        1 => "one replica".to_owned(),
        count => format!("{count} replicas"),
    };
    let rest = match status.consistency {
        Some(ConsistencyStatus::Frozen) => "all stood still before any was captured",
        Some(ConsistencyStatus::Hooks) => "all had come to rest before any was captured",
        Some(ConsistencyStatus::Crash) | None => "not all were brought to rest, and each is a moment of its own",
    };
    let pause = status.pause_millis.map(|pause| format!(", paused {pause} ms at most")).unwrap_or_default();
    let name = status.snapshot_name.as_deref().unwrap_or_default();
    let repository = status.repository.as_deref().unwrap_or_default();
    let (skew, bytes) = (status.skew_millis.unwrap_or_default(), status.bytes.unwrap_or_default());
    format!("{name:?} in {repository}: {members}; {rest}{pause}; skew {skew} ms; {bytes} bytes")
}
