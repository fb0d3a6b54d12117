// SPDX-License-Identifier: Apache-2.0
//! What came of a restore into a claim.

use super::sketch::directory;
use crate::cluster::conditions::Saying;
use crate::cluster::restores::tell::Teller;
use crate::cluster::restores::{Context, SUCCEEDED};
use holdfast_api::StateRestoreStatus;
use holdfast_api::restore::{ReceiptStatus, RestorePhaseStatus, RestoredMember};
use holdfast_core::delivery::{Delivered, Report};
use kube::runtime::controller::Action;

impl Context {
    /// The pod has said its last word.
    pub(super) async fn end_delivery(&self, mut teller: Teller<'_>, report: &Report) -> Result<Action, kube::Error> {
        let (uid, status) = (teller.uid(), teller.status());
        let receipts = receipts(&status.members, &report.delivered);
        let (good, reason, message) = outcome(&status.members, &receipts, report);
        let phase = if good { RestorePhaseStatus::Restored } else { RestorePhaseStatus::Failed };
        if let Some(repository) = teller.repository() {
            self.release(&repository, &status.members).await;
        }
        let receipt_count = i32::try_from(receipts.len()).ok();
        let status = StateRestoreStatus { phase: Some(phase), receipts, receipt_count, ..status };
        teller.settle(status, &Saying::new(SUCCEEDED, good, reason, message.clone())).await?;
        self.recall(&teller.object).await;
        self.held.forget(&uid);
        self.pauses.forget(&uid);
        teller.tell(!good, if good { "Restored" } else { "RestoreFailed" }, message);
        self.with.metrics.restore_settled(reason);
        Ok(Action::await_change())
    }
}

fn receipts(members: &[RestoredMember], delivered: &[Delivered]) -> Vec<ReceiptStatus> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let receipt = |(member, delivered): (&RestoredMember, &Delivered)| ReceiptStatus {
        lineage: member.lineage.clone(),
        sequence: member.sequence,
        proof: None,
        before: None,
        root_asked: member.root.clone(),
        root_found: delivered.root.clone(),
        deviations: i32::try_from(delivered.deviations).unwrap_or(i32::MAX),
        directory: Some(directory(members.len(), &member.lineage)),
        bytes: Some(signed(delivered.bytes)),
        took_ms: Some(signed(delivered.took_ms)),
    };
    members.iter().zip(delivered).map(receipt).collect()
}

fn outcome(members: &[RestoredMember], receipts: &[ReceiptStatus], report: &Report) -> (bool, &'static str, String) {
    if let Some(refused) = &report.refused {
        return (false, refused.reason.as_str(), refused.message.clone());
    }
    if receipts.len() < members.len() {
        let message = format!("{} of {} replicas were written", receipts.len(), members.len());
        return (false, "NotAsItWas", message);
    }
    let bytes: i64 = receipts.iter().filter_map(|receipt| receipt.bytes).sum();
    let deviations: i32 = receipts.iter().map(|receipt| receipt.deviations).fold(0, i32::saturating_add);
    let written = format!("the claim holds {bytes} bytes of files, as they were");
    let message = match deviations {
        0 => written,
        count => format!("{written}, but for the owner, mode or times of {count} files or directories"),
    };
    (true, "Restored", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::delivery::{Reason, Refused};

    fn member(name: &str) -> RestoredMember {
        RestoredMember {
            lineage: name.to_owned(),
            stored_as: name.to_owned(),
            sequence: 3,
            root: "aa".to_owned(),
            origin: None,
            head: 9,
            kept: Some(1),
            claim: None,
            before: None,
        }
    }

    fn delivered(deviations: u64) -> Delivered {
        Delivered { root: "aa".to_owned(), deviations, bytes: 5, took_ms: 7 }
    }

    #[test]
    fn what_is_missing_is_no_success() {
        let members = [member("a"), member("b")];
        let said = |delivered: Vec<Delivered>, refused: Option<Refused>| {
            let receipts = receipts(&members, &delivered);
            outcome(&members, &receipts, &Report { delivered, refused, ..Report::default() })
        };
        assert_eq!((said(vec![delivered(0); 2], None).0, said(vec![delivered(0)], None).1), (true, "NotAsItWas"));
        assert!(said(vec![delivered(1); 2], None).2.ends_with("times of 2 files or directories"));
        let refused = Refused { reason: Reason::ClaimNotEmpty, message: "the volume is not empty".to_owned() };
        assert_eq!(said(Vec::new(), Some(refused)).1, "ClaimNotEmpty");
        assert_eq!(receipts(&members, &[delivered(0)])[0].directory.as_deref(), Some("a"), "several have directories");
        assert_eq!(receipts(&members[..1], &[delivered(0)])[0].directory.as_deref(), Some(""));
    }
}
