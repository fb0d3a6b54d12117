// SPDX-License-Identifier: Apache-2.0
//! The one layer that tries again. The SDK's own retries are off: two layers multiply, and hide the first answer to a creation.

use super::{Body, Created, Page, Range, Transport, TransportError};
use crate::name::Name;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long, and how often, a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// From the first attempt until an error is final.
    pub deadline: Duration,
    /// The first pause; it doubles up to two seconds.
    pub pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), pause: Duration::from_millis(50) }
    }
}

const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Whoever waits is told why from the attempt on that is this far from the next: after most of a second.
const TOLD_FROM: Duration = Duration::from_millis(400);

/// A transport whose reads, listings and deletions are tried again while that may help.
///
/// Creations pass through: their unknown outcomes are for [`settle`](super::settle) to settle.
#[derive(Debug, Clone)]
pub struct Retrying {
    inner: Arc<dyn Transport>,
    retries: Retries,
    /// Whether it was said that the store is waited for: once until it answers.
    told: Arc<AtomicBool>,
}

impl Retrying {
    /// The transport with this patience.
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, retries: Retries) -> Self {
        Self { inner, retries, told: Arc::default() }
    }

    fn patience(&self) -> Patience {
        Patience { deadline: Instant::now() + self.retries.deadline, pause: self.retries.pause }
    }

    /// Waits before another attempt; `false` if there should be none.
    async fn again(&self, patience: &mut Patience, error: &TransportError) -> bool {
        if patience.pause >= TOLD_FROM && error.is_retryable() && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(store = self.inner.location(), %error, "the store does not answer as it should: it is tried again");
        }
        patience.allows(error).await
    }

    fn done<T>(&self, result: Result<T, TransportError>) -> Result<T, TransportError> {
        if result.is_ok() && self.told.swap(false, Ordering::Relaxed) {
            tracing::warn!(store = self.inner.location(), "the store answers again");
        }
        result
    }
}

struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    /// Waits before another attempt; `false` if there should be none.
    async fn allows(&mut self, error: &TransportError) -> bool {
        if !error.is_retryable() || Instant::now() + self.pause >= self.deadline {
            return false;
        }
        tracing::debug!(%error, pause_ms = self.pause.as_millis(), "will try again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

#[async_trait]
impl Transport for Retrying {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        self.inner.create(name, body).await
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.get(name, range).await {
                Err(error) if self.again(&mut patience, &error).await => {}
                result => return self.done(result),
            }
        }
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.size(name).await {
                Err(error) if self.again(&mut patience, &error).await => {}
                result => return self.done(result),
            }
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.list(prefix, after, by_level, limit).await {
                Err(error) if self.again(&mut patience, &error).await => {}
                result => return self.done(result),
            }
        }
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.delete(name).await {
                Err(error) if self.again(&mut patience, &error).await => {}
                result => return self.done(result),
            }
        }
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Failure;
    use std::sync::atomic::AtomicUsize;

    /// Answers only from one attempt on.
    #[derive(Debug)]
    struct Late {
        from: usize,
        attempts: AtomicUsize,
    }

    #[async_trait]
    impl Transport for Late {
        async fn create(&self, _: &Name, _: &Body) -> Result<Created, TransportError> {
            Ok(Created::Yes)
        }

        async fn get(&self, _: &Name, _: Range) -> Result<Bytes, TransportError> {
            Ok(Bytes::new())
        }

        async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
            if self.attempts.fetch_add(1, Ordering::Relaxed) + 1 >= self.from {
                return Ok(None);
            }
            let message = "nobody listens".to_owned();
            Err(TransportError { operation: "head", object: name.to_string(), message, failure: Failure::Unavailable })
        }

        async fn list(&self, _: &str, _: Option<&str>, _: bool, _: u16) -> Result<Page, TransportError> {
            Ok(Page::default())
        }

        async fn delete(&self, _: &Name) -> Result<(), TransportError> {
            Ok(())
        }

        fn location(&self) -> String {
            "nowhere".to_owned()
        }
    }

    /// What was told in the middle of waiting, and after the answer.
    async fn told(from: usize) -> (bool, bool) {
        let store = Retrying::new(Arc::new(Late { from, attempts: AtomicUsize::new(0) }), Retries::default());
        let name = Name::listed("repository").expect("a name");
        let (watched, mut seen) = (Arc::clone(&store.told), false);
        let asked = store.size(&name);
        tokio::pin!(asked);
        loop {
            tokio::select! {
                answer = &mut asked => {
                    answer.expect("an answer");
                    return (seen, watched.load(Ordering::Relaxed));
                }
                () = tokio::time::sleep(Duration::from_millis(10)) => seen |= watched.load(Ordering::Relaxed),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_store_is_told_until_it_answers() {
        assert_eq!(told(3).await, (false, false), "a short pause is nobody's concern");
        assert_eq!(told(8).await, (true, false));
    }
}
