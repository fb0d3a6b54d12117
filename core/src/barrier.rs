// SPDX-License-Identifier: Apache-2.0
//! One moment of many replicas: all are brought to rest before any is cut, so that no captured state can contain the effect of a message whose
//! sending it lacks.
//!
//! [`Barrier`] is the coordinator's part and [`Member`] an agent's. Both are plain machines: `step(now, event)` says what to do. Whatever is lost,
//! late or doubled between them, and whoever dies: every freeze is followed by a thaw, at the latest when the member's own clock says so, and a
//! snapshot is committed only if every member was at rest without a break from a moment before the first cut until its own.
//!
//! ```text
//! coordinator   prepare ──▶ freeze all ──▶ cut all ──▶ thaw all ──▶ seal ──▶ commit
//! member        pre-copy    at rest        captured     goes on     durable
//! ```

mod coordinator;
mod member;

pub use coordinator::{Action, Barrier, Event, Limits, Outcome, Reached, Why};
pub use member::{Deed, Done, Member};

use std::fmt;
use std::time::Duration;

/// Which barrier: a coordinator's epoch, and its number within. A later one has a greater id, whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BarrierId {
    /// Of the coordinator that runs it: greater than that of any before it.
    pub epoch: u64,
    /// Counted by that coordinator.
    pub number: u64,
}

impl BarrierId {
    /// In place of a coordinator's epoch, all of which are greater: the agent itself has asked for this rest.
    pub(crate) const OWN: u64 = 0;

    /// Whether the agent itself has asked for this rest.
    #[must_use]
    pub const fn is_own(self) -> bool {
        self.epoch == Self::OWN
    }
}

impl fmt::Display for BarrierId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// How a member comes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rest {
    /// Not at all: its state is what the disk holds at the cut.
    Crash,
    /// It is asked.
    Hooks,
    /// Its processes are stopped.
    Frozen,
}

/// What the coordinator tells a member. Each may come again; the answer is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Make durable what is dirty, so that little is left.
    Prepare,
    /// Come to rest, and for no longer than this by your own clock.
    Freeze {
        /// From the moment at which it begins.
        budget: Duration,
    },
    /// Take hold of the state as it is.
    Cut,
    /// Go on. Also whoever was never asked to rest is told so.
    Thaw,
}

/// What a member answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Little is dirty.
    Prepared,
    /// It is at rest.
    Frozen(Rest),
    /// The state is taken hold of, and nothing has moved since it came to rest.
    Cut,
    /// It goes on; it was at rest for so long, by its own clock.
    Thawed(Duration),
    /// What was taken hold of is durable as this checkpoint.
    Sealed(u64),
    /// It will not, or can not any more. It is not at rest.
    Refused(Refusal),
}

/// Why a member refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A later barrier, or a later coordinator's, is known to it.
    #[error("it follows a later barrier")]
    Stale,
    /// The order comes before its time, or after it.
    #[error("the order is out of turn")]
    OutOfTurn,
    /// The pre-copy failed.
    #[error("it could not make durable what was dirty")]
    NotPrepared,
    /// It could not be brought to rest.
    #[error("it could not be brought to rest")]
    NotFrozen,
    /// Its time at rest was over.
    #[error("its time at rest was over")]
    BudgetSpent,
    /// The state could not be taken hold of.
    #[error("its state could not be captured")]
    NotCut,
    /// What was taken hold of could not be made durable.
    #[error("its state could not be made durable")]
    NotSealed,
}

#[cfg(test)]
mod tests;
