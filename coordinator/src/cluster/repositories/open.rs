// SPDX-License-Identifier: Apache-2.0
//! From a StateRepository and its Secrets to an open repository, or to the reason why not.

use super::Context;
use futures::future::BoxFuture;
use holdfast_api::repository::S3Spec;
use holdfast_api::{StateRepository, StateRepositorySpec};
use holdfast_core::time::Timestamp;
use holdfast_store::StoreError;
use holdfast_store::probe::{self, ProbeError, probe};
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::s3::{Options, S3};
use holdfast_store::transport::{Failure, Retries, Retrying, Transport, TransportError};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::Api;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// How a store is reached: in tests another way.
pub(crate) type Connect = Arc<dyn Fn(Options) -> BoxFuture<'static, Arc<dyn Transport>> + Send + Sync>;

/// By S3, trying again what may pass.
pub(crate) fn by_s3() -> Connect {
    Arc::new(|options| {
        Box::pin(async {
            let transport: Arc<dyn Transport> = Arc::new(Retrying::new(Arc::new(S3::new(options).await), Retries::default()));
            transport
        })
    })
}

/// Why a repository can't be used: the reason of its condition, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// It can pass by itself.
    pub(crate) passes: bool,
}

impl Trouble {
    /// Something that somebody must change.
    fn lasting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passes: false }
    }

    fn of_transport(error: &TransportError) -> Self {
        let message = error.to_string();
        match error.failure {
            Failure::NotFound => Self::lasting("BucketMissing", format!("{message}: create the bucket")),
            Failure::Unavailable => Self { reason: "StoreUnreachable", message, passes: true },
            _ => Self::lasting("StoreRefused", format!("{message}: check the credentials and what they may do in the bucket")),
        }
    }

    pub(crate) fn of_store(error: &StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Transport(error) => Self::of_transport(error),
            StoreError::WrongPassphrase { .. } => Self::lasting(
                "WrongPassphrase",
                "the passphrase does not open the repository that is there: put the one into the Secret with which it was created",
            ),
            StoreError::Unsupported { .. } => Self::lasting("RepositoryUnsupported", message),
            StoreError::Damaged { .. } | StoreError::Missing { .. } | StoreError::WrongKey { .. } => {
                Self::lasting("RepositoryDamaged", message)
            }
            _ => Self { reason: "StoreUnreachable", message, passes: true },
        }
    }

    fn of_probe(error: &ProbeError) -> Self {
        match error {
            ProbeError::Store(error) => Self::of_store(error),
            // the store breaks what histories rest on: another one is needed
            broken => Self::lasting("StoreDoesNotFence", broken.to_string()),
        }
    }
}

/// What opens a repository. Never printed.
pub(crate) struct Keys {
    credentials: Option<(String, String)>,
    passphrase: Vec<u8>,
    /// Of all that decides what is opened and how.
    pub(crate) digest: [u8; 32],
}

/// Reads the Secrets of a repository.
///
/// # Errors
/// If the API server fails; the inner one if they don't hold what they should.
pub(crate) async fn keys(context: &Context, object: &StateRepository) -> Result<Result<Keys, Trouble>, kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let spec = &object.spec;
    let credentials = match &spec.s3.credentials_secret_ref {
        Some(reference) => {
            let secret = secrets.get_opt(&reference.name).await?;
            let [access, key] =
                ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|key| entry(secret.as_ref(), &reference.name, key));
            match (access, key) {
                (Ok(access), Ok(key)) => Some((text(access), text(key))),
                (Err(trouble), _) | (_, Err(trouble)) => return Ok(Err(trouble)),
            }
        }
        None if context.own_identity => None,
        None => {
            let message = "s3.credentialsSecretRef is missing: name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; \
                           the coordinator's own identity is for everybody or nobody, and its administrator allows it with --own-identity";
            return Ok(Err(Trouble::lasting("CredentialsMissing", message)));
        }
    };
    let secret = secrets.get_opt(&spec.passphrase.name).await?;
    let passphrase = match entry(secret.as_ref(), &spec.passphrase.name, &spec.passphrase.key) {
        Ok(passphrase) => passphrase,
        Err(trouble) => return Ok(Err(trouble)),
    };
    let digest = digest(spec, credentials.as_ref(), &passphrase);
    Ok(Ok(Keys { credentials, passphrase, digest }))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// One entry of a Secret, without the end of its line.
fn entry(secret: Option<&Secret>, name: &str, key: &str) -> Result<Vec<u8>, Trouble> {
    let missing = |what: String| Err(Trouble { reason: "SecretMissing", message: what, passes: true });
    let Some(secret) = secret else { return missing(format!("there is no Secret {name:?}: create it")) };
    let found = secret.data.as_ref().and_then(|data| data.get(key));
    let mut bytes = found.map(|found| found.0.clone()).unwrap_or_default();
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() { missing(format!("the Secret {name:?} has no {key:?}: add it")) } else { Ok(bytes) }
}

fn digest(spec: &StateRepositorySpec, credentials: Option<&(String, String)>, passphrase: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let (access, key) = credentials.map(|(access, key)| (access.as_str(), key.as_str())).unwrap_or_default();
    let spec = serde_json::to_vec(&(&spec.s3, &spec.domain)).unwrap_or_default();
    for part in [spec.as_slice(), access.as_bytes(), key.as_bytes(), passphrase] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Connects, tries the store out unless it was, and opens the repository, which is created if there is none.
///
/// # Errors
/// If it can't be used.
pub(crate) async fn open(
    context: &Context,
    spec: &StateRepositorySpec,
    keys: &Keys,
    proven: bool,
) -> Result<Repository, Trouble> {
    let options = options(&spec.s3, keys.credentials.clone())?;
    let transport = (context.connect)(options).await;
    if !proven {
        probe(&transport, probe::Options::default()).await.map_err(|error| Trouble::of_probe(&error))?;
    }
    create(transport, keys.passphrase.clone(), context.clock.now()).await
}

/// A passphrase becomes a key by half a second of arithmetic, which must keep nobody else waiting.
async fn create(transport: Arc<dyn Transport>, passphrase: Vec<u8>, now: Timestamp) -> Result<Repository, Trouble> {
    let runtime = tokio::runtime::Handle::current();
    let opening = move || runtime.block_on(Repository::create(transport, &passphrase, Kdf::default(), now));
    match tokio::task::spawn_blocking(opening).await {
        Ok(opened) => opened.map_err(|error| Trouble::of_store(&error)),
        Err(error) => Err(Trouble { reason: "Ending", message: error.to_string(), passes: true }),
    }
}

fn options(s3: &S3Spec, credentials: Option<(String, String)>) -> Result<Options, Trouble> {
    let endpoint = Some(s3.endpoint.trim_end_matches('/')).filter(|endpoint| !endpoint.is_empty());
    if let Some(endpoint) = endpoint {
        allowed(endpoint)?;
    }
    let prefix = s3.prefix.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
    if !prefix.is_empty() && !prefix.split('/').all(part) {
        let message = format!("s3.prefix {prefix:?} can't be used: write letters, digits, '.', '-', '_' and single slashes");
        return Err(Trouble::lasting("SpecInvalid", message));
    }
    Ok(Options {
        bucket: s3.bucket.clone(),
        prefix: prefix.to_owned(),
        endpoint: endpoint.map(str::to_owned),
        region: Some(s3.region.clone()).filter(|region| !region.is_empty()),
        path_style: s3.path_style.then_some(true),
        profile: None,
        credentials,
    })
}

/// fd00:ec2::254
const AMAZON_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Who may write a StateRepository must not get the coordinator to speak to itself or to the machine's metadata service.
fn allowed(endpoint: &str) -> Result<(), Trouble> {
    let refused = |why: &str| Err(Trouble::lasting("EndpointRefused", format!("s3.endpoint {endpoint:?} {why}")));
    let Ok(url) = endpoint.parse::<http::Uri>() else { return refused("is no URL: write https://host:port") };
    if !matches!(url.scheme_str(), Some("https" | "http")) || url.query().is_some() || !matches!(url.path(), "" | "/") {
        return refused("is no endpoint: write https://host:port");
    }
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let inward = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast()
        }
        Ok(IpAddr::V6(ip)) => {
            let mapped = ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback() || ip.is_link_local() || ip.is_unspecified());
            mapped
                || ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip == AMAZON_METADATA
        }
        Err(_) => host.is_empty() || host == "localhost" || host.ends_with(".localhost") || host.starts_with("metadata."),
    };
    if inward { refused("leads into the coordinator's own machine, not to a store") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lead_to_stores() {
        for good in
            ["https://s3.example.org", "http://10.89.0.1:9000", "http://minio.storage.svc:9000/", "https://[2001:db8::1]:9000"]
        {
            assert_eq!(allowed(good), Ok(()), "{good}");
        }
        let bad = [
            "http://127.0.0.1:9000",
            "http://169.254.169.254",
            "https://localhost:6443",
            "http://[::1]:1",
            "http://[fe80::1]",
            "http://0.0.0.0",
            "http://[::ffff:169.254.169.254]",
            "http://metadata.google.internal",
            "http://[fd00:ec2::254]",
            "ftp://host",
            "host:9000",
            "https://host/path",
            "https://host?x=y",
            "",
        ];
        for bad in bad {
            assert!(allowed(bad).is_err_and(|trouble| trouble.reason == "EndpointRefused"), "{bad}");
        }
    }
}
