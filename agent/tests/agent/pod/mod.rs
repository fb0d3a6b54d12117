// SPDX-License-Identifier: Apache-2.0
//! The agent's process as a pod runs it: against a real coordinator behind TLS and tokens, killed at any moment.

#![allow(clippy::print_stdout, reason = "a measurement says what it has measured")]

mod deaths;
mod deliveries;
mod ends;
mod front;
mod kit;
mod measures;
mod outages;
mod starts;
mod store;
