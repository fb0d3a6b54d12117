// SPDX-License-Identifier: Apache-2.0
//! The coordinator in a cluster, over real connections, with an API server in memory: whose call is whose, and who has which lineage.
#![cfg(feature = "kubernetes")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "../kit/mod.rs"]
mod kit;
#[path = "../kube_kit/mod.rs"]
mod kube_kit;
mod lab;
mod refusals;
mod slots;
mod tls;
