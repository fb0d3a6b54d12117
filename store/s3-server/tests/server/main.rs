// SPDX-License-Identifier: Apache-2.0
//! The server over real sockets, driven by the AWS SDK and by hand-written HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod buckets;
mod chunked;
mod faults;
mod kit;
mod listing;
mod presigned;
mod proxy;
mod races;
mod reads;
mod removal;
mod restarts;
mod shutdown;
mod uploads;
