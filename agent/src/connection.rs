// SPDX-License-Identifier: Apache-2.0
//! The way to a coordinator.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;
use tonic::transport::{Channel, Endpoint, Uri};

mod tls;
mod token;

use tls::Authorities;
pub use token::{TokenError, Tokens};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A coordinator that vanished without a word is missed after two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Packs are megabytes long: with the usual 64 KiB in flight, a store that is 20 ms away would get 3 MiB/s.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The way to a coordinator: where it is, and how one is let in. Clones are the same way.
#[derive(Clone)]
pub struct Connection {
    url: Arc<str>,
    channel: Channel,
    tokens: Tokens,
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
    /// The address can't be understood, or has no TLS.
    #[error("{url:?} is not the address of a coordinator that proves who it is: write https://host:port")]
    SecureUrl {
        /// As it was given.
        url: String,
    },
    /// The token can't be sent.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.url)
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
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
        Self::over(tuned(endpoint).connect_lazy(), url, token)
    }

    /// The way over TLS to the coordinator at this address. The certificates that it is known by are read anew for each connection, so that
    /// they can change while this lives.
    ///
    /// # Errors
    /// If the address makes no sense.
    pub fn secure(url: &str, authorities: &Path, tokens: Tokens) -> Result<Self, ConnectionError> {
        let wrong = || ConnectionError::SecureUrl { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()).ok_or_else(wrong)?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(443);
        let connector = tls::connector(host, port, CONNECT_TIMEOUT, Authorities::new(authorities)).map_err(|_| wrong())?;
        // the connector speaks TLS itself: what is above it need not know
        let plain = format!("http://{}", uri.authority().ok_or_else(wrong)?);
        let endpoint = tuned(Endpoint::from_shared(plain).map_err(|_| wrong())?.origin(uri));
        Ok(Self { url: url.into(), channel: endpoint.connect_with_connector_lazy(connector), tokens })
    }

    /// The way over a channel that there is already.
    ///
    /// # Errors
    /// If the token makes no sense.
    pub fn over(channel: Channel, url: &str, token: Option<&str>) -> Result<Self, ConnectionError> {
        let tokens = token.map_or(Ok(Tokens::none()), Tokens::fixed)?;
        Ok(Self { url: url.into(), channel, tokens })
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
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// A request as the coordinator lets it in.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.tokens.put(request.metadata_mut());
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
        let token = Connection::new("http://host", Some("two\nlines"));
        assert!(matches!(token, Err(ConnectionError::Token(TokenError::Characters))));
    }

    #[tokio::test]
    async fn a_secure_way_is_never_an_open_one() {
        let secure = |url: &str| Connection::secure(url, Path::new("/nowhere"), Tokens::none());
        assert!(secure("https://coordinator.example:7420").is_ok() && secure("https://[::1]:7420").is_ok());
        for nonsense in ["", "http://host:1", "host:1", "https://", "https://host name:1"] {
            let error = secure(nonsense).expect_err("nonsense").to_string();
            assert!(error.contains("https://host:port"), "{nonsense}: {error}");
        }
    }

    #[tokio::test]
    async fn the_token_is_sent_and_never_printed() {
        let connection = Connection::new("http://127.0.0.1:7700", Some("hunter2")).expect("an address");
        let request = connection.request(());
        assert_eq!(request.metadata().get("authorization").expect("sent"), "Bearer hunter2");
        assert!(!format!("{connection:?} {request:?}").contains("hunter2"));
    }
}
