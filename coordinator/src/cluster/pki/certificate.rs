// SPDX-License-Identifier: Apache-2.0
//! Certificates: made, signed, and read again.

use super::rotation::Life;
use holdfast_core::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate or a key is not what it should be, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PkiError {
    /// It is not a certificate, or no key, or not its key.
    #[error("{what} can't be read: {why}")]
    Unreadable {
        /// Which.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The system has no random numbers, or the like.
    #[error("a certificate could not be made: {0}")]
    Unmade(String),
}

fn unreadable(what: &'static str, why: impl ToString) -> PkiError {
    PkiError::Unreadable { what, why: why.to_string() }
}

fn unmade(error: impl ToString) -> PkiError {
    PkiError::Unmade(error.to_string())
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) life: Life,
    /// What tells its key from others, and its signer's.
    key_id: Vec<u8>,
    signer_id: Vec<u8>,
    public_key: Vec<u8>,
    names: Vec<String>,
}

impl Certificate {
    /// Reads the first certificate of a text.
    pub(crate) fn read(pem: &str, what: &'static str) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable(what, error))?;
        Self::of(&der, what)
    }

    /// Reads all certificates of a bundle; those that can't be read are left out.
    pub(crate) fn bundle(pem: &str) -> Vec<Self> {
        let ders = CertificateDer::pem_slice_iter(pem.as_bytes());
        ders.filter_map(|der| Self::of(&der.ok()?, "a certificate of the bundle").ok()).collect()
    }

    fn of(der: &CertificateDer<'_>, what: &'static str) -> Result<Self, PkiError> {
        let (_, read) = X509Certificate::from_der(der).map_err(|error| unreadable(what, error))?;
        let moment = |seconds: i64| Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000));
        let life =
            Life { from: moment(read.validity().not_before.timestamp()), until: moment(read.validity().not_after.timestamp()) };
        let (mut key_id, mut signer_id, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for extension in read.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => key_id = id.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    signer_id = id.key_identifier.as_ref().map(|id| id.0.to_vec()).unwrap_or_default();
                }
                ParsedExtension::SubjectAlternativeName(all) => {
                    let name = |name: &GeneralName<'_>| match name {
                        GeneralName::DNSName(name) => Some((*name).to_owned()),
                        _ => None,
                    };
                    names = all.general_names.iter().filter_map(name).collect();
                }
                _ => {}
            }
        }
        let public_key = read.public_key().subject_public_key.data.to_vec();
        Ok(Self { pem: super::pem(der), life, key_id, signer_id, public_key, names })
    }

    /// Whether this authority's key signed another's certificate.
    pub(crate) fn signed(&self, other: &Self) -> bool {
        !self.key_id.is_empty() && self.key_id == other.signer_id
    }

    /// Whether it is for exactly these names.
    pub(crate) fn is_for(&self, names: &[String]) -> bool {
        self.names == names
    }

    fn has_key(&self, key: &KeyPair) -> bool {
        self.public_key == key.public_key_raw()
    }
}

/// A certificate and its key. Never printed.
pub(crate) struct Pair {
    pub(crate) certificate: Certificate,
    key: KeyPair,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("life", &self.certificate.life).finish_non_exhaustive()
    }
}

impl Pair {
    /// Reads a certificate and the key that must be its own.
    pub(crate) fn read(certificate: &str, key: &str, what: &'static str) -> Result<Self, PkiError> {
        let certificate = Certificate::read(certificate, what)?;
        // of an error about a key nothing is repeated
        let key = KeyPair::from_pem(key).map_err(|_| unreadable(what, "its key is no key"))?;
        if certificate.has_key(&key) { Ok(Self { certificate, key }) } else { Err(unreadable(what, "the key is another's")) }
    }

    /// A new authority.
    pub(crate) fn authority(now: Timestamp, life: Duration) -> Result<Self, PkiError> {
        let mut params = params(Life::of(now, life), &[], "Holdfast CA")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(unmade)?;
        let made = params.self_signed(&key).map_err(unmade)?;
        Ok(Self { certificate: Certificate::of(made.der(), "the new authority")?, key })
    }

    /// A server's certificate for these names, signed by this authority.
    pub(crate) fn sign(&self, names: &[String], now: Timestamp, life: Duration) -> Result<Self, PkiError> {
        let mut life = Life::of(now, life);
        // nobody believes it for longer than its signer
        life.until = life.until.min(self.certificate.life.until);
        let common = names.first().map_or("holdfast", String::as_str);
        let mut params = params(life, names, common)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(unmade)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate.pem, &self.key).map_err(unmade)?;
        let made = params.signed_by(&key, &issuer).map_err(unmade)?;
        Ok(Self { certificate: Certificate::of(made.der(), "the new certificate")?, key })
    }

    /// The key in the form that files have: a secret.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What a server shows and signs with.
    pub(crate) fn served(&self) -> Result<rustls::sign::CertifiedKey, PkiError> {
        let der = CertificateDer::from_pem_slice(self.certificate.pem.as_bytes()).map_err(unmade)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(unmade)?;
        Ok(rustls::sign::CertifiedKey::new(vec![der], key))
    }
}

/// What all certificates have in common. Their subjects differ: two authorities of one name could be taken for one another.
fn params(life: Life, names: &[String], common: &str) -> Result<CertificateParams, PkiError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(unmade)?;
    // positive, and as long as the others
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::new(names).map_err(unmade)?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(life.from);
    params.not_after = epoch + since_epoch(life.until);
    params.distinguished_name = DistinguishedName::new();
    let common =
        if names.is_empty() { format!("{common} {}", hex::encode(&serial[..4])) } else { common.chars().take(64).collect() };
    params.distinguished_name.push(DnType::CommonName, common);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Whole seconds since 1970; certificates count no finer.
fn since_epoch(moment: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(moment.nanos() / 1_000_000_000).unwrap_or(0))
}
