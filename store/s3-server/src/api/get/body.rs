// SPDX-License-Identifier: Apache-2.0
//! An object's body on its way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, Take};
use tokio_util::io::ReaderStream;

/// Bytes read at once: all the memory that a body takes, whatever its length.
const PIECE: usize = 128 * 1024;

/// Part of a file. What the file doesn't have any more is an error, not an end: the length was promised.
pub(super) struct ObjectBody {
    pieces: ReaderStream<Take<File>>,
    left: u64,
}

impl ObjectBody {
    /// So many bytes from where the file stands.
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { pieces: ReaderStream::with_capacity(file.take(length), PIECE), left: length }
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.pieces).poll_next(context).map(|piece| match piece {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(piece))
            }
            Some(Err(error)) => Some(Err(error.into())),
            None => Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
        })
    }
}

impl ByteStream for ObjectBody {
    fn remaining_length(&self) -> RemainingLength {
        usize::try_from(self.left).map_or_else(|_| RemainingLength::unknown(), RemainingLength::new_exact)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        File::from_std(file.reopen().unwrap())
    }

    #[tokio::test]
    async fn sends_what_was_promised() {
        let mut body = ObjectBody::new(file(b"0123456789"), 4);
        assert_eq!(body.remaining_length().exact(), Some(4));
        assert_eq!(body.next().await.unwrap().unwrap(), "0123");
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn a_file_that_was_cut_is_an_error() {
        let mut body = ObjectBody::new(file(b"0123"), 10);
        assert!(body.next().await.unwrap().is_ok());
        assert!(body.next().await.unwrap().is_err());
    }
}
