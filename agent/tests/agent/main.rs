// SPDX-License-Identifier: Apache-2.0
//! Agents on real directories, against a real S3 server that fails on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test may stop at once")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/dice.rs"]
mod dice;
mod disks;
mod faults;
mod flushes;
mod kit;
mod pod;
mod proofs;
mod restarts;
mod seconds;
mod unreadable;
