// SPDX-License-Identifier: Apache-2.0
//! What a lineage's objects are, as listings show them: candidates only. What a listing leaves out stays for the next time.

use crate::error::Result;
use crate::log::{Boundary, Log};
use crate::name::{self, Located, Name, locate};
use crate::transport::Transport;
use holdfast_core::id::Nonce;

/// Objects of a lineage that could go.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Packs: sequence, nonce, bytes.
    pub(super) packs: Vec<(u64, Nonce, u64)>,
    /// Forwards: sequence and nonce of the pack, bytes.
    pub(super) forwards: Vec<(u64, Nonce, u64)>,
    /// Records below the boundary that are not history: left by writers that had been replaced, or by a collector that died.
    pub(super) strays: Vec<u64>,
}

impl Listing {
    pub(super) async fn read(log: &Log, boundary: &Boundary) -> Result<Self> {
        let (transport, domain) = (&**log.transport(), log.domain().keys.id);
        let below = name::below(domain, log.lineage());
        let mut listing = Self::default();
        for folder in ["packs/", "forwards/"] {
            for (name, size) in all(transport, &format!("{below}{folder}"), None).await? {
                match locate(name.as_str()) {
                    Some((_, _, Located::Pack(sequence, nonce))) => listing.packs.push((sequence, nonce, size)),
                    Some((_, _, Located::Forward(sequence, nonce))) => listing.forwards.push((sequence, nonce, size)),
                    _ => {}
                }
            }
        }
        if boundary.sequence > 1 {
            // names are inverted: what sorts after the boundary's own lies below it
            let after = log.name(boundary.sequence).to_string();
            let found = all(transport, &name::records_of(domain, log.lineage()), Some(after)).await?;
            let sequences = found.iter().filter_map(|(name, _)| name::sequence_of(domain, log.lineage(), name));
            listing.strays = sequences.filter(|sequence| !boundary.contains(*sequence)).collect();
        }
        Ok(listing)
    }
}

async fn all(transport: &dyn Transport, prefix: &str, mut after: Option<String>) -> Result<Vec<(Name, u64)>> {
    let mut found = Vec::new();
    loop {
        let page = transport.list(prefix, after.as_deref(), false, 1000).await?;
        found.extend(page.objects);
        match page.next {
            // a page that leads nowhere would never end
            Some(next) if after.as_ref().is_none_or(|after| *after < next) => after = Some(next),
            _ => return Ok(found),
        }
    }
}
