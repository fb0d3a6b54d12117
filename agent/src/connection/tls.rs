// SPDX-License-Identifier: Apache-2.0
//! TLS to a coordinator whose authorities change while the agent lives.

use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::Uri;

/// A file of certificates: whose signature a coordinator must show.
#[derive(Debug, Clone)]
pub(super) struct Authorities {
    path: PathBuf,
}

impl Authorities {
    /// Those of this file.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// A client's configuration that trusts what the file holds now.
    fn trust(&self) -> io::Result<ClientConfig> {
        let told = |kind, what: &str| io::Error::new(kind, format!("{}: {what}", self.path.display()));
        let pem = std::fs::read(&self.path).map_err(|error| match error.kind() {
            // it is there as soon as a coordinator runs
            io::ErrorKind::NotFound => told(error.kind(), "the coordinator's certificates are not there yet"),
            kind => told(kind, &error.to_string()),
        })?;
        let mut roots = RootCertStore::empty();
        // one that can't be understood must not keep the others from being trusted
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
        if roots.is_empty() {
            return Err(told(io::ErrorKind::InvalidData, "there is no certificate of the coordinator in it"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        // a handshake is rare, and what is remembered for the next costs memory all the time
        config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// Makes connections to one address.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    host: Arc<str>,
    port: u16,
    name: ServerName<'static>,
    within: Duration,
    authorities: Authorities,
}

pub(super) fn connector(
    host: String,
    port: u16,
    within: Duration,
    authorities: Authorities,
) -> Result<Connector, InvalidDnsNameError> {
    let name = ServerName::try_from(host.clone())?;
    Ok(Connector { host: host.into(), port, name, within, authorities })
}

impl Connector {
    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let connecting = async {
            let trust = Arc::new(self.authorities.trust()?);
            let stream = TcpStream::connect((&*self.host, self.port)).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(trust).connect(self.name, stream).await
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {:?}", self.within));
        tokio::time::timeout(self.within, connecting).await.map_err(late)?.map(TokioIo::new)
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_lacks_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.crt");
        let said = || Authorities::new(&path).trust().expect_err("nothing to trust").to_string();
        assert!(said().contains("not there yet"), "{}", said());
        std::fs::write(&path, "no certificate").expect("a file");
        assert!(said().contains("no certificate of the coordinator"), "{}", said());
    }
}
