// SPDX-License-Identifier: Apache-2.0
//! The program as people and scripts meet it: what it says, in both forms, and how it ends.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod checking;
mod forgetting;
mod kit;
mod looking;
mod memory;
mod repositories;
mod resting;
mod restoring;
mod serving;
mod snapshots;
