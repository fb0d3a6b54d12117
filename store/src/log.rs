// SPDX-License-Identifier: Apache-2.0
//! The log of a lineage: reading it, and writing it through [`holdfast_core::lineage::Writer`].

use crate::document::Document;
use crate::error::{Result, StoreError};
use crate::name::{self, Name, Register};
use crate::record::{Record, wire};
use crate::seal::{Domain, Kind};
use crate::transport::{Range, Transport};
use bytes::Bytes;
use holdfast_core::id::{LineageId, RecordHash};
use holdfast_core::lineage::{Answer, HeadSearch, Question};
use prost::Message;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod boundary;
mod find;
mod timeline;
mod writer;

pub use boundary::Boundary;
pub use find::Selector;
pub(crate) use timeline::told_by;
pub use timeline::{Mark, Timeline};
pub use writer::{Drive, LogWriter, Trouble, Turn};

/// A lineage's log, to be read.
#[derive(Debug, Clone)]
pub struct Log {
    transport: Arc<dyn Transport>,
    domain: Arc<Domain>,
    lineage: LineageId,
    /// A boundary entry that exists, or 0.
    known_boundary: Arc<AtomicU64>,
}

/// A record that was read whole.
#[derive(Debug)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// SHA-256 of its object.
    pub hash: RecordHash,
    /// The object, for its inline frames.
    pub document: Arc<Document>,
}

/// Most of the records' bodies end here: the nodes and chunks behind are read only if they are wanted.
const BODY_READ: u64 = 16 << 10;

impl Log {
    /// The log of a lineage.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, domain: Arc<Domain>, lineage: LineageId) -> Self {
        Self { transport, domain, lineage, known_boundary: Arc::default() }
    }

    /// The lineage.
    #[must_use]
    pub const fn lineage(&self) -> LineageId {
        self.lineage
    }

    /// Its domain.
    #[must_use]
    pub const fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// What it is read from.
    #[must_use]
    pub const fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    pub(crate) fn name(&self, sequence: u64) -> Name {
        Name::record(self.domain.keys.id, self.lineage, sequence)
    }

    /// Reads a whole record.
    ///
    /// # Errors
    /// If it is missing or damaged, or the store fails.
    pub async fn read(&self, sequence: u64) -> Result<Entry> {
        let bytes = self.transport.get(&self.name(sequence), Range::All).await.map_err(|error| self.missing(sequence, error))?;
        self.open(sequence, bytes)
    }

    /// Opens a whole record.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn open(&self, sequence: u64, bytes: Bytes) -> Result<Entry> {
        let hash = RecordHash::new(Sha256::digest(&bytes).into());
        let (record, document) = Record::open(&self.domain, self.lineage, sequence, bytes)?;
        Ok(Entry { record, hash, document: Arc::new(document) })
    }

    /// Reads what a record says, without its inline frames.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_body(&self, sequence: u64) -> Result<Record> {
        let name = self.name(sequence);
        let get = async |len| self.transport.get(&name, Range::From { offset: 0, len }).await;
        let mut bytes = get(BODY_READ).await.map_err(|error| self.missing(sequence, error))?;
        let end = Document::body_end(&name, &bytes)?;
        if end > bytes.len() {
            bytes = get(end as u64).await?;
        }
        Record::open(&self.domain, self.lineage, sequence, bytes).map(|(record, _)| record)
    }

    fn missing(&self, sequence: u64, error: crate::transport::TransportError) -> StoreError {
        if error.is_not_found() {
            return StoreError::Missing { object: self.name(sequence).to_string(), what: format!("record {sequence}") };
        }
        error.into()
    }

    /// The sequences of records at or below `sequence`, newest first, as a listing shows them.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn listed(&self, sequence: u64, limit: u16) -> Result<Vec<u64>> {
        let domain = self.domain.keys.id;
        let prefix = name::records_of(domain, self.lineage);
        // names are inverted, so what sorts after the name of sequence+1 is at or below sequence
        let after = sequence.checked_add(1).map(|above| self.name(above).to_string());
        let page = self.transport.list(&prefix, after.as_deref(), false, limit).await?;
        Ok(page.objects.iter().filter_map(|(name, _)| name::sequence_of(domain, self.lineage, name)).collect())
    }

    pub(crate) async fn answer(&self, question: Question) -> Result<Answer> {
        let register = Register::Boundaries(self.domain.keys.id, self.lineage);
        match question {
            Question::BoundaryExists(k) => {
                let size = self.transport.size(&Name::entry(register, k)).await?;
                Ok(Answer::Exists(size.is_some()))
            }
            Question::RecordExists(n) => Ok(Answer::Exists(self.transport.size(&self.name(n)).await?.is_some())),
            Question::Boundary(k) => {
                let name = Name::entry(register, k);
                let bytes = self.transport.get(&name, Range::All).await?;
                let document = Document::open(&self.domain, Kind::Boundary, *self.lineage.as_bytes(), &name, bytes)?;
                let wire = wire::Boundary::decode(&*document.body).map_err(|error| StoreError::damaged(&name, error))?;
                Ok(Answer::Sequence(wire.sequence))
            }
        }
    }

    /// The newest record's sequence; 0 if the lineage has none. `hint` saves questions.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn head(&self, hint: u64) -> Result<u64> {
        let listed = if hint == 0 { self.listed(u64::MAX - 1, 1).await?.first().copied() } else { None };
        let mut search = HeadSearch::new(listed.unwrap_or(hint), self.known_boundary.load(Ordering::Relaxed));
        while let Some(question) = search.question() {
            search.answer(self.answer(question).await?);
        }
        self.knows_boundary(search.boundary_entry());
        Ok(search.head())
    }
}
