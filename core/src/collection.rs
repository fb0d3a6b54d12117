// SPDX-License-Identifier: Apache-2.0
//! What may go from a repository: which records retention takes, which packs nothing reaches, which are worth rewriting.
//!
//! Plans only. That a plan is durable before anything is deleted, and is held against the store once more, is the shell's part
//! (`docs/format.md`, section 9).

mod looks;
mod rounds;
mod thin;
mod weigh;

pub use looks::{Look, Looks};
pub use rounds::{Rounds, Went};
pub use thin::{Kept, Point, Thinned, Thinning, Why, thin};
pub use weigh::{Load, Worth};
