// SPDX-License-Identifier: Apache-2.0
//! What all services of one coordinator share.

#[cfg(feature = "kubernetes")]
use crate::Access;
use crate::Config;
use crate::barrier::Barriers;
use crate::board::Board;
use crate::catalog::{Catalog, Found, Key, Place};
use crate::clock::Clock;
use crate::grant::{self, GrantId, Grants};
use crate::page::Pages;
use crate::restore::Ledger;
use crate::session::Desk;
use crate::session::usher::Bearer;
use crate::{convert, status};
use holdfast_core::id::OwnerId;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::{self, point_ref::Point};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

/// Requests that read trees at once: each takes a thread and some 10 MiB.
const TREES_MAX: usize = 8;
/// Objects on their way through the relay at once, in MiB.
const RELAY_MIB: usize = 128;
/// Largest object, in MiB.
pub(crate) const OBJECT_MIB: u32 = 16;

/// What all services of one coordinator share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) owner: OwnerId,
    pub(crate) clock: Clock,
    pub(crate) catalog: Catalog,
    pub(crate) desk: Arc<Desk>,
    pub(crate) grants: Arc<Mutex<Grants>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) board: Board,
    pub(crate) pages: Pages,
    /// Those that are run, and how far each is.
    pub(crate) barriers: Barriers,
    /// What passes of sessions are signed with.
    #[cfg(feature = "kubernetes")]
    pub(crate) passes: aws_lc_rs::hmac::Key,
    /// Work that goes on when its caller has gone: joined when the coordinator ends.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Coordinators of the same repository, each of a domain of its own, whose agents this one takes snapshots of.
    joined: Vec<Arc<Shared>>,
    trees: Arc<Semaphore>,
    relay: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        let clock = Clock::new();
        let grants: Arc<Mutex<Grants>> = Arc::default();
        let secret = *config.repository.own_domain().keys.identity.secret().expose();
        Self {
            owner: config.owner,
            clock,
            board: Board::new(config.repository.clone(), clock, config.domain.as_deref()),
            catalog: Catalog::new(config.repository, clock, config.domain),
            desk: Arc::new(Desk::new(clock)),
            ledger: Arc::new(Ledger::new(clock, Arc::clone(&grants))),
            grants,
            pages: Pages::new(&secret),
            barriers: Barriers::new(clock),
            #[cfg(feature = "kubernetes")]
            passes: crate::cluster::pass_key(&secret),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            joined: Vec::new(),
            trees: Arc::new(Semaphore::new(TREES_MAX)),
            relay: Arc::new(Semaphore::new(RELAY_MIB)),
        }
    }

    /// What takes snapshots across the domains of several coordinators of one repository. It ends with the first of them.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn across(joined: Vec<Arc<Self>>) -> Option<Self> {
        let first = joined.first()?;
        let repository = first.catalog.repository().clone();
        let all = Self::new(Config { repository, owner: first.owner, access: Access::Open, domain: None });
        // what is being taken is waited for with what the first one does
        Some(Self { tasks: first.tasks.clone(), stop: first.stop.child_token(), joined, ..all })
    }

    /// This one, and those whose agents it takes snapshots of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> + Clone {
        std::iter::once(self).chain(self.joined.iter().map(AsRef::as_ref))
    }

    /// Where sessions are: this one's own, and those of whom it takes snapshots.
    pub(crate) fn desks(&self) -> Vec<Arc<Desk>> {
        self.parts().map(|part| Arc::clone(&part.desk)).collect()
    }

    /// Where the session of a lineage's agent is.
    pub(crate) fn desk_of(&self, key: Key) -> Option<&Arc<Desk>> {
        self.parts().map(|part| &part.desk).find(|desk| desk.is_live(key))
    }

    /// A place among those who read trees; waits for one.
    pub(crate) async fn tree_permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.trees).acquire_owned().await.map_err(|_| status::shutting_down())
    }

    /// Room for so many MiB on their way; waits for it.
    pub(crate) async fn relay_permit(&self, mib: u32) -> Result<OwnedSemaphorePermit, Status> {
        let mib = mib.clamp(1, OBJECT_MIB);
        Arc::clone(&self.relay).acquire_many_owned(mib).await.map_err(|_| status::shutting_down())
    }

    /// The checkpoint that a point stands for.
    pub(crate) async fn resolve(&self, point: Option<v1::PointRef>, field: &str) -> Result<Found, Status> {
        let point = point.ok_or_else(|| status::invalid(field, "is missing"))?;
        let place = self.catalog.lineage(point.lineage, &format!("{field}.lineage")).await?;
        let Some(Point::Snapshot(key)) = point.point else {
            return self.catalog.point(place, point.point, point.accept_fuzzy, field).await;
        };
        let snapshot = self.board.find(&key, &format!("{field}.snapshot")).await?;
        let of = snapshot.members.iter().find(|member| (member.domain, member.lineage) == place.key());
        let Some(member) = of else {
            let message = format!("snapshot {:?} has no member {}", snapshot.name, place.text());
            return Err(status::about(Reason::NotFound, message, "snapshot member", place.text()));
        };
        let found = self.catalog.checkpoint(place, member.sequence).await?;
        if found.entry.hash != member.record {
            let message = format!("checkpoint {} is not the one that was pinned", member.sequence);
            return Err(status::about(Reason::Damaged, message, "snapshot", snapshot.id.to_string()));
        }
        Ok(found)
    }

    /// A grant for a lineage and what it was forked from.
    pub(crate) async fn grant(&self, place: &Place, write: bool, bearer: Option<Bearer>) -> Result<(v1::Grant, GrantId), Status> {
        let ancestors = self.catalog.ancestors(place).await?;
        let mut token = [0; 32];
        getrandom::fill(&mut token).map_err(|_| status::because(Reason::Internal, "the system has no random numbers"))?;
        let (domain, lineage) = place.key();
        let scope = grant::scope_of(domain, lineage, ancestors, write);
        let issued =
            self.grants.lock().unwrap_or_else(PoisonError::into_inner).issue(self.clock.monotonic(), &token, scope, bearer);
        let id = issued.map_err(|_| status::busy("grants"))?;
        let granted = v1::Grant {
            token: bytes::Bytes::copy_from_slice(&token),
            expires: Some(convert::time(self.clock.now().plus(grant::LIFETIME))),
            keys: Some(convert::keys(place.domain())),
            lineage: Some(place.names.clone()),
            lineage_id: lineage.to_string(),
            write,
        };
        Ok((granted, id))
    }

    /// Whether this is the token of a grant that holds.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn has_grant(&self, token: &[u8]) -> bool {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.scope(self.clock.monotonic(), token).is_some()
    }

    /// Ends all grants of a bearer.
    pub(crate) fn revoke_all(&self, bearer: &str) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).revoke_all(bearer);
    }

    /// 16 random bytes.
    pub(crate) fn random_id(&self) -> Result<[u8; 16], Status> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| status::because(Reason::Internal, "the system has no random numbers"))?;
        Ok(id)
    }
}
