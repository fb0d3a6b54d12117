// SPDX-License-Identifier: Apache-2.0
//! Fingerprints of a large file's extents, in scratch space: where a file must be read to find what has changed, they say it faster than ids.
//!
//! A fingerprint is a GMAC under a key of the domain. Two different texts have the same one with a probability below 2^-100, since nobody sees any
//! of them who doesn't have the key; hashing takes a tenth of the time that an id does. They belong to the content that was captured, as clones do:
//! if the tree holds anything else, they are not used. Whatever is wrong with them costs time only.

use super::clones::Version;
use crate::disk::FileInfo;
use crate::key::Identity;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod file;

pub(super) use file::{Noted, Writer};

/// For smaller files they are not worth their while, in bytes.
const SIZE_MIN: u64 = 1 << 20;
/// Scratch space for all of them; the oldest go.
const ALL_BYTES_MAX: u64 = 64 << 20;
/// The directory in scratch space.
const DIRECTORY: &str = "prints";
/// How the names of unfinished files begin.
const UNFINISHED: &str = ".new-";

/// Tells one text from another.
pub(super) type Print = [u8; 16];

/// An extent with its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) len: u32,
    pub(super) print: Print,
}

impl Entry {
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.len.into())
    }
}

/// Makes fingerprints, and finds those that were made before.
pub(super) struct Prints {
    directory: PathBuf,
    key: LessSafeKey,
}

impl Prints {
    /// Those in this scratch space; `None` if there is no room for them, or no key.
    pub(super) fn open(scratch: &Path, identity: &Identity) -> Option<Self> {
        let directory = scratch.join(DIRECTORY);
        let key = UnboundKey::new(&AES_256_GCM, identity.print_key().expose()).ok().map(LessSafeKey::new)?;
        match fs::create_dir_all(&directory).and_then(|()| tidy(&directory)) {
            Ok(()) => Some(Self { directory, key }),
            Err(error) => {
                tracing::debug!(directory = %directory.display(), %error, "no room for fingerprints");
                None
            }
        }
    }

    /// The fingerprint of a text; `None` if there can't be one.
    pub(super) fn print(&self, text: &[u8]) -> Option<Print> {
        // the same nonce for all: as a keyed hash, whose values never leave this machine
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(text), &mut []).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Those of this version of a file.
    pub(super) fn known(&self, info: &FileInfo, version: &Version) -> Option<Noted> {
        let noted = Noted::open(&self.path(info), version);
        if let Err(error) = &noted {
            tracing::debug!(inode = info.inode, %error, "no fingerprints");
        }
        noted.ok()
    }

    /// Begins those of a file's next version.
    pub(super) fn begin(&self, info: &FileInfo) -> Option<Writer> {
        if info.size < SIZE_MIN {
            return None;
        }
        Writer::create(&self.directory, self.path(info)).ok()
    }

    fn path(&self, info: &FileInfo) -> PathBuf {
        self.directory.join(format!("{:x}-{:x}", info.device, info.inode))
    }
}

/// Removes what an earlier process left unfinished, and the oldest of what is too much.
fn tidy(directory: &Path) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
        } else {
            found.push((meta.modified()?, meta.len(), entry.path()));
        }
    }
    found.sort();
    let mut all: u64 = found.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in found {
        if all <= ALL_BYTES_MAX {
            break;
        }
        fs::remove_file(path)?;
        all -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
