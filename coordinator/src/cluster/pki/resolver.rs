// SPDX-License-Identifier: Apache-2.0
//! What the coordinator shows to who connects: exchanged while it serves.

use arc_swap::ArcSwapOption;
#[cfg(test)]
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The certificate that is shown to new connections.
#[derive(Debug, Default)]
pub(crate) struct Shown(ArcSwapOption<CertifiedKey>);

impl Shown {
    /// Shows another one from now on.
    pub(super) fn show(&self, key: CertifiedKey) {
        self.0.store(Some(Arc::new(key)));
    }

    /// Whether there is anything to show.
    pub(crate) fn is_there(&self) -> bool {
        self.0.load().is_some()
    }

    /// A server's configuration that shows it.
    #[cfg(test)]
    pub(crate) fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let shown: Arc<dyn ResolvesServerCert> = self.clone();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}
