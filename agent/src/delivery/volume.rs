// SPDX-License-Identifier: Apache-2.0
//! The volume: it must be empty, or hold what an earlier pod of the same restore has begun. Its marker says whose it is until all is written.

use super::{DeliveryError, Settings};
use crate::marker;
use holdfast_core::delivery::Reason;
use holdfast_core::disk::{Marker, MarkerState};
use holdfast_core::id::{LineageId, VolumeId};
use holdfast_store::disk::Dir;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A volume that is ours until it is left.
#[derive(Debug)]
pub(super) struct Volume {
    dir: Dir,
    path: PathBuf,
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
        if !is_ours && !is_free {
            let message = "the volume is not empty: name another claim, or delete what is on it".to_owned();
            return Err(DeliveryError::refused(Reason::ClaimNotEmpty, message));
        }
        marker::write(&dir, &mark).map_err(failed)?;
        Ok(Self { dir, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// All is written: nothing of ours stays but the files.
    pub(super) fn leave(self) -> Result<(), DeliveryError> {
        marker::remove(&self.dir).map_err(|source| DeliveryError::Volume { path: self.path, source })
    }
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
