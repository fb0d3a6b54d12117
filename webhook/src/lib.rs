// SPDX-License-Identifier: Apache-2.0
//! The admission webhook: workloads and pods in, patches and warnings out.
//!
//! Decisions are pure functions on raw JSON: [`pod::decide`], [`workload::decide`] and [`probe::decide`], with everything
//! they rest on in [`around`]. The rest keeps [`caches`] of the cluster and speaks HTTPS with the API server.

pub mod around;
pub mod caches;
pub mod desk;
pub mod metrics;
pub mod pod;
pub mod probe;
pub mod process;
pub mod reason;
pub mod review;
pub mod server;
pub mod tls;
pub mod workload;

mod node;
mod ops;
mod raw;
