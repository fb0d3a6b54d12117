// SPDX-License-Identifier: Apache-2.0
//! Which state is asked for: from a snapshot, a moment, a checkpoint, or a restore that is to be undone, to a checkpoint of each replica.

use super::history::{self, Standing};
use super::plan::{Draft, Target, moment};
use super::{Context, SUCCEEDED, is_over};
use crate::Coordinator;
use crate::catalog::{Found, Place};
use crate::cluster::RepositoryKey;
use crate::cluster::conditions;
use crate::cluster::hindrance::{Hindrance, listed};
use crate::cluster::replicas::{self, Sight, bearers, is_wanted, workload};
use holdfast_api::restore::{CheckpointSpec, SourceSpec};
use holdfast_api::{StateLineage, StateRestore, StateSnapshot};
use holdfast_core::time::Timestamp;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::point_ref::Point;
use holdfast_store::snapshot::{Consistency, Image, Snapshot};
use kube::ResourceExt;
use kube::api::Api;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::Status;

/// What an answer of the repository means for a restore.
pub(super) fn hindrance(status: &Status) -> Hindrance {
    let message = status.message().to_owned();
    match Problem::of(status).reason {
        Some(Reason::StoreUnavailable | Reason::StoreRefused) => Hindrance::passing("StoreUnreachable", message),
        Some(Reason::NoCheckpoint | Reason::NotFound | Reason::Missing | Reason::Leaving | Reason::Deleted) => {
            Hindrance::lasting("NothingStored", message)
        }
        Some(Reason::Damaged | Reason::WrongKey | Reason::Unsupported) => Hindrance::lasting("Damaged", message),
        Some(Reason::ForeignOwner) => Hindrance::lasting("ForeignLineage", message),
        // a session that has ended, a leader that ends, another writer
        _ => Hindrance::passing("NotRead", message),
    }
}

/// Something that is asked for, or why not, or a failure of the API server.
pub(super) type Answer<T> = Result<Result<T, Hindrance>, kube::Error>;

/// What is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    source: &'a SourceSpec,
    /// Also the states of replicas that are not to run: who only reads them needs none that does.
    absent: bool,
}

/// A snapshot, and where it lies.
pub(super) struct Taken {
    pub(super) key: RepositoryKey,
    pub(super) coordinator: Coordinator,
    pub(super) snapshot: Arc<Snapshot>,
}

/// A replica, and a checkpoint of it.
struct Choice {
    object: Arc<StateLineage>,
    sequence: u64,
}

impl Context {
    /// The state that a restore asks for.
    pub(super) async fn aim(&self, object: &StateRestore) -> Answer<Draft> {
        let (own, source) = (object.namespace().unwrap_or_default(), &object.spec.source);
        let into_claim = object.spec.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.claim.is_some());
        let asked = Asked { source, absent: into_claim };
        if let Some(name) = &source.snapshot {
            return self.to_snapshot(&own, name, asked).await;
        }
        if let Some(time) = &source.time {
            return self.to_moment(&own, Timestamp::from(time.0), asked).await;
        }
        if let Some(checkpoint) = &source.checkpoint {
            return Ok(self.to_checkpoint(&own, checkpoint).await);
        }
        match &source.undo {
            Some(name) => self.to_before(&own, name, asked).await,
            None => Ok(Err(Hindrance::lasting(
                "Invalid",
                "source says nothing: name a snapshot, a time, a checkpoint or a restore to undo",
            ))),
        }
    }

    /// The repository that an object of a namespace may restore from.
    fn repository(&self, own: &str, name: &str) -> Result<RepositoryKey, Hindrance> {
        let key = name
            .parse::<RepositoryKey>()
            .map_err(|_| Hindrance::lasting("Invalid", format!("{name:?} is no StateRepository")))?;
        if key.namespace == own || own == self.system {
            return Ok(key);
        }
        let message =
            format!("its replicas are of namespace {}: create the StateRestore there, or in {}", key.namespace, self.system);
        Err(Hindrance::lasting("NamespaceRefused", message))
    }

    async fn to_snapshot(&self, own: &str, name: &str, asked: Asked<'_>) -> Answer<Draft> {
        match self.snapshot(own, name).await? {
            Ok(Taken { key, coordinator, snapshot }) => {
                let how = format!("to snapshot {:?} of {} ({})", name, moment(snapshot.created), in_words(snapshot.consistency));
                self.to_members(key, &coordinator, &snapshot, how, asked).await
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// The snapshot that a StateSnapshot of a namespace was taken as; without one, what a repository of the namespace has under that name: that of
    /// another cluster, or of an object that was deleted.
    pub(super) async fn snapshot(&self, own: &str, name: &str) -> Answer<Taken> {
        let api: Api<StateSnapshot> = Api::namespaced(self.with.client.clone(), own);
        let Some(object) = api.get_opt(name).await? else {
            return Ok(self.stored_snapshot(own, name).await);
        };
        let status = object.status.unwrap_or_default();
        let (Some(id), Some(repository)) = (&status.snapshot_id, &status.repository) else {
            let said = conditions::find(&status.conditions, SUCCEEDED).map(|said| said.message.clone()).unwrap_or_default();
            return Ok(Err(Hindrance::passing("SnapshotNotTaken", format!("StateSnapshot {name:?} was not taken: {said}"))));
        };
        let known = async {
            let key = self.repository(own, repository)?;
            let coordinator = self.coordinator(&key)?;
            let snapshot = coordinator.shared().board.find(id, "snapshot").await.map_err(|status| hindrance(&status))?;
            Ok(Taken { key, coordinator, snapshot })
        };
        let namespaces: BTreeSet<&str> = status.members.iter().map(|member| member.namespace.as_str()).collect();
        if namespaces.len() > 1 {
            let (namespaces, stored) = (Vec::from_iter(namespaces), status.snapshot_name.as_deref().unwrap_or(id));
            let message = format!(
                "snapshot {name:?} holds replicas of the namespaces {}: create a StateRestore in each that is to go back, with source: {{snapshot: {stored}}}",
                listed(&namespaces)
            );
            return Ok(Err(Hindrance::lasting("SeveralNamespaces", message)));
        }
        Ok(known.await)
    }

    /// A snapshot by its name in the repositories of a namespace.
    async fn stored_snapshot(&self, own: &str, name: &str) -> Result<Taken, Hindrance> {
        let ready: Vec<(RepositoryKey, Coordinator)> = {
            let repositories = self.with.repositories.borrow();
            let of_own = repositories.ready().filter(|(key, _)| key.namespace == own);
            of_own.map(|(key, coordinator)| (key.clone(), coordinator.clone())).collect()
        };
        for (key, coordinator) in ready {
            match coordinator.shared().board.find(name, "snapshot").await {
                Ok(snapshot) => return Ok(Taken { key, coordinator, snapshot }),
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(hindrance(&status)),
            }
        }
        let message = format!(
            "there is no StateSnapshot {name:?} in {own}, and no snapshot of that name in a repository of that namespace"
        );
        Err(Hindrance::passing("SnapshotNotFound", message))
    }

    /// The members of a snapshot.
    async fn to_members(
        &self,
        key: RepositoryKey,
        coordinator: &Coordinator,
        snapshot: &Snapshot,
        how: String,
        asked: Asked<'_>,
    ) -> Answer<Draft> {
        let source = asked.source;
        let objects = self.lineages_of(&key, &source.policies);
        let (mut choices, mut left) = (Vec::new(), Vec::new());
        for member in &snapshot.members {
            match objects.iter().find(|object| object.spec.lineage == member.name) {
                Some(object) => choices.push(Choice { object: Arc::clone(object), sequence: member.sequence }),
                None if source.policies.is_empty() => {
                    left.push((member.name.clone(), "it has no StateLineage any more".to_owned()));
                }
                // of another policy
                None => {}
            }
        }
        let policies: BTreeSet<&str> = choices.iter().map(|choice| choice.object.spec.policy.as_str()).collect();
        let is_member = |object: &StateLineage| choices.iter().any(|choice| choice.object.uid() == object.uid());
        let strangers = objects.iter().filter(|object| policies.contains(object.spec.policy.as_str()) && !is_member(object));
        left.extend(strangers.map(|object| (object.name_any(), "it is not in the snapshot".to_owned())));
        let images = match coordinator.api().setting(&snapshot.id.to_string(), &key.namespace).await {
            Ok(setting) => setting.images,
            Err(status) => return Ok(Err(hindrance(&status))),
        };
        if !asked.absent {
            self.leave_absent(&mut choices, &mut left).await?;
        }
        self.draft(key, coordinator, how, choices, left, images).await
    }

    async fn to_moment(&self, own: &str, time: Timestamp, asked: Asked<'_>) -> Answer<Draft> {
        if time > self.with.clock.now() {
            return Ok(Err(Hindrance::lasting("Invalid", format!("{} has not been yet", moment(time)))));
        }
        let (key, coordinator, objects) = match self.under(own, &asked.source.policies) {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let names: BTreeSet<&str> = objects.iter().map(|object| object.spec.lineage.as_str()).collect();
        let known = match coordinator.shared().board.refresh().await {
            Ok(known) => known,
            Err(status) => return Ok(Err(hindrance(&status))),
        };
        // one replica alone is consistent at each of its checkpoints
        let covers = |snapshot: &&Arc<Snapshot>| {
            names.len() > 1
                && snapshot.created <= time
                && snapshot.consistency != Consistency::Crash
                && names.iter().all(|name| snapshot.members.iter().any(|member| member.name == **name))
        };
        if let Some(snapshot) = known.values().filter(covers).max_by_key(|snapshot| snapshot.created) {
            let how = format!(
                "to the newest consistent snapshot at or before {}: {:?} of {} ({})",
                moment(time),
                snapshot.name,
                moment(snapshot.created),
                in_words(snapshot.consistency)
            );
            return self.to_members(key, &coordinator, snapshot, how, asked).await;
        }
        let how = match names.len() {
            1 => format!("to the newest checkpoint at or before {}", moment(time)),
            _ => format!(
                "to each replica's own newest checkpoint at or before {}, since no consistent snapshot of then holds them all",
                moment(time)
            ),
        };
        let (mut choices, mut left) = (Vec::new(), Vec::new());
        for object in objects {
            let at = match history::place(coordinator.shared(), &key.namespace, &object.spec.lineage).await {
                Ok(place) => at(&coordinator, place, time).await,
                Err(status) => Err(status),
            };
            match at.map_err(|status| hindrance(&status)) {
                Ok(found) => choices.push(Choice { object, sequence: found.entry.record.sequence }),
                Err(why) if why.reason == "NothingStored" => {
                    left.push((object.name_any(), "it has no state of that moment".to_owned()));
                }
                Err(why) => return Ok(Err(why)),
            }
        }
        if !asked.absent {
            self.leave_absent(&mut choices, &mut left).await?;
        }
        self.draft(key, &coordinator, how, choices, left, Vec::new()).await
    }

    async fn to_checkpoint(&self, own: &str, asked: &CheckpointSpec) -> Result<Draft, Hindrance> {
        let is = |object: &StateLineage| object.namespace().as_deref() == Some(own) && object.name_any() == asked.lineage;
        let missing = || Hindrance::passing("LineageNotFound", format!("there is no StateLineage {:?} in {own}", asked.lineage));
        let object = self.with.objects.lineages.find(is).ok_or_else(missing)?;
        let key = RepositoryKey::new(own, object.spec.repository.clone());
        let coordinator = self.coordinator(&key)?;
        let how = format!("to checkpoint {} of {}", asked.sequence, asked.lineage);
        let choice = Choice { object, sequence: u64::try_from(asked.sequence).unwrap_or_default() };
        let target = self.target(&coordinator, &key, &choice).await.map_err(|status| hindrance(&status))?;
        Ok(Draft { repository: key, how, targets: vec![target], left: Vec::new(), images: Vec::new() })
    }

    /// What replicas were before a restore.
    async fn to_before(&self, own: &str, name: &str, asked: Asked<'_>) -> Answer<Draft> {
        let source = asked.source;
        let api: Api<StateRestore> = Api::namespaced(self.with.client.clone(), own);
        let Some(object) = api.get_opt(name).await? else {
            return Ok(Err(Hindrance::lasting("RestoreNotFound", format!("there is no StateRestore {name:?} in {own}"))));
        };
        if object.spec.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.claim.is_some()) {
            let message = format!("StateRestore {name:?} has written files into a claim, and touched nothing else");
            return Ok(Err(Hindrance::lasting("NothingToUndo", message)));
        }
        if object.spec.elsewhere.is_some() {
            let message = format!(
                "StateRestore {name:?} has made a workload beside the original, which was not touched: delete that workload"
            );
            return Ok(Err(Hindrance::lasting("NothingToUndo", message)));
        }
        let status = object.status.clone().unwrap_or_default();
        let known = || {
            let over = is_over(&object);
            let went: Vec<_> = status.members.iter().filter(|member| member.claim.is_some()).collect();
            if went.is_empty() && over {
                return Err(Hindrance::lasting("NothingToUndo", format!("StateRestore {name:?} has brought nothing back")));
            }
            if !over {
                return Err(Hindrance::passing("RestoreInProgress", format!("StateRestore {name:?} has not ended yet")));
            }
            let key = self.repository(own, status.repository.as_deref().unwrap_or_default())?;
            let coordinator = self.coordinator(&key)?;
            let objects = self.lineages_of(&key, &source.policies);
            let (mut choices, mut left) = (Vec::new(), Vec::new());
            for member in went {
                let object = objects.iter().find(|object| object.name_any() == member.lineage);
                match (object, member.before.and_then(|before| u64::try_from(before).ok()).filter(|before| *before > 0)) {
                    (Some(object), Some(sequence)) => choices.push(Choice { object: Arc::clone(object), sequence }),
                    (Some(_), None) => left.push((member.lineage.clone(), "it had no state before".to_owned())),
                    (None, _) if source.policies.is_empty() => {
                        left.push((member.lineage.clone(), "it has no StateLineage any more".to_owned()));
                    }
                    (None, _) => {}
                }
            }
            Ok((key, coordinator, choices, left))
        };
        match known() {
            Ok((key, coordinator, mut choices, mut left)) => {
                if !asked.absent {
                    self.leave_absent(&mut choices, &mut left).await?;
                }
                let how = format!("to what was before StateRestore {name:?}");
                self.draft(key, &coordinator, how, choices, left, Vec::new()).await
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// The StateLineages of a repository; with policies, only those under them.
    fn lineages_of(&self, key: &RepositoryKey, policies: &[String]) -> Vec<Arc<StateLineage>> {
        let mut all = self.with.objects.lineages.state();
        all.retain(|object| {
            object.namespace().as_deref() == Some(&key.namespace)
                && object.spec.repository == key.name
                && (policies.is_empty() || policies.contains(&object.spec.policy))
        });
        all.sort_by_key(|object| object.name_any());
        all
    }

    /// The StateLineages under policies of a namespace, and the one repository that they are in.
    #[allow(clippy::type_complexity, reason = "three things that belong together")]
    fn under(&self, own: &str, policies: &[String]) -> Result<(RepositoryKey, Coordinator, Vec<Arc<StateLineage>>), Hindrance> {
        let mut all = self.with.objects.lineages.state();
        all.retain(|object| object.namespace().as_deref() == Some(own) && policies.contains(&object.spec.policy));
        all.sort_by_key(|object| object.name_any());
        let of: BTreeSet<&str> = all.iter().map(|object| object.spec.repository.as_str()).collect();
        let names: Vec<&str> = of.iter().copied().collect();
        let key = match names[..] {
            [] => return Err(Hindrance::lasting("NothingSelected", "no replica is under these policies")),
            [one] => RepositoryKey::new(own, one),
            _ => {
                let message =
                    format!("the replicas lie in several repositories ({}): create a StateRestore for each", listed(&names));
                return Err(Hindrance::lasting("SeveralRepositories", message));
            }
        };
        let coordinator = self.coordinator(&key)?;
        Ok((key, coordinator, all))
    }

    /// Leaves out replicas that are not there and won't be.
    async fn leave_absent(&self, choices: &mut Vec<Choice>, left: &mut Vec<(String, String)>) -> Result<(), kube::Error> {
        let sight =
            Sight { policies: Vec::new(), lineages: self.with.objects.lineages.state(), pods: self.with.objects.pods.state() };
        let bearers = bearers(&sight);
        let has_pod = |object: &StateLineage| bearers.contains_key(&(object.namespace().unwrap_or_default(), object.name_any()));
        let absent = choices.iter().filter(|choice| !has_pod(&choice.object)).map(|choice| workload(&choice.object)).collect();
        let wanted = replicas::wanted(&self.with.client, absent).await?;
        choices.retain(|choice| {
            let stays = has_pod(&choice.object) || is_wanted(&choice.object, &wanted);
            if !stays {
                left.push((choice.object.name_any(), "it has no pod, and its workload is not to have it".to_owned()));
            }
            stays
        });
        Ok(())
    }

    /// The checkpoints that were chosen.
    async fn draft(
        &self,
        repository: RepositoryKey,
        coordinator: &Coordinator,
        how: String,
        choices: Vec<Choice>,
        left: Vec<(String, String)>,
        images: Vec<Image>,
    ) -> Answer<Draft> {
        let mut targets = Vec::new();
        for choice in choices {
            match self.target(coordinator, &repository, &choice).await {
                Ok(target) => targets.push(target),
                Err(status) => return Ok(Err(hindrance(&status))),
            }
        }
        Ok(Ok(Draft { repository, how, targets, left, images }))
    }

    async fn target(&self, coordinator: &Coordinator, key: &RepositoryKey, choice: &Choice) -> Result<Target, Status> {
        let (shared, stored_as) = (coordinator.shared(), &choice.object.spec.lineage);
        let place = history::place(shared, &key.namespace, stored_as).await?;
        let standing: Option<Standing> = history::standing(&place).await?;
        let none = || crate::status::not_found("lineage", place.text());
        let standing = standing.ok_or_else(none)?;
        let found = shared.catalog.checkpoint(place.clone(), choice.sequence).await?;
        let quality = found.checkpoint.quality();
        if quality == holdfast_proto::v1::Quality::Partial {
            let message = format!("checkpoint {} of {} holds a capture that was not finished", choice.sequence, place.text());
            return Err(crate::status::because(Reason::NoCheckpoint, message));
        }
        let recorded = found.entry.record.checkpoint().ok_or_else(none)?;
        Ok(Target {
            lineage: choice.object.name_any(),
            stored_as: stored_as.clone(),
            sequence: choice.sequence,
            root: recorded.root.to_string(),
            time: recorded.interval.last_close,
            quality,
            bytes: recorded.totals.bytes,
            entries: recorded.totals.entries(),
            standing,
        })
    }
}

/// The newest checkpoint at or before a moment; a fuzzy one only where there is no clean one.
async fn at(coordinator: &Coordinator, place: Place, time: Timestamp) -> Result<Found, Status> {
    let (catalog, point) = (&coordinator.shared().catalog, Some(Point::At(crate::convert::time(time))));
    match catalog.point(place.clone(), point.clone(), false, "source").await {
        Err(status) if Problem::of(&status).reason == Some(Reason::OnlyFuzzy) => {
            catalog.point(place, point, true, "source").await
        }
        other => other,
    }
}

pub(super) const fn in_words(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::Frozen => "all stood still before any was captured",
        Consistency::Hooks => "all had come to rest before any was captured",
        Consistency::Crash => "each replica is a moment of its own",
    }
}
