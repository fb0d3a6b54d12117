// SPDX-License-Identifier: Apache-2.0
//! How things are called: repositories, and the lineages of workloads' slots.

pub(super) use holdfast_core::object::{LABEL_MAX, SHARED};

use holdfast_core::object;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Hexadecimal digits of a hash that tell long names apart.
const HASH_DIGITS: usize = 10;

/// The name of a StateRepository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name in there.
    pub name: String,
}

impl RepositoryKey {
    /// The repository with this name.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A text is not `<namespace>/<name>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a repository is named by <namespace>/<name>, or <namespace> for the one called default")]
pub struct NotAKey;

impl FromStr for RepositoryKey {
    type Err = NotAKey;

    /// As it stands in the header `holdfast-repository`.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let (namespace, name) = text.split_once('/').unwrap_or((text, "default"));
        let plain = |part: &str| {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
            !part.is_empty() && part.len() <= 253 && part.bytes().all(known)
        };
        if plain(namespace) && plain(name) { Ok(Self::new(namespace, name)) } else { Err(NotAKey) }
    }
}

/// Whose state: a workload and one of its slots, in a namespace that is known otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineageName {
    /// The workload's kind, as Kubernetes writes it.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// An ordinal, a number, a node, a pod's own name, or [`SHARED`].
    pub slot: String,
}

impl LineageName {
    /// Its name in the repository: `statefulset/web/0`.
    #[must_use]
    pub fn lineage(&self) -> String {
        format!("{}/{}/{}", self.kind, self.name, self.slot).to_ascii_lowercase()
    }

    /// The name of the StateLineage's object, which is also the value of the pod's label: `statefulset-web-0`.
    ///
    /// With a hash where dashes and dots could be read in two ways, or where it would be too long for a label.
    #[must_use]
    pub fn object(&self) -> String {
        let lineage = self.lineage();
        object::plain(&lineage).unwrap_or_else(|| hashed(&lineage.replace('/', "-"), &lineage))
    }
}

/// The head of a name, with a hash of what it stands for: as long as a label's value may be.
pub(super) fn hashed(name: &str, of: &str) -> String {
    let hash = hex::encode(Sha256::digest(of));
    let head = &name[..name.floor_char_boundary(LABEL_MAX - HASH_DIGITS - 1)];
    format!("{}-{}", head.trim_end_matches(['-', '_', '.']), &hash[..HASH_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: &str, name: &str, slot: &str) -> LineageName {
        LineageName { kind: kind.to_owned(), name: name.to_owned(), slot: slot.to_owned() }
    }

    #[test]
    fn every_slot_has_a_name_of_its_own() {
        assert_eq!(named("StatefulSet", "web", "0").lineage(), "statefulset/web/0");
        assert_eq!(named("StatefulSet", "web", "0").object(), "statefulset-web-0");
        assert_eq!(named("Deployment", "web", SHARED).object(), "deployment-web-shared");
        // what dashes alone would not tell apart
        let (one, two) = (named("DaemonSet", "log", "a-b"), named("DaemonSet", "log-a", "b"));
        assert_ne!(one.object(), two.object());
        let long = |last: char| named("StatefulSet", &format!("{}{last}", "x".repeat(80)), "0");
        assert_ne!(long('a').object(), long('b').object());
        for name in [one, two, long('a'), named("DaemonSet", "log", &format!("{}.x", "n".repeat(45)))] {
            let object = name.object();
            assert!(object.len() <= LABEL_MAX && object.ends_with(|last: char| last.is_ascii_alphanumeric()), "{object}");
        }
    }

    #[test]
    fn repositories_are_named_as_the_header_has_them() {
        assert_eq!("shop/main".parse(), Ok(RepositoryKey::new("shop", "main")));
        assert_eq!("shop".parse(), Ok(RepositoryKey::new("shop", "default")));
        for text in ["", "/", "a/", "/b", "a/b/c", "A/b", "a/b c", "../b\n"] {
            assert!(text.parse::<RepositoryKey>().is_err(), "{text:?}");
        }
    }
}
