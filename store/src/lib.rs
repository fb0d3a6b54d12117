// SPDX-License-Identifier: Apache-2.0
//! The repository: what is stored, and how it is read, written, checked and restored.
//!
//! The bytes are those of `docs/format.md`. [`transport`] is the only seam to the outside.

pub mod capture;
pub mod check;
pub mod chunker;
pub mod codec;
pub mod collect;
pub mod disk;
pub mod document;
pub mod error;
mod forward;
pub mod frame;
pub mod key;
pub mod lineages;
pub mod log;
pub mod name;
pub mod pack;
mod pool;
pub mod probe;
pub mod reader;
pub mod record;
mod register;
pub mod repository;
pub mod restore;
pub mod scratch;
pub mod seal;
pub mod snapshot;
pub mod thread;
pub mod transport;
pub mod tree;
pub mod write;

#[cfg(test)]
pub(crate) mod testkit;

pub use error::{Result, StoreError};
