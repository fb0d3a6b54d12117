// SPDX-License-Identifier: Apache-2.0
//! The names of objects: generated, made of `[0-9a-z/-]`, never of a user's words (`docs/format.md`, section 1).

use holdfast_core::id::{DomainId, LineageId, Nonce, RepositoryId};
use std::fmt;

/// The name of an object below the repository's prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The repository object.
    #[must_use]
    pub fn repository() -> Self {
        Self("repository".to_owned())
    }

    /// A key slot.
    #[must_use]
    pub fn key_slot(repository: RepositoryId, slot: u64) -> Self {
        Self(format!("keys/{repository}/{slot:016x}"))
    }

    /// What says that a key slot was revoked.
    #[must_use]
    pub fn key_slot_revoked(repository: RepositoryId, slot: u64) -> Self {
        Self(format!("keys/{repository}/{slot:016x}-revoked"))
    }

    /// A domain's keys of one epoch.
    #[must_use]
    pub fn domain_keys(domain: DomainId, epoch: u64) -> Self {
        Self(format!("domains/{domain}/keys/{epoch:016x}"))
    }

    /// A record. Inverted, so that a listing begins with the newest.
    #[must_use]
    pub fn record(lineage: LineageId, sequence: u64) -> Self {
        Self(format!("lineages/{lineage}/{:016x}", u64::MAX - sequence))
    }

    /// A pack.
    #[must_use]
    pub fn pack(lineage: LineageId, sequence: u64, nonce: Nonce) -> Self {
        Self(format!("packs/{lineage}/{sequence:016x}/{nonce}"))
    }

    /// An entry of a register.
    #[must_use]
    pub fn entry(register: Register, number: u64) -> Self {
        Self(match register {
            Register::Boundaries(lineage) => format!("boundaries/{lineage}/{number:016x}"),
            Register::Forks(lineage) => format!("forks/{lineage}/{number:016x}"),
            Register::Snapshots => format!("snapshots/{number:016x}"),
            Register::Collections => format!("collections/{number:016x}"),
        })
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that a store listed. `None` if it has other characters than Holdfast uses: then it isn't one of its objects.
    #[must_use]
    pub fn listed(text: &str) -> Option<Self> {
        let ok = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'/' | b'-'));
        (ok && !text.is_empty() && text.len() <= 200).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A contiguous series of numbered objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// Sequences below which a lineage's records may be missing.
    Boundaries(LineageId),
    /// Lineages that continue from a checkpoint of this one.
    Forks(LineageId),
    /// Named sets of checkpoints.
    Snapshots,
    /// The log of the collector's role.
    Collections,
}

/// The prefix under which a lineage's records lie, newest first in a listing.
#[must_use]
pub fn records_of(lineage: LineageId) -> String {
    format!("lineages/{lineage}/")
}

/// The sequence of a record by its name; `None` if the name is not one of this lineage's records.
#[must_use]
pub fn sequence_of(lineage: LineageId, name: &Name) -> Option<u64> {
    let digits = name.as_str().strip_prefix(&records_of(lineage))?;
    let inverted = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)?;
    Some(u64::MAX - inverted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_records_sort_first_and_names_can_be_read_back() {
        let lineage = LineageId::new([7; 16]);
        let names: Vec<_> = [300, 2, 1].map(|sequence| Name::record(lineage, sequence)).into();
        assert!(names.is_sorted());
        assert_eq!(sequence_of(lineage, &names[0]), Some(300));
        assert_eq!(sequence_of(LineageId::new([8; 16]), &names[0]), None);
        assert_eq!(names[2].as_str(), "lineages/07070707070707070707070707070707/fffffffffffffffe");
        assert_eq!(Name::listed(names[0].as_str()).as_ref(), Some(&names[0]));
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for text in ["", "Packs/x", "packs/../x", "packs/%2e", "päcks"] {
            assert_eq!(Name::listed(text), None, "{text}");
        }
    }
}
