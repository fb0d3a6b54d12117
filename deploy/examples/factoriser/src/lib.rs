// SPDX-License-Identifier: Apache-2.0
//! A distributed factoriser: an ordinary stateful application, made to be protected by Holdfast and knowing nothing of it.
//!
//! A [`master`] and any number of [`worker`]s search a factor of a number by trying every candidate. Each worker keeps
//! its progress as files in a [state directory](state) of its own and resumes from there; the master asks the workers,
//! adds up and tells.
//!
//! That a worker has finished a block is a fact that stays true whoever found it: no candidate of it divides the number.
//! What is done is a set of [blocks] and merging is their union, so no order, repetition or restart counts
//! anything twice. A block with a divisor in it never counts as finished: as long as the solution isn't safely written, the
//! block that holds it is still to be searched.

pub mod blocks;
pub mod cli;
pub mod client;
mod error;
pub mod master;
mod pace;
pub mod report;
mod server;
mod shutdown;
mod solution;
pub mod space;
pub mod state;
pub mod worker;

pub use error::Error;
pub use solution::Solution;
