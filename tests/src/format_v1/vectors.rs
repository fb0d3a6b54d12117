// SPDX-License-Identifier: Apache-2.0
//! The low-level vectors: what a derivation, an id, a name and a sealed frame come to. Both implementations compute them.

use anyhow::{Result, ensure};
use holdfast_core::id::{DomainId, LineageId, Nonce, RepositoryId};
use holdfast_store::key::{DomainKeys, Identity, Master, Secret};
use holdfast_store::name::{Name, Register};
use holdfast_store::seal::{Domain, Header, Kind, Sealer, padded_len};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All of them. Bytes are hex.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Vectors {
    master_identity: String,
    domain_name: String,
    domain_id: String,
    identity: String,
    lineage_name: String,
    lineage_id: String,
    /// Plaintext and chunk id.
    chunks: Vec<(String, String)>,
    /// Canonical bytes and node id.
    nodes: Vec<(String, String)>,
    /// Kind, level, key, and the number that decides on a cut.
    cuts: Vec<(u8, u8, String, u32)>,
    /// Sequence and the last part of the name.
    records: Vec<(u64, String)>,
    names: Vec<String>,
    /// Length and size class.
    padded: Vec<(u64, u64)>,
    sealed: Vec<Sealed>,
}

/// A frame sealed with a salt that was not drawn but given.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sealed {
    repository: String,
    domain: String,
    epoch: u32,
    secret: String,
    kind: u8,
    scope: String,
    nonce: String,
    name: String,
    offset: u64,
    codec: u8,
    payload: String,
    /// The object's header, with its key check.
    header: String,
    frame: String,
}

const DOMAIN: DomainId = DomainId::new([0x22; 16]);
const LINEAGE: LineageId = LineageId::new([0x33; 16]);
const NONCE: Nonce = Nonce::new([0x44; 16]);

/// What this implementation comes to.
///
/// # Errors
/// If a key is missing.
pub fn compute() -> Result<Vectors> {
    let master = Master { secret: Secret::new([1; 32]), identity: Secret::new([2; 32]) };
    let identity = Identity::new(Secret::new([3; 32]));
    let inputs: [&[u8]; 3] = [b"x", b"\x01\x00\x00", &[0xa5; 300]];
    let cut = |kind, level, key: &[u8]| (kind, level, hex::encode(key), identity.cut_hash(kind, level, key));
    let record = |sequence| {
        let name = Name::record(DOMAIN, LINEAGE, sequence).to_string();
        (sequence, name.rsplit('/').next().unwrap_or_default().to_owned())
    };
    Ok(Vectors {
        master_identity: hex::encode(master.identity.expose()),
        domain_name: "défaut".to_owned(),
        domain_id: master.domain_id("défaut").to_string(),
        identity: hex::encode(identity.secret().expose()),
        lineage_name: "web-0".to_owned(),
        lineage_id: identity.lineage_id("web-0").to_string(),
        chunks: inputs.map(|bytes| (hex::encode(bytes), identity.chunk_id(bytes).to_string())).into(),
        nodes: inputs.map(|bytes| (hex::encode(bytes), identity.node_id(bytes).to_string())).into(),
        cuts: vec![cut(1, 0, b"name"), cut(1, 1, b"name"), cut(2, 0, &65536_u64.to_be_bytes())],
        records: [1, 2, 1 << 32, u64::MAX - 1].map(record).into(),
        names: vec![
            Name::pack(DOMAIN, LINEAGE, 26, NONCE).to_string(),
            Name::entry(Register::Boundaries(DOMAIN, LINEAGE), 1).to_string(),
            Name::entry(Register::Pins(DOMAIN, LINEAGE), 2).withdrawn().to_string(),
            Name::domain_keys(DOMAIN, 3).to_string(),
        ],
        padded: [1, 9, 1000, 8191, (8 << 20) + 1].map(|len| (len, padded_len(len))).into(),
        sealed: vec![
            seal(Kind::Record, &Name::record(DOMAIN, LINEAGE, 5), u64::MAX)?,
            seal(Kind::Record, &Name::record(DOMAIN, LINEAGE, 5), 0)?,
            seal(Kind::Pack, &Name::pack(DOMAIN, LINEAGE, 5, NONCE), 64)?,
        ],
    })
}

fn seal(kind: Kind, name: &Name, offset: u64) -> Result<Sealed> {
    let (repository, secret, epoch) = (RepositoryId::new([0x11; 16]), Secret::new([4; 32]), 7);
    let keys = DomainKeys {
        id: DOMAIN,
        name: "vectors".to_owned(),
        secrets: BTreeMap::from([(epoch, secret.clone())]),
        identity: Identity::new(Secret::new([3; 32])),
    };
    let domain = Domain { repository, keys };
    let sealer = Sealer::new(&domain, Header { kind, epoch, scope: *LINEAGE.as_bytes(), nonce: NONCE }, name)?;
    let (codec, payload) = (0, &b"what is kept"[..]);
    let mut frame = Vec::new();
    sealer.seal(offset, codec, payload, &mut frame);
    ensure!(sealer.open(offset, &mut frame.clone())? == (codec, payload), "it does not open");
    Ok(Sealed {
        repository: repository.to_string(),
        domain: DOMAIN.to_string(),
        epoch,
        secret: hex::encode(secret.expose()),
        kind: kind as u8,
        scope: LINEAGE.to_string(),
        nonce: NONCE.to_string(),
        name: name.to_string(),
        offset,
        codec,
        payload: hex::encode(payload),
        header: hex::encode(sealer.header()),
        frame: hex::encode(frame),
    })
}
