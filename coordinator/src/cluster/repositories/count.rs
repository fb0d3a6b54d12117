// SPDX-License-Identifier: Apache-2.0
//! What a repository holds, counted now and then: listing costs money.

use super::Context;
use crate::Coordinator;
use holdfast_core::id::LineageId;
use holdfast_core::time::Monotonic;
use holdfast_store::StoreError;
use holdfast_store::lineages::lineages;
use holdfast_store::repository::Repository;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Whether it can be reached is asked this often, and what lineages it holds: sooner if an agent reports of one that was not there.
const EVERY: Duration = Duration::from_secs(60);
/// Its bytes are counted this often.
const BYTES_EVERY: Duration = Duration::from_secs(3600);
/// Pages of a thousand names: of more objects the bytes are not counted.
const PAGES_MAX: usize = 200;
/// Lineages of a page, and pages of them.
const LINEAGES: (u16, usize) = (1000, 20);

/// What a repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    /// Of the own domain.
    lineages: Arc<Listed>,
    /// Of all domains, as stored.
    pub(super) stored_bytes: Option<i64>,
    bytes_at: Monotonic,
}

/// The lineages that are there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    ids: BTreeSet<LineageId>,
    /// There are more than are listed.
    is_cut: bool,
}

impl Count {
    /// How many lineages there are, at least.
    pub(super) fn lineages(&self) -> i32 {
        i32::try_from(self.lineages.ids.len()).unwrap_or(i32::MAX)
    }

    /// Whether one is to be listed that was not.
    fn lacks(&self, mut reported: impl Iterator<Item = LineageId>) -> bool {
        !self.lineages.is_cut && reported.any(|lineage| !self.lineages.ids.contains(&lineage))
    }
}

/// What was counted before, or what is there now if that was long ago or is known to be too little.
///
/// # Errors
/// If the store fails.
pub(super) async fn due(
    context: &Context,
    repository: &Repository,
    coordinator: &Coordinator,
    domain: &str,
    before: Option<(Monotonic, Count)>,
) -> Result<(Monotonic, Count), StoreError> {
    let now = context.clock.monotonic();
    let before = match before {
        Some((at, count)) if now.since(at) < EVERY && !count.lacks(reported(coordinator)) => return Ok((at, count)),
        before => before.map(|(_, count)| count),
    };
    let lineages = Arc::new(list(repository, domain).await?);
    let (stored_bytes, bytes_at) = match before.filter(|count| now.since(count.bytes_at) < BYTES_EVERY) {
        Some(count) => (count.stored_bytes, count.bytes_at),
        None => (count_bytes(repository).await?, now),
    };
    Ok((now, Count { lineages, stored_bytes, bytes_at }))
}

/// The lineages of which agents say that a checkpoint is durable.
fn reported(coordinator: &Coordinator) -> impl Iterator<Item = LineageId> {
    let desk = &coordinator.shared.desk;
    let durable = |key| desk.report(key).is_some_and(|(report, _)| report.sequence > 0);
    desk.guests().into_iter().filter(move |guest| durable(guest.key)).map(|guest| guest.key.1)
}

async fn list(repository: &Repository, domain: &str) -> Result<Listed, StoreError> {
    let mut listed = Listed::default();
    let Some(domain) = repository.existing_domain(domain).await?.map(Arc::new) else { return Ok(listed) };
    for _ in 0..LINEAGES.1 {
        let page = lineages(repository, &domain, listed.ids.last().copied(), LINEAGES.0).await?;
        let is_last = page.len() < usize::from(LINEAGES.0);
        listed.ids.extend(page);
        if is_last {
            return Ok(listed);
        }
    }
    Ok(Listed { is_cut: true, ..listed })
}

async fn count_bytes(repository: &Repository) -> Result<Option<i64>, StoreError> {
    let (mut bytes, mut after) = (0_u64, None::<String>);
    for _ in 0..PAGES_MAX {
        let page = repository.transport().list("", after.as_deref(), false, 1000).await?;
        bytes += page.objects.iter().map(|(_, size)| size).sum::<u64>();
        match page.next {
            Some(next) if after.as_ref().is_none_or(|after| *after < next) => after = Some(next),
            _ => return Ok(i64::try_from(bytes).ok()),
        }
    }
    Ok(None)
}
