// SPDX-License-Identifier: Apache-2.0
//! Finding what a request names: domains, lineages, points of their history.

use crate::clock::Clock;
use crate::{convert, status};
use holdfast_core::id::{DomainId, LineageId};
use holdfast_core::time::{Monotonic, Timestamp};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::{self, point_ref::Point};
use holdfast_store::log::{Entry, Log, Mark, Selector};
use holdfast_store::record::RecordKind;
use holdfast_store::repository::Repository;
use holdfast_store::seal::Domain;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::Status;

/// Longest name of a domain or lineage, in bytes.
const NAME_MAX: usize = 253;
/// Domains whose keys are kept at hand.
const DOMAINS_MAX: usize = 1024;
/// Keys are read again after this: another coordinator may have begun a new epoch.
const KEYS_AGE: Duration = Duration::from_secs(60);
/// Most forks of forks that are followed.
const ANCESTORS_MAX: usize = 16;
/// The first checkpoint is looked for among so many records, to say when it was.
const FIRST_AMONG: usize = 16;

/// A lineage by its names, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) names: v1::LineageRef,
    pub(crate) log: Log,
}

impl Place {
    pub(crate) fn domain(&self) -> &Arc<Domain> {
        self.log.domain()
    }

    /// What tables know it by.
    pub(crate) fn key(&self) -> Key {
        (self.log.domain().keys.id, self.log.lineage())
    }

    /// Both names, for messages.
    pub(crate) fn text(&self) -> String {
        text(&self.names)
    }
}

/// What tables know a lineage by.
pub(crate) type Key = (DomainId, LineageId);

/// Both names of a lineage, for messages.
pub(crate) fn text(names: &v1::LineageRef) -> String {
    format!("{}/{}", names.domain, names.lineage)
}

/// A checkpoint that a request meant.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) entry: Entry,
    pub(crate) checkpoint: v1::Checkpoint,
}

/// What a lineage is found with.
#[derive(Debug)]
pub(crate) struct Catalog {
    repository: Repository,
    clock: Clock,
    /// The only domain that is spoken of; others do not exist as far as callers can tell.
    only: Option<String>,
    domains: Mutex<BTreeMap<DomainId, (Arc<Domain>, Monotonic)>>,
    names: Mutex<BTreeMap<String, DomainId>>,
}

impl Catalog {
    pub(crate) fn new(repository: Repository, clock: Clock, only: Option<String>) -> Self {
        Self { repository, clock, only, domains: Mutex::default(), names: Mutex::default() }
    }

    /// The only domain that is spoken of, if not all are.
    pub(crate) fn only(&self) -> Option<&str> {
        self.only.as_deref()
    }

    fn speaks_of(&self, domain: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == domain)
    }

    pub(crate) const fn repository(&self) -> &Repository {
        &self.repository
    }

    fn known(&self, id: DomainId) -> Option<Arc<Domain>> {
        let domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let (domain, read) = domains.get(&id)?;
        (self.clock.monotonic().since(*read) < KEYS_AGE).then(|| Arc::clone(domain))
    }

    fn remember(&self, domain: Domain) -> Arc<Domain> {
        let domain = Arc::new(domain);
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.len() >= DOMAINS_MAX {
            // rare, and costs a few reads
            domains.clear();
            names.clear();
        }
        names.insert(domain.keys.name.clone(), domain.keys.id);
        domains.insert(domain.keys.id, (Arc::clone(&domain), self.clock.monotonic()));
        domain
    }

    fn known_by_name(&self, name: &str) -> Option<Arc<Domain>> {
        let id = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()?;
        self.known(id)
    }

    /// The domain with this id.
    pub(crate) async fn domain_by_id(&self, id: DomainId) -> Result<Option<Arc<Domain>>, Status> {
        let found = match self.known(id) {
            Some(domain) => Some(domain),
            None => self.repository.domain_by_id(id).await.map_err(status::store)?.map(|domain| self.remember(domain)),
        };
        Ok(found.filter(|domain| self.speaks_of(&domain.keys.name)))
    }

    /// The domain with this name, if it exists.
    pub(crate) async fn domain(&self, name: &str) -> Result<Option<Arc<Domain>>, Status> {
        if !self.speaks_of(name) {
            return Ok(None);
        }
        if let Some(domain) = self.known_by_name(name) {
            return Ok(Some(domain));
        }
        let read = self.repository.existing_domain(name).await.map_err(status::store)?;
        Ok(read.map(|domain| self.remember(domain)))
    }

    /// The place of a lineage that an agent begins or goes on with; the domain is made if need be.
    pub(crate) async fn begin(&self, names: Option<v1::LineageRef>, field: &str) -> Result<Place, Status> {
        let names = checked(names, field)?;
        if !self.speaks_of(&names.domain) {
            return Err(status::not_found("domain", names.domain));
        }
        let domain = match self.known_by_name(&names.domain) {
            Some(domain) => domain,
            None => self.remember(self.repository.domain(&names.domain).await.map_err(status::store)?),
        };
        Ok(self.place(names, domain))
    }

    pub(crate) fn place(&self, names: v1::LineageRef, domain: Arc<Domain>) -> Place {
        let lineage = domain.keys.identity.lineage_id(&names.lineage);
        Place { log: Log::new(Arc::clone(self.repository.transport()), domain, lineage), names }
    }

    /// The place of a lineage; its domain must exist, its log may be empty.
    pub(crate) async fn lineage(&self, names: Option<v1::LineageRef>, field: &str) -> Result<Place, Status> {
        let names = checked(names, field)?;
        match self.domain(&names.domain).await? {
            Some(domain) => Ok(self.place(names, domain)),
            None => Err(status::not_found("lineage", text(&names))),
        }
    }

    /// The place of a lineage that has a log.
    pub(crate) async fn existing(&self, names: Option<v1::LineageRef>, field: &str) -> Result<Place, Status> {
        let place = self.lineage(names, field).await?;
        if place.log.head(0).await.map_err(status::store)? == 0 {
            return Err(status::not_found("lineage", place.text()));
        }
        Ok(place)
    }

    /// A checkpoint by its number.
    pub(crate) async fn checkpoint(&self, place: Place, sequence: u64) -> Result<Found, Status> {
        let none = || {
            let message = format!("lineage {} has no checkpoint {sequence}", place.text());
            status::about(Reason::NoCheckpoint, message, "checkpoint", sequence.to_string())
        };
        if sequence == 0 || sequence == u64::MAX {
            return Err(none());
        }
        let entry = match place.log.read(sequence).await {
            Err(error) if error.is_missing() => return Err(none()),
            other => other.map_err(status::store)?,
        };
        let checkpoint = convert::checkpoint(&place.names, &entry).ok_or_else(none)?;
        Ok(Found { place, entry, checkpoint })
    }

    /// The checkpoint that a point stands for, but for those of snapshots.
    pub(crate) async fn point(
        &self,
        place: Place,
        point: Option<Point>,
        accept_fuzzy: bool,
        field: &str,
    ) -> Result<Found, Status> {
        let selector = match point {
            None | Some(Point::Newest(_)) => Selector::Newest,
            Some(Point::Checkpoint(sequence)) => return self.checkpoint(place, sequence).await,
            Some(Point::At(at)) => {
                let unusable = || status::invalid(&format!("{field}.at"), "is not a time between 1677 and 2262");
                Selector::At(convert::moment(&at).ok_or_else(unusable)?)
            }
            Some(Point::Snapshot(_)) => return Err(status::invalid(&format!("{field}.snapshot"), "can't be used here")),
        };
        match place.log.find(selector, !accept_fuzzy).await.map_err(status::store)? {
            Some(mark) => self.checkpoint(place, mark.sequence).await,
            None => Err(self.none(&place, selector, accept_fuzzy).await?),
        }
    }

    /// Why there is no such checkpoint: none at all, or none clean.
    async fn none(&self, place: &Place, selector: Selector, accept_fuzzy: bool) -> Result<Status, Status> {
        let name = place.text();
        let when = match selector {
            Selector::At(moment) => format!(" at or before {moment}"),
            _ => String::new(),
        };
        if !accept_fuzzy && place.log.find(selector, false).await.map_err(status::store)?.is_some() {
            let message = format!(
                "lineage {name} has only fuzzy checkpoints{when}: something changed while they were captured; accept them or name one"
            );
            return Ok(status::about(Reason::OnlyFuzzy, message, "lineage", name));
        }
        if place.log.head(0).await.map_err(status::store)? == 0 {
            return Ok(status::not_found("lineage", name));
        }
        let first = first(&place.log).await.map_err(status::store)?;
        let first = first.filter(|_| !when.is_empty()).map_or_else(String::new, |first| format!("; its first is of {first}"));
        let message = format!("lineage {name} has no checkpoint{when}{first}");
        Ok(status::about(Reason::NoCheckpoint, message, "lineage", name))
    }

    /// The lineages that a lineage was forked from, as their first records say.
    pub(crate) async fn ancestors(&self, place: &Place) -> Result<Vec<LineageId>, Status> {
        let mut ancestors = Vec::new();
        let mut log = place.log.clone();
        while ancestors.len() < ANCESTORS_MAX {
            let first = match log.read_body(1).await {
                Err(error) if error.is_missing() => break,
                other => other.map_err(status::store)?,
            };
            let RecordKind::Claim(claim) = first.kind else { break };
            let Some(origin) = claim.origin.filter(|origin| !ancestors.contains(&origin.lineage)) else { break };
            ancestors.push(origin.lineage);
            log = Log::new(Arc::clone(log.transport()), Arc::clone(log.domain()), origin.lineage);
        }
        Ok(ancestors)
    }
}

/// When the first checkpoint that there is was captured, if it is among the first records.
async fn first(log: &Log) -> holdfast_store::Result<Option<Timestamp>> {
    let boundary = log.boundary().await?;
    let kept: Vec<u64> = boundary.kept.keys().copied().collect();
    for sequence in kept.into_iter().chain(boundary.sequence.max(1)..).take(FIRST_AMONG) {
        match log.read_body(sequence).await {
            Err(error) if error.is_missing() => break,
            other => {
                if let Some(mark) = Mark::of(&other?) {
                    return Ok(Some(mark.last_close));
                }
            }
        }
    }
    Ok(None)
}

fn checked(names: Option<v1::LineageRef>, field: &str) -> Result<v1::LineageRef, Status> {
    let names = names.ok_or_else(|| status::invalid(field, "is missing"))?;
    name(&names.domain, &format!("{field}.domain"))?;
    name(&names.lineage, &format!("{field}.lineage"))?;
    Ok(names)
}

/// Checks a name that people gave.
pub(crate) fn name(text: &str, field: &str) -> Result<(), Status> {
    if text.is_empty() {
        return Err(status::invalid(field, "is empty"));
    }
    if text.len() > NAME_MAX {
        return Err(status::invalid(field, format!("has {} bytes; {NAME_MAX} are possible", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(status::invalid(field, "has control characters"));
    }
    Ok(())
}
