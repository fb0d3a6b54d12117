// SPDX-License-Identifier: Apache-2.0
//! A window's frames, with few requests.

use super::window::Window;
use crate::error::{Result, StoreError};
use crate::pack::{Opener, Plaintext};
use crate::reader::Reader;
use crate::transport::Range;
use crate::tree::{FramePlace, Object};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use tokio::task::JoinSet;

/// Unwanted bytes between two frames are read along if they are fewer: about what a request costs in time.
const GAP_BYTES: u64 = 256 << 10;
/// Longest range of one request, in bytes.
const RANGE_BYTES: u64 = 8 << 20;
/// Requests of one window at once.
const REQUESTS: usize = 6;
/// Windows under way at once, besides those that are written: one request's latency must not be waited for, and each takes a pack's memory.
const WINDOWS_AHEAD: u64 = 2;

/// Where a frame's sealed bytes are.
#[derive(Debug)]
pub(super) enum Sealed {
    /// In a stretch that was read: which, and where in it.
    Stretch { index: usize, start: usize },
    /// It needs the reader: it lies in a record, or its pack was compacted.
    Elsewhere,
}

/// A window with its frames' sealed bytes.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) window: Window,
    pub(super) stretches: Vec<Bytes>,
    pub(super) sealed: Vec<Sealed>,
    pub(super) fetched_bytes: u64,
}

struct Stretch {
    object: Object,
    start: u64,
    end: u64,
    frames: Vec<usize>,
}

/// Frames of packs in stretches that are worth one request each.
fn stretches(frames: &[FramePlace]) -> Vec<Stretch> {
    let mut order: Vec<usize> = (0..frames.len()).filter(|index| matches!(frames[*index].object, Object::Pack { .. })).collect();
    order.sort_unstable_by_key(|index| (frames[*index].object, frames[*index].offset));
    let mut stretches: Vec<Stretch> = Vec::new();
    for index in order {
        let frame = &frames[index];
        let end = frame.offset + u64::from(frame.sealed_len);
        match stretches.last_mut() {
            Some(last)
                if last.object == frame.object && frame.offset <= last.end + GAP_BYTES && end - last.start <= RANGE_BYTES =>
            {
                last.end = last.end.max(end);
                last.frames.push(index);
            }
            _ => stretches.push(Stretch { object: frame.object, start: frame.offset, end, frames: vec![index] }),
        }
    }
    stretches
}

/// Fetches a window's frames.
async fn fetch(reader: &Reader, window: Window) -> Result<Fetched> {
    let wanted = stretches(&window.frames);
    let mut sealed: Vec<Sealed> = window.frames.iter().map(|_| Sealed::Elsewhere).collect();
    let mut bytes: Vec<Bytes> = vec![Bytes::new(); wanted.len()];
    let mut fetched_bytes = 0;
    let mut requests: JoinSet<(usize, std::result::Result<Bytes, crate::transport::TransportError>)> = JoinSet::new();
    let mut next = 0;
    loop {
        while requests.len() < REQUESTS && next < wanted.len() {
            let (index, stretch) = (next, &wanted[next]);
            let name = stretch.object.name(reader.domain().keys.id);
            let range = Range::From { offset: stretch.start, len: stretch.end - stretch.start };
            let transport = Arc::clone(reader.transport());
            requests.spawn(async move { (index, transport.get(&name, range).await) });
            next += 1;
        }
        match requests.join_next().await {
            None => break,
            Some(Err(_)) => return Err(StoreError::Cancelled),
            Some(Ok((_, Err(error)))) if error.is_not_found() => {} // the reader knows about forwards, and what to say
            Some(Ok((_, Err(error)))) => return Err(error.into()),
            Some(Ok((index, Ok(found)))) => {
                fetched_bytes += found.len() as u64;
                for frame in &wanted[index].frames {
                    let start = usize::try_from(window.frames[*frame].offset - wanted[index].start).unwrap_or(usize::MAX);
                    sealed[*frame] = Sealed::Stretch { index, start };
                }
                bytes[index] = found;
            }
        }
    }
    Ok(Fetched { window, stretches: bytes, sealed, fetched_bytes })
}

/// Windows on their way, handed on in their order.
struct Ahead<'a> {
    reader: &'a Arc<Reader>,
    under_way: JoinSet<(u64, Result<Fetched>)>,
    arrived: BTreeMap<u64, Fetched>,
    begun: u64,
    handed: u64,
}

impl Ahead<'_> {
    fn begin(&mut self, window: Window) {
        let (reader, index) = (Arc::clone(self.reader), self.begun);
        self.begun += 1;
        self.under_way.spawn_on(async move { (index, fetch(&reader, window).await) }, self.reader.runtime());
    }

    /// The next window in order, once it has arrived. `None` if none is under way.
    fn next(&mut self) -> Result<Option<Fetched>> {
        loop {
            if let Some(fetched) = self.arrived.remove(&self.handed) {
                self.handed += 1;
                return Ok(Some(fetched));
            }
            match self.reader.runtime().block_on(self.under_way.join_next()) {
                None => return Ok(None),
                Some(Err(_)) => return Err(StoreError::Cancelled),
                Some(Ok((index, fetched))) => drop(self.arrived.insert(index, fetched?)),
            }
        }
    }
}

/// Fetches windows as they come, several at once, and hands them on in their order.
pub(super) fn fetch_all(reader: &Arc<Reader>, windows: &Receiver<Window>, fetched: &SyncSender<Fetched>) -> Result<()> {
    let mut ahead = Ahead { reader, under_way: JoinSet::new(), arrived: BTreeMap::new(), begun: 0, handed: 0 };
    for window in windows {
        ahead.begin(window);
        if ahead.begun - ahead.handed >= WINDOWS_AHEAD
            && let Some(next) = ahead.next()?
            && fetched.send(next).is_err()
        {
            return Ok(()); // whoever writes has ended, and knows why
        }
    }
    while let Some(next) = ahead.next()? {
        if fetched.send(next).is_err() {
            break;
        }
    }
    Ok(())
}

impl Fetched {
    /// The plaintext of one of the window's frames. `spare` is a buffer to put it into.
    pub(super) fn open(&self, reader: &Reader, frame: usize, opener: &mut Opener, mut spare: Vec<u8>) -> Result<Plaintext> {
        let place = &self.window.frames[frame];
        match self.sealed[frame] {
            Sealed::Elsewhere => {
                spare.clear();
                spare.extend_from_slice(&reader.frame(place, false)?);
                Ok(Plaintext::of(spare))
            }
            Sealed::Stretch { index, start } => {
                let name = place.object.name(reader.domain().keys.id);
                let sealed = self.stretches[index].get(start..start + place.sealed_len as usize);
                let sealed = sealed.ok_or_else(|| StoreError::damaged(&name, "it is shorter than it should be"))?;
                opener.open(&*reader.sealer(place.object)?, &name, place, sealed, spare)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::{LineageId, Nonce};

    fn place(sequence: u64, offset: u64) -> FramePlace {
        let object =
            Object::Pack { lineage: LineageId::new([1; 16]), sequence, epoch: 1, nonce: Nonce::new([1; 16]), large: true };
        FramePlace { object, offset, sealed_len: 1000, plain_len: 2000 }
    }

    #[test]
    fn neighbours_are_read_together_and_far_ones_apart() {
        let frames = [place(2, 64), place(1, 1064), place(1, 64), place(1, 10 << 20), place(1, 2064 + (200 << 10))];
        let found: Vec<_> = stretches(&frames).into_iter().map(|s| (s.start, s.end, s.frames)).collect();
        assert_eq!(found, [(64, 3064 + (200 << 10), vec![2, 1, 4]), (10 << 20, (10 << 20) + 1000, vec![3]), (64, 1064, vec![0])]);
    }
}
