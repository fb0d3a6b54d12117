// SPDX-License-Identifier: Apache-2.0
//! The body of an answer that arrives short or wrong: faults.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use s3s::StdError;

/// What is done to a body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spoil {
    /// It breaks off after so many bytes.
    Truncate(u64),
    /// The lowest bit of this byte is the other one.
    Flip(u64),
}

#[derive(Debug, thiserror::Error)]
#[error("the body was made to break off")]
struct BrokenOff;

/// A body to which something is done.
#[derive(Debug)]
pub(super) struct Spoiled {
    body: s3s::Body,
    spoil: Spoil,
    /// Bytes passed on.
    sent: u64,
    /// Whether hyper was given the chance to send what it has before the end.
    paused: bool,
}

impl Spoiled {
    pub(super) fn new(body: s3s::Body, spoil: Spoil) -> Self {
        Self { body, spoil, sent: 0, paused: false }
    }

    fn spoil(&self, data: Bytes) -> Bytes {
        match self.spoil {
            Spoil::Truncate(after) => {
                let left = usize::try_from(after.saturating_sub(self.sent)).unwrap_or(usize::MAX);
                data.slice(..left.min(data.len()))
            }
            Spoil::Flip(at) => {
                let at = at.checked_sub(self.sent).and_then(|at| usize::try_from(at).ok());
                let mut bytes = Vec::from(data);
                if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                    *byte ^= 1;
                }
                bytes.into()
            }
        }
    }
}

impl Body for Spoiled {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if matches!(self.spoil, Spoil::Truncate(after) if self.sent >= after) {
            if self.paused {
                return Poll::Ready(Some(Err(BrokenOff.into())));
            }
            self.paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let data = frame?.into_data().unwrap_or_default();
            let data = self.spoil(data);
            self.sent += data.len() as u64;
            Ok(Frame::data(data))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn read(spoil: Spoil) -> (Vec<u8>, bool) {
        let mut body = Spoiled::new(s3s::Body::from(b"0123456789".to_vec()), spoil);
        let mut bytes = Vec::new();
        loop {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap()),
                Some(Err(_)) => return (bytes, false),
                None => return (bytes, true),
            }
        }
    }

    #[tokio::test]
    async fn bodies_are_spoiled_where_they_should_be() {
        assert_eq!(read(Spoil::Truncate(0)).await, (Vec::new(), false));
        assert_eq!(read(Spoil::Truncate(4)).await, (b"0123".to_vec(), false));
        assert_eq!(read(Spoil::Truncate(11)).await, (b"0123456789".to_vec(), true));
        assert_eq!(read(Spoil::Flip(0)).await, (b"1123456789".to_vec(), true));
        assert_eq!(read(Spoil::Flip(9)).await, (b"0123456788".to_vec(), true));
        assert_eq!(read(Spoil::Flip(10)).await, (b"0123456789".to_vec(), true));
    }
}
