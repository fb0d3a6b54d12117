// SPDX-License-Identifier: Apache-2.0
//! What a repository holds: its domains, and their lineages.

use crate::error::{Result, StoreError};
use crate::log::{Entry, Log, Selector};
use crate::name;
use crate::record::{Claim, Record, RecordKind};
use crate::repository::Repository;
use crate::seal::Domain;
use holdfast_core::id::{DomainId, LineageId};
use std::sync::Arc;

/// A lineage, as its log describes it.
#[derive(Debug)]
pub struct Lineage {
    /// Its log.
    pub log: Log,
    /// Its name.
    pub name: String,
    /// The newest record.
    pub head: Record,
    /// The newest takeover.
    pub claim: Claim,
    /// The newest checkpoint that is not partial.
    pub newest: Option<Entry>,
}

impl Lineage {
    /// Whether its last holder ended in good order.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        matches!(self.head.kind, RecordKind::Seal { .. })
    }

    /// Reads what a log says of its lineage; `None` if the log is empty.
    ///
    /// # Errors
    /// If the store fails or a record is damaged.
    pub async fn read(log: Log) -> Result<Option<Self>> {
        let head = match log.head(0).await? {
            0 => return Ok(None),
            head => log.read_body(head).await?,
        };
        if log.domain().keys.identity.lineage_id(&head.name) != log.lineage() {
            return Err(StoreError::damaged(log.name(head.sequence), "it bears another lineage's name"));
        }
        let claim = match &head.kind {
            RecordKind::Claim(claim) => claim.clone(),
            _ => match log.read_body(head.claimed).await?.kind {
                RecordKind::Claim(claim) => claim,
                _ => return Err(StoreError::damaged(log.name(head.claimed), "it should be a claim")),
            },
        };
        let newest = match log.find(Selector::Newest, false).await? {
            Some(mark) => Some(log.read(mark.sequence).await?),
            None => None,
        };
        Ok(Some(Self { name: head.name.clone(), log, head, claim, newest }))
    }
}

/// The ids of all domains, in their order.
///
/// # Errors
/// If the store fails.
pub async fn domains(repository: &Repository) -> Result<Vec<DomainId>> {
    let prefix = "domains/";
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = repository.transport().list(prefix, after.as_deref(), true, 1000).await?;
        ids.extend(page.prefixes.iter().filter_map(|found| part(prefix, found)?.parse::<DomainId>().ok()));
        match page.next {
            Some(next) if after.as_ref().is_none_or(|after| *after < next) => after = Some(next),
            _ => return Ok(ids),
        }
    }
}

/// A page of a domain's lineages: those after one, in the order of their ids; at most `limit`.
///
/// # Errors
/// If the store fails.
pub async fn lineages(
    repository: &Repository,
    domain: &Arc<Domain>,
    after: Option<LineageId>,
    limit: u16,
) -> Result<Vec<LineageId>> {
    let prefix = name::lineages_of(domain.keys.id);
    // with the slash: a lineage's own objects follow its name, and are behind it
    let mut after = after.map(|after| format!("{prefix}{after}/~"));
    let mut ids = Vec::new();
    loop {
        let want = limit.saturating_sub(u16::try_from(ids.len()).unwrap_or(u16::MAX));
        if want == 0 {
            return Ok(ids);
        }
        let page = repository.transport().list(&prefix, after.as_deref(), true, want).await?;
        ids.extend(page.prefixes.iter().filter_map(|found| part(&prefix, found)?.parse::<LineageId>().ok()));
        match page.next {
            Some(next) if after.as_ref().is_none_or(|after| *after < next) => after = Some(next),
            _ => return Ok(ids),
        }
    }
}

fn part<'a>(prefix: &str, found: &'a str) -> Option<&'a str> {
    found.strip_prefix(prefix)?.strip_suffix('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Dirt;
    use crate::repository::Kdf;
    use crate::testkit::Lab;
    use crate::transport::Transport;
    use holdfast_core::time::Timestamp;

    #[test]
    fn what_was_written_is_listed_with_its_name() {
        let lab = Lab::new();
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("file"), b"content").expect("a file");
        let mut session = lab.open(1);
        let (_, done) = lab.capture(&mut session, directory.path(), Dirt::all(), true);
        let transport: Arc<dyn Transport> = lab.memory.clone();
        lab.runtime.block_on(async {
            let repository = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("it exists");
            let other = Arc::new(repository.domain("other").await.expect("keys"));
            let found = domains(&repository).await.expect("a listing");
            assert_eq!(found.len(), 2);
            let names: Vec<_> = futures_names(&repository, &found).await;
            assert!(names.contains(&"default".to_owned()) && names.contains(&"other".to_owned()), "{names:?}");
            assert!(lineages(&repository, &other, None, 10).await.expect("a listing").is_empty());
            let ids = lineages(&repository, &lab.domain, None, 10).await.expect("a listing");
            assert_eq!(ids, [lab.log().lineage()]);
            assert!(lineages(&repository, &lab.domain, Some(ids[0]), 10).await.expect("a listing").is_empty());
            let lineage = Lineage::read(lab.log()).await.expect("records").expect("a head");
            assert_eq!((lineage.name.as_str(), lineage.is_sealed()), ("web-0", false));
            assert_eq!(lineage.newest.expect("a checkpoint").record.sequence, done.sequence);
        });
    }

    async fn futures_names(repository: &Repository, ids: &[DomainId]) -> Vec<String> {
        let mut names = Vec::new();
        for id in ids {
            names.push(repository.domain_by_id(*id).await.expect("keys").expect("it exists").keys.name);
        }
        names
    }
}
