// SPDX-License-Identifier: Apache-2.0
//! Taking a snapshot: every member is pinned, then one creation makes the set visible.

use super::{Consistency, Member, Purpose, Setting, Snapshot, Snapshots, pin, unpin};
use crate::error::{Result, StoreError};
use crate::log::Log;
use crate::transport::settle::Settled;
use futures::{StreamExt, stream};
use holdfast_core::id::SnapshotId;
use holdfast_core::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A snapshot to be taken.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its id: random, or the request's ([`Snapshots::id_of_request`]).
    pub id: SnapshotId,
    /// Its name, for people.
    pub name: String,
    /// Whether another name may be made of it if it is taken.
    pub rename: bool,
    /// When it was taken.
    pub created: Timestamp,
    /// How far its members agree.
    pub consistency: Consistency,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
    /// Its members' moments are no farther apart, if they were brought to one.
    pub skew: Option<Duration>,
    /// The checkpoints.
    pub members: Vec<Wanted>,
    /// What the members run as.
    pub setting: Setting,
}

/// A checkpoint that is to be a member.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its lineage.
    pub log: Log,
    /// The lineage's name.
    pub name: String,
    /// Its number.
    pub sequence: u64,
    /// Its application was at rest for so long, if it was brought to one moment with the others.
    pub pause: Option<Duration>,
}

/// Members that are pinned at once.
const PINS_AT_ONCE: usize = 64;

/// What a creation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A new snapshot.
    New(Arc<Snapshot>),
    /// The one that an earlier try of the same request had made.
    Before(Arc<Snapshot>),
}

/// Whether the register lets a proposal in.
enum Verdict {
    /// As this entry.
    Free(Snapshot),
    /// It is there already.
    Made(Arc<Snapshot>),
}

impl Snapshots {
    /// Takes a snapshot: all or nothing.
    ///
    /// Not cancel-safe: a dropped future may leave pins, and the snapshot or not; asking again with the same id finds out.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; [`StoreError::Leaving`] or [`StoreError::Missing`] if a checkpoint can't be a member;
    /// [`StoreError::Withdrawn`] if this request's snapshot was deleted; failures of the store, after which it may or may not have been taken.
    pub async fn create(&self, proposal: &Proposal) -> Result<Made> {
        if let Verdict::Made(snapshot) = self.examine(proposal, &[]).await? {
            return Ok(Made::Before(snapshot));
        }
        let pinned: Vec<_> = proposal.members.iter().map(|wanted| self.pinned(proposal, wanted)).collect();
        let pinned: Vec<Result<Member>> = stream::iter(pinned).buffered(PINS_AT_ONCE).collect().await;
        let (mut members, mut refused) = (Vec::with_capacity(pinned.len()), None);
        for member in pinned {
            match member {
                Ok(member) => members.push(member),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            None => self.commit(proposal, &members).await,
            Some(error) => {
                release(proposal, &members).await;
                Err(error)
            }
        }
    }

    async fn pinned(&self, proposal: &Proposal, wanted: &Wanted) -> Result<Member> {
        let by = *proposal.id.as_bytes();
        let Wanted { log, name, sequence, pause } = wanted;
        let pinned = pin(&self.repository, log, *sequence, Purpose::Snapshot, by, proposal.created).await?;
        let damaged = || StoreError::damaged(log.name(*sequence), "it is no checkpoint");
        let root = pinned.entry.record.checkpoint().ok_or_else(damaged)?.root;
        Ok(Member {
            domain: log.domain().keys.id,
            lineage: log.lineage(),
            sequence: *sequence,
            record: pinned.entry.hash,
            root,
            name: name.clone(),
            pin: pinned.number,
            pause: *pause,
        })
    }

    async fn commit(&self, proposal: &Proposal, members: &[Member]) -> Result<Made> {
        loop {
            let snapshot = match self.examine(proposal, members).await {
                Ok(Verdict::Free(snapshot)) => snapshot,
                Ok(Verdict::Made(snapshot)) => {
                    release(proposal, members).await;
                    return Ok(Made::Before(snapshot));
                }
                Err(error) => {
                    release(proposal, members).await;
                    return Err(error);
                }
            };
            // from here on an error leaves open whether the snapshot exists: its pins must stay
            if self.put(&snapshot, &proposal.setting).await? == Settled::Won {
                return Ok(Made::New(Arc::new(snapshot)));
            }
        }
    }

    /// Looks at all entries that exist and makes the one that would follow them.
    async fn examine(&self, proposal: &Proposal, members: &[Member]) -> Result<Verdict> {
        let known = self.refreshed().await?;
        if let Some(same) = known.entries.values().find(|snapshot| snapshot.id == proposal.id) {
            if known.withdrawn.contains(&same.number) {
                return Err(StoreError::Withdrawn { id: proposal.id.to_string() });
            }
            return Ok(Verdict::Made(Arc::clone(same)));
        }
        let living = |number: &u64| !known.withdrawn.contains(number);
        let taken = |name: &str| known.entries.values().any(|snapshot| living(&snapshot.number) && snapshot.name == name);
        let mut name = proposal.name.clone();
        let mut count = 1_u64;
        while taken(&name) {
            if !proposal.rename {
                return Err(StoreError::NameTaken { name });
            }
            count += 1;
            name = format!("{}-{count}", proposal.name);
        }
        Ok(Verdict::Free(Snapshot {
            number: known.last + 1,
            id: proposal.id,
            name,
            created: proposal.created,
            consistency: proposal.consistency,
            members: members.to_vec(),
            labels: proposal.labels.clone(),
            skew: proposal.skew,
        }))
    }
}

/// Withdraws the pins of a snapshot that will not be. Each that fails costs a name and keeps a checkpoint.
async fn release(proposal: &Proposal, members: &[Member]) {
    for member in members {
        let of = |wanted: &&Wanted| (wanted.log.domain().keys.id, wanted.log.lineage()) == (member.domain, member.lineage);
        let Some(wanted) = proposal.members.iter().find(of) else { continue };
        if let Err(error) = unpin(&wanted.log, member.pin).await {
            tracing::warn!(lineage = %wanted.name, pin = member.pin, %error, "a pin of a snapshot that was not taken stays");
        }
    }
}
