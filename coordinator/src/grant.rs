// SPDX-License-Identifier: Apache-2.0
//! Grants: who holds which token may read, or write, the objects of one lineage. Plain tables, driven by their callers' clock.

use crate::session::usher::Bearer;
use holdfast_core::id::{DomainId, LineageId};
use holdfast_core::time::Monotonic;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

mod scope;

pub(crate) use scope::{Scope, Wish};

/// A grant that nobody renews ends after this.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Grants at once.
const GRANTS_MAX: usize = 20_000;

/// What tells a grant from others: a hash of its token, so that the table holds no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GrantId([u8; 32]);

impl GrantId {
    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// All grants.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    grants: HashMap<GrantId, Grant>,
}

#[derive(Debug)]
struct Grant {
    scope: Scope,
    expires: Monotonic,
    bearer: Option<Bearer>,
}

/// There is no room for another grant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Grants {
    /// Adds a grant; the token is the caller's random bytes.
    pub(crate) fn issue(
        &mut self,
        now: Monotonic,
        token: &[u8; 32],
        scope: Scope,
        bearer: Option<Bearer>,
    ) -> Result<GrantId, Full> {
        if self.grants.len() >= GRANTS_MAX {
            self.grants.retain(|_, grant| grant.expires > now);
        }
        if self.grants.len() >= GRANTS_MAX {
            return Err(Full);
        }
        let id = GrantId::of(token);
        self.grants.insert(id, Grant { scope, expires: now.plus(LIFETIME), bearer });
        Ok(id)
    }

    /// What a token opens; `None` if it is unknown or has expired.
    pub(crate) fn scope(&self, now: Monotonic, token: &[u8]) -> Option<&Scope> {
        let grant = self.grants.get(&GrantId::of(token))?;
        (grant.expires > now).then_some(&grant.scope)
    }

    /// A grant whose holder is alive lasts longer.
    pub(crate) fn renew(&mut self, now: Monotonic, id: GrantId) {
        if let Some(grant) = self.grants.get_mut(&id) {
            grant.expires = grant.expires.max(now.plus(LIFETIME));
        }
    }

    /// A grant lasts at least until then.
    pub(crate) fn extend_one(&mut self, id: GrantId, until: Monotonic) {
        if let Some(grant) = self.grants.get_mut(&id) {
            grant.expires = grant.expires.max(until);
        }
    }

    /// All grants of a bearer last at least until then.
    pub(crate) fn extend(&mut self, bearer: &str, until: Monotonic) {
        for grant in self.grants.values_mut().filter(|grant| grant.bearer.as_deref() == Some(bearer)) {
            grant.expires = grant.expires.max(until);
        }
    }

    /// Ends all grants of a bearer.
    pub(crate) fn revoke_all(&mut self, bearer: &str) {
        self.grants.retain(|_, grant| grant.bearer.as_deref() != Some(bearer));
    }

    /// Ends a grant.
    pub(crate) fn revoke(&mut self, id: GrantId) {
        self.grants.remove(&id);
    }
}

/// The right to read a lineage and what it was forked from; to write it, if `write`.
pub(crate) fn scope_of(domain: DomainId, lineage: LineageId, ancestors: Vec<LineageId>, write: bool) -> Scope {
    Scope::new(domain, lineage, ancestors, write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_end_unless_they_are_renewed() {
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let mut grants = Grants::default();
        let scope = || scope_of(DomainId::new([1; 16]), LineageId::new([2; 16]), Vec::new(), false);
        let id = grants.issue(at(0), &[7; 32], scope(), None).expect("room");
        assert!(grants.scope(at(1), &[7; 32]).is_some());
        assert!(grants.scope(at(1), &[8; 32]).is_none() && grants.scope(at(1), &[]).is_none());
        assert!(grants.scope(at(900), &[7; 32]).is_none(), "expired");
        grants.renew(at(800), id);
        assert!(grants.scope(at(900), &[7; 32]).is_some());
        grants.revoke(id);
        assert!(grants.scope(at(900), &[7; 32]).is_none());
    }

    #[test]
    fn what_a_bearer_has_lasts_and_ends_together() {
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let mut grants = Grants::default();
        let scope = || scope_of(DomainId::new([1; 16]), LineageId::new([2; 16]), Vec::new(), true);
        for (token, bearer) in [(1, Some("one")), (2, Some("one")), (3, Some("two")), (4, None)] {
            grants.issue(at(0), &[token; 32], scope(), bearer.map(Into::into)).expect("room");
        }
        let there = |grants: &Grants, now| [1, 2, 3, 4].map(|token| grants.scope(at(now), &[token; 32]).is_some());
        grants.extend("one", at(5000));
        assert_eq!(there(&grants, 4999), [true, true, false, false]);
        grants.extend("one", at(10));
        assert_eq!(there(&grants, 899), [true; 4], "never shorter than it was");
        grants.revoke_all("one");
        assert_eq!(there(&grants, 1), [false, false, true, true]);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_expired() {
        let mut grants = Grants::default();
        let mut issue = |now, number: usize| {
            let mut token = [0; 32];
            token[..8].copy_from_slice(&number.to_le_bytes());
            let scope = scope_of(DomainId::new([1; 16]), LineageId::new([2; 16]), Vec::new(), false);
            grants.issue(Monotonic(now), &token, scope, None)
        };
        for number in 0..GRANTS_MAX {
            issue(Duration::ZERO, number).expect("room");
        }
        assert_eq!(issue(Duration::ZERO, GRANTS_MAX), Err(Full));
        assert!(issue(LIFETIME, GRANTS_MAX).is_ok());
    }
}
