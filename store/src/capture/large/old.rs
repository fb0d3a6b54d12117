// SPDX-License-Identifier: Apache-2.0
//! The extents that a file had, one ahead.

use super::super::walker::Walk;
use crate::reader::Reader;
use crate::tree::{ContentMap, Cursor, Extent};

/// Old extents that were not passed yet.
pub(super) struct Old {
    pub(super) cursor: Option<Cursor<ContentMap>>,
    pub(super) size: u64,
}

impl Old {
    pub(super) fn peek(&mut self, reader: &Reader) -> Walk<Option<Extent>> {
        Ok(match &mut self.cursor {
            Some(cursor) => cursor.peek(reader)?.cloned(),
            None => None,
        })
    }

    pub(super) fn skip(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.skip();
        }
    }

    /// Passes all that end at or before `offset`.
    pub(super) fn pass(&mut self, reader: &Reader, offset: u64) -> Walk<()> {
        if let Some(cursor) = &mut self.cursor {
            cursor.seek(reader, &(offset + 1).to_be_bytes())?;
        }
        Ok(())
    }
}
