// SPDX-License-Identifier: Apache-2.0
//! Forwards: where the live frames of a compacted pack went (`docs/format.md`, section 9).

use crate::document::{Document, DocumentBuilder};
use crate::error::{Result, StoreError};
use crate::name::Name;
use crate::record::wire;
use crate::seal::{Domain, Kind};
use crate::transport::{Range, Transport};
use crate::tree::{FramePlace, Object};
use bytes::Bytes;
use holdfast_core::id::Nonce;
use prost::Message;
use std::collections::BTreeMap;

/// Where each live frame of a pack is now, by its old offset. None: the compaction was called off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    moves: BTreeMap<u64, (Object, u64)>,
}

impl Forward {
    /// The name of a pack's forward; a record has none.
    pub(crate) fn name(domain: &Domain, pack: Object) -> Option<Name> {
        match pack {
            Object::Pack { lineage, sequence, nonce, .. } => Some(Name::forward(domain.keys.id, lineage, sequence, nonce)),
            Object::Record { .. } => None,
        }
    }

    /// A forward to these places.
    pub(crate) const fn new(moves: BTreeMap<u64, (Object, u64)>) -> Self {
        Self { moves }
    }

    /// Reads a pack's forward; `None` if there is none.
    pub(crate) async fn read(transport: &dyn Transport, domain: &Domain, pack: Object) -> Result<Option<Self>> {
        let (Some(name), Object::Pack { lineage, large, .. }) = (Self::name(domain, pack), pack) else { return Ok(None) };
        let bytes = match transport.get(&name, Range::All).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let document = Document::open(domain, Kind::Forward, *lineage.as_bytes(), &name, bytes)?;
        let wire = wire::Forward::decode(&*document.body).map_err(|error| StoreError::damaged(&name, error))?;
        let damaged = || StoreError::damaged(&name, "it leads nowhere");
        let mut moves = BTreeMap::new();
        for to in &wire.moves {
            let nonce = Nonce::try_from(&*to.nonce).map_err(|_| damaged())?;
            let epoch = u32::try_from(to.epoch).map_err(|_| damaged())?;
            let object = Object::Pack { lineage, sequence: to.sequence, epoch, nonce, large };
            moves.insert(to.offset, (object, to.to));
        }
        let sorted = wire.moves.iter().is_sorted_by(|one, two| one.offset < two.offset);
        if sorted { Ok(Some(Self { moves })) } else { Err(StoreError::damaged(&name, "it is not in order")) }
    }

    /// The object of a pack's forward.
    pub(crate) fn seal(&self, domain: &Domain, pack: Object) -> Result<(Name, Bytes)> {
        let name = Self::name(domain, pack).ok_or(StoreError::Ended)?;
        let moved = |(offset, (object, to)): (&u64, &(Object, u64))| {
            let Object::Pack { sequence, epoch, nonce, .. } = *object else { return Err(StoreError::Ended) };
            let nonce = nonce.as_bytes().to_vec();
            Ok(wire::Move { offset: *offset, sequence, epoch: epoch.into(), nonce, to: *to })
        };
        let wire = wire::Forward { moves: self.moves.iter().map(moved).collect::<Result<_>>()? };
        let document = DocumentBuilder::new(domain, Kind::Forward, *pack.lineage().as_bytes(), &name)?;
        let bytes = document.finish(&wire.encode_to_vec())?;
        Ok((name, bytes))
    }

    /// Whether it says that nothing was moved.
    pub(crate) fn is_void(&self) -> bool {
        self.moves.is_empty()
    }

    /// Where a frame of the pack is now.
    pub(crate) fn place(&self, place: &FramePlace) -> Option<FramePlace> {
        self.moves.get(&place.offset).map(|(object, offset)| FramePlace { object: *object, offset: *offset, ..*place })
    }

    /// The packs that it leads to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Object> {
        self.moves.values().map(|(object, _)| *object)
    }
}
