// SPDX-License-Identifier: Apache-2.0
//! Frames of chunks on their way: filled by a capture, encoded by another thread, placed by a third.

use super::Encoders;
use super::budget::Permit;
use super::encoders::Seen;
use crate::chunker::Chunker;
use crate::error::{Result, StoreError};
use crate::frame::{Encoder, TARGET};
use crate::key::Identity;
use crate::tree::{Frame, Place};
use holdfast_core::id::ChunkId;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Chunks that are stored already, with their places: what the file was before.
pub type Known = HashMap<ChunkId, Place>;

/// A chunk as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
    /// Its place.
    pub place: Place,
    /// Whether it was stored before.
    pub known: bool,
}

/// A frame to encode.
#[derive(Debug, Default)]
pub(super) struct Job {
    plaintext: Vec<u8>,
    /// Ends of the chunks in the plaintext.
    ends: Vec<usize>,
    /// By chunk: where it may be stored already.
    known: Vec<Option<Arc<Known>>>,
    /// Counts commits: see [`Batcher::barrier`].
    epoch: u64,
    permit: Option<Permit>,
}

/// A frame that was encoded.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) codec: u8,
    pub(super) payload: Vec<u8>,
    pub(super) plain_len: u32,
    pub(super) chunks: Vec<EncodedChunk>,
    pub(super) epoch: u64,
    /// Held until it is placed.
    _permit: Option<Permit>,
}

#[derive(Debug)]
pub(super) enum EncodedChunk {
    Known(Stored),
    New { id: ChunkId, inner: u32, len: u32 },
}

#[derive(Debug)]
enum State {
    Waiting,
    Encoded(Encoded),
    Placed(Vec<Stored>),
    Failed(String),
}

/// A frame's chunks, once they are encoded and placed.
#[derive(Debug)]
pub struct Batch {
    state: Mutex<State>,
    changed: Condvar,
}

impl Batch {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }

    /// Waits until it is encoded; `None` if it was placed already.
    pub(super) fn take(&self) -> Result<Option<Encoded>> {
        let mut state = self.state();
        while matches!(*state, State::Waiting) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &*state {
            State::Placed(_) => return Ok(None),
            State::Failed(what) => return Err(StoreError::damaged("frame", what)),
            State::Waiting | State::Encoded(_) => {}
        }
        match std::mem::replace(&mut *state, State::Failed("it was taken and never placed".to_owned())) {
            State::Encoded(encoded) => Ok(Some(encoded)),
            _ => Ok(None),
        }
    }

    /// A chunk's id, with a place that means nothing: for whoever wants ids only.
    pub(crate) fn identify(&self, index: usize, nowhere: &Arc<Frame>) -> Result<Stored> {
        if let Some(encoded) = self.take()? {
            let chunks = encoded.chunks.into_iter().map(|chunk| match chunk {
                EncodedChunk::Known(stored) => stored,
                EncodedChunk::New { id, inner, len } => {
                    Stored { id, len, place: Place { frame: Arc::clone(nowhere), inner }, known: false }
                }
            });
            self.place(chunks.collect());
        }
        self.stored(index).ok_or_else(|| StoreError::damaged("frame", "it has no such chunk"))
    }

    pub(super) fn place(&self, chunks: Vec<Stored>) {
        self.set(State::Placed(chunks));
    }

    /// A chunk of a placed batch.
    pub(super) fn stored(&self, index: usize) -> Option<Stored> {
        match &*self.state() {
            State::Placed(chunks) => chunks.get(index).cloned(),
            _ => None,
        }
    }

    pub(super) fn fail(&self, what: String) {
        self.set(State::Failed(what));
    }

    pub(super) fn encoded(&self, encoded: Encoded) {
        self.set(State::Encoded(encoded));
    }
}

/// Fills frames with chunks.
#[derive(Debug)]
pub struct Batcher<'e> {
    encoders: &'e Encoders,
    batch: Arc<Batch>,
    job: Job,
}

impl<'e> Batcher<'e> {
    /// A batcher with an empty frame.
    #[must_use]
    pub fn new(encoders: &'e Encoders) -> Self {
        Self { encoders, batch: Batch::new(), job: Job::default() }
    }

    /// Adds a chunk (1 byte to 1 MiB). `known` says where the same bytes may be stored already. The result is the batch and the chunk's index in it.
    pub fn add(&mut self, chunk: &[u8], known: Option<&Arc<Known>>) -> (Arc<Batch>, usize) {
        if !self.job.plaintext.is_empty() && self.job.plaintext.len() + chunk.len() > TARGET {
            self.flush();
        }
        if self.job.plaintext.capacity() == 0 {
            self.job.plaintext = self.encoders.plaintext();
            self.job.plaintext.reserve(TARGET.max(chunk.len()));
        }
        self.job.plaintext.extend_from_slice(chunk);
        self.job.ends.push(self.job.plaintext.len());
        self.job.known.push(known.cloned());
        let at = (Arc::clone(&self.batch), self.job.ends.len() - 1);
        if self.job.plaintext.len() >= TARGET {
            self.flush();
        }
        at
    }

    /// What cuts files by content.
    #[must_use]
    pub fn chunker(&self) -> &Chunker {
        self.encoders.chunker()
    }

    /// The ids of these bytes.
    #[must_use]
    pub fn ids(&self, slices: &[&[u8]]) -> Vec<ChunkId> {
        self.encoders.ids(slices)
    }

    /// Sends the frame on its way, however full.
    pub fn flush(&mut self) {
        if self.job.ends.is_empty() {
            return;
        }
        self.job.permit = Some(self.encoders.permit(self.job.plaintext.len()));
        let batch = std::mem::replace(&mut self.batch, Batch::new());
        let next = Job { epoch: self.job.epoch, ..Job::default() };
        self.encoders.encode(batch, std::mem::replace(&mut self.job, next));
    }

    /// Marks the end of what a commit will contain: sends the frame on its way, and lets nothing after it rely on what was stored before it by
    /// its bytes alone.
    pub fn barrier(&mut self) {
        self.flush();
        self.job.epoch += 1;
    }
}

impl Job {
    /// Hashes the chunks, drops those that are known, compresses the rest into `payload`. Gives the buffer of the plaintext back, too.
    pub(super) fn encode(
        mut self,
        identity: &Identity,
        encoder: &mut Encoder,
        seen: &Mutex<Seen>,
        mut payload: Vec<u8>,
    ) -> std::result::Result<(Encoded, Vec<u8>), String> {
        let mut chunks = Vec::with_capacity(self.ends.len());
        let (mut start, mut kept) = (0, 0);
        for (end, known) in self.ends.iter().zip(&self.known) {
            let id = identity.chunk_id(&self.plaintext[start..*end]);
            let len = u32::try_from(end - start).map_err(|_| "a chunk is too long")?;
            let place = known.as_ref().and_then(|known| known.get(&id).cloned());
            let place = place.or_else(|| seen.lock().unwrap_or_else(PoisonError::into_inner).get(self.epoch, &id));
            match place {
                Some(place) => chunks.push(EncodedChunk::Known(Stored { id, len, place, known: true })),
                None => {
                    self.plaintext.copy_within(start..*end, kept);
                    chunks.push(EncodedChunk::New { id, inner: u32::try_from(kept).map_err(|_| "a frame is too long")?, len });
                    kept += end - start;
                }
            }
            start = *end;
        }
        let mut codec = crate::frame::RAW;
        if kept > 0 {
            codec = encoder.encode(&self.plaintext[..kept], &mut payload).map_err(|error| error.to_string())?;
        }
        let plain_len = u32::try_from(kept).map_err(|_| "a frame is too long")?;
        Ok((Encoded { codec, payload, plain_len, chunks, epoch: self.epoch, _permit: self.permit }, self.plaintext))
    }
}
