// SPDX-License-Identifier: Apache-2.0
//! Rewriting packs that are mostly dead: the live frames go to a new pack, and an immutable forward leads there. No id and no root changes.
//!
//! The forward is the fence: it is created once. Whoever takes the collector's role over creates a void one for what was not finished.

use crate::error::{Result, StoreError};
use crate::forward::Forward;
use crate::frame::Decoder;
use crate::name::{Located, Name, locate};
use crate::pack::{self, PackBuilder};
use crate::repository::PATIENCE;
use crate::seal::Domain;
use crate::transport::settle::{self, Settled};
use crate::transport::{Body, Range, Transport};
use crate::tree::{FramePlace, Object};
use std::collections::BTreeMap;

/// What became of a rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// The forward leads to a new pack of so many bytes: the old one may go.
    Done {
        /// Bytes of the new pack.
        bytes: u64,
    },
    /// Another collector has called it off, or did it in its own way: what was written is garbage.
    CalledOff,
}

/// Copies the live frames of a pack and creates its forward.
pub(super) async fn rewrite(transport: &dyn Transport, domain: &Domain, old: Object, live: &[(u32, u32)]) -> Result<Rewritten> {
    let Object::Pack { lineage, sequence, large, .. } = old else { return Err(StoreError::Ended) };
    let name = old.name(domain.keys.id);
    let bytes = transport.get(&name, Range::All).await?;
    let listed = pack::frames(domain, old, &bytes)?;
    let sealer = pack::sealer(domain, old)?;
    let mut decoder = Decoder::new().map_err(|error| StoreError::damaged(&name, error))?;
    let mut builder = PackBuilder::new(domain, lineage, sequence, large)?;
    let mut moves = BTreeMap::new();
    for (offset, sealed_len) in live {
        let frame = listed.iter().find(|frame| frame.offset == u64::from(*offset) && frame.sealed_len == *sealed_len);
        let frame = frame.ok_or_else(|| StoreError::damaged(&name, format_args!("its table has no frame at {offset}")))?;
        let start = *offset as usize;
        let sealed = bytes.get(start..start.saturating_add(*sealed_len as usize));
        let sealed = sealed.ok_or_else(|| StoreError::damaged(&name, "a frame lies beyond its end"))?;
        let place = FramePlace { object: old, offset: frame.offset, sealed_len: *sealed_len, plain_len: frame.plain_len };
        // what can't be decoded is not copied: the damage would be the copy's
        pack::open_frame(&sealer, &name, &place, &mut sealed.to_vec(), &mut decoder)?;
        let mut sealed = sealed.to_vec();
        let (codec, payload) = sealer.open(frame.offset, &mut sealed)?;
        let moved = builder.push(frame.contents, codec, payload, frame.plain_len)?;
        moves.insert(frame.offset, (moved.object, moved.offset));
    }
    let (new, bytes) = builder.finish()?;
    let len = bytes.len() as u64;
    settle::create_unique(transport, &new, &Body::new(bytes), PATIENCE).await?;
    let (forward, bytes) = Forward::new(moves).seal(domain, old)?;
    Ok(match settle::create(transport, &forward, &Body::new(bytes), PATIENCE).await? {
        Settled::Won => Rewritten::Done { bytes: len },
        Settled::Lost => Rewritten::CalledOff,
    })
}

/// What became of a rewrite that an earlier collector had begun.
#[derive(Debug)]
pub(super) enum Inherited {
    /// It will never be finished: the old pack stays.
    Void,
    /// It was: the frames are where this leads.
    Forwarded(Forward),
}

/// Brings a rewrite of an earlier collector to an end: either it won its forward, or it never will.
pub(super) async fn end(transport: &dyn Transport, domain: &Domain, old: Object) -> Result<Inherited> {
    let (name, bytes) = Forward::new(BTreeMap::new()).seal(domain, old)?;
    if settle::create(transport, &name, &Body::new(bytes), PATIENCE).await? == Settled::Won {
        return Ok(Inherited::Void);
    }
    let missing = || StoreError::Missing { object: name.to_string(), what: "where a pack's frames went".to_owned() };
    let forward = Forward::read(transport, domain, old).await?.ok_or_else(missing)?;
    Ok(if forward.is_void() { Inherited::Void } else { Inherited::Forwarded(forward) })
}

/// The pack of that name. Epoch and size class are hints that only its places know; a forward's name needs neither.
pub(super) fn pack_of(name: &Name) -> Option<Object> {
    match locate(name.as_str())? {
        (_, lineage, Located::Pack(sequence, nonce)) => Some(Object::Pack { lineage, sequence, epoch: 0, nonce, large: false }),
        _ => None,
    }
}
