// SPDX-License-Identifier: Apache-2.0
//! The file of an object: its body, then what is known about it. One rename commits both.
//!
//! ```text
//! body | metadata, JSON | SHA-256 of the metadata, 32 | length of the metadata, u32 little-endian | "HFOBJ001"
//! ```
//!
//! The metadata come last because sizes and digests are known only when the body was received. A file that was cut
//! short, or was never one of ours, is told from the rest by its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use s3s::crypto::{Checksum, Sha256};
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"HFOBJ001";
const FOOTER: usize = 32 + 4 + MAGIC.len();
/// Bytes of metadata: a key of 1 KiB and user metadata of 2 KiB, six times over for JSON's escapes, leave room.
const META: usize = 64 * 1024;
/// Bytes read at once from the end of a file: most metadata fit.
const TAIL: u64 = 4096;

/// What is wrong with a file of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it ends before an object could")]
    Short,
    #[error("it doesn't end as an object does")]
    Magic,
    #[error("its metadata have {0} bytes")]
    MetaLength(u32),
    #[error("its metadata don't match their digest")]
    MetaDigest,
    #[error("its metadata can't be understood")]
    Meta(#[from] serde_json::Error),
    #[error("it has a body of {found} bytes instead of {expected}")]
    Size { expected: u64, found: u64 },
    #[error("its name is not the one of its key")]
    Name,
    #[error("it can't be read")]
    Io(#[from] io::Error),
}

/// Headers of a PUT that a GET gives back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Headers {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) cache_control: Option<String>,
}

/// What is known about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) key: String,
    /// Bytes of the body.
    pub(crate) size: u64,
    /// MD5 of the body: the ETag.
    pub(crate) md5: [u8; 16],
    /// SHA-256 of the body, in base64 as S3 sends it.
    pub(crate) sha256: String,
    /// The checksum that the writer gave, by the header that it came in.
    pub(crate) checksum: Option<(String, String)>,
    /// Seconds since 1970, as S3 keeps them.
    pub(crate) modified: u64,
    pub(crate) headers: Headers,
    pub(crate) user: BTreeMap<String, String>,
}

impl Meta {
    pub(crate) fn etag(&self) -> String {
        hex::encode(self.md5)
    }

    /// What follows the body in the file.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Damage> {
        let mut bytes = serde_json::to_vec(self)?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if bytes.len() > META {
            return Err(Damage::MetaLength(length));
        }
        let digest = Sha256::checksum(&bytes);
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        Ok(bytes)
    }

    /// Reads what follows the body; the body itself is not looked at.
    pub(crate) fn read(file: &File) -> Result<Self, Damage> {
        let total = file.metadata()?.len();
        let mut tail = read_tail(file, total, TAIL)?;
        let length = read_footer(&tail)?;
        let needed = length as usize + FOOTER;
        if tail.len() < needed {
            tail = read_tail(file, total, needed as u64)?;
        }
        let start = tail.len().checked_sub(needed).ok_or(Damage::Short)?;
        let (bytes, footer) = tail[start..].split_at(length as usize);
        if Sha256::checksum(bytes)[..] != footer[..32] {
            return Err(Damage::MetaDigest);
        }
        let meta: Self = serde_json::from_slice(bytes)?;
        let found = total - needed as u64;
        if meta.size == found { Ok(meta) } else { Err(Damage::Size { expected: meta.size, found }) }
    }
}

fn read_tail(file: &File, total: u64, wanted: u64) -> Result<Vec<u8>, io::Error> {
    let length = wanted.min(total);
    let mut tail = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut tail, total - length)?;
    Ok(tail)
}

/// The length of the metadata before the footer that these bytes end with.
fn read_footer(tail: &[u8]) -> Result<u32, Damage> {
    let Some((rest, magic)) = tail.split_last_chunk::<8>() else { return Err(Damage::Short) };
    let Some((_, length)) = rest.split_last_chunk::<4>() else { return Err(Damage::Short) };
    if *magic != MAGIC {
        return Err(Damage::Magic);
    }
    let length = u32::from_le_bytes(*length);
    if length as usize > META { Err(Damage::MetaLength(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn meta(size: u64, user: &str) -> Meta {
        Meta {
            key: "a/b".into(),
            size,
            md5: [7; 16],
            sha256: "…".into(),
            checksum: Some(("x-amz-checksum-crc32".into(), "AAAAAA==".into())),
            modified: 1_700_000_000,
            headers: Headers::default(),
            user: BTreeMap::from([("k".into(), user.into())]),
        }
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn object(body: &[u8], meta: &Meta) -> Vec<u8> {
        [body, &meta.encode().unwrap()].concat()
    }

    #[test]
    fn what_was_written_is_read() {
        for (body, user) in [(&b""[..], "short"), (&[1; 10_000], "short"), (b"x", &"long".repeat(10_000))] {
            let meta = meta(body.len() as u64, user);
            assert_eq!(Meta::read(&file(&object(body, &meta))).unwrap(), meta);
        }
    }

    #[test]
    fn too_much_metadata_is_refused() {
        assert!(matches!(meta(0, &"x".repeat(META)).encode(), Err(Damage::MetaLength(_))));
    }

    #[test]
    fn every_cut_is_noticed() {
        let whole = object(b"body", &meta(4, "u"));
        for length in 0..whole.len() {
            assert!(Meta::read(&file(&whole[..length])).is_err(), "{length} of {}", whole.len());
        }
    }

    #[test]
    fn every_flipped_bit_of_the_metadata_is_noticed() {
        let whole = object(b"body", &meta(4, "u"));
        for at in 4..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(Meta::read(&file(&bytes)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_longer_body_is_noticed() {
        let bytes = object(b"a longer body", &meta(4, "u"));
        assert!(matches!(Meta::read(&file(&bytes)), Err(Damage::Size { expected: 4, found: 13 })));
    }
}
