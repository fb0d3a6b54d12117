// SPDX-License-Identifier: Apache-2.0
//! The shell of the log's writer: does what [`holdfast_core::lineage::Writer`] says.

use super::{Entry, Log};
use crate::error::{Result, StoreError};
use crate::seal::random;
use crate::transport::settle::{look, outcome};
use crate::transport::{Body, Failure};
use bytes::Bytes;
use holdfast_core::id::RecordHash;
use holdfast_core::lineage::{Action, Event, Head, PutOutcome, Seen, Writer};
use std::sync::{Arc, Mutex, PoisonError};

/// What the writer needs next.
#[derive(Debug)]
pub enum Drive {
    /// A claim with this number and generation, after that record.
    Claim(Turn),
    /// Nothing: the lineage is ours, and what was committed is acknowledged.
    Ready(Head),
}

/// The number, generation and predecessor of the next record.
#[derive(Debug)]
pub struct Turn {
    /// Its number.
    pub sequence: u64,
    /// Its generation.
    pub generation: u64,
    /// The record before it.
    pub after: Option<Arc<Entry>>,
    /// The newest boundary entry seen.
    pub boundary: u64,
}

/// Why the store did not take the last request, for the status; `None` once it did.
pub type Trouble = Arc<Mutex<Option<String>>>;

/// The one writer of a log. What it was doing survives a dropped future: the next call goes on with the same bytes.
#[derive(Debug)]
pub struct LogWriter {
    log: Log,
    machine: Writer,
    body: Option<Body>,
    head: Option<Arc<Entry>>,
    trouble: Trouble,
    /// The newest record seen before: an older head means that the store was rolled back.
    watermark: Option<(u64, RecordHash)>,
    name: String,
}

impl LogWriter {
    /// A writer that has not claimed yet. `watermark` is the newest record this place has seen, if any; `name` is for messages.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(log: Log, watermark: Option<(u64, RecordHash)>, name: String) -> Result<Self> {
        let jitter = u64::from_le_bytes(random()?);
        let machine = Writer::new(watermark.map_or(0, |(sequence, _)| sequence), 0, jitter);
        Ok(Self { log, machine, body: None, head: None, trouble: Trouble::default(), watermark, name })
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// What keeps the store from answering.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    /// The number of the next record.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.machine.next_sequence()
    }

    /// The generation of this writer's claim.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.machine.generation()
    }

    /// The number of this writer's claim; 0 before it was won.
    #[must_use]
    pub const fn claimed(&self) -> u64 {
        self.machine.claimed_at()
    }

    /// The newest record, as far as this writer knows.
    #[must_use]
    pub const fn head(&self) -> Option<Head> {
        self.machine.head()
    }

    /// Whether nothing is in flight and the lineage is ours.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.machine.action() == Action::Ready
    }

    /// Hands over the bytes of the next record (a claim when asked for one, otherwise whatever is to be committed) and returns their hash.
    pub fn submit(&mut self, bytes: Bytes) -> RecordHash {
        let body = Body::new(bytes);
        let hash = RecordHash::new(body.sha256);
        self.body = Some(body);
        self.machine.step(Event::Built(hash));
        hash
    }

    /// Goes on until a claim is needed or nothing is left to do. While the store does not answer it waits, for as long as it takes;
    /// before the claim is won, a definite refusal is an error at once.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another has taken over; [`StoreError::RolledBack`]; refusals before the claim; damage.
    pub async fn drive(&mut self) -> Result<Drive> {
        loop {
            let action = self.machine.action();
            let event = match action {
                Action::Ask(question) => match self.log.answer(question).await {
                    Ok(answer) => Event::Answer(answer),
                    Err(error) => self.failed(error, Event::Failed)?,
                },
                Action::Read(sequence) => self.read(sequence).await?,
                Action::BuildClaim { sequence, generation, .. } => {
                    let boundary = self.machine.boundary_entry();
                    return Ok(Drive::Claim(Turn { sequence, generation, after: self.head.clone(), boundary }));
                }
                Action::Put(sequence) => self.put(sequence).await?,
                Action::Look(sequence) => Event::Looked(self.look(sequence).await),
                Action::Wait(pause) => {
                    tokio::time::sleep(pause).await;
                    Event::Waited
                }
                Action::Ready => {
                    self.body = None;
                    if let Some(head) = self.machine.head() {
                        return Ok(Drive::Ready(head));
                    }
                    return Err(StoreError::Cancelled); // a ready writer has a head
                }
                Action::Fenced => return Err(StoreError::Fenced { lineage: self.name.clone() }),
            };
            self.machine.step(event);
        }
    }

    async fn read(&mut self, sequence: u64) -> Result<Event> {
        if let Some((seen, _)) = self.watermark.filter(|(seen, _)| *seen > sequence) {
            return Err(StoreError::RolledBack { lineage: self.name.clone(), found: sequence, seen });
        }
        let entry = match self.log.read(sequence).await {
            Ok(entry) => entry,
            Err(error) if error.is_retryable() || error.is_missing() => return self.failed(error, Event::Failed),
            Err(error) => return Err(error),
        };
        if let Some((seen, _)) = self.watermark.filter(|(seen, hash)| *seen == sequence && *hash != entry.hash) {
            return Err(StoreError::RolledBack { lineage: self.name.clone(), found: sequence, seen });
        }
        let (generation, boundary_entry) = (entry.record.generation, entry.record.boundary);
        let head = Head { sequence, hash: entry.hash, generation, boundary_entry };
        self.head = Some(Arc::new(entry));
        Ok(Event::Read(head))
    }

    async fn put(&mut self, sequence: u64) -> Result<Event> {
        let Some(body) = &self.body else { return Ok(Event::Put(PutOutcome::NotApplied)) };
        let result = self.log.transport().create(&self.log.name(sequence), body).await;
        let outcome = outcome(&result);
        match result {
            Ok(_) => {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(Event::Put(outcome))
            }
            Err(error) => self.failed(error.into(), Event::Put(outcome)),
        }
    }

    async fn look(&self, sequence: u64) -> Seen {
        match &self.body {
            Some(body) => look(&**self.log.transport(), &self.log.name(sequence), body).await,
            None => Seen::Unknown,
        }
    }

    /// A running writer waits through everything; a starting one says at once what cannot work.
    fn failed(&self, error: StoreError, event: Event) -> Result<Event> {
        let final_refusal = match &error {
            StoreError::Transport(error) => {
                matches!(error.failure, Failure::Refused | Failure::Unusable)
                    || (error.is_not_found() && error.operation == "put")
            }
            StoreError::Missing { .. } => false,
            _ => true,
        };
        if final_refusal && self.machine.generation_is_unclaimed() {
            return Err(error);
        }
        tracing::warn!(lineage = %self.name, %error, "the store did not take a request; trying again");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        Ok(event)
    }
}
