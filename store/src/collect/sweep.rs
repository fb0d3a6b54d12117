// SPDX-License-Identifier: Apache-2.0
//! Which packs nothing reaches, and which are mostly dead.

use super::frames::Frames;
use super::listing::Listing;
use super::mark::Marks;
use super::survey::{OneDomain, OneLineage};
use super::{Reason, Request};
use crate::error::{Result, StoreError};
use crate::name::Located;
use holdfast_core::collection::Load;
use holdfast_core::id::Nonce;
use std::collections::BTreeSet;

/// A forward of a forward … is followed 16 times; rewriting stops long before.
const DEPTH_MAX: usize = 8;

/// Marks what all checkpoints that stay reach, then looks at what there is. `true`: not everything fitted into this collection.
pub(super) async fn sweep(request: &Request<'_>, domain: &mut OneDomain, names_left: &mut usize) -> Result<bool> {
    let mut marks = Marks::default();
    let transport = &**request.repository.transport();
    let mut frames = Frames::new(transport, &domain.domain)?;
    for one in &mut domain.lineages {
        mark(request, one, &mut marks, &mut frames).await?;
    }
    let mut more = false;
    let mut rewrites_left = request.options.rewrites_max;
    for one in domain.lineages.iter_mut().filter(|one| one.left_alone.is_none()) {
        let listing = Listing::read(&one.log, &one.history.boundary).await?;
        follow(one, &listing, &mut marks, request).await?;
        let garbage = |one: &OneLineage, sequence: u64, nonce: Nonce| {
            one.is_weighed(sequence) && !marks.reaches(one.log.lineage(), sequence, nonce)
        };
        let packs = listing.packs.iter().filter(|(sequence, nonce, _)| garbage(one, *sequence, *nonce));
        let forwards = listing.forwards.iter().filter(|(sequence, nonce, _)| garbage(one, *sequence, *nonce));
        let packs = packs.map(|(sequence, nonce, size)| (Located::Pack(*sequence, *nonce), (Reason::Unreachable, *size)));
        let forwards = forwards.map(|(sequence, nonce, size)| (Located::Forward(*sequence, *nonce), (Reason::Forward, *size)));
        let strays = listing.strays.iter().map(|sequence| (Located::Record(*sequence), (Reason::Stray, 0)));
        let found: Vec<_> = packs.chain(forwards).chain(strays).collect();
        more |= found.len() > *names_left;
        for (located, why) in found.into_iter().take(*names_left) {
            one.condemned.entry(located).or_insert(why);
            *names_left -= 1;
        }
        more |= weigh(request, one, &listing, &mut marks, &mut rewrites_left);
    }
    domain.marks = Some(marks);
    Ok(more)
}

async fn mark(request: &Request<'_>, one: &mut OneLineage, marks: &mut Marks, frames: &mut Frames<'_>) -> Result<()> {
    let (boundary, head) = (one.boundary().max(1), one.history.head);
    let mut sources = one.kept();
    if head - boundary <= request.options.exact_max {
        let points = one.history.points(&one.log, head).await?;
        sources.extend(points.iter().map(|point| point.sequence).filter(|sequence| *sequence >= boundary));
        one.weighed = head + 1;
    } else {
        sources.extend(one.history.entrances(&one.log, boundary).await?);
        one.weighed = boundary;
    }
    for sequence in sources {
        let entry = one.log.read(sequence).await?;
        if !one.history.boundary.is_history(sequence, entry.hash) {
            return Err(StoreError::damaged(one.log.name(sequence), "it is another record than the boundary says was kept"));
        }
        marks.checkpoint(frames, &entry).await?;
    }
    Ok(())
}

/// Packs that only a forward leads to have the sequence of the pack that it is of.
async fn follow(one: &OneLineage, listing: &Listing, marks: &mut Marks, request: &Request<'_>) -> Result<()> {
    let lineage = one.log.lineage();
    let inherited = one.inherited.iter().filter_map(|located| match located {
        Located::Pack(sequence, nonce) => Some((*sequence, *nonce)),
        _ => None,
    });
    let candidates = listing.packs.iter().map(|(sequence, nonce, _)| (*sequence, *nonce)).chain(inherited);
    let unmarked: BTreeSet<u64> =
        candidates.filter(|(sequence, nonce)| !marks.reaches(lineage, *sequence, *nonce)).map(|(sequence, _)| sequence).collect();
    for sequence in unmarked {
        marks.follow(&**request.repository.transport(), one.log.domain(), lineage, sequence).await?;
    }
    Ok(())
}

/// Chooses packs to rewrite; `true`: there are more.
fn weigh(request: &Request<'_>, one: &mut OneLineage, listing: &Listing, marks: &mut Marks, left: &mut usize) -> bool {
    let Some(worth) = request.options.rewrite else { return false };
    let forwarded: BTreeSet<(u64, Nonce)> = listing.forwards.iter().map(|(sequence, nonce, _)| (*sequence, *nonce)).collect();
    for (sequence, nonce, size) in &listing.packs {
        // its forward exists: it was called off once, or is being finished
        if !one.is_weighed(*sequence) || forwarded.contains(&(*sequence, *nonce)) {
            continue;
        }
        let Some(live) = marks.live(one.log.lineage(), *sequence, *nonce) else { continue };
        let load = Load { size: *size, live: live.bytes() };
        if live.depth >= DEPTH_MAX || !worth.rewriting(load) {
            continue;
        }
        if *left == 0 {
            return true;
        }
        *left -= 1;
        one.rewrite.push((live.object, live.frames().to_vec(), load.size - load.live));
    }
    false
}

impl OneLineage {
    /// Whether packs of that sequence were looked at, so that an unmarked one is garbage: the head has passed it, and all that could
    /// reach it was gone through.
    pub(super) const fn is_weighed(&self, sequence: u64) -> bool {
        sequence <= self.history.head && sequence < self.weighed
    }
}
