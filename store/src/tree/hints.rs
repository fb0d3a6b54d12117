// SPDX-License-Identifier: Apache-2.0
//! The part of a node that no id covers: where things lie, and what speeds up the next capture.

use super::place::{Frame, FramePlace, Object, Place};
use crate::codec::{Malformed, Reader, Write};
use holdfast_core::id::{LineageId, Nonce};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Malformed>;

/// Most directories inside one another.
pub const DEPTH_MAX: u32 = 4096;

/// Where the node that is being written will lie, and where pending frames will.
pub struct Home<'a> {
    /// The object that the node goes to.
    pub object: Object,
    /// The frame that the node goes to.
    pub frame: &'a Arc<Frame>,
    /// Finds the place of a frame. `None` is a fault of the writer: frames are placed before what refers to them is written.
    pub resolve: &'a dyn Fn(&Arc<Frame>) -> Option<FramePlace>,
}

/// Collects the hints of one node.
pub struct HintWriter<'a> {
    home: Home<'a>,
    objects: Vec<Object>,
    frames: Vec<FramePlace>,
    /// The frames by address, so that each is resolved once.
    seen: Vec<(*const Frame, u64)>,
    body: Vec<u8>,
    young: u64,
    unresolved: bool,
}

impl<'a> HintWriter<'a> {
    /// An empty collection for a node that goes there.
    #[must_use]
    pub fn new(home: Home<'a>) -> Self {
        Self { home, objects: Vec::new(), frames: Vec::new(), seen: Vec::new(), body: Vec::new(), young: 0, unresolved: false }
    }

    /// Where the next value goes.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.body
    }

    /// Counts the `young` of something beneath.
    pub fn beneath(&mut self, young: u64) {
        self.young = self.young.max(young);
    }

    /// Writes a place.
    pub fn place(&mut self, place: &Place) {
        let index = self.frame_index(&place.frame);
        self.body.put_varint(index);
        self.body.put_varint(place.inner.into());
    }

    fn frame_index(&mut self, frame: &Arc<Frame>) -> u64 {
        if Arc::ptr_eq(frame, self.home.frame) {
            return 0;
        }
        let address = Arc::as_ptr(frame);
        // newest first: neighbours share frames
        if let Some((_, index)) = self.seen.iter().rev().find(|(seen, _)| *seen == address) {
            return *index;
        }
        let Some(place) = (self.home.resolve)(frame) else {
            self.unresolved = true;
            return 0;
        };
        self.young = self.young.max(place.object.young(self.home.object.lineage()));
        let index = match self.frames.iter().rposition(|known| *known == place) {
            Some(position) => position as u64 + 1,
            None => {
                self.frames.push(place);
                self.frames.len() as u64
            }
        };
        self.seen.push((address, index));
        index
    }

    fn object_index(&mut self, object: Object) -> u64 {
        if object == self.home.object {
            return 0;
        }
        match self.objects.iter().position(|known| *known == object) {
            Some(position) => position as u64 + 1,
            None => {
                self.objects.push(object);
                self.objects.len() as u64
            }
        }
    }

    /// Appends the hints to `out` and returns the largest sequence of a small object beneath (without the node's own). `None` if a frame had no place.
    #[must_use]
    pub fn finish(mut self, out: &mut Vec<u8>) -> Option<u64> {
        let frames = std::mem::take(&mut self.frames);
        let indexed: Vec<_> = frames.iter().map(|frame| (self.object_index(frame.object), frame)).collect();
        out.put_varint(self.objects.len() as u64);
        for object in &self.objects {
            // a node never refers to another record's frames; the caller has resolved those of its own record
            let Object::Pack { lineage, sequence, epoch, nonce, large } = *object else { return None };
            let foreign = lineage != self.home.object.lineage();
            out.put_u8(u8::from(foreign) | u8::from(large) << 1);
            if foreign {
                out.put_bytes(lineage.as_bytes());
            }
            out.put_varint(sequence);
            out.put_varint(epoch.into());
            out.put_bytes(nonce.as_bytes());
        }
        out.put_varint(indexed.len() as u64);
        for (object, frame) in indexed {
            out.put_varint(object);
            out.put_varint(frame.offset);
            out.put_varint(frame.sealed_len.into());
            out.put_varint(frame.plain_len.into());
        }
        out.put_bytes(&self.body);
        (!self.unresolved).then_some(self.young)
    }
}

/// Reads the hints of one node, beside its canonical bytes.
pub struct HintReader<'a> {
    reader: Reader<'a>,
    own: Arc<Frame>,
    frames: Vec<Arc<Frame>>,
    depth: u32,
}

impl<'a> HintReader<'a> {
    /// Reads the tables. `object` is under whose name the node was looked up, `own` the frame it lies in.
    pub fn new(bytes: &'a [u8], object: Object, own: Arc<Frame>) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let objects = read_objects(&mut reader, object.lineage())?;
        let count = reader.len(reader.remaining() / 4, "table of frames")?;
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            let index = reader.len(objects.len(), "table of frames")?;
            let object = if index == 0 { object } else { objects[index - 1] };
            let offset = reader.varint("table of frames")?;
            let (sealed_len, plain_len) = (reader.u32("table of frames")?, reader.u32("table of frames")?);
            let plausible = plain_len as usize <= crate::frame::PLAIN_MAX && sealed_len as usize <= crate::frame::PLAIN_MAX + 17;
            if !plausible || (sealed_len as usize) <= crate::seal::SEAL_OVERHEAD {
                return Err(Malformed("table of frames"));
            }
            frames.push(Frame::stored(FramePlace { object, offset, sealed_len, plain_len }));
        }
        Ok(Self { reader, own, frames, depth: 0 })
    }

    /// The values after the tables.
    pub fn reader(&mut self) -> &mut Reader<'a> {
        &mut self.reader
    }

    /// Reads a place.
    pub fn place(&mut self) -> Result<Place> {
        let index = self.reader.len(self.frames.len(), "place")?;
        let frame = if index == 0 { &self.own } else { &self.frames[index - 1] };
        let inner = self.reader.u32("place")?;
        Ok(Place { frame: Arc::clone(frame), inner })
    }

    /// Enters an inlined directory.
    pub fn descend(&mut self) -> Result<()> {
        self.depth += 1;
        // within one node only inlined directories nest, and those are at most 256 bytes
        if self.depth > 128 { Err(Malformed("nesting of directories")) } else { Ok(()) }
    }

    /// Leaves it.
    pub fn ascend(&mut self) {
        self.depth -= 1;
    }

    /// Fails unless everything was read.
    pub fn finish(self) -> Result<()> {
        self.reader.finish("hints")
    }
}

fn read_objects(reader: &mut Reader<'_>, own_lineage: LineageId) -> Result<Vec<Object>> {
    let what = "table of objects";
    let count = reader.len(reader.remaining() / 19, what)?;
    let mut objects = Vec::with_capacity(count);
    for _ in 0..count {
        let flags = reader.u8(what)?;
        if flags > 3 {
            return Err(Malformed(what));
        }
        let lineage = if flags & 1 == 1 { LineageId::new(reader.array(what)?) } else { own_lineage };
        let sequence = reader.varint(what)?;
        let epoch = reader.u32(what)?;
        objects.push(Object::Pack { lineage, sequence, epoch, nonce: Nonce::new(reader.array(what)?), large: flags & 2 == 2 });
    }
    Ok(objects)
}
