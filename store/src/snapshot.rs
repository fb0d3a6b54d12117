// SPDX-License-Identifier: Apache-2.0
//! Snapshots: named sets of checkpoints, all or nothing (`docs/format.md`, section 8).
//!
//! The register is a total order: whoever wins a number has read every entry before it. So ids and names are unique although nobody locks
//! anything, and a request that is repeated finds what its first try made.

use crate::error::{Result, StoreError};
use crate::record::{refuse_unknown, wire};
use crate::register::Register;
use crate::repository::Repository;
use crate::transport::settle::Settled;
use holdfast_core::id::{DomainId, LineageId, RecordHash, RootId, SnapshotId};
use holdfast_core::time::Timestamp;
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

mod create;
mod pin;
mod setting;

pub use create::{Made, Proposal, Wanted};
pub use pin::{Pin, Pinned, Purpose, hold, let_go, pin, pins, unpin};
pub use setting::{Image, Manifest, Setting};

/// How far the members of a snapshot agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Each is a moment of its own.
    Crash,
    /// The applications were asked to be quiet.
    Hooks,
    /// All were frozen before any was cut.
    Frozen,
}

impl Consistency {
    const fn text(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hooks => "hooks",
            Self::Frozen => "frozen",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Crash, Self::Hooks, Self::Frozen].into_iter().find(|one| one.text() == text)
    }
}

/// A named set of checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number in the register.
    pub number: u64,
    /// Its id.
    pub id: SnapshotId,
    /// Its name, for people.
    pub name: String,
    /// When it was taken.
    pub created: Timestamp,
    /// How far its members agree.
    pub consistency: Consistency,
    /// The checkpoints.
    pub members: Vec<Member>,
    /// The user's own words.
    pub labels: BTreeMap<String, String>,
    /// Its members' moments are no farther apart, if they were brought to one.
    pub skew: Option<Duration>,
}

/// A checkpoint of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its domain.
    pub domain: DomainId,
    /// Its lineage.
    pub lineage: LineageId,
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of its record.
    pub record: RecordHash,
    /// Its root id.
    pub root: RootId,
    /// The lineage's name.
    pub name: String,
    /// Its pin's number.
    pub pin: u64,
    /// Its application was at rest for so long, if it was brought to one moment with the others.
    pub pause: Option<Duration>,
}

impl Snapshot {
    fn from_wire(number: u64, wire: wire::Snapshot) -> std::result::Result<Self, String> {
        let text = |error: holdfast_core::id::ParseIdError| error.to_string();
        let members = wire.members.into_iter().map(|member| {
            Ok(Member {
                domain: DomainId::try_from(&*member.domain).map_err(text)?,
                lineage: LineageId::try_from(&*member.lineage).map_err(text)?,
                sequence: member.sequence,
                record: RecordHash::try_from(&*member.record).map_err(text)?,
                root: RootId::try_from(&*member.root).map_err(text)?,
                name: member.name,
                pin: member.pin,
                pause: member.pause_ns.map(Duration::from_nanos),
            })
        });
        Ok(Self {
            number,
            id: SnapshotId::try_from(&*wire.id).map_err(text)?,
            name: wire.name,
            created: Timestamp::from_nanos(wire.created_ns),
            consistency: Consistency::parse(&wire.consistency).ok_or("its consistency is unknown")?,
            members: members.collect::<std::result::Result<_, String>>()?,
            labels: wire.labels,
            skew: wire.skew_ns.map(Duration::from_nanos),
        })
    }

    fn to_wire(&self, setting: &Setting) -> wire::Snapshot {
        let (manifests, images) = setting.to_wire();
        let member = |member: &Member| wire::Member {
            domain: member.domain.as_bytes().to_vec(),
            lineage: member.lineage.as_bytes().to_vec(),
            sequence: member.sequence,
            record: member.record.as_bytes().to_vec(),
            root: member.root.as_bytes().to_vec(),
            name: member.name.clone(),
            pin: member.pin,
            pause_ns: member.pause.map(nanos),
        };
        wire::Snapshot {
            format: crate::seal::FORMAT_VERSION.into(),
            features: Vec::new(),
            name: self.name.clone(),
            created_ns: self.created.nanos(),
            consistency: self.consistency.text().to_owned(),
            members: self.members.iter().map(member).collect(),
            labels: self.labels.clone(),
            id: self.id.as_bytes().to_vec(),
            skew_ns: self.skew.map(nanos),
            manifests,
            images,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is known of the register. Entries never change, so each is read once.
#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<u64, Arc<Snapshot>>,
    withdrawn: BTreeSet<u64>,
    last: u64,
}

/// The snapshots of a repository. Clones share what they have read.
#[derive(Debug, Clone)]
pub struct Snapshots {
    repository: Repository,
    known: Arc<Mutex<Known>>,
}

impl Snapshots {
    /// The snapshots of a repository; nothing is read yet.
    #[must_use]
    pub fn new(repository: Repository) -> Self {
        Self { repository, known: Arc::default() }
    }

    fn register(&self) -> Register<'_> {
        Register::snapshots(&**self.repository.transport(), self.repository.own_domain())
    }

    /// The id of the snapshot that a request makes, however often it is repeated.
    #[must_use]
    pub fn id_of_request(&self, request: &str) -> SnapshotId {
        let mut hash = Sha256::new_with_prefix(b"holdfast snapshot request v1");
        hash.update(self.repository.id().as_bytes());
        hash.update(request.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        SnapshotId::new(id)
    }

    /// The snapshots that exist, oldest first. A damaged one is left out and logged: it must not hide the others.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self) -> Result<Vec<Arc<Snapshot>>> {
        let known = self.refreshed().await?;
        let living = known.entries.iter().filter(|(number, _)| !known.withdrawn.contains(number));
        Ok(living.map(|(_, snapshot)| Arc::clone(snapshot)).collect())
    }

    /// The snapshot with this id, and whether it was deleted.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn by_id(&self, id: SnapshotId) -> Result<Option<(Arc<Snapshot>, bool)>> {
        let known = self.refreshed().await?;
        let found = known.entries.values().find(|snapshot| snapshot.id == id);
        Ok(found.map(|snapshot| (Arc::clone(snapshot), known.withdrawn.contains(&snapshot.number))))
    }

    /// Deletes a snapshot, then lets its checkpoints go. `false`: there never was one. After a crash in between, asking again finishes it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn delete(&self, id: SnapshotId) -> Result<bool> {
        let Some((snapshot, _)) = self.by_id(id).await? else { return Ok(false) };
        self.register().withdraw(snapshot.number).await?;
        self.known.lock().await.withdrawn.insert(snapshot.number);
        for member in &snapshot.members {
            self.unpin(member).await?;
        }
        Ok(true)
    }

    async fn unpin(&self, member: &Member) -> Result<()> {
        let Some(domain) = self.repository.domain_by_id(member.domain).await? else { return Ok(()) };
        Register::pins(&**self.repository.transport(), &domain, member.lineage).withdraw(member.pin).await
    }

    /// Reads what was added since the last time.
    async fn refreshed(&self) -> Result<tokio::sync::MutexGuard<'_, Known>> {
        let mut known = self.known.lock().await;
        let register = self.register();
        let last = register.last(known.last).await?;
        for number in known.last + 1..=last {
            match self.read(number).await {
                Ok(snapshot) => drop(known.entries.insert(number, Arc::new(snapshot))),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => tracing::warn!(number, %error, "a snapshot can't be read"),
            }
            known.last = number;
        }
        for number in register.listed_withdrawn().await? {
            if !known.withdrawn.contains(&number) && register.is_withdrawn(number).await? {
                known.withdrawn.insert(number);
            }
        }
        Ok(known)
    }

    async fn read(&self, number: u64) -> Result<Snapshot> {
        let wire = self.read_wire(number).await?;
        Snapshot::from_wire(number, wire).map_err(|what| StoreError::damaged(self.register().name(number), what))
    }

    async fn read_wire(&self, number: u64) -> Result<wire::Snapshot> {
        let register = self.register();
        let object = register.name(number);
        let body = register.read(number).await?;
        let wire = wire::Snapshot::decode(&*body).map_err(|error| StoreError::damaged(&object, error))?;
        refuse_unknown(&object, wire.format, &wire.features)?;
        Ok(wire)
    }

    /// Tries to win the number after all that is known.
    async fn put(&self, snapshot: &Snapshot, setting: &Setting) -> Result<Settled> {
        self.register().put(snapshot.number, &snapshot.to_wire(setting).encode_to_vec()).await
    }
}

#[cfg(test)]
mod tests;
