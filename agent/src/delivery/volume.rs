// SPDX-License-Identifier: Apache-2.0
//! The volume: it must be empty, or hold what an earlier pod of the same restore has begun. Its marker says whose it is until all is written; then
//! an attribute does, for a pod whose last word was lost: what it wrote may be in use by now, and the next one only looks.

use super::{DeliveryError, Settings};
use crate::marker;
use holdfast_core::delivery::Reason;
use holdfast_core::disk::{Marker, MarkerState};
use holdfast_core::id::{LineageId, VolumeId};
use holdfast_store::disk::{Dir, xattr};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The UID of the StateRestore whose files these are, on the root of a volume that has them all.
const ATTRIBUTE: &[u8] = b"user.holdfast.delivered";

/// A volume that is ours until it is left.
#[derive(Debug)]
pub(super) struct Volume {
    dir: Dir,
    path: PathBuf,
    restore: String,
    /// An earlier pod has written everything: nothing is written any more.
    pub(super) is_written: bool,
}

impl Volume {
    /// Takes the volume, if nobody else's files are on it.
    pub(super) fn take(settings: &Settings) -> Result<Self, DeliveryError> {
        let path = settings.directory.clone();
        let failed = |source| DeliveryError::Volume { path: path.clone(), source };
        let dir = Dir::open_root(&path).map_err(failed)?;
        let mark = mark(&settings.delivery.restore);
        let found = marker::find("volume", &dir, false).map_err(failed)?;
        let is_ours = found.marker.as_ref().is_some_and(|marker| marker.volume == mark.volume);
        let is_free = found.is_empty && found.marker.is_none();
        let restore = settings.delivery.restore.clone();
        // a volume without extended attributes tells nothing
        let is_written = xattr::value(dir.fd(), ATTRIBUTE).is_ok_and(|of| of.as_deref() == Some(restore.as_bytes()));
        if is_written && !is_free {
            return Ok(Self { dir, path, restore, is_written });
        }
        if !is_ours && !is_free {
            return Err(occupied());
        }
        marker::write(&dir, &mark).map_err(failed)?;
        Ok(Self { dir, path, restore, is_written: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All is written: nothing of ours stays but the files, and whose they are.
    pub(super) fn leave(self) -> Result<(), DeliveryError> {
        if let Err(error) = xattr::set(self.dir.fd(), ATTRIBUTE, self.restore.as_bytes()) {
            tracing::debug!(%error, "could not write on the volume that all is written");
        }
        marker::remove(&self.dir).map_err(|source| DeliveryError::Volume { path: self.path, source })
    }
}

pub(super) fn occupied() -> DeliveryError {
    let message = "the volume is not empty: name another claim, or delete what is on it".to_owned();
    DeliveryError::refused(Reason::ClaimNotEmpty, message)
}

/// What a volume says of a restore that has begun: no agent takes it for whole.
fn mark(restore: &str) -> Marker {
    let digest: [u8; 32] = Sha256::digest(format!("holdfast delivery {restore}")).into();
    let id: [u8; 16] = digest.first_chunk().copied().unwrap_or_default();
    Marker {
        lineage: LineageId::new(id),
        generation: 0,
        volume: VolumeId::new(id),
        state: MarkerState::Restoring(0),
        holder: None,
    }
}
