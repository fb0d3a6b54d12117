// SPDX-License-Identifier: Apache-2.0
//! The program as people and scripts meet it: what it says, in both forms, and how it ends.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests")]

mod checking;
#[allow(dead_code, reason = "the benchmark of many agents uses the rest")]
mod coordinator;
mod demo;
mod forgetting;
mod killed;
mod kit;
mod laggard;
mod lives;
mod looking;
mod memory;
mod repositories;
mod resting;
mod restoring;
mod serving;
mod snapshots;
