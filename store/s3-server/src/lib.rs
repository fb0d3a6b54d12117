// SPDX-License-Identifier: Apache-2.0
//! An S3 server in a library: the store of the demo, and what development and tests talk to over a real socket.
//!
//! A request passes three rooms:
//!
//! ```text
//! server  accepts connections, hands them to the front, ends them in good order
//!   front   counts the request, asks the script for a fault, drains what was left unread
//!     s3s     checks the signature, parses the request, writes the answer
//!       api     says what an operation means
//!         store   one file per object, committed by one rename under the key's lock
//! ```
//!
//! The store keeps S3's promise that the repository relies on: a conditional write has exactly one winner, and whoever
//! reads after an answer reads what was answered. An upload that ends early, or whose checksum is wrong, leaves nothing.
//!
//! Not here: multipart uploads, copies, versions, tags, ACLs, encryption. They are answered with `NotImplemented`, and
//! so is a header that asks for one of them, because ignoring it would be a lie. Buckets are in the path only.
//!
//! s3s logs every refused request as an error, a 404 or 412 of everyday life too: leave its target `s3s` out of a log
//! that people read.

mod api;
mod config;
mod error;
mod faults;
mod front;
mod refusal;
mod server;
mod store;

pub use config::{Clock, Config, Limits, SecretKey};
pub use error::Error;
pub use faults::{Counters, Fault, Faults, Gate, Outcome, Request, Script};
pub use server::Server;
pub use store::Damaged;
