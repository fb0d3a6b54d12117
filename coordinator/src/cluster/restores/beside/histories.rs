// SPDX-License-Identifier: Apache-2.0
//! The histories of a copy's replicas: they begin, each once.

use super::fork;
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{Saying, Truth};
use crate::cluster::hindrance::Hindrance;
use crate::cluster::restores::history::{self, Way};
use crate::cluster::restores::plan::number;
use crate::cluster::restores::tell::Teller;
use crate::cluster::restores::{Context, EVERY, SUCCEEDED, aim};
use kube::runtime::controller::Action;

impl Context {
    /// Begins histories, and writes down that they have.
    pub(super) async fn begin_histories(
        &self,
        mut teller: Teller<'_>,
        repository: &RepositoryKey,
        who: &[usize],
    ) -> Result<Action, kube::Error> {
        let (uid, mut status, mut refused) = (teller.uid(), teller.status(), None);
        let is_shut = || self.held.is_shut(&uid);
        for index in who {
            let Some(member) = status.members.get_mut(*index) else { continue };
            let Some(origin) = member.origin.clone() else { continue };
            let key = history::key_of(&uid, &member.stored_as);
            let holder = format!("the coordinator, for StateRestore {}", teller.name());
            let way = Way { sequence: 0, floor: 0, key, holder, is_shut: &is_shut };
            let begun = match self.coordinator(repository) {
                Ok(coordinator) => fork::begin(coordinator.shared(), &repository.namespace, member, &origin, &way)
                    .await
                    .map_err(|status| aim::hindrance(&status)),
                Err(why) => Err(why),
            };
            match begun {
                Ok(begun) => (member.sequence, member.claim) = (number(begun.sequence), Some(number(begun.claim))),
                Err(why) => {
                    refused = Some(Hindrance {
                        message: format!("the history of {} could not begin: {}", member.lineage, why.message),
                        ..why
                    });
                    break;
                }
            }
        }
        if let Some(why) = refused {
            return self.try_again(teller, status, &why).await;
        }
        let message = format!("{} histories have begun with the snapshot's states", status.members.len());
        teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "Making", message)).await?;
        self.held.shut(&uid, false);
        Ok(Action::requeue(EVERY))
    }
}
