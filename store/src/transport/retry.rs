// SPDX-License-Identifier: Apache-2.0
//! The one layer that tries again. The SDK's own retries are off: two layers multiply, and hide the first answer to a creation.

use super::{Body, Created, Page, Range, Transport, TransportError};
use crate::name::Name;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
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

/// A transport whose reads, listings and deletions are tried again while that may help.
///
/// Creations pass through: their unknown outcomes are for [`settle`](super::settle) to settle.
#[derive(Debug, Clone)]
pub struct Retrying {
    inner: Arc<dyn Transport>,
    retries: Retries,
}

impl Retrying {
    /// The transport with this patience.
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, retries: Retries) -> Self {
        Self { inner, retries }
    }

    fn patience(&self) -> Patience {
        Patience { deadline: Instant::now() + self.retries.deadline, pause: self.retries.pause }
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
                Err(error) if patience.allows(&error).await => {}
                result => return result,
            }
        }
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.size(name).await {
                Err(error) if patience.allows(&error).await => {}
                result => return result,
            }
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.list(prefix, after, by_level, limit).await {
                Err(error) if patience.allows(&error).await => {}
                result => return result,
            }
        }
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        let mut patience = self.patience();
        loop {
            match self.inner.delete(name).await {
                Err(error) if patience.allows(&error).await => {}
                result => return result,
            }
        }
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
