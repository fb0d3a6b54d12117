// SPDX-License-Identifier: Apache-2.0
//! The webhook without a cluster.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod documents;
mod final_check;
mod kit;
mod pods;
mod probes;
mod properties;
mod reinvoked;
mod served;
mod speed;
mod workloads;
