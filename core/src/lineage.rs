// SPDX-License-Identifier: Apache-2.0
//! The log of a lineage, as its writer sees it: finding the head, winning numbers, being replaced.
//!
//! [`Writer`] is the whole of it; [`HeadSearch`] and [`Settle`] are its parts. See section 7 of `docs/format.md`.

mod head;
mod settle;
mod writer;

pub use head::{Answer, HeadSearch, Question};
pub use settle::{PutOutcome, Seen, Settle, Step};
pub use writer::{Action, Event, Head, Writer};

#[cfg(test)]
mod tests;
