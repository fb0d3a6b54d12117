// SPDX-License-Identifier: Apache-2.0
//! The coordinator's services over gRPC, on a store in memory: one program, because each costs a minute to link and most of the time to start.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod access;
mod collector;
mod files;
#[path = "../kit/mod.rs"]
mod kit;
mod lineages;
mod objects;
mod restores;
mod sessions;
mod skew;
mod snapshots;
