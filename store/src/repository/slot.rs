// SPDX-License-Identifier: Apache-2.0
//! Key slots: the master key, wrapped by a passphrase.

use crate::error::{Result, StoreError};
use crate::key::{Master, Secret};
use crate::name::Name;
use crate::seal::random;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use zeroize::Zeroizing;

/// How a passphrase becomes a key: scrypt (RFC 7914).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kdf {
    /// log2 of the cost.
    pub log2_n: u8,
    /// Block size.
    pub r: u32,
    /// Repetitions.
    pub p: u32,
}

impl Default for Kdf {
    /// 16 MiB of memory five times: as strong as 128 MiB once (OWASP Password Storage Cheat Sheet), and it fits beside an application.
    fn default() -> Self {
        Self { log2_n: 14, r: 8, p: 5 }
    }
}

impl Kdf {
    /// The weakest that readers accept. For tests, and for passphrases that are random keys themselves.
    pub const QUICK: Self = Self { log2_n: 14, r: 8, p: 1 };
}

const LOG2_N: RangeInclusive<u8> = 14..=20;
const R: RangeInclusive<u32> = 8..=16;
const P: RangeInclusive<u32> = 1..=16;

/// Which slot of which repository.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// SHA-256 of the repository object.
    pub(super) hash: [u8; 32],
    pub(super) epoch: u32,
    pub(super) slot: u64,
}

impl Position {
    fn aad(&self) -> Aad<Vec<u8>> {
        let mut aad = b"holdfast key slot v1".to_vec();
        aad.extend_from_slice(&self.hash);
        aad.extend_from_slice(&u64::from(self.epoch).to_le_bytes());
        aad.extend_from_slice(&self.slot.to_le_bytes());
        Aad::from(aad)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    kdf: String,
    log2_n: u8,
    r: u32,
    p: u32,
    #[serde(with = "hex::serde")]
    salt: [u8; 32],
    #[serde(with = "hex::serde")]
    nonce: [u8; 12],
    #[serde(with = "hex::serde")]
    wrapped: Vec<u8>,
}

/// `None` if scrypt doesn't know the parameters or there is no memory.
fn kek(passphrase: &[u8], salt: &[u8], kdf: Kdf) -> Option<LessSafeKey> {
    let params = scrypt::Params::new(kdf.log2_n, kdf.r, kdf.p).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase, salt, &params, &mut *key).ok()?;
    UnboundKey::new(&AES_256_GCM, &*key).ok().map(LessSafeKey::new)
}

/// The bytes of a slot.
pub(super) fn wrap(master: &Master, passphrase: &[u8], kdf: Kdf, position: Position) -> Result<Vec<u8>> {
    let (salt, nonce) = (random::<32>()?, random::<12>()?);
    let mut wrapped = Vec::with_capacity(80);
    wrapped.extend_from_slice(master.secret.expose());
    wrapped.extend_from_slice(master.identity.expose());
    let refused = || StoreError::damaged("key slot", "the passphrase could not be turned into a key");
    let key = kek(passphrase, &salt, kdf).ok_or_else(refused)?;
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), position.aad(), &mut wrapped).map_err(|_| refused())?;
    let slot = Slot { kdf: "scrypt".to_owned(), log2_n: kdf.log2_n, r: kdf.r, p: kdf.p, salt, nonce, wrapped };
    serde_json::to_vec_pretty(&slot).map_err(|error| StoreError::damaged("key slot", error))
}

/// The master key, if the passphrase is this slot's.
pub(super) fn unwrap(name: &Name, bytes: &[u8], passphrase: &[u8], position: Position) -> Result<Option<Master>> {
    let slot: Slot =
        serde_json::from_slice(bytes).map_err(|_| StoreError::damaged(name, "it is not what Holdfast writes there"))?;
    if slot.kdf != "scrypt" {
        return Err(StoreError::Unsupported { object: name.to_string(), needs: format!("the key derivation {:?}", slot.kdf) });
    }
    if !(LOG2_N.contains(&slot.log2_n) && R.contains(&slot.r) && P.contains(&slot.p) && slot.wrapped.len() == 80) {
        return Err(StoreError::damaged(name, "its parameters are out of range"));
    }
    let kdf = Kdf { log2_n: slot.log2_n, r: slot.r, p: slot.p };
    let key = kek(passphrase, &slot.salt, kdf).ok_or_else(|| StoreError::damaged(name, "its parameters are out of range"))?;
    let mut wrapped = Zeroizing::new(slot.wrapped);
    let nonce = Nonce::assume_unique_for_key(slot.nonce);
    let Ok(opened) = key.open_in_place(nonce, position.aad(), &mut wrapped) else { return Ok(None) };
    let (Some(secret), Some(identity)) = (opened.first_chunk(), opened.last_chunk()) else { return Ok(None) };
    Ok(Some(Master { secret: Secret::new(*secret), identity: Secret::new(*identity) }))
}
