// SPDX-License-Identifier: Apache-2.0
//! Identifiers. Each is a type of its own, so that a chunk's id can't be passed where a node's is meant.

use std::fmt;
use std::str::FromStr;

/// A text is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {digits} hex digits expected")]
pub struct ParseIdError {
    text: String,
    kind: &'static str,
    digits: usize,
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Bytes of an identifier of this kind.
            pub const LEN: usize = $bytes;

            /// The identifier with these bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                bytes.try_into().map(Self).map_err(|_| ParseIdError {
                    text: format!("{} bytes", bytes.len()),
                    kind: $kind,
                    digits: $bytes * 2,
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                read_hex(text).map(Self).ok_or_else(|| ParseIdError {
                    text: text.to_owned(),
                    kind: $kind,
                    digits: $bytes * 2,
                })
            }
        }
    };
}

identifier!(
    /// A repository: 16 random bytes, drawn when it is created.
    RepositoryId, 16, "repository id"
);
identifier!(
    /// A domain: what shares keys. Derived from its name under the repository's secrets.
    DomainId, 16, "domain id"
);
identifier!(
    /// A lineage: the history of one replica's state. Derived from its name under the domain's secrets.
    LineageId, 16, "lineage id"
);
identifier!(
    /// The 16 random bytes of an object's salt.
    Nonce, 16, "object nonce"
);
identifier!(
    /// A chunk: keyed hash of its plaintext.
    ChunkId, 32, "chunk id"
);
identifier!(
    /// A node of a map: keyed hash of its canonical bytes.
    NodeId, 32, "node id"
);
identifier!(
    /// A whole state: the id of its roots node.
    RootId, 32, "root id"
);
identifier!(
    /// SHA-256 of a record's whole object: the link of a lineage's chain.
    RecordHash, 32, "record hash"
);
identifier!(
    /// The 16 random bytes that tell one claim's holder from every other.
    HolderKey, 16, "holder key"
);
identifier!(
    /// The 16 random bytes of a record: by them a writer knows its own.
    RecordId, 16, "record id"
);
identifier!(
    /// The volume that a state root lies on, as its marker names it.
    VolumeId, 16, "volume id"
);
identifier!(
    /// The cluster or machine that owns a lineage.
    OwnerId, 16, "owner id"
);

identifier!(
    /// A snapshot: a named set of checkpoints.
    SnapshotId, 16, "snapshot id"
);

impl DomainId {
    /// The repository's own domain: domain keys and snapshots are sealed under it.
    pub const REPOSITORY: Self = Self([0; 16]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let id = LineageId::new(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233343536373839616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "00", "3031323334353637383961626364656", "3031323334353637383961626364656G", "30313233343536373839616263646566 "]
        {
            assert!(text.parse::<LineageId>().is_err(), "{text:?}");
        }
        // upper case would give one id two names
        assert!("3031323334353637383961626364656F".parse::<LineageId>().is_err());
    }
}
