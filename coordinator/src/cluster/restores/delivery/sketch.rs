// SPDX-License-Identifier: Apache-2.0
//! What would be written into a claim, in sentences, and what stands in its way.

use super::claim::Claim;
use crate::cluster::hindrance::Hindrance;
use crate::cluster::restores::plan::{Draft, Plan, Target, fuzzy, member, moment};
use crate::cluster::restores::{Context, aim, history};
use holdfast_api::restore::AcceptSpec;
use holdfast_core::delivery::PARCELS_MAX;

/// How much is written: the lengths of files together, and files, directories and links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Where a replica's files go, below the volume's root.
pub(super) fn directory(count: usize, lineage: &str) -> String {
    if count == 1 { String::new() } else { lineage.to_owned() }
}

impl Context {
    /// How much of each replica is written; a path that is not there is named.
    pub(super) async fn chosen(&self, draft: &Draft, paths: &[String]) -> Result<Vec<Amount>, Hindrance> {
        let all = |target: &Target| Amount { bytes: target.bytes, entries: target.entries };
        if paths.is_empty() || draft.targets.len() > PARCELS_MAX {
            return Ok(draft.targets.iter().map(all).collect());
        }
        let coordinator = self.coordinator(&draft.repository)?;
        let (shared, mut amounts) = (coordinator.shared(), Vec::new());
        for target in &draft.targets {
            let measured = async {
                let place = history::place(shared, &draft.repository.namespace, &target.stored_as).await?;
                let found = shared.catalog.checkpoint(place, target.sequence).await?;
                coordinator.api().measure(found, paths).await
            };
            let measured = measured.await.map_err(|status| aim::hindrance(&status))?;
            let (bytes, entries) = measured.map_err(|path| {
                let message = format!(
                    "{path:?} is not in checkpoint {} of {}: a path begins with the label of its state path, as in data/etc/app.conf",
                    target.sequence, target.lineage
                );
                Hindrance::lasting("PathNotFound", message)
            })?;
            amounts.push(Amount { bytes, entries });
        }
        Ok(amounts)
    }
}

/// Plans a restore into a claim.
pub(super) fn sketch(
    draft: &Draft,
    accept: &AcceptSpec,
    name: &str,
    claim: &Claim,
    chosen: Result<Vec<Amount>, Hindrance>,
) -> Plan {
    let count = draft.targets.len();
    let mut obstacles = Vec::new();
    let mut sentences = vec![draft.how.clone()];
    let (amounts, missing) = match chosen {
        Ok(amounts) => (amounts, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let found = [
        size(count).map(|why| (why, false)),
        missing.map(|why| (why, false)),
        claim.obstacle.clone().map(|why| (why, false)),
        fuzzy(draft).map(|why| (why, accept.fuzzy)),
    ];
    for (why, agreed) in found.into_iter().flatten() {
        sentences.push(if agreed { format!("agreed to: {}", why.message) } else { why.message.clone() });
        obstacles.extend((!agreed).then_some(why));
    }
    sentences.extend(
        draft.targets.iter().zip(&amounts).take(PARCELS_MAX).map(|(target, amount)| is_written(target, *amount, count, name)),
    );
    sentences.extend(draft.left.iter().take(PARCELS_MAX).map(|(name, why)| format!("{name} is left out: {why}")));
    let holds = claim.capacity.as_ref().map_or_else(String::new, |capacity| format!(", which holds {capacity}"));
    let (bytes, entries) = amounts.iter().fold((0_u64, 0_u64), |(bytes, entries), amount| {
        (bytes.saturating_add(amount.bytes), entries.saturating_add(amount.entries))
    });
    let of = if count == 1 { "one replica".to_owned() } else { format!("{count} replicas") };
    Plan {
        members: draft.targets.iter().map(member).collect(),
        obstacle: obstacles.into_iter().next(),
        restored_to: draft.targets.iter().map(|target| target.time).max().map(crate::cluster::conditions::whole_seconds),
        short: format!("{entries} files and directories of {of}, {bytes} bytes, into claim {name}{holds}; {}", draft.how),
        sentences,
    }
}

fn is_written(target: &Target, amount: Amount, count: usize, claim: &str) -> String {
    let place = match directory(count, &target.lineage) {
        root if root.is_empty() => "its root".to_owned(),
        directory => format!("the directory {directory}"),
    };
    format!(
        "checkpoint {} of {} ({}): {} files and directories with {} bytes are fetched and written to {place} of claim {claim}",
        target.sequence,
        target.lineage,
        moment(target.time),
        amount.entries,
        amount.bytes
    )
}

fn size(count: usize) -> Option<Hindrance> {
    match count {
        0 => Some(Hindrance::lasting("NothingStored", "no replica has a state of that moment")),
        1..=PARCELS_MAX => None,
        count => {
            let message = format!(
                "{count} replicas are more than the {PARCELS_MAX} that go into one claim: name policies, or a checkpoint of one replica"
            );
            Some(Hindrance::lasting("TooMany", message))
        }
    }
}
