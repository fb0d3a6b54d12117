// SPDX-License-Identifier: Apache-2.0
//! Repositories: creating, opening, and their domains (`docs/format.md`, sections 2 and 3).

use crate::document::{Document, DocumentBuilder};
use crate::error::{Result, StoreError};
use crate::key::{DomainKeys, Identity, Master, Secret};
use crate::name::Name;
use crate::record::{refuse_unknown, wire};
use crate::seal::{Domain, Kind, random};
use crate::transport::settle::{self, Settled};
use crate::transport::{Body, Range, Transport};
use holdfast_core::gallop::Gallop;
use holdfast_core::id::{DomainId, RepositoryId};
use holdfast_core::time::Timestamp;
use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod slot;
pub use slot::Kdf;

/// How long the creation of a small object is tried.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An open repository.
#[derive(Debug, Clone)]
pub struct Repository {
    transport: Arc<dyn Transport>,
    id: RepositoryId,
    master: Master,
    own: Domain,
}

/// What a repository says of itself in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The format's version.
    pub format: u32,
    /// When it was created, in seconds since 1970.
    pub created: i64,
}

/// A place for a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotState {
    /// Its number.
    pub number: u64,
    /// Whether its passphrase opens nothing any more.
    pub revoked: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identification {
    holdfast: String,
    format: u32,
    features: Vec<String>,
    id: String,
    created: i64,
}

impl Repository {
    /// Creates a repository, or opens the one that is there. Of two that create at once, both end up with the same.
    ///
    /// # Errors
    /// If the store fails, or there is a repository that the passphrase does not open.
    pub async fn create(transport: Arc<dyn Transport>, passphrase: &[u8], kdf: Kdf, now: Timestamp) -> Result<Self> {
        if transport.size(&Name::repository()).await?.is_some() {
            return Self::open(transport, passphrase).await;
        }
        let id = RepositoryId::new(random()?);
        let identification = Identification {
            holdfast: "repository".to_owned(),
            format: crate::seal::FORMAT_VERSION.into(),
            features: Vec::new(),
            id: id.to_string(),
            created: now.nanos().div_euclid(1_000_000_000),
        };
        let text = serde_json::to_vec_pretty(&identification).map_err(|error| StoreError::damaged("repository", error))?;
        let master = Master { secret: Secret::new(random()?), identity: Secret::new(random()?) };
        let slot =
            slot::wrap(&master, passphrase, kdf, slot::Position { hash: Sha256::digest(&text).into(), epoch: 1, slot: 0 })?;
        let name = Name::key_slot(id, 1, 0);
        settle::create_unique(&*transport, &name, &Body::new(slot.into()), PATIENCE).await?;
        match settle::create(&*transport, &Name::repository(), &Body::new(text.into()), PATIENCE).await? {
            Settled::Won => Self::with(transport, id, master, 1),
            Settled::Lost => Self::open(transport, passphrase).await,
        }
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// If there is none, a newer program wrote it, or the passphrase is wrong.
    pub async fn open(transport: Arc<dyn Transport>, passphrase: &[u8]) -> Result<Self> {
        let text = match transport.get(&Name::repository(), Range::From { offset: 0, len: 64 << 10 }).await {
            Err(error) if error.is_not_found() => return Err(StoreError::NoRepository { location: transport.location() }),
            other => other?,
        };
        let damaged = |what: &str| StoreError::damaged("repository", what);
        let found: Identification = serde_json::from_slice(&text).map_err(|_| damaged("it is not what Holdfast writes there"))?;
        if found.holdfast != "repository" {
            return Err(damaged("it is not what Holdfast writes there"));
        }
        refuse_unknown(&Name::repository(), found.format, &found.features)?;
        let id: RepositoryId = found.id.parse().map_err(|_| damaged("its id is malformed"))?;
        let hash: [u8; 32] = Sha256::digest(&text).into();
        let epoch = last_epoch(&*transport, |epoch| Name::key_slot(id, epoch, 0)).await?;
        let (slots, found) = unlock(&transport, id, hash, epoch, passphrase).await?;
        match (found, slots) {
            (Some(master), _) => Self::with_older(transport, id, master, (hash, epoch), passphrase).await,
            (None, 0) => {
                Err(StoreError::Missing { object: Name::key_slot(id, epoch, 0).to_string(), what: "the master key".to_owned() })
            }
            (None, slots) => Err(StoreError::WrongPassphrase { slots }),
        }
    }

    /// With the secrets of earlier epochs, as far as this passphrase has them: what was sealed then is never sealed anew.
    async fn with_older(
        transport: Arc<dyn Transport>,
        id: RepositoryId,
        master: Master,
        (hash, newest): ([u8; 32], u32),
        passphrase: &[u8],
    ) -> Result<Self> {
        let mut repository = Self::with(Arc::clone(&transport), id, master, newest)?;
        for epoch in 1..newest {
            let Some(older) = unlock(&transport, id, hash, epoch, passphrase).await?.1 else { continue };
            if older.identity != repository.master.identity {
                return Err(StoreError::damaged(Name::key_slot(id, epoch, 0), "it holds the keys of another repository"));
            }
            repository.own.keys.secrets.insert(epoch, older.secret);
        }
        Ok(repository)
    }

    fn with(transport: Arc<dyn Transport>, id: RepositoryId, master: Master, epoch: u32) -> Result<Self> {
        let keys = DomainKeys {
            id: DomainId::REPOSITORY,
            name: String::new(),
            secrets: BTreeMap::from([(epoch, master.secret.clone())]),
            identity: Identity::new(master.identity.clone()),
        };
        Ok(Self { transport, id, own: Domain { repository: id, keys }, master })
    }

    /// The same repository on another way to its store.
    #[cfg(test)]
    pub(crate) fn through(&self, transport: Arc<dyn Transport>) -> Self {
        Self { transport, ..self.clone() }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> RepositoryId {
        self.id
    }

    /// Where its objects are.
    #[must_use]
    pub const fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// What domain keys, snapshots and collections are sealed under.
    #[must_use]
    pub const fn own_domain(&self) -> &Domain {
        &self.own
    }

    /// The domain with this name, with its keys; creates it if it doesn't exist.
    ///
    /// # Errors
    /// If the store fails or the keys are damaged.
    pub async fn domain(&self, name: &str) -> Result<Domain> {
        let id = self.master.domain_id(name);
        if let Some(domain) = self.read_domain(id).await? {
            return Ok(domain);
        }
        let wire = wire::DomainKeys {
            name: name.to_owned(),
            epoch: 1,
            secret: random::<32>()?.to_vec(),
            identity: random::<32>()?.to_vec(),
        };
        let object = Name::domain_keys(id, 1);
        let document = DocumentBuilder::new(&self.own, Kind::DomainKeys, *id.as_bytes(), &object)?;
        let body = Body::new(document.finish(&wire.encode_to_vec())?);
        // whoever loses uses what the store holds
        settle::create(&*self.transport, &object, &body, PATIENCE).await?;
        let missing = || StoreError::Missing { object: object.to_string(), what: format!("the keys of domain {name}") };
        self.read_domain(id).await?.ok_or_else(missing)
    }

    /// The domain with this name, if it exists.
    ///
    /// # Errors
    /// If the store fails or the keys are damaged.
    pub async fn existing_domain(&self, name: &str) -> Result<Option<Domain>> {
        self.read_domain(self.master.domain_id(name)).await
    }

    /// The id of the domain with this name, whether it exists or not.
    #[must_use]
    pub fn domain_id(&self, name: &str) -> DomainId {
        self.master.domain_id(name)
    }

    /// The domain with this id, if it exists.
    ///
    /// # Errors
    /// If the store fails or the keys are damaged.
    pub async fn domain_by_id(&self, id: DomainId) -> Result<Option<Domain>> {
        self.read_domain(id).await
    }

    async fn read_domain(&self, id: DomainId) -> Result<Option<Domain>> {
        let newest = last_epoch(&*self.transport, |epoch| Name::domain_keys(id, epoch)).await?;
        let mut keys: Option<DomainKeys> = None;
        for epoch in 1..=newest {
            let object = Name::domain_keys(id, epoch);
            let bytes = match self.transport.get(&object, Range::All).await {
                Err(error) if error.is_not_found() && epoch == 1 => return Ok(None),
                other => other?,
            };
            let document = Document::open(&self.own, Kind::DomainKeys, *id.as_bytes(), &object, bytes)?;
            let wire = wire::DomainKeys::decode(&*document.body).map_err(|error| StoreError::damaged(&object, error))?;
            let damaged = || StoreError::damaged(&object, "it holds other keys than its name says");
            let secret = Secret::new(wire.secret.try_into().map_err(|_| damaged())?);
            let identity = Secret::new(wire.identity.try_into().map_err(|_| damaged())?);
            let same = keys.as_ref().is_none_or(|keys| *keys.identity.secret() == identity);
            // an id follows from its name, so the name needs no other proof
            if self.master.domain_id(&wire.name) != id || wire.epoch != u64::from(epoch) || !same {
                return Err(damaged());
            }
            let fresh = || DomainKeys { id, name: wire.name, secrets: BTreeMap::new(), identity: Identity::new(identity) };
            keys.get_or_insert_with(fresh).secrets.insert(epoch, secret);
        }
        Ok(keys.map(|keys| Domain { repository: self.id, keys }))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If the store fails, or the repository's object is damaged.
    pub async fn about(&self) -> Result<About> {
        let text = self.transport.get(&Name::repository(), Range::From { offset: 0, len: 64 << 10 }).await?;
        let found: Identification = serde_json::from_slice(&text).map_err(|error| StoreError::damaged("repository", error))?;
        Ok(About { format: found.format, created: found.created })
    }

    /// The slots of the newest master epoch.
    ///
    /// # Errors
    /// If the store fails, or a withdrawal is damaged.
    pub async fn slots(&self) -> Result<Vec<SlotState>> {
        let epoch = self.own.keys.newest_epoch();
        let mut slots = Vec::new();
        for number in 0.. {
            let name = Name::key_slot(self.id, epoch, number);
            if self.transport.size(&name).await?.is_none() {
                break;
            }
            slots.push(SlotState { number, revoked: self.is_withdrawn(&name).await? });
        }
        Ok(slots)
    }

    /// Adds another passphrase; returns its slot.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add_passphrase(&self, passphrase: &[u8], kdf: Kdf) -> Result<u64> {
        let text = self.transport.get(&Name::repository(), Range::All).await?;
        let hash: [u8; 32] = Sha256::digest(&text).into();
        let epoch = self.own.keys.newest_epoch();
        for slot in 0.. {
            let name = Name::key_slot(self.id, epoch, slot);
            if self.transport.size(&name).await?.is_some() {
                continue;
            }
            let wrapped = slot::wrap(&self.master, passphrase, kdf, slot::Position { hash, epoch, slot })?;
            if settle::create(&*self.transport, &name, &Body::new(wrapped.into()), PATIENCE).await? == Settled::Won {
                return Ok(slot);
            }
        }
        Err(StoreError::Cancelled)
    }

    /// Revokes the passphrase of a slot. It opens nothing any more that is sealed from now on only after the master key was renewed; it never
    /// opens the repository through this program again.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn revoke_slot(&self, slot: u64) -> Result<()> {
        let name = Name::key_slot(self.id, self.own.keys.newest_epoch(), slot).withdrawn();
        let document = DocumentBuilder::new(&self.own, Kind::Withdrawal, [0; 16], &name)?;
        settle::create(&*self.transport, &name, &Body::new(document.finish(&[])?), PATIENCE).await?;
        Ok(())
    }

    async fn is_withdrawn(&self, entry: &Name) -> Result<bool> {
        is_withdrawn(&*self.transport, &self.own, [0; 16], entry).await
    }
}

/// How many slots an epoch has, and its master key, if this passphrase opens one of them that was not revoked.
async fn unlock(
    transport: &Arc<dyn Transport>,
    id: RepositoryId,
    hash: [u8; 32],
    epoch: u32,
    passphrase: &[u8],
) -> Result<(u64, Option<Master>)> {
    for slot in 0.. {
        let name = Name::key_slot(id, epoch, slot);
        let sealed = match transport.get(&name, Range::From { offset: 0, len: 64 << 10 }).await {
            Err(error) if error.is_not_found() => return Ok((slot, None)),
            other => other?,
        };
        let Some(master) = slot::unwrap(&name, &sealed, passphrase, slot::Position { hash, epoch, slot })? else { continue };
        let opened = Repository::with(Arc::clone(transport), id, master.clone(), epoch)?;
        if !opened.is_withdrawn(&name).await? {
            return Ok((slot + 1, Some(master)));
        }
    }
    Ok((u64::MAX, None))
}

/// Whether a register's entry or a key slot was withdrawn, by a document that opens.
pub(crate) async fn is_withdrawn(transport: &dyn Transport, domain: &Domain, scope: [u8; 16], entry: &Name) -> Result<bool> {
    let name = entry.withdrawn();
    match transport.get(&name, Range::All).await {
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
        Ok(bytes) => Document::open(domain, Kind::Withdrawal, scope, &name, bytes).map(|_| true),
    }
}

/// The newest epoch, at least 1.
async fn last_epoch(transport: &dyn Transport, name: impl Fn(u32) -> Name) -> Result<u32> {
    let mut gallop = Gallop::from(1);
    while let Some(epoch) = gallop.probe() {
        let exists = match u32::try_from(epoch) {
            Ok(epoch) => transport.size(&name(epoch)).await?.is_some(),
            Err(_) => false,
        };
        gallop.answer(exists);
    }
    Ok(u32::try_from(gallop.last()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
