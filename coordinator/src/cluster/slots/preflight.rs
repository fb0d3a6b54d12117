// SPDX-License-Identifier: Apache-2.0
//! What is looked at, and done, between a slot and its lineage.

use super::facts::{Named, RecordFacts};
use super::foreign::{self, Foreign, Standing, own_name};
use super::records::{Records, Slip};
use crate::Coordinator;
use crate::cluster::RepositoryKey;
use crate::cluster::identity::{Pass, PodIdentity};
use crate::cluster::name::LineageName;
use crate::session::Instance;
use crate::session::usher::Assignment;
use holdfast_proto::v1::{LineageRef, Start};
use std::sync::Arc;

/// What came of it.
#[derive(Debug)]
pub(super) enum Checked {
    /// The lineage may be granted; with what a person chose.
    Clear { assigned: Box<Assignment>, choice: Option<String> },
    /// Something was done, and is to be looked at again; with the record that stands now.
    Again(Option<(Named, Box<RecordFacts>)>),
    /// Another cluster owns it, and nobody has chosen.
    Foreign(String),
    /// The store or the API server did not answer.
    Trouble(String),
    /// The pod is gone.
    Gone,
}

/// A lineage that is about to be granted.
pub(super) struct Check {
    pub(super) coordinator: Coordinator,
    pub(super) writer: Records,
    pub(super) of: Named,
    pub(super) name: LineageName,
    pub(super) record: RecordFacts,
    pub(super) pod: PodIdentity,
    pub(super) instance: Instance,
    pub(super) node: Option<String>,
}

/// What a start does, as a person chose.
pub(super) fn start_of(choice: Option<&str>) -> Start {
    match choice {
        Some("adopt-disk") => Start::AdoptDisk,
        Some("prefer-store") => Start::PreferStore,
        _ => Start::Unspecified,
    }
}

/// The names of a lineage in its repository.
pub(super) fn names(coordinator: &Coordinator, namespace: &str, lineage: &str) -> LineageRef {
    let domain = coordinator.shared().catalog.only().unwrap_or(namespace).to_owned();
    LineageRef { domain, lineage: lineage.to_owned() }
}

impl Check {
    pub(super) async fn run(self) -> Checked {
        let names = names(&self.coordinator, &self.of.0, &self.record.lineage);
        let choice = self.record.choice.clone();
        match foreign::look(self.coordinator.shared(), &names).await {
            Err(status) => Checked::Trouble(format!("the repository can't be read: {}", status.message())),
            Ok(Standing::Foreign(what)) => match choice.as_deref().and_then(Foreign::read) {
                Some(choice) => self.follow(choice, &names).await,
                None => Checked::Foreign(format!(
                    "{what}: choose with `kubectl annotate statelineage {} holdfast.dev/choose=` adopt (take it over; its cluster's agents \
                     are fenced) or fresh (begin a history of its own)",
                    self.of.1
                )),
            },
            Ok(Standing::Ours) => {
                let pod: Named = (self.pod.namespace.clone(), self.pod.name.clone());
                match self.writer.label(&pod, &self.pod.uid, &self.of.1).await {
                    Ok(true) => {}
                    Ok(false) => return Checked::Gone,
                    // whoever leads next must find it there
                    Err(error) => return Checked::Trouble(format!("the pod could not be labelled with its lineage: {error}")),
                }
                Checked::Clear { assigned: Box::new(self.assign(names, choice.as_deref())), choice }
            }
        }
    }

    fn assign(&self, names: LineageRef, choice: Option<&str>) -> Assignment {
        let shared = self.coordinator.shared();
        let repository = RepositoryKey::new(&self.of.0, &self.record.repository);
        Assignment {
            shared: Arc::clone(shared),
            names,
            holder: match &self.node {
                Some(node) => format!("pod {} on node {node}", self.pod.name),
                None => format!("pod {}", self.pod.name),
            },
            bearer: self.pod.uid.as_str().into(),
            session: Pass::new(&self.pod, &repository).sign(&shared.passes, &self.instance),
            // whoever had it before can't write any more, as far as anybody can tell: else it would not be granted
            take_over: true,
            start: start_of(choice),
        }
    }

    /// Does with another cluster's lineage what a person chose.
    async fn follow(&self, choice: Foreign, names: &LineageRef) -> Checked {
        let shared = self.coordinator.shared();
        tracing::info!(
            lineage = names.lineage,
            domain = names.domain,
            ?choice,
            "following a choice about another cluster's lineage"
        );
        let own = LineageRef { lineage: own_name(&names.lineage, shared.owner), ..names.clone() };
        let done = match choice {
            Foreign::Adopt => foreign::adopt(shared, names).await,
            Foreign::Fresh => Ok(()),
        };
        if let Err(status) = done {
            return Checked::Trouble(format!("the choice could not be followed: {}", status.message()));
        }
        if choice == Foreign::Adopt {
            return match self.writer.followed(&self.of).await {
                Ok(()) => Checked::Again(None),
                Err(error) => Checked::Trouble(format!("the choice was followed and could not be taken away: {error}")),
            };
        }
        let slip = Slip {
            namespace: self.of.0.clone(),
            name: self.name.clone(),
            policy: self.record.policy.clone(),
            repository: self.record.repository.clone(),
            lineage: own.lineage,
            holder: Some((self.pod.name.clone(), self.pod.uid.clone())),
            before: Some(self.pod.uid.clone()),
        };
        match self.writer.rename(&slip).await {
            Ok(record) => Checked::Again(Some((self.of.clone(), Box::new(record)))),
            Err(error) => Checked::Trouble(format!("the StateLineage could not be made anew: {error}")),
        }
    }
}
