// SPDX-License-Identifier: Apache-2.0
//! A store in memory that can go away.

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_store::name::Name;
use holdfast_store::transport::memory::Memory;
use holdfast_store::transport::{Body, Created, Failure, Page, Range, Transport, TransportError};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Fickle {
    memory: Memory,
    away: AtomicBool,
}

impl Fickle {
    pub(crate) fn be_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// What there is.
    pub(crate) fn names(&self) -> Vec<String> {
        self.memory.objects().keys().map(ToString::to_string).collect()
    }

    fn there(&self, operation: &'static str, object: &str) -> Result<(), TransportError> {
        if self.away.load(Ordering::SeqCst) {
            let message = "the store is away".to_owned();
            return Err(TransportError { operation, object: object.to_owned(), message, failure: Failure::Unavailable });
        }
        Ok(())
    }
}

#[async_trait]
impl Transport for Fickle {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        self.there("put", name.as_str())?;
        self.memory.create(name, body).await
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.there("get", name.as_str())?;
        self.memory.get(name, range).await
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.there("head", name.as_str())?;
        self.memory.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        self.there("list", prefix)?;
        self.memory.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        self.there("delete", name.as_str())?;
        self.memory.delete(name).await
    }

    fn location(&self) -> String {
        self.memory.location()
    }
}
