// SPDX-License-Identifier: Apache-2.0
//! What a coordinator grants: the keys of one domain, and a token that opens one lineage's objects.

use bytes::Bytes;
use holdfast_core::id::{DomainId, LineageId, ParseIdError, RepositoryId};
use holdfast_core::time::Timestamp;
use holdfast_proto::v1;
use holdfast_store::key::{DomainKeys, Identity, Secret};
use holdfast_store::seal::Domain;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use tonic::metadata::{Binary, MetadataValue};

/// A grant's token. Clones are the same token: renewed through one, it is renewed for all.
#[derive(Clone)]
pub struct GrantToken(Arc<RwLock<MetadataValue<Binary>>>);

impl GrantToken {
    /// The token with these bytes.
    #[must_use]
    pub fn new(token: &[u8]) -> Self {
        Self(Arc::new(RwLock::new(value(token))))
    }

    /// Exchanges it for a newer one.
    pub fn renew(&self, token: &[u8]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value(token);
    }

    /// As it is sent now.
    pub(crate) fn header(&self) -> MetadataValue<Binary> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn value(token: &[u8]) -> MetadataValue<Binary> {
    let mut value = MetadataValue::from_bytes(token);
    value.set_sensitive(true);
    value
}

impl fmt::Debug for GrantToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantToken(…)")
    }
}

impl From<Bytes> for GrantToken {
    fn from(token: Bytes) -> Self {
        Self::new(&token)
    }
}

/// A grant, understood.
#[derive(Debug, Clone)]
pub struct Granted {
    /// What seals and opens the lineage's objects.
    pub domain: Arc<Domain>,
    /// The lineage.
    pub lineage: LineageId,
    /// Its name.
    pub name: String,
    /// Sent with each request to the relay.
    pub token: Bytes,
    /// By the coordinator's clock.
    pub expires: Option<Timestamp>,
    /// Whether it may be written.
    pub write: bool,
}

/// A grant makes no sense: the coordinator speaks another language, or something between has changed it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the coordinator's grant can't be used: {0}")]
pub struct GrantError(String);

impl From<ParseIdError> for GrantError {
    fn from(error: ParseIdError) -> Self {
        Self(error.to_string())
    }
}

impl GrantError {
    pub(crate) fn missing(what: &str) -> Self {
        Self(format!("it has no {what}"))
    }
}

fn secret(bytes: &[u8]) -> Result<Secret, GrantError> {
    let bytes = bytes.try_into().map_err(|_| GrantError("a key of it is not 32 bytes long".to_owned()))?;
    Ok(Secret::new(bytes))
}

impl TryFrom<v1::Grant> for Granted {
    type Error = GrantError;

    fn try_from(grant: v1::Grant) -> Result<Self, GrantError> {
        let keys = grant.keys.ok_or_else(|| GrantError::missing("keys"))?;
        let of = grant.lineage.ok_or_else(|| GrantError::missing("lineage"))?;
        let mut secrets = BTreeMap::new();
        for epoch in &keys.epochs {
            let number = u32::try_from(epoch.epoch).map_err(|_| GrantError("an epoch of its keys is too large".to_owned()))?;
            secrets.insert(number, secret(&epoch.secret)?);
        }
        if secrets.is_empty() {
            return Err(GrantError::missing("key to seal with"));
        }
        let identity = Identity::new(secret(&keys.identity)?);
        let lineage: LineageId = grant.lineage_id.parse()?;
        // whoever has the domain's keys can tell: a lineage's id follows from its name
        if identity.lineage_id(&of.lineage) != lineage {
            return Err(GrantError(format!("its keys are not those of lineage {}", of.lineage)));
        }
        let repository = RepositoryId::try_from(&*keys.repository)?;
        let keys = DomainKeys { id: DomainId::try_from(&*keys.domain)?, name: of.domain, secrets, identity };
        let expires = grant.expires.map(|at| timestamp(&at));
        Ok(Self {
            domain: Arc::new(Domain { repository, keys }),
            lineage,
            name: of.lineage,
            token: grant.token,
            expires,
            write: grant.write,
        })
    }
}

/// A moment off the wire; what can't be is moved to the nearest that can.
pub(crate) fn timestamp(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_nanos(at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into()))
}

/// A moment for the wire.
pub(crate) fn wire_time(at: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (at.nanos().div_euclid(1_000_000_000), at.nanos().rem_euclid(1_000_000_000));
    prost_types::Timestamp { seconds, nanos: i32::try_from(nanos).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> v1::Grant {
        let identity = Identity::new(Secret::new([4; 32]));
        v1::Grant {
            token: Bytes::from_static(b"token"),
            expires: Some(wire_time(Timestamp::from_nanos(-1))),
            keys: Some(v1::DomainKeys {
                repository: vec![1; 16].into(),
                domain: vec![2; 16].into(),
                identity: vec![4; 32].into(),
                epochs: vec![v1::KeyEpoch { epoch: 1, secret: vec![5; 32].into() }],
            }),
            lineage: Some(v1::LineageRef { domain: "default".to_owned(), lineage: "web-0".to_owned() }),
            lineage_id: identity.lineage_id("web-0").to_string(),
            write: true,
        }
    }

    #[test]
    fn a_grant_opens_what_the_domain_sealed() {
        let granted = Granted::try_from(grant()).expect("a grant");
        assert_eq!((granted.name.as_str(), granted.write), ("web-0", true));
        assert_eq!(granted.expires, Some(Timestamp::from_nanos(-1)), "times before 1970 survive the wire");
        assert_eq!(granted.domain.keys.newest_epoch(), 1);
        assert_eq!(granted.domain.keys.identity.lineage_id("web-0"), granted.lineage);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_no_key_is_told() {
        let spoil: [fn(&mut v1::Grant); 6] = [
            |grant| grant.keys = None,
            |grant| grant.lineage = None,
            |grant| grant.lineage_id = "00".repeat(16),
            |grant| grant.keys.iter_mut().for_each(|keys| keys.epochs.clear()),
            |grant| grant.keys.iter_mut().for_each(|keys| keys.identity = vec![0xab; 31].into()),
            |grant| grant.keys.iter_mut().for_each(|keys| keys.repository = Bytes::new()),
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut grant = grant();
            spoil(&mut grant);
            let error = Granted::try_from(grant).expect_err("spoilt").to_string();
            assert!(!error.contains("abab") && !error.contains("171"), "{number}: {error}");
        }
    }

    #[test]
    fn a_renewed_token_is_renewed_everywhere_and_never_printed() {
        let token = GrantToken::new(b"first");
        let other = token.clone();
        token.renew(b"second");
        assert_eq!(other.header().to_bytes().expect("bytes"), Bytes::from_static(b"second"));
        assert!(!format!("{other:?}").contains("second"));
    }
}
