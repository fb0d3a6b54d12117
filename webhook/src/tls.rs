// SPDX-License-Identifier: Apache-2.0
//! The certificate with which the API server is answered: written by the coordinator into a Secret, mounted here, and
//! loaded again whenever it changes.

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It isn't there, or can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("can't understand {}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Certificate and key don't belong together, as in the moment between two writes.
    #[error("can't use the certificate and its key")]
    Pair(#[source] rustls::Error),
}

/// A certificate in a directory, as `tls.crt` and `tls.key`.
#[derive(Debug)]
pub struct Certificate {
    directory: PathBuf,
    /// What was loaded last.
    loaded: Option<[u8; 32]>,
}

impl Certificate {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), loaded: None }
    }

    /// Loads it if it is another than last time. After an error it is as if it had not been looked at.
    ///
    /// # Errors
    /// If it can't be read or used.
    pub fn look(&mut self) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            std::fs::read(&path).map(|bytes| (path.clone(), bytes)).map_err(|source| TlsError::Read { path, source })
        };
        let (chain, key) = (read("tls.crt")?, read("tls.key")?);
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(&chain.1));
        digest.update(Sha256::digest(&key.1));
        let digest: [u8; 32] = digest.finalize().into();
        if self.loaded == Some(digest) {
            return Ok(None);
        }
        let config = server_config(&chain, &key)?;
        self.loaded = Some(digest);
        Ok(Some(Arc::new(config)))
    }
}

fn server_config(chain: &(PathBuf, Vec<u8>), key: &(PathBuf, Vec<u8>)) -> Result<ServerConfig, TlsError> {
    let form = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Form { path, source }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain.1).collect();
    let certificates = certificates.map_err(form(&chain.0))?;
    let private = PrivateKeyDer::from_pem_slice(&key.1).map_err(form(&key.0))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Pair)?;
    let mut config = builder.with_no_client_auth().with_single_cert(certificates, private).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, pair: &rcgen::CertifiedKey<rcgen::KeyPair>) {
        std::fs::write(directory.join("tls.crt"), pair.cert.pem()).expect("write");
        std::fs::write(directory.join("tls.key"), pair.signing_key.serialize_pem()).expect("write");
    }

    fn pair() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate")
    }

    #[test]
    fn it_is_loaded_when_it_is_there_and_whenever_it_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut certificate = Certificate::new(directory.path());
        assert!(matches!(certificate.look(), Err(TlsError::Read { .. })));
        let (one, other) = (pair(), pair());
        write(directory.path(), &one);
        assert!(certificate.look().expect("loaded").is_some());
        assert!(certificate.look().expect("the same").is_none());
        // between two writes the key is still the old one's
        std::fs::write(directory.path().join("tls.crt"), other.cert.pem()).expect("write");
        assert!(matches!(certificate.look(), Err(TlsError::Pair(_))));
        std::fs::write(directory.path().join("tls.crt"), "").expect("write");
        assert!(certificate.look().is_err());
        write(directory.path(), &other);
        assert!(certificate.look().expect("loaded").is_some());
        std::fs::write(directory.path().join("tls.key"), "nothing").expect("write");
        assert!(matches!(certificate.look(), Err(TlsError::Form { .. })));
    }
}
