// SPDX-License-Identifier: Apache-2.0
//! What a repository holds, counted now and then: listing costs money.

use super::Context;
use holdfast_core::time::Monotonic;
use holdfast_store::StoreError;
use holdfast_store::lineages::lineages;
use holdfast_store::repository::Repository;
use std::sync::Arc;
use std::time::Duration;

/// Whether it can be reached is asked this often.
const EVERY: Duration = Duration::from_secs(60);
/// Its bytes are counted this often.
const BYTES_EVERY: Duration = Duration::from_secs(3600);
/// Pages of a thousand names: of more objects the bytes are not counted.
const PAGES_MAX: usize = 200;
/// Lineages of a page, and pages of them.
const LINEAGES: (u16, usize) = (1000, 20);

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// Of the own domain.
    pub(super) lineages: i32,
    /// Of all domains, as stored.
    pub(super) stored_bytes: Option<i64>,
    bytes_at: Monotonic,
}

/// What was counted before, or what is there now if that was long ago.
///
/// # Errors
/// If the store fails.
pub(super) async fn due(
    context: &Context,
    repository: &Repository,
    domain: &str,
    before: Option<(Monotonic, Count)>,
) -> Result<(Monotonic, Count), StoreError> {
    let now = context.clock.monotonic();
    if let Some(known) = before.filter(|(at, _)| now.since(*at) < EVERY) {
        return Ok(known);
    }
    let lineages = count_lineages(repository, domain).await?;
    let (stored_bytes, bytes_at) = match before.filter(|(_, count)| now.since(count.bytes_at) < BYTES_EVERY) {
        Some((_, count)) => (count.stored_bytes, count.bytes_at),
        None => (count_bytes(repository).await?, now),
    };
    Ok((now, Count { lineages, stored_bytes, bytes_at }))
}

async fn count_lineages(repository: &Repository, domain: &str) -> Result<i32, StoreError> {
    let Some(domain) = repository.existing_domain(domain).await? else { return Ok(0) };
    let (domain, mut after, mut count) = (Arc::new(domain), None, 0_usize);
    for _ in 0..LINEAGES.1 {
        let page = lineages(repository, &domain, after, LINEAGES.0).await?;
        count += page.len();
        after = page.last().copied();
        if page.len() < usize::from(LINEAGES.0) {
            break;
        }
    }
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
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
