// SPDX-License-Identifier: Apache-2.0
//! The model of a store: what the conformance suite says, in a map. For property tests and simulation.

use super::{Body, Created, Failure, Page, Range, Transport, TransportError};
use crate::name::Name;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// One request, as tests count them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `create`, `get`, `size`, `list` or `delete`.
    pub operation: &'static str,
    /// The name or prefix.
    pub object: String,
    /// Bytes sent or received.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Name, Bytes>,
    requests: Vec<Request>,
    failing: bool,
}

/// A store in memory that records what it was asked.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
    silent: watch::Sender<bool>,
}

impl Memory {
    fn with<T>(
        &self,
        operation: &'static str,
        object: &str,
        act: impl FnOnce(&mut Inner) -> (T, u64),
    ) -> Result<T, TransportError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failing {
            let message = "the model store was told to fail".to_owned();
            return Err(TransportError { operation, object: object.to_owned(), message, failure: Failure::Unavailable });
        }
        let (value, bytes) = act(&mut inner);
        inner.requests.push(Request { operation, object: object.to_owned(), bytes });
        Ok(value)
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner).requests)
    }

    /// Makes every request fail as if the store were unreachable, or no longer.
    pub fn set_failing(&self, failing: bool) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).failing = failing;
    }

    /// Makes every request wait, as if the store took it and never answered, until it is no longer silent.
    pub fn set_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    async fn hear(&self) {
        // an error means that nobody can end the silence, which this very store could
        self.silent.subscribe().wait_for(|silent| !silent).await.ok();
    }

    /// A copy of all objects.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<Name, Bytes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).objects.clone()
    }

    /// Replaces, adds or (with `None`) removes an object, whatever was there: for tests that do damage.
    pub fn tamper(&self, name: &Name, bytes: Option<Bytes>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes {
            Some(bytes) => inner.objects.insert(name.clone(), bytes),
            None => inner.objects.remove(name),
        };
    }
}

fn slice(bytes: &Bytes, range: Range) -> Option<Bytes> {
    match range {
        Range::All => Some(bytes.clone()),
        Range::From { offset, len } => {
            let size = bytes.len() as u64;
            let end = offset.saturating_add(len).min(size);
            (offset < size).then(|| bytes.slice(usize::try_from(offset).unwrap_or(0)..usize::try_from(end).unwrap_or(0)))
        }
    }
}

#[async_trait]
impl Transport for Memory {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        self.hear().await;
        self.with("create", name.as_str(), |inner| {
            if inner.objects.contains_key(name) {
                return (Created::Exists, 0);
            }
            inner.objects.insert(name.clone(), body.bytes.clone());
            (Created::Yes, body.bytes.len() as u64)
        })
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.hear().await;
        let found = self.with("get", name.as_str(), |inner| {
            let found = inner.objects.get(name).map(|bytes| slice(bytes, range));
            let len = found.iter().flatten().map(|bytes| bytes.len() as u64).sum();
            (found, len)
        })?;
        let failed = |failure, message: &str| TransportError {
            operation: "get",
            object: name.to_string(),
            message: message.to_owned(),
            failure,
        };
        found
            .ok_or_else(|| failed(Failure::NotFound, "there is no such object"))?
            .ok_or_else(|| failed(Failure::BeyondEnd, "the range lies beyond the object's end"))
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.hear().await;
        self.with("size", name.as_str(), |inner| (inner.objects.get(name).map(|bytes| bytes.len() as u64), 0))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        self.hear().await;
        self.with("list", prefix, |inner| {
            let mut page = Page::default();
            let mut prefixes = BTreeSet::new();
            let limit = usize::from(limit.clamp(1, 1000));
            for (name, bytes) in &inner.objects {
                let text = name.as_str();
                let Some(rest) = text.strip_prefix(prefix) else { continue };
                let level = by_level.then(|| rest.find('/')).flatten().map(|slash| &text[..=prefix.len() + slash]);
                // as S3 does: a common prefix at or before `after` was listed already
                if after.is_some_and(|after| level.map_or(text <= after, |level| level <= after || text <= after)) {
                    continue;
                }
                if level.is_some_and(|level| prefixes.contains(level)) {
                    continue;
                }
                if page.objects.len() + prefixes.len() == limit {
                    page.next = page.objects.last().map(|(name, _)| name.to_string()).max(prefixes.last().cloned());
                    break;
                }
                match level {
                    Some(level) => drop(prefixes.insert(level.to_owned())),
                    None => page.objects.push((name.clone(), bytes.len() as u64)),
                }
            }
            page.prefixes = prefixes.into_iter().collect();
            (page, 0)
        })
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        self.hear().await;
        self.with("delete", name.as_str(), |inner| (drop(inner.objects.remove(name)), 0))
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}
