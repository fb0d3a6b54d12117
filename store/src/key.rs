// SPDX-License-Identifier: Apache-2.0
//! Secrets and what is derived from them (`docs/format.md`, sections 2 and 3).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use holdfast_core::id::{ChunkId, DomainId, LineageId, NodeId};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for sealing and for wrapping.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn expand(&self, info: &str) -> Self {
        Self(expand(&self.0, info.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// HKDF-Expand(key, info, N) of RFC 5869.
fn expand<const N: usize>(key: &[u8; 32], info: &[u8]) -> [u8; N] {
    let mut okm = [0; N];
    // Fails only for keys shorter than 32 bytes or more than 8160 bytes of output; neither can be.
    let expanded = Hkdf::<Sha256>::from_prk(key).is_ok_and(|hkdf| hkdf.expand(info, &mut okm).is_ok());
    debug_assert!(expanded);
    okm
}

/// HKDF(ikm, salt, info, 48) of RFC 5869: an object's key and its check.
pub(crate) fn object_key(secret: &Secret, salt: &[u8], info: &[u8]) -> [u8; 48] {
    let mut okm = [0; 48];
    let expanded = Hkdf::<Sha256>::new(Some(salt), secret.expose()).expand(info, &mut okm);
    debug_assert!(expanded.is_ok());
    okm
}

fn keyed(key: &Secret) -> Hmac<Sha256> {
    // The trait allows lengths to be refused, HMAC accepts all.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key.expose()).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn digest(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn first_16(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}

/// The repository's own secrets, which a passphrase unwraps.
#[derive(Debug, Clone)]
pub struct Master {
    /// Seals domain keys, snapshots and collections.
    pub secret: Secret,
    /// Names domains. The same through all epochs.
    pub identity: Secret,
}

impl Master {
    /// The id of the domain with this name.
    #[must_use]
    pub fn domain_id(&self, name: &str) -> DomainId {
        DomainId::new(first_16(digest(&keyed(&self.identity.expand("domain id")), &[name.as_bytes()])))
    }
}

/// The identity of a domain: what its ids are derived with. The same through all epochs.
#[derive(Clone)]
pub struct Identity {
    chunk: Hmac<Sha256>,
    node: Hmac<Sha256>,
    boundary: Hmac<Sha256>,
    lineage: Hmac<Sha256>,
    gear: Secret,
    secret: Secret,
}

impl Identity {
    /// The identity with this secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self {
            chunk: keyed(&secret.expand("chunk id")),
            node: keyed(&secret.expand("node id")),
            boundary: keyed(&secret.expand("node boundary")),
            lineage: keyed(&secret.expand("lineage id")),
            gear: secret.expand("chunk boundary"),
            secret,
        }
    }

    /// The id of a chunk with this plaintext.
    #[must_use]
    pub fn chunk_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId::new(digest(&self.chunk, &[plaintext]))
    }

    /// The id of a node with these canonical bytes.
    #[must_use]
    pub fn node_id(&self, canonical: &[u8]) -> NodeId {
        NodeId::new(digest(&self.node, &[canonical]))
    }

    /// What decides whether a map is cut after this key.
    #[must_use]
    pub fn cut_hash(&self, kind: u8, level: u8, key: &[u8]) -> u32 {
        let hash = digest(&self.boundary, &[&[kind, level], key]);
        u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
    }

    /// The id of the lineage with this name.
    #[must_use]
    pub fn lineage_id(&self, name: &str) -> LineageId {
        LineageId::new(first_16(digest(&self.lineage, &[name.as_bytes()])))
    }

    /// The key of fingerprints, which never leave a machine.
    pub(crate) fn print_key(&self) -> Secret {
        self.secret.expand("fingerprint")
    }

    /// Seed of the chunker's table.
    #[must_use]
    pub fn gear_seed(&self) -> u64 {
        let bytes = self.gear.expose();
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    /// The secret itself, to hand it on.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Everything that seals, opens and names within one domain.
#[derive(Debug, Clone)]
pub struct DomainKeys {
    /// Which domain.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// Its secrets by epoch.
    pub secrets: BTreeMap<u32, Secret>,
    /// Its identity.
    pub identity: Identity,
}

impl DomainKeys {
    /// The newest epoch, under which new objects are sealed.
    #[must_use]
    pub fn newest_epoch(&self) -> u32 {
        self.secrets.last_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    /// The secret of an epoch.
    #[must_use]
    pub fn secret(&self, epoch: u32) -> Option<&Secret> {
        self.secrets.get(&epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_for_different_uses_differ() {
        let identity = Identity::new(Secret::new([1; 32]));
        let chunk = identity.chunk_id(b"x");
        let node = identity.node_id(b"x");
        assert_ne!(chunk.as_bytes(), node.as_bytes());
        assert_ne!(identity.cut_hash(1, 0, b"x"), identity.cut_hash(1, 1, b"x"));
        assert_ne!(identity.chunk_id(b"x"), Identity::new(Secret::new([2; 32])).chunk_id(b"x"));
    }

    /// RFC 5869, test case 1, from its PRK on.
    #[test]
    fn expansion_is_that_of_the_rfc() {
        let prk: [u8; 32] = hex::decode("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
            .expect("a constant")
            .try_into()
            .expect("32 bytes");
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").expect("a constant");
        let okm: [u8; 42] = expand(&prk, &info);
        assert_eq!(hex::encode(okm), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", Master { secret: Secret::new([0xab; 32]), identity: Secret::new([0xcd; 32]) });
        assert!(!text.contains("ab") && !text.contains("171"), "{text}");
    }
}
