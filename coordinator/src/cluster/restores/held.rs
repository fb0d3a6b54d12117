// SPDX-License-Identifier: Apache-2.0
//! Which restore has which lineages, and which gates it keeps shut. In the leader's memory: a new leader makes it again from what stands written,
//! before it lets anybody in.

use crate::cluster::Holds;
use holdfast_api::StateRestore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A StateLineage: namespace, name.
pub(super) type Named = (String, String);

/// A restore that goes on.
#[derive(Debug, Clone, PartialEq)]
struct Claim {
    /// Its name, with the namespace.
    restore: String,
    lineages: Vec<Named>,
    is_shut: bool,
    /// As it was when it was seen to last.
    last: Option<Box<StateRestore>>,
}

/// The restores that go on, by UID.
#[derive(Debug)]
pub(crate) struct Held {
    claims: Mutex<BTreeMap<String, Claim>>,
    told: watch::Sender<Holds>,
}

impl Held {
    /// Nothing is held; gates are told through `told`.
    pub(crate) fn new(told: watch::Sender<Holds>) -> Self {
        Self { claims: Mutex::default(), told }
    }

    fn claims(&self) -> MutexGuard<'_, BTreeMap<String, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes lineages for a restore, or says which other restore has one of them.
    pub(super) fn take(&self, uid: &str, restore: &str, lineages: Vec<Named>) -> Result<(), String> {
        let mut claims = self.claims();
        let overlaps = |claim: &&Claim| claim.lineages.iter().any(|lineage| lineages.contains(lineage));
        let other = claims.iter().filter(|(known, _)| *known != uid).map(|(_, claim)| claim).find(overlaps);
        if let Some(other) = other {
            return Err(other.restore.clone());
        }
        let (is_shut, last) = claims.remove(uid).map_or((false, None), |before| (before.is_shut, before.last));
        claims.insert(uid.to_owned(), Claim { restore: restore.to_owned(), lineages, is_shut, last });
        Ok(())
    }

    /// Shuts the gates of a restore's lineages, or opens them.
    pub(super) fn shut(&self, uid: &str, is_shut: bool) {
        let mut claims = self.claims();
        if let Some(claim) = claims.get_mut(uid) {
            claim.is_shut = is_shut;
        }
        self.tell(&claims);
    }

    /// Remembers how a restore that goes on stands written.
    pub(super) fn remember(&self, uid: &str, object: &StateRestore) {
        if let Some(claim) = self.claims().get_mut(uid) {
            claim.last = Some(Box::new(object.clone()));
        }
    }

    /// How a restore that goes on stood written when it was seen to last.
    pub(super) fn last(&self, uid: &str) -> Option<StateRestore> {
        self.claims().get(uid)?.last.as_deref().cloned()
    }

    /// Whether a restore keeps its gates shut.
    pub(super) fn is_shut(&self, uid: &str) -> bool {
        self.claims().get(uid).is_some_and(|claim| claim.is_shut)
    }

    /// Whether a restore goes on.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.claims().contains_key(uid)
    }

    /// A restore has nothing any more; whether it had.
    pub(super) fn forget(&self, uid: &str) -> bool {
        let mut claims = self.claims();
        let had = claims.remove(uid).is_some();
        self.tell(&claims);
        had
    }

    /// The restores that have something.
    pub(super) fn uids(&self) -> Vec<String> {
        self.claims().keys().cloned().collect()
    }

    /// Tells the gates even if nothing has changed: whoever waits for the first word gets it.
    pub(super) fn first(&self) {
        self.tell(&self.claims());
    }

    fn tell(&self, claims: &BTreeMap<String, Claim>) {
        let shut = claims.values().filter(|claim| claim.is_shut).flat_map(|claim| {
            let why =
                format!("StateRestore {} brings it back to another moment: waiting until all its pods have ended", claim.restore);
            claim.lineages.iter().map(move |lineage| (lineage.clone(), why.clone()))
        });
        self.told.send_replace(Arc::new(shut.collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineages(names: &[&str]) -> Vec<Named> {
        names.iter().map(|name| ("shop".to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn a_lineage_is_one_restores_at_a_time() {
        let (told, holds) = watch::channel(Holds::default());
        let held = Held::new(told);
        assert_eq!(held.take("1", "shop/one", lineages(&["a", "b"])), Ok(()));
        assert_eq!(held.take("2", "shop/two", lineages(&["b", "c"])), Err("shop/one".to_owned()));
        assert_eq!(held.take("3", "shop/three", lineages(&["c"])), Ok(()));
        assert!(holds.borrow().is_empty(), "taken, and open");
        held.shut("1", true);
        assert_eq!(held.take("1", "shop/one", lineages(&["a", "b"])), Ok(()), "its own");
        assert!(held.is_shut("1") && !held.is_shut("3") && !held.is_shut("4"));
        let shut: Vec<String> = holds.borrow().keys().map(|(_, name)| name.clone()).collect();
        assert_eq!(shut, ["a", "b"]);
        held.shut("1", false);
        assert!(holds.borrow().is_empty());
        assert!(held.forget("1") && !held.forget("1"));
        assert_eq!(held.take("2", "shop/two", lineages(&["b"])), Ok(()));
        assert_eq!(held.uids(), ["2", "3"]);
    }
}
