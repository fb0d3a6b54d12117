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

    /// A key slot of a master epoch.
    #[must_use]
    pub fn key_slot(repository: RepositoryId, epoch: u32, slot: u64) -> Self {
        Self(format!("keys/{repository}/{epoch:016x}/{slot:016x}"))
    }

    /// A domain's keys of one epoch.
    #[must_use]
    pub fn domain_keys(domain: DomainId, epoch: u32) -> Self {
        Self(format!("domains/{domain}/keys/{epoch:016x}"))
    }

    /// A record. Inverted, so that a listing begins with the newest.
    #[must_use]
    pub fn record(domain: DomainId, lineage: LineageId, sequence: u64) -> Self {
        Self(format!("{}{:016x}", records_of(domain, lineage), u64::MAX - sequence))
    }

    /// A pack.
    #[must_use]
    pub fn pack(domain: DomainId, lineage: LineageId, sequence: u64, nonce: Nonce) -> Self {
        Self(format!("{}packs/{sequence:016x}/{nonce}", below(domain, lineage)))
    }

    /// Where a compacted pack's frames went.
    #[must_use]
    pub fn forward(domain: DomainId, lineage: LineageId, sequence: u64, nonce: Nonce) -> Self {
        Self(format!("{}forwards/{sequence:016x}/{nonce}", below(domain, lineage)))
    }

    /// An entry of a register.
    #[must_use]
    pub fn entry(register: Register, number: u64) -> Self {
        Self(match register {
            Register::Boundaries(domain, lineage) => format!("{}boundaries/{number:016x}", below(domain, lineage)),
            Register::Pins(domain, lineage) => format!("{}pins/{number:016x}", below(domain, lineage)),
            Register::Snapshots => format!("snapshots/{number:016x}"),
            Register::Collections => format!("collections/{number:016x}"),
        })
    }

    /// An object that tries the store out, and is deleted again.
    #[must_use]
    pub fn probe(nonce: Nonce, number: u64) -> Self {
        Self(format!("{}{number:016x}", probes_of(nonce)))
    }

    /// What withdraws the entry or key slot with this name.
    #[must_use]
    pub fn withdrawn(&self) -> Self {
        Self(format!("{}-withdrawn", self.0))
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
    /// Which records of a lineage remain below a sequence.
    Boundaries(DomainId, LineageId),
    /// Checkpoints of a lineage that must stay.
    Pins(DomainId, LineageId),
    /// Named sets of checkpoints.
    Snapshots,
    /// The log of the collector's role.
    Collections,
}

/// The prefix of the objects of one try of the store.
#[must_use]
pub fn probes_of(nonce: Nonce) -> String {
    format!("probes/{nonce}/")
}

/// The prefix of all of a lineage's objects.
#[must_use]
pub fn below(domain: DomainId, lineage: LineageId) -> String {
    format!("{}{lineage}/", lineages_of(domain))
}

/// The prefix under which a domain's lineages lie.
#[must_use]
pub fn lineages_of(domain: DomainId) -> String {
    format!("domains/{domain}/lineages/")
}

/// The prefix under which a lineage's records lie, newest first in a listing.
#[must_use]
pub fn records_of(domain: DomainId, lineage: LineageId) -> String {
    format!("{}log/", below(domain, lineage))
}

/// The sequence of a record by its name; `None` if the name is not one of this lineage's records.
#[must_use]
pub fn sequence_of(domain: DomainId, lineage: LineageId, name: &Name) -> Option<u64> {
    let digits = name.as_str().strip_prefix(&records_of(domain, lineage))?;
    let inverted = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)?;
    Some(u64::MAX - inverted)
}

/// What an object below a lineage is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Located {
    /// The record with that number.
    Record(u64),
    /// A pack for the record with that number.
    Pack(u64, Nonce),
    /// Where the frames of that pack went.
    Forward(u64, Nonce),
}

/// Reads the name of a record, a pack or a forward; `None` if it is another object's, or not written as Holdfast writes them.
#[must_use]
pub fn locate(name: &str) -> Option<(DomainId, LineageId, Located)> {
    let mut parts = name.split('/');
    let mut part = || parts.next();
    let ("domains", domain, "lineages", lineage, kind) = (part()?, part()?, part()?, part()?, part()?) else { return None };
    let (domain, lineage): (DomainId, LineageId) = (domain.parse().ok()?, lineage.parse().ok()?);
    let number = u64::from_str_radix(part()?, 16).ok()?;
    let located = match kind {
        "log" => Located::Record(u64::MAX - number),
        "packs" => Located::Pack(number, part()?.parse().ok()?),
        "forwards" => Located::Forward(number, part()?.parse().ok()?),
        _ => return None,
    };
    // whatever else could be read the same way is no name
    (located.name(domain, lineage).as_str() == name).then_some((domain, lineage, located))
}

impl Located {
    /// The name of what it is.
    #[must_use]
    pub fn name(self, domain: DomainId, lineage: LineageId) -> Name {
        match self {
            Self::Record(sequence) => Name::record(domain, lineage, sequence),
            Self::Pack(sequence, nonce) => Name::pack(domain, lineage, sequence, nonce),
            Self::Forward(sequence, nonce) => Name::forward(domain, lineage, sequence, nonce),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_may_go_are_read_and_no_others() {
        let (domain, lineage, nonce) = (DomainId::new([6; 16]), LineageId::new([7; 16]), Nonce::new([8; 16]));
        for located in [Located::Record(9), Located::Pack(9, nonce), Located::Forward(u64::MAX, nonce)] {
            let name = located.name(domain, lineage);
            assert_eq!(locate(name.as_str()), Some((domain, lineage, located)));
            for wrong in [format!("{name}/x"), format!("{name}-withdrawn"), format!("x{name}"), name.as_str().to_uppercase()] {
                assert_eq!(locate(&wrong), None, "{wrong}");
            }
        }
        let pins = Name::entry(Register::Pins(domain, lineage), 1);
        for other in [Name::repository(), Name::domain_keys(domain, 1), pins] {
            assert_eq!(locate(other.as_str()), None, "{other}");
        }
    }

    #[test]
    fn newer_records_sort_first_and_names_can_be_read_back() {
        let (domain, lineage) = (DomainId::new([6; 16]), LineageId::new([7; 16]));
        let names: Vec<_> = [300, 2, 1].map(|sequence| Name::record(domain, lineage, sequence)).into();
        assert!(names.is_sorted());
        assert_eq!(sequence_of(domain, lineage, &names[0]), Some(300));
        assert_eq!(sequence_of(domain, LineageId::new([8; 16]), &names[0]), None);
        let expected = "domains/06060606060606060606060606060606/lineages/07070707070707070707070707070707/log/fffffffffffffffe";
        assert_eq!(names[2].as_str(), expected);
        assert_eq!(Name::listed(names[0].as_str()).as_ref(), Some(&names[0]));
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for text in ["", "Packs/x", "packs/../x", "packs/%2e", "päcks"] {
            assert_eq!(Name::listed(text), None, "{text}");
        }
    }
}
