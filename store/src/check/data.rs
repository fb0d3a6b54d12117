// SPDX-License-Identifier: Apache-2.0
//! Looking into chunks: gathered into batches, fetched with few ranged requests, opened and hashed.

use super::report::{Kind, verdict};
use crate::error::{Result, StoreError};
use crate::frame::Decoder;
use crate::pack;
use crate::reader::Reader;
use crate::transport::Range;
use crate::tree::{FramePlace, Object};
use bytes::Bytes;
use holdfast_core::id::ChunkId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Chunks that are known to be bad, by their places: what is wrong with which object.
pub(super) type Known = HashMap<(FramePlace, u32), (Kind, String, String)>;

/// Plaintext of a batch, in bytes.
const BATCH_BYTES: u64 = 32 << 20;
/// Chunks of a batch.
const BATCH_CHUNKS: usize = 16_384;
/// Unwanted bytes between two frames are read along if they are fewer.
const GAP_BYTES: u64 = 256 << 10;
/// Longest range of one request, in bytes.
const RANGE_BYTES: u64 = 8 << 20;
/// Requests at once.
const REQUESTS: usize = 6;
/// Bad chunks that are told apart; of more, the rest is not looked for in the trees.
const BAD_MAX: usize = 100_000;

#[derive(Debug)]
struct Wanted {
    frame: FramePlace,
    inner: u32,
    len: u32,
    id: ChunkId,
}

/// One batch after another.
#[derive(Debug)]
pub(super) struct Data {
    reader: Arc<Reader>,
    wanted: Vec<Wanted>,
    frames: HashSet<FramePlace>,
    plain_bytes: u64,
    pub(super) fetched_bytes: u64,
    pub(super) bad: Known,
}

/// Frames that are fetched with one request; indices into the batch.
struct Stretch {
    object: Object,
    start: u64,
    end: u64,
    chunks: Vec<usize>,
}

impl Data {
    pub(super) fn new(reader: &Arc<Reader>) -> Self {
        Self {
            reader: Arc::clone(reader),
            wanted: Vec::new(),
            frames: HashSet::new(),
            plain_bytes: 0,
            fetched_bytes: 0,
            bad: Known::new(),
        }
    }

    /// Adds a chunk; looks into all gathered so far if they are enough.
    pub(super) fn push(&mut self, frame: FramePlace, inner: u32, len: u32, id: ChunkId) -> Result<()> {
        if self.frames.insert(frame) {
            self.plain_bytes += u64::from(frame.plain_len);
        }
        self.wanted.push(Wanted { frame, inner, len, id });
        if self.plain_bytes >= BATCH_BYTES || self.wanted.len() >= BATCH_CHUNKS { self.flush() } else { Ok(()) }
    }

    /// Looks into the chunks gathered so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        let mut wanted = std::mem::take(&mut self.wanted);
        self.frames.clear();
        self.plain_bytes = 0;
        wanted.sort_unstable_by_key(|one| (one.frame.object, one.frame.offset, one.inner));
        wanted.dedup_by(|one, two| one.frame == two.frame && one.inner == two.inner && one.id == two.id);
        let mut next = 0;
        let stretches = stretches(&wanted);
        let mut requests = JoinSet::new();
        loop {
            while requests.len() < REQUESTS && next < stretches.len() {
                let (index, stretch) = (next, &stretches[next]);
                let name = stretch.object.name(self.reader.domain().keys.id);
                let range = Range::From { offset: stretch.start, len: stretch.end - stretch.start };
                let transport = Arc::clone(self.reader.transport());
                requests.spawn_on(async move { (index, transport.get(&name, range).await) }, self.reader.runtime());
                next += 1;
            }
            let Some(fetched) = self.reader.runtime().block_on(requests.join_next()) else { return Ok(()) };
            let (index, bytes) = fetched.map_err(|_| StoreError::Cancelled)?;
            match bytes {
                Ok(bytes) => self.look(&wanted, &stretches[index], Some(&bytes))?,
                // the reader knows about compacted packs, and what to say of missing ones
                Err(error) if error.is_not_found() => self.look(&wanted, &stretches[index], None)?,
                Err(error) if error.failure == crate::transport::Failure::BeyondEnd => {
                    self.look(&wanted, &stretches[index], Some(&Bytes::new()))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn look(&mut self, wanted: &[Wanted], stretch: &Stretch, bytes: Option<&Bytes>) -> Result<()> {
        self.fetched_bytes += bytes.map_or(0, |bytes| bytes.len() as u64);
        let mut decoder = Decoder::new().map_err(|error| StoreError::damaged("zstd", error))?;
        let mut open: Option<(FramePlace, Result<Vec<u8>>)> = None;
        for index in &stretch.chunks {
            let one = &wanted[*index];
            let plaintext = match &mut open {
                Some((frame, plaintext)) if *frame == one.frame => plaintext,
                _ => &mut open.insert((one.frame, self.plaintext(&one.frame, stretch, bytes, &mut decoder))).1,
            };
            let found = match plaintext {
                Ok(plaintext) => self.is_right(plaintext, one),
                Err(error) => match verdict(error) {
                    Some(found) => Err(found),
                    None => return Err(std::mem::replace(error, StoreError::Cancelled)),
                },
            };
            if let Err(found) = found
                && self.bad.len() < BAD_MAX
            {
                self.bad.insert((one.frame, one.inner), found);
            }
        }
        Ok(())
    }

    fn plaintext(&self, frame: &FramePlace, stretch: &Stretch, bytes: Option<&Bytes>, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let Some(bytes) = bytes else { return self.reader.frame(frame, false).map(|plaintext| plaintext.to_vec()) };
        let name = frame.object.name(self.reader.domain().keys.id);
        let start = usize::try_from(frame.offset - stretch.start).unwrap_or(usize::MAX);
        let sealed = bytes.get(start..start.saturating_add(frame.sealed_len as usize));
        let mut sealed = sealed.ok_or_else(|| StoreError::damaged(&name, "it is shorter than it should be"))?.to_vec();
        pack::open_frame(&*self.reader.sealer(frame.object)?, &name, frame, &mut sealed, decoder)
    }

    fn is_right(&self, plaintext: &[u8], one: &Wanted) -> std::result::Result<(), (Kind, String, String)> {
        let start = one.inner as usize;
        let chunk = plaintext.get(start..start.saturating_add(one.len as usize));
        if chunk.is_some_and(|chunk| self.reader.domain().keys.identity.chunk_id(chunk) == one.id) {
            return Ok(());
        }
        let name = one.frame.object.name(self.reader.domain().keys.id).to_string();
        Err((Kind::Damaged, name, "a chunk has other bytes than its id says".to_owned()))
    }
}

fn stretches(wanted: &[Wanted]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for (index, one) in wanted.iter().enumerate() {
        let (object, start) = (one.frame.object, one.frame.offset);
        let end = start + u64::from(one.frame.sealed_len);
        match stretches.last_mut() {
            Some(last) if last.object == object && start <= last.end + GAP_BYTES && end - last.start <= RANGE_BYTES => {
                last.end = last.end.max(end);
                last.chunks.push(index);
            }
            _ => stretches.push(Stretch { object, start, end, chunks: vec![index] }),
        }
    }
    stretches
}
