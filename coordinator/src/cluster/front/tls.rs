// SPDX-License-Identifier: Apache-2.0
//! TLS with certificates that change while it is served.

use crate::CoordinatorError;
use crate::server::Counted;
use futures::{Stream, StreamExt};
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Whoever takes longer to shake hands holds up nobody else, and goes.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Handshakes at once.
const HANDSHAKES: usize = 256;

/// What a server does with each connection; the resolver is asked for a certificate each time.
pub(in crate::cluster) fn config(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, CoordinatorError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(io::Error::other)?.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The connections that have shaken hands.
pub(in crate::cluster) fn encrypted(
    connections: impl Stream<Item = io::Result<Counted>> + Send,
    config: Arc<ServerConfig>,
) -> impl Stream<Item = io::Result<TlsStream<Counted>>> + Send {
    let acceptor = TlsAcceptor::from(config);
    let shaken = connections.map(move |connection| {
        let acceptor = acceptor.clone();
        async move {
            match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(connection?)).await {
                Ok(accepted) => accepted,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    });
    // who fails is no reason to serve nobody else
    shaken.buffer_unordered(HANDSHAKES).filter(|accepted| std::future::ready(accepted.is_ok()))
}
