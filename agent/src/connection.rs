// SPDX-License-Identifier: Apache-2.0
//! The way to a coordinator.

use std::fmt;
use std::time::Duration;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A coordinator that vanished without a word is missed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Packs are megabytes long: with the usual 64 KiB in flight, a store that is 20 ms away would get 3 MiB/s.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The way to a coordinator: where it is, and how one is let in.
#[derive(Clone)]
pub struct Connection {
    url: String,
    channel: Channel,
    bearer: Option<MetadataValue<Ascii>>,
}

/// Why there can't be a way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The address can't be understood.
    #[error("{url:?} is not the address of a coordinator: write http://host:port")]
    Url {
        /// As it was given.
        url: String,
    },
    /// The token can't be sent.
    #[error("the coordinator's token has characters that no token has")]
    Token,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.url)
    }
}

impl Connection {
    /// The way to the coordinator at this address. Connects when it is used first, and again whenever it must.
    ///
    /// # Errors
    /// If the address or the token make no sense.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ConnectionError> {
        let wrong = || ConnectionError::Url { url: url.to_owned() };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| wrong())?;
        if !matches!(endpoint.uri().scheme_str(), Some("http" | "https")) || endpoint.uri().authority().is_none() {
            return Err(wrong());
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Self::over(endpoint.connect_lazy(), url, token)
    }

    /// The way over a channel that there is already.
    ///
    /// # Errors
    /// If the token makes no sense.
    pub fn over(channel: Channel, url: &str, token: Option<&str>) -> Result<Self, ConnectionError> {
        let bearer = token.map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectionError::Token)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self { url: url.to_owned(), channel, bearer: bearer.transpose()? })
    }

    /// Where the coordinator is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What carries requests.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// What is sent as `authorization`.
    #[must_use]
    pub const fn bearer(&self) -> Option<&MetadataValue<Ascii>> {
        self.bearer.as_ref()
    }

    /// A request as the coordinator lets it in.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_understood_or_refused_in_words() {
        assert!(Connection::new("http://127.0.0.1:7700", Some("token")).is_ok());
        for nonsense in ["", "127.0.0.1:7700", "ftp://host", "http://", "/socket"] {
            let error = Connection::new(nonsense, None).expect_err("nonsense").to_string();
            assert!(error.contains("http://host:port"), "{nonsense}: {error}");
        }
        assert!(matches!(Connection::new("http://host", Some("two\nlines")), Err(ConnectionError::Token)));
    }

    #[tokio::test]
    async fn the_token_is_sent_and_never_printed() {
        let connection = Connection::new("http://127.0.0.1:7700", Some("hunter2")).expect("an address");
        let request = connection.request(());
        assert_eq!(request.metadata().get("authorization").expect("sent"), "Bearer hunter2");
        assert!(!format!("{connection:?} {request:?}").contains("hunter2"));
    }
}
