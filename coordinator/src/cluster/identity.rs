// SPDX-License-Identifier: Apache-2.0
//! Who calls: TokenReview says whose a token is, the API server whether the pod that it is bound to is there, SubjectAccessReview what a caller may do.
//!
//! Verdicts are kept for less than half a minute under a hash of the token, and asked for once however many wait for one. When the API server
//! doesn't answer nobody new is let in, and nobody is taken for refused.

use crate::status;
use cache::Cache;
use holdfast_api::labels::{INJECTED, POLICY, TOKEN_AUDIENCE};
use holdfast_proto::problem::{Problem, Reason};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

mod cache;
pub(crate) mod pass;

pub(crate) use pass::Pass;

/// A verdict about a token is believed for at most so long.
const VERDICT_MAX: Duration = Duration::from_secs(30);
/// What somebody may do is believed for so long.
const RIGHT_MAX: Duration = Duration::from_secs(10);
/// While the API server doesn't answer, callers come back after this.
const OUTAGE_PAUSE: Duration = Duration::from_secs(5);
/// The API server has so long for one question.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 16 << 10;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A token; never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// That of a call's `authorization: Bearer`.
    pub(crate) fn of(headers: &http::HeaderMap) -> Option<Self> {
        let (scheme, token) = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_at_checked(7)?;
        let token = token.trim();
        let usable = scheme.eq_ignore_ascii_case("bearer ") && !token.is_empty() && token.len() <= TOKEN_MAX;
        usable.then(|| Self(token.to_owned()))
    }

    fn hash(&self, salt: &str) -> [u8; 32] {
        Sha256::new_with_prefix(salt).chain_update([0]).chain_update(&self.0).finalize().into()
    }
}

/// A pod that was let in: its token is bound to it, it is there, and it has an agent of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Somebody, as TokenReview tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct User {
    pub(crate) name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// What a call needs, as RBAC names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Right {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: Option<&'static str>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        self.subresource.map_or(Ok(()), |sub| write!(f, "/{sub}"))
    }
}

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The API server says no, or the pod isn't one of ours: for people.
    No(String),
    /// It doesn't say anything.
    Unavailable(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::No(why) => status::because(Reason::Unauthenticated, why),
            Refusal::Unavailable(why) => Problem::new(Reason::IdentityUnavailable, why).retry_after(OUTAGE_PAUSE).into(),
        }
    }
}

/// Asks the API server who calls.
pub(crate) struct Identity {
    client: Client,
    pods: Cache<PodIdentity>,
    users: Cache<User>,
    rights: Cache<()>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, pods: Cache::new(VERDICT_MAX), users: Cache::new(VERDICT_MAX), rights: Cache::new(RIGHT_MAX) }
    }

    /// The pod that a token is bound to.
    pub(crate) async fn pod(&self, token: &Token) -> Result<PodIdentity, Refusal> {
        self.pods.ask(Instant::now(), token.hash("pod"), || self.ask_pod(token)).await
    }

    /// The pod that a token is bound to, whatever it is.
    pub(crate) async fn bound(&self, token: &Token) -> Result<PodIdentity, Refusal> {
        let ask = || async { self.ask_bound(token).await.map(|(of, _)| of) };
        self.pods.ask(Instant::now(), token.hash("bound"), ask).await
    }

    /// The user whose token it is: one for us, or one for the API server, as people's are.
    pub(crate) async fn user(&self, token: &Token) -> Result<User, Refusal> {
        self.users.ask(Instant::now(), token.hash("user"), || self.ask_user(token)).await
    }

    /// Whether a user may do something in a namespace.
    pub(crate) async fn may(&self, user: &User, right: Right, namespace: &str) -> Result<(), Status> {
        let key = Sha256::digest(format!("{user:?} {right:?} {namespace:?}")).into();
        self.rights.ask(Instant::now(), key, || self.ask_right(user, right, namespace)).await.map_err(|refusal| match refusal {
            Refusal::No(why) => status::about(Reason::Forbidden, why, "namespace", namespace),
            refusal @ Refusal::Unavailable(_) => refusal.into(),
        })
    }

    /// What the API server has as a pod now.
    pub(crate) async fn look_up(&self, namespace: &str, name: &str) -> Result<Option<Pod>, Refusal> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        within(pods.get_opt(name)).await
    }

    async fn review(&self, token: &Token, audience: Option<&str>) -> Result<User, Refusal> {
        let audiences = audience.map(|audience| vec![audience.to_owned()]);
        let spec = TokenReviewSpec { token: Some(token.0.clone()), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = within(reviews.create(&PostParams::default(), &review)).await?.status.unwrap_or_default();
        if let Some(error) = answer.error.filter(|_| answer.authenticated != Some(true)) {
            return Err(Refusal::No(format!("the API server does not accept the token: {error}")));
        }
        if answer.authenticated != Some(true) {
            return Err(Refusal::No("the API server does not accept the token".to_owned()));
        }
        // one that knows no audiences leaves the list empty, and then the token may be for anybody
        if let Some(audience) = audience.filter(|audience| !answer.audiences.iter().flatten().any(|of| of == audience)) {
            return Err(Refusal::No(format!("the token is not for the audience {audience}")));
        }
        let user = answer.user.unwrap_or_default();
        Ok(User {
            name: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        })
    }

    async fn ask_bound(&self, token: &Token) -> Result<(PodIdentity, Pod), Refusal> {
        let user = self.review(token, Some(TOKEN_AUDIENCE)).await?;
        let of = bound_to(&user).ok_or_else(|| Refusal::No("the token is not bound to a pod".to_owned()))?;
        let found = self.look_up(&of.namespace, &of.name).await?;
        let Some(pod) = found.filter(|pod| pod.uid().as_deref() == Some(&of.uid)) else {
            return Err(Refusal::No(format!("pod {} of namespace {} is gone", of.name, of.namespace)));
        };
        Ok((of, pod))
    }

    async fn ask_pod(&self, token: &Token) -> Result<PodIdentity, Refusal> {
        let (of, pod) = self.ask_bound(token).await?;
        if !pod.labels().contains_key(POLICY) || !pod.annotations().contains_key(INJECTED) {
            let why = format!("pod {} is not protected: it lacks the label {POLICY} or the annotation {INJECTED}", of.name);
            return Err(Refusal::No(why));
        }
        Ok(of)
    }

    async fn ask_user(&self, token: &Token) -> Result<User, Refusal> {
        match self.review(token, Some(TOKEN_AUDIENCE)).await {
            Err(Refusal::No(_)) => self.review(token, None).await,
            other => other,
        }
    }

    async fn ask_right(&self, user: &User, right: Right, namespace: &str) -> Result<(), Refusal> {
        let attributes = ResourceAttributes {
            group: Some("holdfast.dev".to_owned()),
            version: Some("v1alpha1".to_owned()),
            resource: Some(right.resource.to_owned()),
            subresource: right.subresource.map(str::to_owned),
            verb: Some(right.verb.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = within(reviews.create(&PostParams::default(), &review)).await?.status.unwrap_or_default();
        if answer.allowed && answer.denied != Some(true) {
            return Ok(());
        }
        Err(Refusal::No(format!("{} may not {right} (group holdfast.dev) in namespace {namespace}", user.name)))
    }
}

/// The pod that a user's token is bound to.
fn bound_to(user: &User) -> Option<PodIdentity> {
    let (namespace, _account) = user.name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let only = |key: &str| match user.extra.get(key).map(Vec::as_slice) {
        Some([one]) if !one.is_empty() => Some(one.clone()),
        _ => None,
    };
    Some(PodIdentity { namespace: namespace.to_owned(), name: only(POD_NAME)?, uid: only(POD_UID)? })
}

/// The API server's answer, if it comes in time.
async fn within<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    let unavailable = |why: String| Refusal::Unavailable(format!("the API server can't be asked who calls: {why}"));
    match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

#[cfg(test)]
mod tests;
