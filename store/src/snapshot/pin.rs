// SPDX-License-Identifier: Apache-2.0
//! Pins: checkpoints that must stay (`docs/format.md`, section 9).

use crate::error::{Result, StoreError};
use crate::log::{Entry, Log};
use crate::record::{refuse_unknown, wire};
use crate::register::Register;
use crate::repository::Repository;
use holdfast_core::id::RecordHash;
use holdfast_core::time::Timestamp;
use prost::Message;

/// What a checkpoint is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is a member of a snapshot.
    Snapshot,
    /// A fork begins with it.
    Fork,
    /// It is being restored.
    Restore,
    /// Somebody reads it for longer.
    Read,
}

impl Purpose {
    /// As pins say it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Fork => "fork",
            Self::Restore => "restore",
            Self::Read => "read",
        }
    }
}

/// A checkpoint that stays until the pin is withdrawn.
#[derive(Debug)]
pub struct Pinned {
    /// The pin's number.
    pub number: u64,
    /// The checkpoint's record.
    pub entry: Entry,
}

/// A pin, as the register has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its number.
    pub number: u64,
    /// For what.
    pub purpose: String,
    /// The checkpoint.
    pub sequence: u64,
    /// Who needs it.
    pub by: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
}

/// Makes a checkpoint stay. The order is the format's: the pin, then the newest collection, then the record.
///
/// # Errors
/// [`StoreError::Leaving`] if it is too late, [`StoreError::Missing`] if there is no such checkpoint; failures of the store.
pub async fn pin(
    repository: &Repository,
    log: &Log,
    sequence: u64,
    purpose: Purpose,
    by: [u8; 16],
    now: Timestamp,
) -> Result<Pinned> {
    let hash = checkpoint(log, sequence).await?.hash;
    let number = append(log, (sequence, hash), purpose, by, now).await?;
    match still_there(repository, log, sequence, hash).await {
        Ok(entry) => Ok(Pinned { number, entry }),
        Err(error) => {
            // a pin of what is gone holds nothing; if this fails too, it costs a name
            unpin(log, number).await.ok();
            Err(error)
        }
    }
}

/// Makes a checkpoint stay beyond the moment in which the head goes on from it. For the lineage's writer alone, and only before it commits
/// anything: until then the log itself needs the checkpoint, so no plan can condemn it, and whoever makes a later plan reads this pin after it.
/// So no collection has to be read, which a writer without the master key could not.
///
/// # Errors
/// [`StoreError::Missing`] if there is no such checkpoint, [`StoreError::Leaving`] if it is no history; failures of the store.
pub async fn hold(log: &Log, sequence: u64, purpose: Purpose, now: Timestamp) -> Result<u64> {
    let hash = checkpoint(log, sequence).await?.hash;
    if !log.boundary().await?.is_history(sequence, hash) {
        return Err(leaving(log, sequence, "is not part of the history any more"));
    }
    append(log, (sequence, hash), purpose, *log.lineage().as_bytes(), now).await
}

async fn append(log: &Log, (sequence, hash): (u64, RecordHash), purpose: Purpose, by: [u8; 16], now: Timestamp) -> Result<u64> {
    let body = wire::Pin {
        purpose: purpose.text().to_owned(),
        sequence,
        record: hash.as_bytes().to_vec(),
        by: by.to_vec(),
        created_ns: now.nanos(),
    };
    register(log).append(&body.encode_to_vec()).await
}

/// Withdraws what the lineage's own writers [`hold`] a checkpoint with, those that died before they could included.
///
/// # Errors
/// If the store fails or a pin is damaged.
pub async fn let_go(log: &Log, sequence: u64, purpose: Purpose) -> Result<()> {
    for pin in pins(log).await? {
        if pin.by == log.lineage().as_bytes() && pin.sequence == sequence && pin.purpose == purpose.text() {
            unpin(log, pin.number).await?;
        }
    }
    Ok(())
}

/// Withdraws a pin. Twice is as good as once.
///
/// # Errors
/// If the store fails.
pub async fn unpin(log: &Log, number: u64) -> Result<()> {
    register(log).withdraw(number).await
}

/// The pins of a lineage that hold.
///
/// # Errors
/// If the store fails or a pin is damaged.
pub async fn pins(log: &Log) -> Result<Vec<Pin>> {
    let register = register(log);
    let mut pins = Vec::new();
    for number in 1..=register.last(0).await? {
        if register.is_withdrawn(number).await? {
            continue;
        }
        let damaged = |error| StoreError::damaged(register.name(number), error);
        let wire = wire::Pin::decode(&*register.read(number).await?).map_err(damaged)?;
        let created = Timestamp::from_nanos(wire.created_ns);
        pins.push(Pin { number, purpose: wire.purpose, sequence: wire.sequence, by: wire.by, created });
    }
    Ok(pins)
}

fn register(log: &Log) -> Register<'_> {
    Register::pins(&**log.transport(), log.domain(), log.lineage())
}

async fn checkpoint(log: &Log, sequence: u64) -> Result<Entry> {
    let entry = log.read(sequence).await?;
    if entry.record.checkpoint().is_none() {
        return Err(StoreError::Missing { object: log.name(sequence).to_string(), what: format!("checkpoint {sequence}") });
    }
    Ok(entry)
}

/// The record, if it is history and nobody is about to delete it.
async fn still_there(repository: &Repository, log: &Log, sequence: u64, hash: RecordHash) -> Result<Entry> {
    if is_condemned(repository, log.name(sequence).as_str()).await? {
        return Err(leaving(log, sequence, "is about to be deleted"));
    }
    let entry = checkpoint(log, sequence).await?;
    if entry.hash != hash || !log.boundary().await?.is_history(sequence, hash) {
        return Err(leaving(log, sequence, "is not part of the history any more"));
    }
    Ok(entry)
}

fn leaving(log: &Log, sequence: u64, why: &'static str) -> StoreError {
    StoreError::Leaving { lineage: log.lineage().to_string(), sequence, why }
}

/// Whether the newest collection condemns a name.
async fn is_condemned(repository: &Repository, name: &str) -> Result<bool> {
    let register = Register::collections(&**repository.transport(), repository.own_domain());
    let newest = register.last(0).await?;
    if newest == 0 {
        return Ok(false);
    }
    let object = register.name(newest);
    let wire = wire::Collection::decode(&*register.read(newest).await?).map_err(|error| StoreError::damaged(&object, error))?;
    refuse_unknown(&object, wire.format, &wire.features)?;
    Ok(wire.condemned.iter().any(|condemned| condemned == name))
}
