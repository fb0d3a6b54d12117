// SPDX-License-Identifier: Apache-2.0
//! On what a change depends, judged under the key's lock in the instant of the change.

use super::StoreError;
use super::index::Entry;

/// On what a change depends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    #[default]
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: *`
    Present,
    /// `If-Match: "etag"`; `None` is an ETag that no object of ours can have.
    Etag(Option<[u8; 16]>),
}

impl Condition {
    /// An ETag as the client sent it, without its quotes.
    pub(crate) fn etag(text: &str) -> Self {
        let mut md5 = [0; 16];
        Self::Etag(hex::decode_to_slice(text, &mut md5).is_ok().then_some(md5))
    }

    /// Judges a PUT. S3 answers 404, not 412, if the object to be replaced is gone.
    pub(crate) fn check_put(&self, current: Option<Entry>) -> Result<(), StoreError> {
        match (self, current) {
            (Self::Present | Self::Etag(_), None) => Err(StoreError::NoKey),
            _ => self.check(current),
        }
    }

    /// Judges a DELETE.
    pub(crate) fn check_delete(&self, current: Option<Entry>) -> Result<(), StoreError> {
        self.check(current)
    }

    fn check(&self, current: Option<Entry>) -> Result<(), StoreError> {
        let holds = match self {
            Self::None => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Etag(wanted) => wanted.is_some() && current.map(|entry| entry.md5) == *wanted,
        };
        if holds { Ok(()) } else { Err(StoreError::Precondition) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_hold_for_what_they_name() {
        let entry = |byte| Some(Entry { size: 0, md5: [byte; 16], modified: 0 });
        let one = Condition::etag(&"01".repeat(16));
        let unknown = Condition::etag("not-ours-2");
        for (condition, absent, of_one, of_two) in [
            (Condition::None, true, true, true),
            (Condition::Absent, true, false, false),
            (Condition::Present, false, true, true),
            (one, false, true, false),
            (unknown, false, false, false),
        ] {
            for (current, expected) in [(None, absent), (entry(1), of_one), (entry(2), of_two)] {
                assert_eq!(condition.check_put(current).is_ok(), expected, "{condition:?} {current:?}");
                assert_eq!(condition.check_delete(current).is_ok(), expected, "{condition:?} {current:?}");
            }
        }
        assert!(matches!(Condition::Present.check_put(None), Err(StoreError::NoKey)));
        assert!(matches!(Condition::Present.check_delete(None), Err(StoreError::Precondition)));
    }
}
