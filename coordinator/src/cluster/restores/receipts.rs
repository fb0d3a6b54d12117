// SPDX-License-Identifier: Apache-2.0
//! What replicas prove of their disks, and what a restore came to by it.

use super::plan::number;
use super::tell::Teller;
use super::{Context, EVERY, SUCCEEDED, aim, course, history, unsigned};
use crate::Coordinator;
use crate::catalog::Place;
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::{Saying, Truth};
use crate::cluster::hindrance::listed;
use futures::StreamExt;
use holdfast_api::labels;
use holdfast_api::restore::{ReceiptStatus, RestorePhaseStatus, RestoredMember};
use holdfast_proto::v1::file_service_server::FileService;
use holdfast_proto::v1::{Change, DiffFilesRequest, PointRef, point_ref::Point};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use std::collections::BTreeSet;
use tonic::Status;

/// Differences that are counted.
const DIFFERENCES_MAX: i32 = 10_000;

impl Context {
    /// The gates are open: what replicas prove of their disks is gathered.
    pub(super) async fn await_receipts(
        &self,
        mut teller: Teller<'_>,
        repository: &RepositoryKey,
        who: &[usize],
    ) -> Result<Action, kube::Error> {
        let mut status = teller.status();
        let coordinator = match self.coordinator(repository) {
            Ok(coordinator) => coordinator,
            Err(why) => return self.delay(teller, &why).await,
        };
        let mut missing = Vec::new();
        for member in who.iter().filter_map(|index| status.members.get(*index)) {
            match receipt(&coordinator, repository, member).await {
                Ok(Some(receipt)) => status.receipts.push(receipt),
                Ok(None) => missing.push(member.clone()),
                Err(error) => return self.delay(teller, &aim::hindrance(&error)).await,
            }
        }
        status.receipt_count = i32::try_from(status.receipts.len()).ok();
        if missing.is_empty() {
            let message = "the receipts are there";
            teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "Starting", message)).await?;
            return self.finish(teller, repository).await;
        }
        let message = self.what_is_missing(&coordinator, repository, &missing);
        teller.settle(status, &Saying::new(SUCCEEDED, Truth::Unknown, "Starting", message)).await?;
        Ok(Action::requeue(EVERY))
    }

    fn what_is_missing(&self, coordinator: &Coordinator, repository: &RepositoryKey, missing: &[RestoredMember]) -> String {
        let (seen, pods) = (coordinator.seen(), self.with.objects.pods.state());
        let has_pod = |member: &RestoredMember| {
            pods.iter().any(|pod| {
                pod.labels().get(labels::LINEAGE) == Some(&member.lineage)
                    && pod.namespace().as_deref() == Some(&repository.namespace)
            })
        };
        let word = |member: &RestoredMember| match seen.get(&member.stored_as) {
            Some(seen) if !seen.trouble.is_empty() => format!("{} ({})", member.lineage, seen.trouble),
            Some(_) => format!("{} (it is being restored)", member.lineage),
            None if has_pod(member) => format!("{} (its agent is not heard yet)", member.lineage),
            None => format!("{} (it has no pod; it is restored when it starts)", member.lineage),
        };
        let words: Vec<String> = missing.iter().map(word).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        format!("the gates are open; waiting for receipts: {}", listed(&words))
    }

    /// All receipts are there.
    pub(super) async fn finish(&self, mut teller: Teller<'_>, repository: &RepositoryKey) -> Result<Action, kube::Error> {
        let uid = teller.uid();
        let mut status = teller.status();
        let judged = match self.coordinator(repository) {
            Ok(coordinator) => spoilt(&coordinator, repository, &status.members, &status.receipts)
                .await
                .map_err(|status| aim::hindrance(&status)),
            Err(why) => Err(why),
        };
        let spoilt = match judged {
            Ok(spoilt) => spoilt,
            Err(why) => return self.delay(teller, &why).await,
        };
        self.release(repository, &status.members).await;
        let (good, message) = course::outcome(&status.receipts, &spoilt);
        let (phase, reason) = match good {
            true => (RestorePhaseStatus::Restored, "Restored"),
            false => (RestorePhaseStatus::Failed, "NotAsItWas"),
        };
        status.phase = Some(phase);
        teller.settle(status, &Saying::new(SUCCEEDED, good, reason, message.clone())).await?;
        self.held.forget(&uid);
        self.pauses.forget(&uid);
        teller.tell(!good, if good { "Restored" } else { "RestoreFailed" }, message);
        self.with.metrics.restore_settled(reason);
        Ok(Action::await_change())
    }
}

/// Replicas whose files hold other bytes than was asked for, or are missing, or too many.
async fn spoilt(
    coordinator: &Coordinator,
    repository: &RepositoryKey,
    members: &[RestoredMember],
    receipts: &[ReceiptStatus],
) -> Result<BTreeSet<String>, Status> {
    let mut spoilt = BTreeSet::new();
    for receipt in receipts.iter().filter(|receipt| receipt.root_asked != receipt.root_found && receipt.deviations > 0) {
        let Some(member) = members.iter().find(|member| member.lineage == receipt.lineage) else { continue };
        let place = history::place(coordinator.shared(), &repository.namespace, &member.stored_as).await?;
        let proof = unsigned(receipt.proof.unwrap_or_default());
        if differences(coordinator, &place, member, proof).await?.contents > 0 {
            spoilt.insert(receipt.lineage.clone());
        }
    }
    Ok(spoilt)
}

/// What proves that a replica was restored; `None`: not yet.
async fn receipt(
    coordinator: &Coordinator,
    repository: &RepositoryKey,
    member: &RestoredMember,
) -> Result<Option<ReceiptStatus>, Status> {
    let place = history::place(coordinator.shared(), &repository.namespace, &member.stored_as).await?;
    let Some(proof) = history::proof(&place, unsigned(member.claim.unwrap_or_default())).await? else { return Ok(None) };
    let deviations = match proof.root == member.root {
        true => 0,
        false => differences(coordinator, &place, member, proof.sequence).await?.all,
    };
    Ok(Some(ReceiptStatus {
        lineage: member.lineage.clone(),
        sequence: member.sequence,
        proof: Some(number(proof.sequence)),
        before: member.before,
        root_asked: member.root.clone(),
        root_found: proof.root,
        deviations,
        directory: None,
        bytes: None,
        took_ms: None,
    }))
}

/// How much two checkpoints differ.
#[derive(Default)]
struct Differences {
    /// Files and directories that are not the same.
    all: i32,
    /// Of those, files that hold other bytes, are missing, or are too many.
    contents: i32,
}

/// How much of what was asked for is otherwise in the proof. Equal bytes may have been cut otherwise: then nothing is.
async fn differences(
    coordinator: &Coordinator,
    place: &Place,
    member: &RestoredMember,
    proof: u64,
) -> Result<Differences, Status> {
    let point = |sequence| {
        Some(PointRef { lineage: Some(place.names.clone()), point: Some(Point::Checkpoint(sequence)), accept_fuzzy: true })
    };
    let request = DiffFilesRequest { one: point(unsigned(member.sequence)), two: point(proof), paths: Vec::new() };
    let mut found = coordinator.api().diff_files(tonic::Request::new(request)).await?.into_inner();
    let mut count = Differences::default();
    while let Some(difference) = found.next().await {
        let difference = difference?;
        count.all += 1;
        count.contents += i32::from(difference.change() != Change::Modified || difference.content);
        if count.all >= DIFFERENCES_MAX {
            break;
        }
    }
    Ok(count)
}
