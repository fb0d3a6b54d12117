// SPDX-License-Identifier: Apache-2.0
//! Registers: contiguous series of documents that only grow (`docs/format.md`, section 1).

use crate::document::{Document, DocumentBuilder};
use crate::error::{Result, StoreError};
use crate::name::{self, Name};
use crate::repository::{PATIENCE, is_withdrawn};
use crate::seal::{Domain, Kind};
use crate::transport::settle::{self, Settled};
use crate::transport::{Body, Range, Transport};
use holdfast_core::gallop::Gallop;
use holdfast_core::id::LineageId;
use std::collections::BTreeSet;

/// One register, and what its entries are sealed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register<'a> {
    transport: &'a dyn Transport,
    domain: &'a Domain,
    register: name::Register,
    kind: Kind,
    scope: [u8; 16],
}

impl<'a> Register<'a> {
    /// The pins of a lineage.
    pub(crate) const fn pins(transport: &'a dyn Transport, domain: &'a Domain, lineage: LineageId) -> Self {
        let register = name::Register::Pins(domain.keys.id, lineage);
        Self { transport, domain, register, kind: Kind::Pin, scope: *lineage.as_bytes() }
    }

    /// The boundaries of a lineage.
    pub(crate) const fn boundaries(transport: &'a dyn Transport, domain: &'a Domain, lineage: LineageId) -> Self {
        let register = name::Register::Boundaries(domain.keys.id, lineage);
        Self { transport, domain, register, kind: Kind::Boundary, scope: *lineage.as_bytes() }
    }

    /// The snapshots; `own` is the repository's own domain.
    pub(crate) const fn snapshots(transport: &'a dyn Transport, own: &'a Domain) -> Self {
        Self { transport, domain: own, register: name::Register::Snapshots, kind: Kind::Snapshot, scope: [0; 16] }
    }

    /// The collector's log; `own` is the repository's own domain.
    pub(crate) const fn collections(transport: &'a dyn Transport, own: &'a Domain) -> Self {
        Self { transport, domain: own, register: name::Register::Collections, kind: Kind::Collection, scope: [0; 16] }
    }

    /// The name of an entry.
    pub(crate) fn name(&self, number: u64) -> Name {
        Name::entry(self.register, number)
    }

    /// The number of the newest entry; 0 if there is none. `known` exists, or is 0.
    pub(crate) async fn last(&self, known: u64) -> Result<u64> {
        let mut gallop = Gallop::from(known);
        while let Some(number) = gallop.probe() {
            gallop.answer(self.transport.size(&self.name(number)).await?.is_some());
        }
        Ok(gallop.last())
    }

    /// The body of an entry.
    pub(crate) async fn read(&self, number: u64) -> Result<Vec<u8>> {
        let name = self.name(number);
        let bytes = match self.transport.get(&name, Range::All).await {
            Err(error) if error.is_not_found() => {
                return Err(StoreError::Missing { object: name.to_string(), what: "an entry of a register".to_owned() });
            }
            other => other?,
        };
        Document::open(self.domain, self.kind, self.scope, &name, bytes).map(|document| document.body)
    }

    /// Tries to win a number for an entry.
    pub(crate) async fn put(&self, number: u64, body: &[u8]) -> Result<Settled> {
        let name = self.name(number);
        let document = DocumentBuilder::new(self.domain, self.kind, self.scope, &name)?.finish(body)?;
        settle::create(self.transport, &name, &Body::new(document), PATIENCE).await
    }

    /// Appends an entry and returns its number.
    pub(crate) async fn append(&self, body: &[u8]) -> Result<u64> {
        let mut known = 0;
        loop {
            let next = self.last(known).await? + 1;
            // each loss is another's win, so this ends as soon as the others do
            if self.put(next, body).await? == Settled::Won {
                return Ok(next);
            }
            known = next;
        }
    }

    /// Withdraws what an entry says.
    pub(crate) async fn withdraw(&self, number: u64) -> Result<()> {
        let name = self.name(number).withdrawn();
        let document = DocumentBuilder::new(self.domain, Kind::Withdrawal, self.scope, &name)?.finish(&[])?;
        settle::create(self.transport, &name, &Body::new(document), PATIENCE).await?;
        Ok(())
    }

    /// Whether an entry was withdrawn.
    pub(crate) async fn is_withdrawn(&self, number: u64) -> Result<bool> {
        is_withdrawn(self.transport, self.domain, self.scope, &self.name(number)).await
    }

    /// The numbers of withdrawn entries, as a listing shows them: a hint.
    pub(crate) async fn listed_withdrawn(&self) -> Result<BTreeSet<u64>> {
        let first = self.name(0).to_string();
        let prefix = &first[..first.len() - 16];
        let mut found = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.transport.list(prefix, after.as_deref(), false, 1000).await?;
            let numbers = page.objects.iter().filter_map(|(name, _)| {
                let digits = name.as_str().strip_prefix(prefix)?.strip_suffix("-withdrawn")?;
                u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
            });
            found.extend(numbers);
            match page.next {
                // a page that leads nowhere would never end
                Some(next) if after.as_ref().is_none_or(|after| *after < next) => after = Some(next),
                _ => return Ok(found),
            }
        }
    }
}
