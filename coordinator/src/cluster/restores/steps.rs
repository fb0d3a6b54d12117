// SPDX-License-Identifier: Apache-2.0
//! What a restore that has begun does, step by step: pods end, lineages go back, gates open.

use super::course::{self, Next};
use super::history::{self, Way, WentBack};
use super::plan::number;
use super::tell::Teller;
use super::{Context, EVERY, SUCCEEDED, aim, unsigned};
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{Saying, Truth};
use crate::cluster::hindrance::{self, Hindrance};
use crate::cluster::pauses;
use holdfast_api::StateRestoreStatus;
use holdfast_api::restore::{RestorePhaseStatus, RestoredMember};
use kube::runtime::controller::Action;

impl Context {
    /// Makes the checkpoints stay that members take their states from.
    pub(super) async fn kept(
        &self,
        repository: &RepositoryKey,
        uid: &str,
        mut members: Vec<RestoredMember>,
    ) -> Result<Vec<RestoredMember>, Hindrance> {
        let coordinator = self.coordinator(repository)?;
        for member in &mut members {
            let pin = async {
                let (lineage, sequence, purpose) = history::source(member);
                let place = history::place(coordinator.shared(), &repository.namespace, lineage).await?;
                history::keep(coordinator.shared(), &place, sequence, purpose, history::pin_of(uid)).await
            };
            member.kept = Some(number(pin.await.map_err(|status| aim::hindrance(&status))?));
        }
        Ok(members)
    }

    /// Does what is next of a restore that has begun.
    pub(super) async fn carry_on(&self, mut teller: Teller<'_>) -> Result<Action, kube::Error> {
        let status = teller.status();
        let Some(repository) = teller.repository() else { return Ok(Action::await_change()) };
        let pods = match status.members.iter().all(|member| member.claim.is_some()) {
            true => Vec::new(),
            false => self.bearers(&repository.namespace, &status.members).await?,
        };
        match course::next(&status.members, &status.receipts, &pods) {
            Next::End(pods) => {
                self.end(&repository.namespace, &pods).await?;
                let names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
                let message = format!("all gates are shut; pods were asked to end: {}", hindrance::listed(&names));
                teller.goes_on(RestorePhaseStatus::Stopping, "Stopping", message).await?;
                Ok(Action::requeue(EVERY))
            }
            Next::Wait(message) => {
                teller.goes_on(RestorePhaseStatus::Stopping, "Stopping", message).await?;
                Ok(Action::requeue(EVERY))
            }
            Next::GoBack(who) => self.go_back(teller, &repository, &who).await,
            Next::Start(who) => self.await_receipts(teller, &repository, &who).await,
            Next::Settle => self.finish(teller, &repository).await,
        }
    }

    /// No pod runs: each lineage's history goes back, and it is written down that it did.
    async fn go_back(&self, mut teller: Teller<'_>, repository: &RepositoryKey, who: &[usize]) -> Result<Action, kube::Error> {
        let mut status = teller.status();
        let (mut refused, mut news) = (None, Vec::new());
        for index in who {
            let Some(member) = status.members.get_mut(*index) else { continue };
            match self.one_goes_back(&teller, repository, member).await {
                Ok(went) => {
                    (member.claim, member.before) = (Some(number(went.claim)), Some(number(went.before)));
                    news.push(member.clone());
                }
                Err(why) => {
                    refused = Some((member.lineage.clone(), why));
                    break;
                }
            }
        }
        if let Some((lineage, why)) = refused {
            let message = format!(
                "{lineage} could not go back: {}; it is tried again, and all gates stay shut; to give it up, delete this StateRestore",
                why.message
            );
            let saying = Saying::new(SUCCEEDED, Truth::Unknown, why.reason, message.clone());
            let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::GoingBack), ..status };
            teller.settle(status, &saying).await?;
            teller.tell(true, "RestoreDelayed", message);
            return Ok(Action::requeue(self.pauses.put_off(&teller.uid(), self.with.clock.monotonic(), pauses::LONGEST)));
        }
        let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::Starting), ..status };
        let saying = Saying::new(
            SUCCEEDED,
            Truth::Unknown,
            "Starting",
            "the gates are open, and the replicas start on the state of the moment",
        );
        // the gates open when it stands written that all went back: nobody will ask for it again
        teller.settle(status, &saying).await?;
        let uid = teller.uid();
        self.held.shut(&uid, false);
        self.pauses.forget(&uid);
        for member in news {
            let (to, before) = (member.sequence, member.before.unwrap_or_default());
            let note = format!(
                "StateRestore {} made checkpoint {to} its state again; before, it was checkpoint {before}",
                teller.name()
            );
            self.tell_lineage(repository, &member.lineage, false, "WentBack", note);
        }
        Ok(Action::requeue(EVERY))
    }

    async fn one_goes_back(
        &self,
        teller: &Teller<'_>,
        repository: &RepositoryKey,
        member: &RestoredMember,
    ) -> Result<WentBack, Hindrance> {
        let uid = teller.uid();
        let coordinator = self.coordinator(repository)?;
        let is_shut = || self.held.is_shut(&uid);
        let way = Way {
            sequence: unsigned(member.sequence),
            floor: unsigned(member.head),
            key: history::key_of(&uid, &member.stored_as),
            holder: format!("the coordinator, for StateRestore {}", teller.name()),
            is_shut: &is_shut,
        };
        let went = async {
            let place = history::place(coordinator.shared(), &repository.namespace, &member.stored_as).await?;
            history::go_back(coordinator.shared(), &place, &way).await
        };
        let went = went.await.map_err(|status| aim::hindrance(&status))?;
        tracing::info!(restore = teller.name(), lineage = member.lineage, ?went, to = member.sequence, "a lineage went back");
        Ok(went)
    }

    /// Lets go of the checkpoints: those that are the state again stay by that, and a copy that has begun goes on from its own.
    pub(super) async fn release(&self, repository: &RepositoryKey, members: &[RestoredMember]) {
        let Ok(coordinator) = self.coordinator(repository) else { return };
        for member in members.iter().filter(|member| member.origin.is_none() || member.claim.is_none()) {
            let Some(pin) = member.kept else { continue };
            let (lineage, ..) = history::source(member);
            let done = async {
                let place = history::place(coordinator.shared(), &repository.namespace, lineage).await?;
                history::let_go(&place, unsigned(pin)).await
            };
            if let Err(error) = done.await {
                tracing::warn!(lineage, pin, error = error.message(), "the pin of a restore that has ended stays");
            }
        }
    }
}
