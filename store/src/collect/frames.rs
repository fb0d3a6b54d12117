// SPDX-License-Identifier: Apache-2.0
//! Reading nodes for the collector: one task, no threads, a few MiB.

use crate::document::Document;
use crate::error::{Result, StoreError};
use crate::forward::Forward;
use crate::frame::Decoder;
use crate::pack;
use crate::reader::recent::Recent;
use crate::reader::{FORWARDS_MAX, decode_node};
use crate::seal::Domain;
use crate::transport::{Range, Transport};
use crate::tree::{At, FramePlace, MapKind, Node, NodeRef, Object};
use bytes::Bytes;
use std::sync::Arc;

/// Decoded frames kept, in bytes.
const FRAMES_BYTES: usize = 4 << 20;
/// Read at once where nodes lie close together, in bytes.
const AHEAD_BYTES: u64 = 512 << 10;

/// Reads frames of one domain.
pub(super) struct Frames<'a> {
    transport: &'a dyn Transport,
    domain: &'a Domain,
    recent: Recent<FramePlace, Arc<Vec<u8>>>,
    ahead: Option<(Object, u64, Bytes)>,
    record: Option<(Object, Arc<Document>)>,
    decoder: Decoder,
}

impl<'a> Frames<'a> {
    pub(super) fn new(transport: &'a dyn Transport, domain: &'a Domain) -> Result<Self> {
        let decoder = Decoder::new().map_err(|error| StoreError::damaged("zstd", error))?;
        Ok(Self { transport, domain, recent: Recent::new(FRAMES_BYTES), ahead: None, record: None, decoder })
    }

    /// The record that is gone through next: its inline frames are at hand.
    pub(super) fn know_record(&mut self, object: Object, document: Arc<Document>) {
        self.record = Some((object, document));
    }

    /// A node, checked against its id.
    pub(super) async fn node<K: MapKind>(&mut self, node: &NodeRef<K>) -> Result<(FramePlace, Node<K>)> {
        let nowhere = || StoreError::damaged(format_args!("node {}", node.id), "it lies nowhere");
        let At::Stored(stored) = &node.at else { return Err(nowhere()) };
        let place = *stored.place.frame.place().ok_or_else(nowhere)?;
        let plaintext = self.plaintext(&place).await?;
        let name = place.object.name(self.domain.keys.id);
        let start = stored.place.inner as usize;
        let bytes = plaintext.get(start..start.saturating_add(stored.len as usize));
        let bytes = bytes.ok_or_else(|| StoreError::damaged(&name, "a node lies beyond its frame"))?;
        let decoded: Node<K> = decode_node(&self.domain.keys.identity, bytes, &node.id, place.object, &stored.place.frame)
            .map_err(|what| StoreError::damaged(&name, what))?;
        if decoded.level() != node.level || decoded.entries() != node.entries {
            return Err(StoreError::damaged(&name, format_args!("node {} is not what its parent says", node.id)));
        }
        Ok((place, decoded))
    }

    /// What a frame holds.
    pub(super) async fn plaintext(&mut self, place: &FramePlace) -> Result<Arc<Vec<u8>>> {
        if let Some(plaintext) = self.recent.get(place) {
            return Ok(plaintext);
        }
        let plaintext = Arc::new(match place.object {
            Object::Record { .. } => self.inline(place)?,
            Object::Pack { .. } => self.packed(place).await?,
        });
        self.recent.put(*place, Arc::clone(&plaintext), plaintext.len());
        Ok(plaintext)
    }

    fn inline(&mut self, place: &FramePlace) -> Result<Vec<u8>> {
        let name = place.object.name(self.domain.keys.id);
        let Some((_, document)) = self.record.as_ref().filter(|(known, _)| *known == place.object) else {
            return Err(StoreError::damaged(name, "another record refers to it"));
        };
        let (codec, payload) = document.inline(place.offset, place.sealed_len)?;
        let mut plaintext = Vec::new();
        self.decoder
            .decode(codec, &payload, place.plain_len as usize, &mut plaintext)
            .map_err(|error| StoreError::damaged(name, error))?;
        Ok(plaintext)
    }

    async fn packed(&mut self, place: &FramePlace) -> Result<Vec<u8>> {
        let mut place = *place;
        for _ in 0..=FORWARDS_MAX {
            let name = place.object.name(self.domain.keys.id);
            match self.sealed(&place).await? {
                Some(mut sealed) => {
                    let sealer = pack::sealer(self.domain, place.object)?;
                    return pack::open_frame(&sealer, &name, &place, &mut sealed, &mut self.decoder);
                }
                None => {
                    let forward = Forward::read(self.transport, self.domain, place.object).await?;
                    let missing = || StoreError::Missing { object: name.to_string(), what: "nodes".to_owned() };
                    place = forward.and_then(|forward| forward.place(&place)).ok_or_else(missing)?;
                }
            }
        }
        Err(StoreError::damaged(place.object.name(self.domain.keys.id), "its frames were forwarded too many times"))
    }

    /// The bytes of a frame as they are stored; `None` if the pack does not exist.
    async fn sealed(&mut self, place: &FramePlace) -> Result<Option<Vec<u8>>> {
        if let Some((object, offset, bytes)) = &self.ahead
            && *object == place.object
            && let Some(start) = place.offset.checked_sub(*offset).and_then(|start| usize::try_from(start).ok())
            && let Some(sealed) = bytes.get(start..start.saturating_add(place.sealed_len as usize))
        {
            return Ok(Some(sealed.to_vec()));
        }
        let name = place.object.name(self.domain.keys.id);
        let len = u64::from(place.sealed_len).max(AHEAD_BYTES);
        let bytes = match self.transport.get(&name, Range::From { offset: place.offset, len }).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let sealed = bytes.get(..bytes.len().min(place.sealed_len as usize)).map(<[u8]>::to_vec);
        self.ahead = Some((place.object, place.offset, bytes));
        Ok(sealed)
    }
}
