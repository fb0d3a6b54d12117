// SPDX-License-Identifier: Apache-2.0
//! The coordinator's own authority: kept in one Secret, trusted by pods through ConfigMaps and by the API server through the webhook's
//! configuration, and rotated under both without anybody noticing. Only the leader calls [`Pki::turn`].

use super::{COORDINATOR, WEBHOOK};
use base64::Engine;
use certificate::{Certificate, Pair, PkiError};
use holdfast_core::time::{Monotonic, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use rotation::{Known, Step};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

mod certificate;
pub(crate) mod places;
mod resolver;
mod rotation;
#[cfg(test)]
mod tests;

pub(crate) use resolver::Shown;
pub(crate) use rotation::{Lives, Now};

/// The Secret with the authority, the one with the webhook's certificate, and the ConfigMap that pods mount.
pub(crate) const AUTHORITY: &str = "holdfast-ca";
pub(crate) const WEBHOOK_TLS: &str = "holdfast-webhook-tls";
/// Since when the authority signs: an annotation of its Secret.
const SINCE: &str = "holdfast.dev/signs-since";
/// More authorities are not trusted at once.
const TRUSTED_MAX: usize = 8;
/// One turn does not more than this, and the next goes on.
const STEPS_MAX: usize = 16;

/// Where those who must trust the authorities find them.
pub(crate) trait Places: Send + Sync {
    /// Writes the bundle wherever it isn't yet; whether it was everywhere already.
    fn publish(&self, bundle: &str) -> impl Future<Output = Result<bool, kube::Error>> + Send;
}

/// Why a turn ended early. The next one tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TurnError {
    /// The API server.
    #[error("the authority could not be kept: {0}")]
    Kube(#[from] kube::Error),
    /// The certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// The names that certificates are for.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) coordinator: Vec<String>,
    pub(crate) webhook: Vec<String>,
}

impl Names {
    /// As the Services of a namespace are called.
    pub(crate) fn of(namespace: &str) -> Self {
        let service = |name: &str| {
            let base = format!("{name}.{namespace}");
            vec![format!("{base}.svc"), format!("{base}.svc.cluster.local"), base]
        };
        // who forwards a port to himself calls it localhost
        let coordinator = [service(COORDINATOR), vec!["localhost".to_owned()]].concat();
        Self { coordinator, webhook: service(WEBHOOK) }
    }
}

/// The keeper of the authority.
#[derive(Debug)]
pub(crate) struct Pki<P> {
    secrets: Api<Secret>,
    places: P,
    names: Names,
    lives: Lives,
    shown: Arc<Shown>,
    serving: Option<Certificate>,
    published: Option<(String, Monotonic)>,
}

/// The Secret, read.
#[derive(Debug, Default)]
struct Held {
    version: Option<String>,
    current: Option<Pair>,
    next: Option<Pair>,
    /// All that are trusted, newest first.
    trusted: Vec<Certificate>,
    since: Option<Timestamp>,
}

impl<P: Places> Pki<P> {
    /// A keeper that shows what it signs for the coordinator through `shown`.
    pub(crate) const fn new(secrets: Api<Secret>, places: P, names: Names, lives: Lives, shown: Arc<Shown>) -> Self {
        Self { secrets, places, names, lives, shown, serving: None, published: None }
    }

    /// Does what is due. When it returns without an error, the coordinator can serve.
    ///
    /// # Errors
    /// If the API server or the system fails; what was done stays done.
    pub(crate) async fn turn(&mut self, now: Now) -> Result<(), TurnError> {
        let mut trouble = None;
        for _ in 0..STEPS_MAX {
            let held = self.read().await?;
            if held.current.is_some() {
                // that not everybody can be told keeps nobody from being served; it keeps the next from signing
                trouble = self.publish(&held, now).await.err();
            }
            let webhook = self.webhook(&held).await?;
            let known = self.known(&held, webhook.as_ref());
            let Some(step) = rotation::step(now, self.lives, &known) else { break };
            match self.perform(step, held, now).await {
                // somebody else has written: look again
                Err(TurnError::Kube(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {}
                done => done?,
            }
        }
        trouble.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn publish(&mut self, held: &Held, now: Now) -> Result<(), kube::Error> {
        let bundle = held.bundle();
        let everywhere = match self.places.publish(&bundle).await {
            Ok(everywhere) => everywhere,
            Err(error) => {
                self.published = None;
                return Err(error);
            }
        };
        if !everywhere || self.published.as_ref().is_none_or(|(known, _)| *known != bundle) {
            self.published = Some((bundle, now.steady));
        }
        Ok(())
    }

    fn known(&self, held: &Held, webhook: Option<&Certificate>) -> Known {
        let by_current = |leaf: Option<&Certificate>, names: &[String]| {
            let current = &held.current.as_ref()?.certificate;
            leaf.filter(|leaf| current.signed(leaf) && leaf.is_for(names)).map(|leaf| leaf.life)
        };
        Known {
            current: held.current.as_ref().map(|pair| pair.certificate.life),
            since: held.since,
            next: held.next.as_ref().map(|pair| pair.certificate.life),
            old: held.old().map(|old| old.life).collect(),
            published: self.published.as_ref().map(|(_, since)| *since),
            leaves: vec![by_current(self.serving.as_ref(), &self.names.coordinator), by_current(webhook, &self.names.webhook)],
        }
    }

    async fn perform(&mut self, step: Step, mut held: Held, now: Now) -> Result<(), TurnError> {
        tracing::info!(?step, "certificates");
        match step {
            Step::Begin => {
                let made = Pair::authority(now.day, self.lives.authority)?;
                held.trust(&made.certificate);
                (held.current, held.next, held.since) = (Some(made), None, Some(now.day));
                self.write(&held).await
            }
            Step::Stage => {
                let made = Pair::authority(now.day, self.lives.authority)?;
                let replaced = held.next.take();
                held.trusted.retain(|old| replaced.as_ref().is_none_or(|replaced| *old != replaced.certificate));
                held.trust(&made.certificate);
                held.next = Some(made);
                self.write(&held).await
            }
            Step::Promote => {
                (held.current, held.since) = (held.next.take(), Some(now.day));
                self.write(&held).await
            }
            Step::Forget(index) => {
                let leaving = held.old().nth(index).cloned();
                held.trusted.retain(|old| Some(old) != leaving.as_ref());
                self.write(&held).await
            }
            Step::Sign(leaf) => self.sign(leaf, &held, now).await,
        }
    }

    async fn sign(&mut self, leaf: usize, held: &Held, now: Now) -> Result<(), TurnError> {
        let Some(authority) = &held.current else { return Ok(()) };
        if leaf == 0 {
            let made = authority.sign(&self.names.coordinator, now.day, self.lives.leaf)?;
            self.shown.show(made.served()?);
            self.serving = Some(made.certificate);
            return Ok(());
        }
        let made = authority.sign(&self.names.webhook, now.day, self.lives.leaf)?;
        let data = [("tls.crt", made.certificate.pem.clone()), ("tls.key", made.key_pem())];
        let version = self.secrets.get_opt(WEBHOOK_TLS).await?.and_then(|secret| secret.metadata.resource_version);
        self.put(secret(WEBHOOK_TLS, "kubernetes.io/tls", version, data, BTreeMap::new())).await
    }

    /// The webhook's certificate, if it is one, with its key.
    async fn webhook(&self, held: &Held) -> Result<Option<Certificate>, TurnError> {
        if held.current.is_none() {
            return Ok(None);
        }
        let Some(secret) = self.secrets.get_opt(WEBHOOK_TLS).await? else { return Ok(None) };
        let data = texts(&secret);
        let pair =
            data.get("tls.crt").zip(data.get("tls.key")).map(|(certificate, key)| Pair::read(certificate, key, WEBHOOK_TLS));
        Ok(pair.and_then(Result::ok).map(|pair| pair.certificate))
    }

    async fn read(&self) -> Result<Held, TurnError> {
        let Some(secret) = self.secrets.get_opt(AUTHORITY).await? else { return Ok(Held::default()) };
        let data = texts(&secret);
        let pair = |certificate: &str, key: &str| {
            let read = Pair::read(data.get(certificate)?, data.get(key)?, "the authority");
            read.inspect_err(|error| tracing::error!(%error, "a new authority takes its place")).ok()
        };
        let (current, next) = (pair("ca.crt", "ca.key"), pair("next.crt", "next.key"));
        let mut trusted = data.get("bundle.crt").map(|bundle| Certificate::bundle(bundle)).unwrap_or_default();
        for known in [&current, &next].into_iter().flatten().map(|pair| &pair.certificate) {
            if !trusted.contains(known) {
                trusted.insert(0, known.clone());
            }
        }
        let since = secret.metadata.annotations.as_ref().and_then(|all| all.get(SINCE)?.parse::<jiff::Timestamp>().ok());
        let version = secret.metadata.resource_version;
        Ok(Held { version, current, next, trusted, since: since.map(Timestamp::from) })
    }

    async fn write(&self, held: &Held) -> Result<(), TurnError> {
        let mut data = vec![("bundle.crt", held.bundle())];
        for (pair, [certificate, key]) in [(&held.current, ["ca.crt", "ca.key"]), (&held.next, ["next.crt", "next.key"])] {
            if let Some(pair) = pair {
                data.extend([(certificate, pair.certificate.pem.clone()), (key, pair.key_pem())]);
            }
        }
        let since = held.since.map(|since| (SINCE.to_owned(), since.to_string()));
        self.put(secret(AUTHORITY, "Opaque", held.version.clone(), data, since.into_iter().collect())).await
    }

    /// Creates the Secret, or replaces the version that was read.
    async fn put(&self, secret: Secret) -> Result<(), TurnError> {
        let params = PostParams::default();
        match (&secret.metadata.resource_version, &secret.metadata.name) {
            (Some(_), Some(name)) => self.secrets.replace(name, &params, &secret).await?,
            _ => self.secrets.create(&params, &secret).await?,
        };
        Ok(())
    }
}

impl Held {
    fn bundle(&self) -> String {
        self.trusted.iter().map(|one| one.pem.as_str()).collect()
    }

    /// Those that sign nothing, now or next.
    fn old(&self) -> impl Iterator<Item = &Certificate> {
        let signs = |one: &Certificate| [&self.current, &self.next].into_iter().flatten().any(|pair| pair.certificate == *one);
        self.trusted.iter().filter(move |one| !signs(one))
    }

    fn trust(&mut self, certificate: &Certificate) {
        self.trusted.insert(0, certificate.clone());
        self.trusted.truncate(TRUSTED_MAX);
    }
}

fn secret(
    name: &str,
    kind: &str,
    version: Option<String>,
    data: impl IntoIterator<Item = (&'static str, String)>,
    annotations: BTreeMap<String, String>,
) -> Secret {
    let labels = BTreeMap::from([super::managed()]);
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: version,
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        data: Some(data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect()),
        ..Secret::default()
    }
}

fn texts(secret: &Secret) -> BTreeMap<&str, String> {
    let all = secret.data.iter().flatten();
    all.filter_map(|(key, bytes)| Some((key.as_str(), String::from_utf8(bytes.0.clone()).ok()?))).collect()
}

/// A certificate in the form of files.
fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
