// SPDX-License-Identifier: Apache-2.0
//! The objects of a copy: created one after the other, and deleted where a restore is given up before its workload was made.

use super::copy::Object;
use super::scene::resource;
use super::{course, preflight};
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{Saying, Truth};
use crate::cluster::hindrance::Hindrance;
use crate::cluster::restores::aim::Answer;
use crate::cluster::restores::pods::delete;
use crate::cluster::restores::tell::{MANAGER, Teller};
use crate::cluster::restores::{Context, EVERY, SUCCEEDED};
use crate::cluster::watched::full_name;
use holdfast_api::restore::{MadeObject, RestorePhaseStatus};
use holdfast_api::{StateRestore, StateRestoreStatus, labels};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, PostParams};
use kube::runtime::controller::Action;

impl Context {
    /// Makes what is not made yet, and writes down what is.
    pub(super) async fn make_objects(&self, mut teller: Teller<'_>, which: &[usize]) -> Result<Action, kube::Error> {
        let (uid, mut status) = (teller.uid(), teller.status());
        let all = match self.all_objects(&teller).await? {
            Ok(all) => all,
            Err(why) => return self.try_again(teller, status, &why).await,
        };
        let mut refused = None;
        for index in which {
            let Some(entry) = status.objects.get_mut(*index) else { continue };
            // given up meanwhile: nothing more is made
            if !self.held.has(&uid) {
                return self.given_up(&teller.object).await;
            }
            let object = all.iter().find(|object| object.kind == entry.kind && object.name == entry.name);
            let made = match object {
                Some(object) => self.create(&uid, object).await,
                None => Err(Hindrance::passing("NotRecorded", "the snapshot does not hold it any more")),
            };
            match made {
                Ok(()) => entry.made = true,
                Err(why) => {
                    let message = format!("{} {} could not be made: {}", entry.kind, entry.name, why.message);
                    refused = Some(Hindrance { message, ..why });
                    break;
                }
            }
        }
        if !self.held.has(&uid) {
            return self.given_up(&teller.object).await;
        }
        if let Some(why) = refused {
            return self.try_again(teller, status, &why).await;
        }
        let status = StateRestoreStatus { phase: Some(RestorePhaseStatus::Starting), ..status };
        let saying =
            Saying::new(SUCCEEDED, Truth::Unknown, "Starting", "all is made, and the replicas start on the snapshot's states");
        teller.settle(status, &saying).await?;
        self.pauses.forget(&uid);
        Ok(Action::requeue(EVERY))
    }

    async fn all_objects(&self, teller: &Teller<'_>) -> Answer<Vec<Object>> {
        let Some(repository) = teller.repository() else {
            return Ok(Err(Hindrance::passing("Invalid", "its repository is not known")));
        };
        Ok(self.drawn(&teller.object).await?.map(|drawn| preflight::objects(&drawn.copy, &drawn.address, &repository)))
    }

    /// Creates an object; what an earlier try has created is it, too.
    async fn create(&self, uid: &str, object: &Object) -> Result<(), Hindrance> {
        let failed = |error: kube::Error| match error {
            kube::Error::Api(status) if status.is_forbidden() => Hindrance::passing("Forbidden", status.message),
            kube::Error::Api(status) => Hindrance::passing("Refused", status.message),
            error => Hindrance::passing("NotMade", error.to_string()),
        };
        let kind = resource(&object.kind).ok_or_else(|| Hindrance::passing("KindNotMade", "its kind is not known"))?;
        let namespace = object.body["metadata"]["namespace"].as_str().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(self.with.client.clone(), namespace, &kind);
        let body: DynamicObject =
            serde_json::from_value(object.body.clone()).map_err(|error| Hindrance::passing("NotMade", error.to_string()))?;
        let params = PostParams { field_manager: Some(MANAGER.name.to_owned()), ..PostParams::default() };
        match api.create(&params, &body).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = api.get_opt(&object.name).await.map_err(failed)?;
                match there.is_some_and(|there| is_ours(&there, uid)) {
                    true => Ok(()),
                    false => Err(Hindrance::passing(
                        "NamesTaken",
                        "somebody has made one of that name meanwhile: delete that, or this StateRestore",
                    )),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn given_up(&self, object: &StateRestore) -> Result<Action, kube::Error> {
        self.abandon_copy(object).await;
        Ok(Action::await_change())
    }

    /// The object of a copy has gone before its receipts: without its workload, nothing of it stays but what is in the repository.
    pub(in crate::cluster::restores) async fn abandon_copy(&self, object: &StateRestore) {
        let (uid, name, status) =
            (object.uid().unwrap_or_default(), full_name(object), object.status.clone().unwrap_or_default());
        let Some(repository) = status.repository.and_then(|key| key.parse::<RepositoryKey>().ok()) else { return };
        let cleared = self.clear(&uid, &repository.namespace, &status.objects).await;
        match cleared {
            Ok(true) => tracing::warn!(
                restore = name,
                "a StateRestore was deleted before its workload was made: what it had made is deleted"
            ),
            Ok(false) => {
                tracing::warn!(restore = name, "a StateRestore was deleted before it had ended: the workload that it made stays");
            }
            Err(error) => {
                tracing::warn!(restore = name, %error, "a StateRestore was deleted, and what it had made is still there");
            }
        }
        self.release(&repository, &status.members).await;
    }

    /// Deletes what a restore has made, unless a workload of it is there.
    async fn clear(&self, uid: &str, namespace: &str, objects: &[MadeObject]) -> Result<bool, kube::Error> {
        let mut ours = Vec::new();
        for object in objects {
            let Some(kind) = resource(&object.kind) else { continue };
            let api: Api<DynamicObject> = Api::namespaced_with(self.with.client.clone(), namespace, &kind);
            if let Some(there) = api.get_opt(&object.name).await?.filter(|there| is_ours(there, uid)) {
                ours.push((api, there, course::is_workload(&object.kind)));
            }
        }
        if ours.iter().any(|(_, _, is_workload)| *is_workload) {
            return Ok(false);
        }
        for (api, there, _) in ours {
            delete(&api, &there.name_any(), &there.uid().unwrap_or_default()).await?;
        }
        Ok(true)
    }
}

fn is_ours(there: &DynamicObject, uid: &str) -> bool {
    there.labels().get(labels::RESTORE).is_some_and(|by| by == uid)
}
