// SPDX-License-Identifier: Apache-2.0
//! Two directories side by side.

use holdfast_store::StoreError;
use holdfast_store::reader::Reader;
use holdfast_store::tree::diff::{Diff, Difference};
use holdfast_store::tree::{Cursor, Directory, Entry, MapRef, Name};
use std::cmp::Ordering;

/// A name, and what it stands for on either side.
pub(super) type Both = (Name, Option<Entry>, Option<Entry>);

/// The entries of two directories, in the order of their names.
#[derive(Debug)]
pub(super) enum Merge {
    /// Only those that differ.
    Different(Box<Diff<Directory>>),
    /// All of them: below equal entries something else may differ.
    All(Box<(Cursor<Directory>, Cursor<Directory>)>),
}

impl Merge {
    pub(super) fn new(reader: &Reader, one: &MapRef<Directory>, two: &MapRef<Directory>, all: bool) -> Result<Self, StoreError> {
        Ok(match all {
            false => Self::Different(Box::new(Diff::new(reader, one, two)?)),
            true => Self::All(Box::new((Cursor::new(reader, one)?, Cursor::new(reader, two)?))),
        })
    }

    pub(super) fn next(&mut self, reader: &Reader) -> Result<Option<Both>, StoreError> {
        match self {
            Self::Different(diff) => Ok(diff.next(reader)?.map(|difference| match difference {
                Difference::Added((name, entry)) => (name, None, Some(entry)),
                Difference::Removed((name, entry)) => (name, Some(entry), None),
                Difference::Changed((name, one), (_, two)) => (name, Some(one), Some(two)),
            })),
            Self::All(cursors) => {
                let (one, two) = &mut **cursors;
                let order = match (one.peek(reader)?, two.peek(reader)?) {
                    (None, None) => return Ok(None),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                };
                let left = if order == Ordering::Greater { None } else { one.next(reader)? };
                let right = if order == Ordering::Less { None } else { two.next(reader)? };
                let name = left.as_ref().or(right.as_ref()).map(|(name, _)| name.clone());
                Ok(name.map(|name| (name, left.map(|(_, entry)| entry), right.map(|(_, entry)| entry))))
            }
        }
    }
}
