// SPDX-License-Identifier: Apache-2.0
//! Answers in many messages: bounded, ended by deadlines and by the coordinator's own end.

use crate::status;
use futures::{Stream, StreamExt, stream};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Status};

/// Messages of an answer.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for a slow caller.
const QUEUE: usize = 4;

/// When the caller gives up, if it said so.
pub(crate) fn deadline<T>(request: &Request<T>) -> Option<Instant> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}

/// The messages, until the coordinator stops or the deadline passes; after an error nothing follows.
pub(crate) fn until<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    stop: CancellationToken,
    deadline: Option<Instant>,
) -> Answers<T> {
    let end = Box::pin(async move {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => status::shutting_down(),
            () = late => status::too_late(),
        }
    });
    let state = Some((Box::pin(messages), end));
    Box::pin(stream::unfold(state, |state| async {
        let (mut messages, mut end) = state?;
        tokio::select! {
            biased;
            ended = &mut end => Some((Err(ended), None)),
            message = messages.next() => match message? {
                Ok(message) => Some((Ok(message), Some((messages, end)))),
                Err(error) => Some((Err(error), None)),
            },
        }
    }))
}

/// Where work on a thread of its own puts its messages.
pub(crate) struct Sink<T>(mpsc::Sender<Result<T, Status>>);

/// The work ends early: the caller has gone, or there is an error to tell.
pub(crate) enum Halt {
    /// Nobody listens any more.
    Gone,
    /// The answer ends with this.
    Because(Status),
}

impl From<Status> for Halt {
    fn from(status: Status) -> Self {
        Self::Because(status)
    }
}

impl From<holdfast_store::StoreError> for Halt {
    fn from(error: holdfast_store::StoreError) -> Self {
        Self::Because(status::of_store(&error))
    }
}

impl<T> Sink<T> {
    /// Hands a message on; waits while the caller is slow.
    pub(crate) fn send(&self, message: T) -> Result<(), Halt> {
        self.0.blocking_send(Ok(message)).map_err(|_| Halt::Gone)
    }
}

/// Runs blocking work on a thread of its own and answers with what it sends. The permit is held until it ends.
pub(crate) fn produce<T: Send + 'static>(
    tasks: &TaskTracker,
    permit: OwnedSemaphorePermit,
    work: impl FnOnce(&Sink<T>) -> Result<(), Halt> + Send + 'static,
) -> ReceiverStream<Result<T, Status>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tasks.spawn_blocking(move || {
        let _permit = permit;
        let sink = Sink(sender);
        if let Err(Halt::Because(status)) = work(&sink) {
            // nobody may be listening any more, and that is fine
            sink.0.blocking_send(Err(status)).ok();
        }
    });
    ReceiverStream::new(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, may) in [
            ("5S", true),
            ("100m", true),
            ("1H", true),
            ("99999999u", true),
            ("123456789S", false),
            ("S", false),
            ("5", false),
            ("5x", false),
            ("", false),
        ] {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", text.parse().expect("a header"));
            assert_eq!(deadline(&request).is_some(), may, "{text:?}");
        }
        assert!(deadline(&Request::new(())).is_none());
    }

    #[tokio::test]
    async fn a_stop_ends_what_would_go_on_for_ever() {
        let stop = CancellationToken::new();
        let mut answers = until(stream::repeat_with(|| Ok(1)), stop.clone(), None);
        assert_eq!(answers.next().await.expect("a message").expect("no error"), 1);
        stop.cancel();
        assert_eq!(answers.next().await.expect("an end").expect_err("the end").code(), tonic::Code::Unavailable);
        assert!(answers.next().await.is_none());
        let late = until(stream::pending::<Result<u8, Status>>(), CancellationToken::new(), Some(Instant::now()));
        assert_eq!({ late }.next().await.expect("an end").expect_err("the end").code(), tonic::Code::DeadlineExceeded);
    }
}
