// SPDX-License-Identifier: Apache-2.0
//! What is said of a StateRestore: its status. It is also what a later leader goes on from, so nothing is done before it stands written.

use super::{Context, SUCCEEDED};
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{Saying, Truth, whole_seconds};
use crate::cluster::events::News;
use crate::cluster::once::{self, Manager};
use crate::cluster::watched::full_name;
use holdfast_api::restore::RestorePhaseStatus;
use holdfast_api::{StateRestore, StateRestoreStatus};
use kube::{Resource, ResourceExt};

/// A status is what a restore goes on from: only who has read it may write it.
pub(super) const MANAGER: Manager = Manager { name: "holdfast-restores", alone: true };

/// Writes one object's status.
pub(super) struct Teller<'a> {
    context: &'a Context,
    pub(super) object: StateRestore,
}

impl<'a> Teller<'a> {
    pub(super) const fn new(context: &'a Context, object: StateRestore) -> Self {
        Self { context, object }
    }

    /// What stands there.
    pub(super) fn status(&self) -> StateRestoreStatus {
        self.object.status.clone().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// Its name with its namespace.
    pub(super) fn name(&self) -> String {
        full_name(&self.object)
    }

    /// The repository that it restores from, once that was found.
    pub(super) fn repository(&self) -> Option<RepositoryKey> {
        self.object.status.as_ref()?.repository.as_ref()?.parse().ok()
    }

    /// Says that it was seen, once.
    pub(super) async fn begin(&mut self) -> Result<(), kube::Error> {
        let before = self.status();
        if before.start_time.is_some() {
            return Ok(());
        }
        let now = Some(whole_seconds(self.context.with.clock.now()));
        let status = StateRestoreStatus { start_time: now, phase: Some(RestorePhaseStatus::Waiting), ..before };
        self.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "Accepted", "it will be planned")).await
    }

    /// Says that it goes on, and how far it is.
    pub(super) async fn goes_on(
        &mut self,
        phase: RestorePhaseStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Result<(), kube::Error> {
        let status = StateRestoreStatus { phase: Some(phase), ..self.status() };
        self.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, reason, message)).await
    }

    /// Writes a status with its condition, if it says anything new. Whoever leads at the same time, or has led, is refused.
    pub(super) async fn settle(&mut self, status: StateRestoreStatus, saying: &Saying) -> Result<(), kube::Error> {
        if let Some(object) = once::settle(&self.context.with, &MANAGER, &self.object, status, saying).await? {
            self.object = object;
        }
        Ok(())
    }

    /// Tells of the object.
    pub(super) fn tell(&self, is_warning: bool, reason: &'static str, note: impl Into<String>) {
        let (about, note) = (self.object.object_ref(&()), note.into());
        self.context.with.events.tell(News { about, is_warning, reason, action: "Restore", note });
    }
}
