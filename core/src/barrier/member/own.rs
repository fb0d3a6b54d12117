// SPDX-License-Identifier: Apache-2.0
//! A rest that the agent itself asks for, for a checkpoint of its own: the same lease and the same thaws, and nobody to answer. A coordinator's
//! barrier goes before it.

use super::{Deed, Lease, Member, Stage};
use crate::barrier::{BarrierId, Rest};
use crate::time::Monotonic;
use std::time::Duration;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    Freezing(BarrierId),
    Cutting(BarrierId),
}

impl Member {
    /// The agent wants to capture a moment: the application is brought to rest, for no longer than `budget`, the state is cut, and it goes on.
    /// [`Deed::Pass`] if there is no such rest now.
    pub fn rest(&mut self, now: Monotonic, budget: Duration) -> Vec<Deed> {
        let mut deeds = self.tick(now);
        self.owned += 1;
        let id = BarrierId { epoch: BarrierId::OWN, number: self.owned };
        let is_free = matches!(self.stage, Stage::Over(_) | Stage::Sealed(_));
        // a thaw that is under way could undo the freeze
        if !is_free || self.may_rest() {
            deeds.push(Deed::Pass(id));
            return deeds;
        }
        self.lease = Some(Lease { since: now, until: now.plus(budget) });
        self.own = Some(Own::Freezing(id));
        deeds.push(Deed::Freeze(id, budget));
        deeds
    }

    pub(super) fn own_rests(&mut self, now: Monotonic, id: BarrierId, rest: Option<Rest>) -> Vec<Deed> {
        if rest.is_none() || self.thaws > 0 {
            return self.go_on(now);
        }
        self.own = Some(Own::Cutting(id));
        vec![Deed::Cut(id)]
    }

    pub(super) fn own_is_cut(&mut self, now: Monotonic, id: BarrierId, ok: bool) -> Vec<Deed> {
        let mut deeds = self.go_on(now);
        if ok {
            deeds.push(Deed::Seal(id));
        }
        deeds
    }
}
