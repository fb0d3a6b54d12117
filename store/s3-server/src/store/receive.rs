// SPDX-License-Identifier: Apache-2.0
//! An upload on its way to an object: received and digested, then sealed with what is known about it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use s3s::StdError;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Md5, Sha256};
use s3s::dto::{Checksum as Checksums, StreamingBlob};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::layout::TempPath;
use super::record::{Damage, Meta};
use super::{Bucket, Staged, Store, StoreError};

/// Why a body was not received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("the body broke off or is not what was signed")]
    Body(#[source] StdError),
    #[error("the body has not the length that was announced")]
    Length,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A body on disk, not an object yet. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Received {
    temp: TempPath,
    file: File,
    pub(crate) size: u64,
    pub(crate) md5: [u8; 16],
    /// SHA-256 and those asked for.
    pub(crate) checksums: Checksums,
    /// Seconds since 1970.
    pub(crate) modified: u64,
}

impl Store {
    /// Writes a body of exactly `length` bytes to a file, with `digests` and the ones every object has.
    ///
    /// Memory is bounded by the file's write buffer, whatever the length.
    pub(crate) async fn receive(
        &self,
        mut body: StreamingBlob,
        length: u64,
        mut digests: ChecksumHasher,
    ) -> Result<Received, ReceiveError> {
        let temp = self.layout.next_temp();
        let mut file = File::create_new(temp.path()).await.map_err(StoreError::io("create an upload"))?;
        let mut md5 = Md5::new();
        let mut size = 0;
        digests.sha256 = Some(Sha256::new());
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(ReceiveError::Body)?;
            size += piece.len() as u64;
            if size > length {
                return Err(ReceiveError::Length);
            }
            md5.update(&piece);
            digests.update(&piece);
            file.write_all(&piece).await.map_err(StoreError::io("write an upload"))?;
        }
        if size != length {
            return Err(ReceiveError::Length);
        }
        file.flush().await.map_err(StoreError::io("write an upload"))?;
        let modified = seconds(self.now(&file).await?);
        Ok(Received { temp, file, size, md5: md5.finalize(), checksums: digests.finalize(), modified })
    }

    async fn now(&self, file: &File) -> Result<SystemTime, StoreError> {
        match &self.clock {
            Some(clock) => Ok(clock()),
            None => {
                let metadata = file.metadata().await.map_err(StoreError::io("read an upload's time"))?;
                metadata.modified().map_err(StoreError::io("read an upload's time"))
            }
        }
    }

    /// Adds the metadata. What comes back is complete, and durable if the store is, but under a name nobody asks for.
    pub(crate) async fn seal(&self, received: Received, bucket: Arc<Bucket>, meta: Meta) -> Result<Staged, StoreError> {
        let Received { temp, mut file, .. } = received;
        let bytes = meta.encode().map_err(|damage| match damage {
            Damage::MetaLength(_) => StoreError::MetadataTooLarge,
            other => StoreError::Damaged(other),
        })?;
        file.write_all(&bytes).await.map_err(StoreError::io("write an upload"))?;
        file.flush().await.map_err(StoreError::io("write an upload"))?;
        if self.durable {
            file.sync_all().await.map_err(StoreError::io("sync an upload"))?;
        }
        Ok(Staged { bucket, meta, temp })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
