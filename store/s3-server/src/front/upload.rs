// SPDX-License-Identifier: Apache-2.0
//! A request's body, shared between s3s, who reads it, and the front, who reads what s3s left.
//!
//! A refused request whose body was not read would end in a reset connection, and the client would never see why it
//! was refused. So the rest is read, within bounds, before the answer is sent.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::chunks::Chunks;

/// Bytes that are read of a body nobody wants.
const DRAINED: u64 = 64 << 20;

/// Why a body couldn't be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the connection broke off")]
    Broken,
    #[error("the client sent nothing for too long")]
    Stalled,
    #[error("a chunk is too large")]
    ChunkTooLarge,
}

#[derive(Debug)]
struct Inner {
    incoming: Incoming,
    chunks: Option<Chunks>,
    stall: Duration,
    /// When the client will have sent nothing for too long; counted from when it was waited for.
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    /// How the body ended, if it did.
    end: Option<Result<(), UploadError>>,
}

impl Inner {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.end {
            Some(Ok(())) => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        let frame = match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(_))) => return self.fail(UploadError::Broken),
            Poll::Ready(None) => {
                self.end = Some(Ok(()));
                return Poll::Ready(None);
            }
            Poll::Pending => return self.wait(context),
        };
        self.waiting = false;
        if let (Some(chunks), Some(data)) = (&mut self.chunks, frame.data_ref())
            && chunks.watch(data).is_err()
        {
            return self.fail(UploadError::ChunkTooLarge);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, UploadError>>> {
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.stall);
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => self.fail(UploadError::Stalled),
            Poll::Pending => Poll::Pending,
        }
    }

    fn fail<T>(&mut self, error: UploadError) -> Poll<Option<Result<T, UploadError>>> {
        self.end = Some(Err(error));
        Poll::Ready(Some(Err(error)))
    }
}

/// A request's body. Clones are the same body.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    inner: Arc<Mutex<Inner>>,
}

impl Upload {
    /// `chunked`: whether it is framed as `aws-chunked`. `stall`: how long the next bytes may take.
    pub(super) fn new(incoming: Incoming, chunked: bool, stall: Duration) -> Self {
        let deadline = Box::pin(sleep(stall));
        let inner = Inner { incoming, chunks: chunked.then(Chunks::new), stall, deadline, waiting: false, end: None };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Why the body couldn't be read, if it couldn't.
    pub(crate) fn failure(&self) -> Option<UploadError> {
        self.lock().end.and_then(Result::err)
    }

    /// Reads what is left, to its end or to a bound.
    pub(super) async fn drain(&self) {
        let mut left = DRAINED;
        while let Some(Ok(frame)) = poll_fn(|context| self.lock().poll(context)).await {
            let read = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.lock().poll(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().incoming.size_hint()
    }
}
