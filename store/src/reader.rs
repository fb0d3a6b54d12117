// SPDX-License-Identifier: Apache-2.0
//! Reading frames, nodes and chunks, wherever they are.
//!
//! The interface blocks: trees are walked by plain threads, and only the requests at the bottom are asynchronous.
//! It must not be called from a thread that drives asynchronous tasks.

use crate::document::Document;
use crate::error::{Result, StoreError};
use crate::forward::Forward;
use crate::frame::Decoder;
use crate::key::Identity;
use crate::log::Entry;
use crate::name::Name;
use crate::pack;
use crate::scratch::Scratch;
use crate::seal::{Domain, Kind, Sealer};
use crate::transport::{Range, Transport};
use crate::tree::{At, Frame, FramePlace, MapKind, Node, NodeRef, NodeStore, Object, Place, StoredNode};
use bytes::Bytes;
use holdfast_core::id::{ChunkId, NodeId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

pub(crate) mod recent;
use recent::Recent;

/// Reads one domain's objects.
pub struct Reader {
    transport: Arc<dyn Transport>,
    domain: Arc<Domain>,
    runtime: Handle,
    scratch: Option<Arc<Scratch>>,
    state: Mutex<State>,
}

struct State {
    frames: Recent<FramePlace, Arc<Vec<u8>>>,
    sealers: Recent<Object, Arc<Sealer>>,
    documents: Recent<Object, Arc<Document>>,
    /// A stretch of a pack that was read ahead.
    ahead: Option<(Object, u64, Bytes)>,
    ahead_len: u64,
    decoder: Option<Decoder>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.transport.location())
    }
}

/// Decoded frames kept, in bytes.
const FRAMES_BYTES: usize = 4 << 20;
/// Reading ahead starts with this and doubles up to the next, in bytes.
const AHEAD_MIN: u64 = 256 << 10;
const AHEAD_MAX: u64 = 4 << 20;
/// Most forwards followed from one place.
pub(crate) const FORWARDS_MAX: usize = 16;

impl Reader {
    /// A reader of the domain's objects. `scratch` holds copies of packs of nodes.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, domain: Arc<Domain>, runtime: Handle, scratch: Option<Arc<Scratch>>) -> Self {
        let state = State {
            frames: Recent::new(FRAMES_BYTES),
            sealers: Recent::new(64),
            documents: Recent::new(DOCUMENTS),
            ahead: None,
            ahead_len: AHEAD_MIN,
            decoder: None,
        };
        Self { transport, domain, runtime, scratch, state: Mutex::new(state) }
    }

    /// The domain.
    #[must_use]
    pub const fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// What it reads from.
    #[must_use]
    pub const fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// The runtime that its requests run on.
    #[must_use]
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The scratch space, if there is one.
    #[must_use]
    pub const fn scratch(&self) -> Option<&Arc<Scratch>> {
        self.scratch.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sealer of a pack.
    ///
    /// # Errors
    /// If its epoch's key is unknown.
    pub fn sealer(&self, object: Object) -> Result<Arc<Sealer>> {
        if let Some(sealer) = self.state().sealers.get(&object) {
            return Ok(sealer);
        }
        let sealer = Arc::new(pack::sealer(&self.domain, object)?);
        self.state().sealers.put(object, Arc::clone(&sealer), 1);
        Ok(sealer)
    }

    /// Makes a record that was read already known, so that its inline frames are not fetched again.
    pub fn know(&self, entry: &Entry) {
        let object = Object::Record { lineage: entry.record.lineage, sequence: entry.record.sequence };
        self.know_record(object, Arc::clone(&entry.document));
    }

    pub(crate) fn know_record(&self, object: Object, document: Arc<Document>) {
        self.state().documents.put(object, document, 1);
    }

    /// The plaintext of a frame. `ahead`: neighbours are likely to be wanted next.
    ///
    /// # Errors
    /// If it is missing or damaged, or the store fails.
    pub fn frame(&self, place: &FramePlace, ahead: bool) -> Result<Arc<Vec<u8>>> {
        if let Some(frame) = self.state().frames.get(place) {
            return Ok(frame);
        }
        let plaintext = Arc::new(match place.object {
            Object::Record { .. } => self.inline_frame(place)?,
            Object::Pack { .. } => self.pack_frame(place, ahead)?,
        });
        self.state().frames.put(*place, Arc::clone(&plaintext), plaintext.len());
        Ok(plaintext)
    }

    fn inline_frame(&self, place: &FramePlace) -> Result<Vec<u8>> {
        let document = self.document(place.object)?;
        let (codec, payload) = document.inline(place.offset, place.sealed_len)?;
        let mut plaintext = Vec::new();
        Decoder::new()
            .and_then(|mut decoder| decoder.decode(codec, &payload, place.plain_len as usize, &mut plaintext))
            .map_err(|error| StoreError::damaged(document.name(), error))?;
        Ok(plaintext)
    }

    fn document(&self, object: Object) -> Result<Arc<Document>> {
        if let Some(document) = self.state().documents.get(&object) {
            return Ok(document);
        }
        let name = object.name(self.domain.keys.id);
        let bytes = self.get(&name, Range::All, "chunks and nodes")?;
        let document = Arc::new(Document::open(&self.domain, Kind::Record, *object.lineage().as_bytes(), &name, bytes)?);
        self.know_record(object, Arc::clone(&document));
        Ok(document)
    }

    fn get(&self, name: &Name, range: Range, what: &str) -> Result<Bytes> {
        self.runtime.block_on(self.transport.get(name, range)).map_err(|error| match error.is_not_found() {
            true => StoreError::Missing { object: name.to_string(), what: what.to_owned() },
            false => error.into(),
        })
    }

    fn pack_frame(&self, place: &FramePlace, ahead: bool) -> Result<Vec<u8>> {
        if let Some(scratch) = &self.scratch
            && let Some(mut sealed) = scratch.read(place.object, place.offset, place.sealed_len as usize)
        {
            match self.open(place, &mut sealed) {
                Ok(plaintext) => return Ok(plaintext),
                Err(_) => scratch.discard(place.object), // the copy is damaged; the store's is what counts
            }
        }
        let mut place = *place;
        for _ in 0..FORWARDS_MAX {
            match self.fetch(&place, ahead) {
                Err(error) if error.is_missing() => place = self.forward(&place, error)?,
                fetched => return self.open(&place, &mut fetched?),
            }
        }
        Err(StoreError::damaged(place.object.name(self.domain.keys.id), "its frames were forwarded too many times"))
    }

    fn open(&self, place: &FramePlace, sealed: &mut [u8]) -> Result<Vec<u8>> {
        let name = place.object.name(self.domain.keys.id);
        let sealer = self.sealer(place.object)?;
        let mut decoder = match self.state().decoder.take() {
            Some(decoder) => decoder,
            None => Decoder::new().map_err(|error| StoreError::damaged(&name, error))?,
        };
        let opened = pack::open_frame(&sealer, &name, place, sealed, &mut decoder);
        self.state().decoder = Some(decoder);
        opened
    }

    fn fetch(&self, place: &FramePlace, ahead: bool) -> Result<Vec<u8>> {
        let len = u64::from(place.sealed_len);
        if let Some(bytes) = self.read_ahead(place) {
            return Ok(bytes);
        }
        let name = place.object.name(self.domain.keys.id);
        if !ahead {
            return self.get(&name, Range::From { offset: place.offset, len }, "chunks").map(|bytes| bytes.to_vec());
        }
        if let Some(scratch) = self.scratch.as_ref().filter(|scratch| !scratch.has(place.object)) {
            // with scratch space the whole pack is worth keeping: a walk will want most of it, now and at the next start
            let whole = self.get(&name, Range::All, "nodes")?;
            scratch.keep(place.object, &whole);
            let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(place.sealed_len as usize);
            return whole
                .get(start..end)
                .map(<[u8]>::to_vec)
                .ok_or_else(|| StoreError::damaged(name, "a frame lies beyond its end"));
        }
        let window = self.window(place);
        let bytes = self.get(&name, Range::From { offset: place.offset, len: window.max(len) }, "nodes")?;
        let end = bytes.len().min(place.sealed_len as usize);
        let frame = bytes[..end].to_vec();
        self.state().ahead = Some((place.object, place.offset, bytes));
        Ok(frame)
    }

    fn read_ahead(&self, place: &FramePlace) -> Option<Vec<u8>> {
        let state = self.state();
        let (object, offset, bytes) = state.ahead.as_ref()?;
        let start = usize::try_from(place.offset.checked_sub(*offset)?).ok()?;
        let found =
            (*object == place.object).then(|| bytes.get(start..start.checked_add(place.sealed_len as usize)?)).flatten()?;
        Some(found.to_vec())
    }

    /// How much to read from here: more each time the walk goes on where the last stretch ended.
    fn window(&self, place: &FramePlace) -> u64 {
        let mut state = self.state();
        let goes_on = state.ahead.as_ref().is_some_and(|(object, offset, _)| *object == place.object && *offset < place.offset);
        state.ahead_len = if goes_on { (state.ahead_len * 2).min(AHEAD_MAX) } else { AHEAD_MIN };
        state.ahead_len
    }

    /// Where the frame of an absent pack went.
    fn forward(&self, place: &FramePlace, missing: StoreError) -> Result<FramePlace> {
        let read = Forward::read(&*self.transport, &self.domain, place.object);
        self.runtime.block_on(read)?.and_then(|forward| forward.place(place)).ok_or(missing)
    }

    /// The bytes of a chunk, checked against its id.
    ///
    /// # Errors
    /// If it is missing or damaged, or the store fails.
    pub fn chunk(&self, place: &Place, len: u32, id: &ChunkId) -> Result<Vec<u8>> {
        let (frame, stored) = self.frame_of(place, false)?;
        let name = || stored.object.name(self.domain.keys.id);
        let bytes =
            slice(&frame, place.inner, len).ok_or_else(|| StoreError::damaged(name(), "a chunk lies beyond its frame"))?;
        if self.domain.keys.identity.chunk_id(bytes) != *id {
            return Err(StoreError::damaged(name(), format_args!("chunk {id} has other bytes than its id says")));
        }
        Ok(bytes.to_vec())
    }

    fn frame_of(&self, place: &Place, ahead: bool) -> Result<(Arc<Vec<u8>>, FramePlace)> {
        let stored = *place.frame.place().ok_or_else(|| StoreError::damaged("pending frame", "it was not stored yet"))?;
        Ok((self.frame(&stored, ahead)?, stored))
    }

    fn stored_node<K: MapKind>(&self, id: &NodeId, stored: &StoredNode) -> Result<Node<K>> {
        let (frame, place) = self.frame_of(&stored.place, true)?;
        let name = place.object.name(self.domain.keys.id);
        let bytes = slice(&frame, stored.place.inner, stored.len)
            .ok_or_else(|| StoreError::damaged(&name, "a node lies beyond its frame"))?;
        decode_node(&self.domain.keys.identity, bytes, id, place.object, &stored.place.frame)
            .map_err(|what| StoreError::damaged(&name, what))
    }
}

/// Records whose inline frames are kept at hand.
const DOCUMENTS: usize = 4;

fn slice(frame: &[u8], inner: u32, len: u32) -> Option<&[u8]> {
    frame.get(inner as usize..(inner as usize).checked_add(len as usize)?)
}

/// Decodes a node as it lies in a frame, and checks its id.
pub(crate) fn decode_node<K: MapKind>(
    identity: &Identity,
    bytes: &[u8],
    id: &NodeId,
    object: Object,
    frame: &Arc<Frame>,
) -> std::result::Result<Node<K>, String> {
    let mut reader = crate::codec::Reader::new(bytes);
    let canonical = reader.prefixed(bytes.len(), "node").map_err(|error| error.to_string())?;
    if identity.node_id(canonical) != *id {
        return Err(format!("node {id} has other bytes than its id says"));
    }
    let hints = reader.bytes(reader.remaining(), "hints").map_err(|error| error.to_string())?;
    Node::decode(canonical, hints, object, frame).map_err(|error| format!("node {id}: {error}"))
}

impl NodeStore for Reader {
    fn identity(&self) -> &Identity {
        &self.domain.keys.identity
    }

    fn load<K: MapKind>(&self, node: &NodeRef<K>) -> Result<Arc<Node<K>>> {
        let loaded = match &node.at {
            At::Memory(loaded) => return Ok(Arc::clone(loaded)),
            At::Stored(stored) => self.stored_node(&node.id, stored)?,
        };
        if loaded.level() != node.level || loaded.entries() != node.entries {
            return Err(StoreError::damaged(format!("node {}", node.id), "it is not what its parent says"));
        }
        Ok(Arc::new(loaded))
    }
}
