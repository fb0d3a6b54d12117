// SPDX-License-Identifier: Apache-2.0
//! Sealed objects: headers, and frames under AES-256-GCM (`docs/format.md`, section 4).

use crate::error::{Result, StoreError};
use crate::key::{DomainKeys, Identity, Secret, object_key};
use crate::name::Name;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce as GcmNonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use holdfast_core::id::{DomainId, Nonce, RepositoryId};

/// Bytes of a header.
pub const HEADER_LEN: usize = 64;
/// Bytes by which sealing makes a payload longer: its codec and the tag.
pub const SEAL_OVERHEAD: usize = 1 + TAG_LEN;
const TAG_LEN: usize = 16;
const MAGIC: &[u8; 8] = b"HOLDFAST";
/// The format's version.
pub const FORMAT_VERSION: u8 = 1;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An entry of a lineage's log.
    Record = 1,
    /// Frames.
    Pack = 2,
    /// A named set of checkpoints.
    Snapshot = 3,
    /// A domain's secrets.
    DomainKeys = 4,
    /// Which records remain.
    Boundary = 5,
    /// A checkpoint that must stay.
    Pin = 6,
    /// Where a compacted pack's frames went.
    Forward = 7,
    /// The collector's log.
    Collection = 8,
    /// What withdraws a register's entry.
    Withdrawal = 9,
}

/// What every object of one domain of one repository is sealed with.
#[derive(Debug, Clone)]
pub struct Domain {
    /// The repository.
    pub repository: RepositoryId,
    /// The domain's keys.
    pub keys: DomainKeys,
}

impl Domain {
    /// A domain from its parts, as they were handed on: identity and secrets by epoch.
    #[must_use]
    pub fn from_parts(
        repository: RepositoryId,
        id: DomainId,
        name: String,
        identity: [u8; 32],
        secrets: impl IntoIterator<Item = (u32, [u8; 32])>,
    ) -> Self {
        let secrets = secrets.into_iter().map(|(epoch, secret)| (epoch, Secret::new(secret))).collect();
        Self { repository, keys: DomainKeys { id, name, secrets, identity: Identity::new(Secret::new(identity)) } }
    }
}

/// The clear first bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: Kind,
    /// The epoch of the domain's secret.
    pub epoch: u32,
    /// The first half of the salt: lineage, domain or zero.
    pub scope: [u8; 16],
    /// The second half: random.
    pub nonce: Nonce,
}

impl Header {
    fn salt(&self) -> [u8; 32] {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&self.scope);
        salt[16..].copy_from_slice(self.nonce.as_bytes());
        salt
    }

    fn bytes(&self, check: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = FORMAT_VERSION;
        bytes[9] = self.kind as u8;
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.salt());
        bytes[48..].copy_from_slice(check);
        bytes
    }

    /// Reads a header. The key check is not compared here: [`Sealer::open_object`] does.
    ///
    /// # Errors
    /// If the bytes are no header of the expected kind, or of a version this program doesn't know.
    pub fn parse(object: &Name, bytes: &[u8], kind: Kind) -> Result<Self> {
        let damaged = |what: &str| StoreError::damaged(object, what);
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or_else(|| damaged("it is shorter than a header"))?;
        if &header[..8] != MAGIC {
            return Err(damaged("it does not begin as Holdfast's objects do"));
        }
        if header[8] != FORMAT_VERSION {
            return Err(StoreError::Unsupported { object: object.to_string(), needs: format!("format version {}", header[8]) });
        }
        if header[9] != kind as u8 {
            return Err(damaged("it is an object of another kind"));
        }
        if header[10..12] != [0, 0] {
            return Err(damaged("reserved bytes of its header are set"));
        }
        let epoch = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        let mut scope = [0; 16];
        scope.copy_from_slice(&header[16..32]);
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&header[32..48]);
        Ok(Self { kind, epoch, scope, nonce: Nonce::new(nonce) })
    }
}

/// Seals and opens the frames of one object.
pub struct Sealer {
    key: LessSafeKey,
    header: [u8; HEADER_LEN],
    repository: RepositoryId,
    domain: [u8; 16],
    /// The name of a document; empty for packs.
    name: String,
    object: String,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({})", self.object)
    }
}

impl Sealer {
    /// The sealer of the object with this header and name.
    ///
    /// # Errors
    /// If the domain has no secret of the header's epoch.
    pub fn new(domain: &Domain, header: Header, object: &Name) -> Result<Self> {
        let wrong_key = || StoreError::WrongKey { object: object.to_string() };
        let secret = domain.keys.secret(header.epoch).ok_or_else(wrong_key)?;
        let mut info = b"holdfast object v1".to_vec();
        info.extend_from_slice(domain.repository.as_bytes());
        info.extend_from_slice(domain.keys.id.as_bytes());
        info.extend_from_slice(&header.epoch.to_le_bytes());
        info.push(header.kind as u8);
        let okm = object_key(secret, &header.salt(), &info);
        let key = UnboundKey::new(&AES_256_GCM, &okm[..32]).map_err(|_| wrong_key())?;
        Ok(Self {
            key: LessSafeKey::new(key),
            header: header.bytes(&okm[32..]),
            repository: domain.repository,
            domain: *domain.keys.id.as_bytes(),
            name: if header.kind == Kind::Pack { String::new() } else { object.to_string() },
            object: object.to_string(),
        })
    }

    /// The sealer for an object whose first bytes were read, with its key check compared.
    ///
    /// # Errors
    /// If the bytes are no header of that kind and scope, or the key is another one.
    pub fn open_object(domain: &Domain, object: &Name, bytes: &[u8], kind: Kind, scope: [u8; 16]) -> Result<Self> {
        let header = Header::parse(object, bytes, kind)?;
        if header.scope != scope {
            return Err(StoreError::damaged(object, "it belongs to something else than its name says"));
        }
        let sealer = Self::new(domain, header, object)?;
        match verify_slices_are_equal(&sealer.header[48..], bytes.get(48..HEADER_LEN).unwrap_or_default()) {
            Ok(()) => Ok(sealer),
            Err(_) => Err(StoreError::WrongKey { object: object.to_string() }),
        }
    }

    /// The object's first bytes.
    #[must_use]
    pub const fn header(&self) -> &[u8; HEADER_LEN] {
        &self.header
    }

    fn aad(&self, offset: u64) -> Aad<Vec<u8>> {
        let mut aad = Vec::with_capacity(16 + 16 + HEADER_LEN + 8 + self.name.len());
        aad.extend_from_slice(self.repository.as_bytes());
        aad.extend_from_slice(&self.domain);
        aad.extend_from_slice(&self.header);
        aad.extend_from_slice(&offset.to_le_bytes());
        aad.extend_from_slice(self.name.as_bytes());
        Aad::from(aad)
    }

    fn nonce(offset: u64) -> GcmNonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&offset.to_le_bytes());
        GcmNonce::assume_unique_for_key(nonce)
    }

    /// Appends the frame `codec ‖ payload` to `out`. An offset may be sealed once per object.
    pub fn seal(&self, offset: u64, codec: u8, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(payload.len() + SEAL_OVERHEAD);
        out.push(codec);
        out.extend_from_slice(payload);
        // Fails only beyond 64 GiB of payload, which frames can't reach.
        if let Ok(tag) = self.key.seal_in_place_separate_tag(Self::nonce(offset), self.aad(offset), &mut out[start..]) {
            out.extend_from_slice(tag.as_ref());
        }
    }

    /// Opens a frame in place: its codec and payload.
    ///
    /// # Errors
    /// If the bytes are not what was sealed at that offset of this object.
    pub fn open<'a>(&self, offset: u64, sealed: &'a mut [u8]) -> Result<(u8, &'a [u8])> {
        let opened = self.key.open_in_place(Self::nonce(offset), self.aad(offset), sealed).map_err(|_| {
            StoreError::damaged(&self.object, format_args!("its bytes at {offset} are not what was sealed there"))
        })?;
        match opened.split_first() {
            Some((codec, payload)) => Ok((*codec, payload)),
            None => Err(StoreError::damaged(&self.object, "a frame is empty")),
        }
    }

    /// Opens a frame into another buffer, which afterwards holds codec and payload: a pass over the bytes less than copying and opening in
    /// place. What the buffer held is overwritten, and is best left in it: only what it grows by has to be zeroed.
    ///
    /// # Errors
    /// If the bytes are not what was sealed at that offset of this object.
    pub fn open_into(&self, offset: u64, sealed: &[u8], opened: &mut Vec<u8>) -> Result<u8> {
        let damaged = || StoreError::damaged(&self.object, format_args!("its bytes at {offset} are not what was sealed there"));
        let (ciphertext, tag) = sealed.split_at_checked(sealed.len().wrapping_sub(TAG_LEN)).ok_or_else(damaged)?;
        opened.resize(ciphertext.len(), 0);
        let done = self.key.open_separate_gather(Self::nonce(offset), self.aad(offset), ciphertext, tag, opened);
        done.map_err(|_| damaged())?;
        opened.first().copied().ok_or_else(|| StoreError::damaged(&self.object, "a frame is empty"))
    }
}

/// PADMÉ: the size class that an object of `len` bytes is padded to (Nikitin et al., "Reducing Metadata Leakage from
/// Encrypted Files and Communication with PURBs", 2019). At most 12 % more.
#[must_use]
pub const fn padded_len(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let mantissa = exponent.ilog2() + 1;
    let mask = (1 << (exponent - mantissa)) - 1;
    (len + mask) & !mask
}

/// Fills bytes from the system's generator.
///
/// # Errors
/// If the system has none: then nothing may be sealed.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// As [`random`], into a slice.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    #[cfg(test)]
    if tests::dictated(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes)
        .map_err(|error| StoreError::Scratch { path: "the system's random numbers".to_owned(), source: error.into() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use holdfast_core::id::LineageId;
    use std::cell::Cell;

    thread_local! {
        static DICTATED: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on this thread's random numbers follow from a seed, so that a run can be repeated; `None`: no longer.
    pub(crate) fn dictate(seed: Option<u64>) {
        DICTATED.set(seed);
    }

    pub(super) fn dictated(bytes: &mut [u8]) -> bool {
        let Some(mut state) = DICTATED.get() else { return false };
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        DICTATED.set(Some(state));
        true
    }
    use std::collections::BTreeMap;

    pub(crate) fn domain() -> Domain {
        Domain {
            repository: RepositoryId::new([9; 16]),
            keys: DomainKeys {
                id: DomainId::new([5; 16]),
                name: "test".to_owned(),
                secrets: BTreeMap::from([(1, Secret::new([7; 32]))]),
                identity: Identity::new(Secret::new([8; 32])),
            },
        }
    }

    fn record(sequence: u64) -> (Header, Name) {
        let lineage = LineageId::new([3; 16]);
        let header = Header { kind: Kind::Record, epoch: 1, scope: [3; 16], nonce: Nonce::new([4; 16]) };
        (header, Name::record(DomainId::new([5; 16]), lineage, sequence))
    }

    fn seal(sealer: &Sealer, offset: u64) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(offset, 1, b"payload", &mut out);
        out
    }

    #[test]
    fn what_was_sealed_opens_there_and_nowhere_else() {
        let (header, name) = record(1);
        let sealer = Sealer::new(&domain(), header, &name).expect("an epoch that exists");
        let sealed = seal(&sealer, 64);
        assert_eq!(sealed.len(), 7 + SEAL_OVERHEAD);
        assert_eq!(sealer.open(64, &mut sealed.clone()).expect("the same place"), (1, &b"payload"[..]));
        assert!(sealer.open(65, &mut sealed.clone()).is_err(), "another offset");
        let other_name = Sealer::new(&domain(), header, &record(2).1).expect("an epoch that exists");
        assert!(other_name.open(64, &mut sealed.clone()).is_err(), "another name");
        let other_kind = Sealer::new(&domain(), Header { kind: Kind::Pin, ..header }, &name).expect("an epoch that exists");
        assert!(other_kind.open(64, &mut sealed.clone()).is_err(), "another kind");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(64, &mut flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn opening_into_a_buffer_is_the_same() {
        let (header, name) = record(1);
        let sealer = Sealer::new(&domain(), header, &name).expect("an epoch that exists");
        let sealed = seal(&sealer, 64);
        let mut opened = vec![9; 100];
        assert_eq!(sealer.open_into(64, &sealed, &mut opened).expect("the same place"), 1);
        assert_eq!(opened, b"\x01payload");
        assert!(sealer.open_into(65, &sealed, &mut opened).is_err(), "another offset");
        for len in 0..sealed.len() {
            assert!(sealer.open_into(64, &sealed[..len], &mut opened).is_err(), "{len} bytes");
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open_into(64, &flipped, &mut opened).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_wrong_key_is_not_taken_for_damage() {
        let (header, name) = record(1);
        let sealer = Sealer::new(&domain(), header, &name).expect("an epoch that exists");
        let opened = |domain: &Domain, bytes: &[u8]| Sealer::open_object(domain, &name, bytes, Kind::Record, [3; 16]).err();
        assert!(opened(&domain(), sealer.header()).is_none());
        let mut other = domain();
        other.keys.secrets.insert(1, Secret::new([6; 32]));
        assert!(matches!(opened(&other, sealer.header()), Some(StoreError::WrongKey { .. })));
        let mut newer = *sealer.header();
        newer[8] = 2;
        assert!(matches!(opened(&domain(), &newer), Some(StoreError::Unsupported { .. })));
        for (index, byte) in [(0, b'X'), (9, 2), (10, 1)] {
            let mut damaged = *sealer.header();
            damaged[index] = byte;
            assert!(matches!(opened(&domain(), &damaged), Some(StoreError::Damaged { .. })), "byte {index}");
        }
        assert!(matches!(opened(&domain(), &[]), Some(StoreError::Damaged { .. })));
    }

    #[test]
    fn padding_costs_little() {
        for len in (0..100_000_u64).chain([8 << 20, (16 << 20) - 1]) {
            let padded = padded_len(len);
            assert!(padded >= len && padded <= len + len / 8 + 1, "{len} -> {padded}");
        }
        assert_eq!(padded_len((8 << 20) + 1), (8 << 20) + (1 << 18));
    }
}
