// SPDX-License-Identifier: Apache-2.0
//! What a server is started with.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::faults::Faults;

/// Tells what time it is, for an object's last-modified. A test that needs old objects brings its own.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The secret half of the access key. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<String>);

impl SecretKey {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for SecretKey {
    fn from(text: T) -> Self {
        Self(Zeroizing::new(text.into()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

/// What keeps a client from taking more than its share.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the largest object. S3 takes 5 GiB in one PUT.
    pub object_bytes: u64,
    /// Connections served at a time; more wait in the listen queue.
    pub connections: usize,
    /// How long a request's head, the next bytes of its body, or taking the next bytes of its answer may take.
    pub stall: Duration,
    /// How long [`shutdown`](crate::Server::shutdown) waits for requests under way before it cuts them off.
    pub drain: Duration,
    /// Requests held by [`Fault::ApplyLater`](crate::Fault::ApplyLater) at a time; more are abandoned.
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object_bytes: 5 << 30,
            connections: 256,
            stall: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            held: 1024,
        }
    }
}

/// What a server is started with. [`new`](Self::new) has the defaults; every field can be set.
#[derive(Clone)]
pub struct Config {
    /// Where the objects are kept; created if missing. One server at a time may use it.
    pub directory: PathBuf,
    /// Where to listen. Port 0 takes a free one: ask [`Server::address`](crate::Server::address).
    pub listen: SocketAddr,
    /// The one access key that is known.
    pub access_key: String,
    /// Its secret.
    pub secret_key: SecretKey,
    /// Buckets that exist after the start; those that exist already are kept as they are.
    pub buckets: Vec<String>,
    /// Whether an answer means that a power cut can't undo it: fsync of the file and of the directory for every
    /// change. Without it a crash of the process loses nothing, a crash of the machine may.
    pub durable: bool,
    /// What keeps a client from taking more than its share.
    pub limits: Limits,
    /// Decides which requests go wrong, and how. `None`: all go right.
    pub faults: Option<Arc<dyn Faults>>,
    /// The time that objects are stamped with. `None`: the file system's.
    pub clock: Option<Clock>,
}

impl Config {
    /// A server on a free port of 127.0.0.1 without buckets, durable, without faults.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, access_key: impl Into<String>, secret_key: impl Into<SecretKey>) -> Self {
        Self {
            directory: directory.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            buckets: Vec::new(),
            durable: true,
            limits: Limits::default(),
            faults: None,
            clock: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("directory", &self.directory)
            .field("listen", &self.listen)
            .field("access_key", &self.access_key)
            .field("secret_key", &self.secret_key)
            .field("buckets", &self.buckets)
            .field("durable", &self.durable)
            .field("limits", &self.limits)
            .field("faults", &self.faults.is_some())
            .field("clock", &self.clock.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_never_printed() {
        let config = Config::new("/tmp/x", "key", "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:#?}", config.secret_key).contains("hunter2"));
    }
}
