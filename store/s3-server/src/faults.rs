// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a request on purpose, and who decides it.
//!
//! Everything here happens to requests that arrived; what a network does to those that don't is not simulated.

mod counters;
mod gate;
mod script;

use std::time::Duration;

use http::{Method, StatusCode};

pub use counters::Counters;
pub use gate::{Gate, Outcome};
pub use script::Script;

/// A request as [`Faults`] sees it: before its signature is checked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The bucket; empty for requests to the service.
    pub bucket: &'a str,
    /// The object's key, decoded; empty for requests to a bucket or the service.
    pub key: &'a str,
    /// The query as sent; empty if there was none.
    pub query: &'a str,
    /// How many requests with this method and key arrived so far, this one included; 0 if the [`Counters`] were full.
    pub nth: u64,
}

impl Request<'_> {
    /// Whether it asks for a page of a bucket's listing.
    #[must_use]
    pub fn is_list(&self) -> bool {
        let wanted = |pair: &str| pair == "list-type=2";
        self.method == Method::GET && !self.bucket.is_empty() && self.key.is_empty() && self.query.split('&').any(wanted)
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The request waits this long, then goes the usual way.
    Delay(Duration),
    /// The request changes nothing and is answered with this status and the error document S3 sends with it.
    Answer(StatusCode),
    /// The request takes effect, but the connection is closed instead of an answer.
    ApplyThenDrop,
    /// The request takes effect, but this status and its error document are the answer.
    ApplyThenAnswer(StatusCode),
    /// The connection is closed without an answer; the change is made when the gate opens, and its condition is judged
    /// then. So is a packet that a network kept for a while. The signature, the body and its checksums are checked
    /// before: a request that fails there is never applied. PUT, DELETE and
    /// DeleteObjects are held; requests that change nothing are only dropped, and so is CreateBucket, once it is done.
    ApplyLater(Gate),
    /// The body of a GET breaks off after at most so many bytes: its connection is closed.
    TruncateBody {
        /// Bytes sent at most. Less may arrive.
        after: u64,
    },
    /// One bit of the body of a GET is wrong. Lengths and checksum headers stay as they were.
    FlipByte {
        /// Which byte of the answer's body, from 0; an offset past its end changes nothing.
        at: u64,
    },
    /// The request is taken and never answered; its connection is closed by the server's shutdown.
    BlackHole,
    /// A listing doesn't show keys that start with one of these: it is stale. Other requests go the usual way.
    OmitKeys(Vec<String>),
    /// A PUT is made whatever its condition says: the store doesn't know conditions, and fences nobody. Other requests go the usual way.
    IgnoreCondition,
}

/// Decides which requests go wrong. [`Script`] is a simple one.
///
/// Asked once for each request, from many tasks at once; must not block.
pub trait Faults: Send + Sync {
    /// What goes wrong with this request; `None`: nothing.
    fn decide(&self, request: &Request<'_>) -> Option<Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_told_from_other_requests_to_a_bucket() {
        let list = Request { method: &Method::GET, bucket: "b", key: "", query: "list-type=2&prefix=a", nth: 1 };
        assert!(list.is_list());
        assert!(!Request { key: "k", ..list }.is_list());
        assert!(!Request { query: "location", ..list }.is_list());
        assert!(!Request { method: &Method::HEAD, ..list }.is_list());
        assert!(!Request { bucket: "", ..list }.is_list());
    }
}
