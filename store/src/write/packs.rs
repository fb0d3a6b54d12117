// SPDX-License-Identifier: Apache-2.0
//! Packs being filled and uploaded.

use crate::error::{Result, StoreError};
use crate::pack::{Contents, PackBuilder};
use crate::pool::Pool;
use crate::reader::Reader;
use crate::transport::{Body, settle};
use crate::tree::{FramePlace, Object};
use crate::write::Tuning;
use holdfast_core::id::LineageId;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// An upload is tried for a day: an unreachable store costs nothing but lag.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Buffers of packs that are used again.
const BUFFERS: usize = 3;

/// Fills packs for one record and uploads them. Dropping it ends the uploads: their packs are garbage then.
#[derive(Debug)]
pub(super) struct Packs {
    reader: Arc<Reader>,
    lineage: LineageId,
    sequence: u64,
    tuning: Tuning,
    chunks: Option<PackBuilder>,
    nodes: Option<PackBuilder>,
    /// Whether a pack was filled before: then the next one is announced as large.
    filled: bool,
    uploads: JoinSet<Result<()>>,
    buffers: Arc<Pool>,
    /// Bytes handed to the store.
    pub(super) uploaded_bytes: u64,
}

impl Packs {
    pub(super) fn new(reader: Arc<Reader>, lineage: LineageId, sequence: u64, tuning: Tuning) -> Self {
        Self {
            reader,
            lineage,
            sequence,
            tuning,
            chunks: None,
            nodes: None,
            filled: false,
            uploads: JoinSet::new(),
            buffers: Arc::new(Pool::new(BUFFERS)),
            uploaded_bytes: 0,
        }
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// From now on packs are for the next record. Everything must have been flushed.
    pub(super) fn advance(&mut self, sequence: u64) {
        debug_assert!(self.chunks.is_none() && self.nodes.is_none());
        self.sequence = sequence;
        self.uploaded_bytes = 0;
    }

    fn begin(&self) -> Result<PackBuilder> {
        let mut buffer = self.buffers.take();
        // room for all of it at once: a buffer that grows is copied, and leaves its old places behind. What is not used is not touched.
        buffer.reserve(self.tuning.pack_bytes.max(self.tuning.node_pack_bytes) / 8 * 9 + crate::frame::PLAIN_MAX);
        PackBuilder::in_buffer(self.reader.domain(), self.lineage, self.sequence, self.filled, buffer)
    }

    /// The pack that the next frame of nodes goes to: there is room for one of any size.
    pub(super) fn node_object(&mut self) -> Result<Object> {
        if let Some(nodes) = self.nodes.take_if(|nodes| nodes.len() >= self.tuning.node_pack_bytes) {
            self.filled = true;
            self.upload(nodes, true)?;
        }
        if self.nodes.is_none() {
            self.nodes = Some(self.begin()?);
        }
        self.nodes.as_ref().map(PackBuilder::object).ok_or(StoreError::Cancelled)
    }

    /// Appends a frame of nodes to the pack that [`node_object`](Self::node_object) named.
    pub(super) fn push_nodes(&mut self, codec: u8, payload: &[u8], plain_len: u32) -> Result<FramePlace> {
        self.node_object_is_open()?.push(Contents::Nodes, codec, payload, plain_len)
    }

    fn node_object_is_open(&mut self) -> Result<&mut PackBuilder> {
        self.nodes
            .as_mut()
            .ok_or_else(|| StoreError::damaged("pack of nodes", "a frame is finished for a pack that was not opened"))
    }

    /// Appends a frame of chunks.
    pub(super) fn push_chunks(&mut self, codec: u8, payload: &[u8], plain_len: u32) -> Result<FramePlace> {
        if let Some(full) = self.chunks.take_if(|pack| pack.len() + payload.len() > self.tuning.pack_bytes && !pack.is_empty()) {
            self.filled = true;
            self.upload(full, false)?;
        }
        if self.chunks.is_none() {
            self.chunks = Some(self.begin()?);
        }
        let pack = self.chunks.as_mut().ok_or(StoreError::Cancelled)?;
        pack.push(Contents::Chunks, codec, payload, plain_len)
    }

    /// Sends a finished pack; waits while too many are under way.
    fn upload(&mut self, pack: PackBuilder, is_nodes: bool) -> Result<()> {
        let object = pack.object();
        let (name, buffer) = pack.finish_buffer()?;
        let bytes = self.buffers.share(buffer);
        if let Some(scratch) = self.reader.scratch().filter(|_| is_nodes) {
            scratch.keep(object, &bytes);
        }
        while self.uploads.len() >= self.tuning.uploads.max(1) {
            self.wait_for_one()?;
        }
        self.uploaded_bytes += bytes.len() as u64;
        let transport = Arc::clone(self.reader.transport());
        let body = Body::new(bytes);
        let upload = async move { settle::create_unique(&*transport, &name, &body, PATIENCE).await };
        self.uploads.spawn_on(upload, self.reader.runtime());
        Ok(())
    }

    fn wait_for_one(&mut self) -> Result<()> {
        match self.reader.runtime().block_on(self.uploads.join_next()) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Err(StoreError::Cancelled), // aborted: only by our own drop
        }
    }

    /// Finishes both packs and waits until everything is durable.
    pub(super) fn flush(&mut self) -> Result<()> {
        if let Some(chunks) = self.chunks.take().filter(|pack| !pack.is_empty()) {
            self.upload(chunks, false)?;
        }
        if let Some(nodes) = self.nodes.take().filter(|pack| !pack.is_empty()) {
            self.upload(nodes, true)?;
        }
        while !self.uploads.is_empty() {
            self.wait_for_one()?;
        }
        Ok(())
    }
}
