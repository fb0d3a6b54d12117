// SPDX-License-Identifier: Apache-2.0
//! The threads that hash and compress.

use super::batch::{Batch, Job, Known, Stored};
use super::budget::{Budget, Permit};
use crate::chunker::Chunker;
use crate::frame::Encoder;
use crate::key::Identity;
use crate::pool::Pool;
use crate::tree::Place;
use holdfast_core::id::ChunkId;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Chunks of this checkpoint remembered so that the same bytes are not stored twice.
const SEEN_MAX: usize = 16_384;

/// A pool of threads that encode frames. It starts them when there is enough to do, and joins them when it is dropped.
#[derive(Debug)]
pub struct Encoders {
    shared: Arc<Shared>,
    threads: usize,
    budget: Arc<Budget>,
    running: Mutex<Option<Running>>,
    /// Frames encoded by the caller itself, before threads are worth their while.
    alone: Mutex<(Option<Encoder>, usize)>,
}

#[derive(Debug)]
struct Shared {
    plaintexts: Pool,
    payloads: Arc<Pool>,
    identity: Identity,
    chunker: Chunker,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Running {
    jobs: SyncSender<(Arc<Batch>, Job)>,
    handles: Vec<JoinHandle<()>>,
}

/// Fewer bytes are hashed without further threads: starting one costs about as much as hashing 64 KiB.
const ALONE_BYTES: usize = 256 << 10;
/// So many frames are encoded without threads: a small change needs none.
const ALONE_MAX: usize = 4;

/// Buffers of each kind that are used again: what the budget lets be on its way at once.
const POOLED: usize = 24;

impl Encoders {
    /// A pool of at most so many threads.
    #[must_use]
    pub fn new(identity: Identity, threads: usize) -> Self {
        let shared = Arc::new(Shared {
            plaintexts: Pool::new(POOLED),
            payloads: Arc::new(Pool::new(POOLED)),
            chunker: Chunker::new(identity.gear_seed()),
            identity,
            seen: Mutex::default(),
        });
        Self { shared, threads: threads.max(1), budget: Arc::default(), running: Mutex::new(None), alone: Mutex::new((None, 0)) }
    }

    pub(super) fn encode(&self, batch: Arc<Batch>, job: Job) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if alone.1 < ALONE_MAX {
            alone.1 += 1;
            work(&self.shared, &mut alone.0, &batch, job);
            return;
        }
        drop(alone);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.get_or_insert_with(|| Running::start(&self.shared, self.threads));
        if let Err(std::sync::mpsc::SendError((batch, _))) = running.jobs.send((batch, job)) {
            batch.fail("the encoders have ended".to_owned());
        }
    }

    /// An empty buffer for a frame's plaintext.
    pub(super) fn plaintext(&self) -> Vec<u8> {
        self.shared.plaintexts.take()
    }

    /// Waits until a frame of so many bytes may be on its way.
    pub(super) fn permit(&self, bytes: usize) -> Permit {
        self.budget.take(bytes)
    }

    /// Whoever places frames calls this before and after it waits for something to do.
    pub fn waiting(&self, waiting: bool) {
        self.budget.idle(waiting);
    }

    pub(super) fn chunker(&self) -> &Chunker {
        &self.shared.chunker
    }

    /// The ids of these bytes, computed side by side if they are many.
    pub(super) fn ids(&self, slices: &[&[u8]]) -> Vec<ChunkId> {
        let identity = &self.shared.identity;
        let hash = |slices: &[&[u8]]| slices.iter().map(|slice| identity.chunk_id(slice)).collect::<Vec<_>>();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let share = slices.len().div_ceil(self.threads);
        if total < ALONE_BYTES || self.threads == 1 || share == 0 {
            return hash(slices);
        }
        std::thread::scope(|scope| {
            let (own, others) = slices.split_at(share);
            let threads: Vec<_> = others.chunks(share).map(|part| scope.spawn(|| hash(part))).collect();
            let mut ids = hash(own);
            for (thread, part) in threads.into_iter().zip(others.chunks(share)) {
                ids.extend(thread.join().unwrap_or_else(|_| hash(part)));
            }
            ids
        })
    }

    /// Takes back the payload of a frame that was placed.
    pub(super) fn done_with(&self, payload: Vec<u8>) {
        self.shared.payloads.put(payload);
    }

    /// Remembers chunks that were stored for the checkpoint that is being composed.
    pub(super) fn remember<'a>(&self, epoch: u64, chunks: impl Iterator<Item = &'a Stored>) {
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.epoch != epoch {
            *seen = Seen { epoch, chunks: Known::new() };
        }
        for chunk in chunks {
            if seen.chunks.len() < SEEN_MAX {
                seen.chunks.insert(chunk.id, chunk.place.clone());
            }
        }
    }
}

/// Chunks stored since the last commit. What was stored before it may not be reachable from it, and must not be referred to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    epoch: u64,
    chunks: Known,
}

impl Seen {
    pub(super) fn get(&self, epoch: u64, id: &ChunkId) -> Option<Place> {
        if self.epoch == epoch { self.chunks.get(id).cloned() } else { None }
    }
}

impl Running {
    fn start(shared: &Arc<Shared>, threads: usize) -> Self {
        let (jobs, queue) = sync_channel(threads * 2);
        let queue = Arc::new(Mutex::new(queue));
        let start = |index| {
            let (shared, queue) = (Arc::clone(shared), Arc::clone(&queue));
            let named = std::thread::Builder::new().name(format!("encoder-{index}"));
            named.spawn(move || run(&shared, &queue))
        };
        // with fewer threads than asked for it is only slower; with none, `encode` fails the batch when nobody receives
        let handles = (0..threads).filter_map(|index| start(index).ok()).collect();
        Self { jobs, handles }
    }
}

fn run(shared: &Shared, queue: &Mutex<Receiver<(Arc<Batch>, Job)>>) {
    let mut encoder = None;
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((batch, job)) = next else { return };
        work(shared, &mut encoder, &batch, job);
    }
}

fn work(shared: &Shared, encoder: &mut Option<Encoder>, batch: &Batch, job: Job) {
    if encoder.is_none() {
        *encoder = Encoder::new().ok();
    }
    let Some(encoder) = encoder else { return batch.fail("there is no memory for a compressor".to_owned()) };
    let payload = shared.payloads.take();
    match job.encode(&shared.identity, encoder, &shared.seen, payload) {
        Ok((encoded, plaintext)) => {
            shared.plaintexts.put(plaintext);
            batch.encoded(encoded);
        }
        Err(what) => batch.fail(what),
    }
}

impl Drop for Encoders {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { jobs, handles }) = running {
            drop(jobs);
            for handle in handles {
                let _ = handle.join();
            }
        }
    }
}
