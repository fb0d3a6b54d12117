// SPDX-License-Identifier: Apache-2.0
//! A window's frames: opened when they are wanted first, let go of when nothing more wants them. So what is open at a time is a frame or two,
//! however much a window fetches.

use super::fetch::Fetched;
use super::window::{Job, Piece};
use crate::error::{Result, StoreError};
use crate::pack::{Opener, Plaintext};
use crate::pool::Pool;
use crate::reader::Reader;

/// Buffers that are used again: an open frame of each writer, and one more for the next.
pub(super) const BUFFERS: usize = 8;

/// A window's frames.
pub(super) struct Frames<'a> {
    reader: &'a Reader,
    buffers: &'a Pool,
    fetched: &'a Fetched,
    opener: Opener,
    open: Vec<Option<Plaintext>>,
    /// How many pieces of each are still wanted.
    wanted: Vec<u32>,
}

impl<'a> Frames<'a> {
    /// The frames that these jobs want.
    pub(super) fn new(reader: &'a Reader, buffers: &'a Pool, fetched: &'a Fetched, jobs: &[Job], opener: Opener) -> Self {
        let mut wanted = vec![0; fetched.window.frames.len()];
        for piece in jobs.iter().flat_map(Job::pieces) {
            wanted[piece.frame] += 1;
        }
        let open = wanted.iter().map(|_| None).collect();
        Self { reader, buffers, fetched, opener, open, wanted }
    }

    /// The bytes of a piece.
    pub(super) fn bytes(&mut self, piece: &Piece) -> Result<&[u8]> {
        let frame = &mut self.open[piece.frame];
        let plaintext = match frame {
            Some(plaintext) => plaintext,
            None => {
                let spare = self.buffers.take_filled();
                frame.insert(self.fetched.open(self.reader, piece.frame, &mut self.opener, spare)?)
            }
        };
        let bytes = plaintext.part(piece.inner as usize, piece.len as usize);
        bytes.ok_or_else(|| StoreError::damaged("frame", "a chunk lies beyond its frame"))
    }

    /// A piece is done with.
    pub(super) fn done(&mut self, piece: &Piece) {
        let wanted = &mut self.wanted[piece.frame];
        *wanted = wanted.saturating_sub(1);
        if *wanted == 0
            && let Some(plaintext) = self.open[piece.frame].take()
        {
            self.buffers.put(plaintext.into_buffer());
        }
    }

    /// What it opened frames with, for the next window.
    pub(super) fn into_opener(self) -> Opener {
        self.opener
    }
}
