// SPDX-License-Identifier: Apache-2.0
//! Whose replicas are being brought to rest: what begins meanwhile would come into the middle of it, so its gate stays shut until they go on.

use crate::cluster::Rests;
use holdfast_api::snapshot::PhaseStatus;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Replicas under these policies, by (namespace, StatePolicy).
type Policies = BTreeSet<(String, String)>;

/// The snapshots that bring replicas to rest, by name, and those replicas' policies.
#[derive(Debug)]
pub(crate) struct Resting {
    snapshots: Mutex<BTreeMap<String, Policies>>,
    told: watch::Sender<Rests>,
}

impl Resting {
    /// Nothing rests; gates are told through `told`.
    pub(crate) fn new(told: watch::Sender<Rests>) -> Self {
        Self { snapshots: Mutex::default(), told }
    }

    fn snapshots(&self) -> MutexGuard<'_, BTreeMap<String, Policies>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot that is about to be taken of what is under these policies; dropped, it shuts no gate any more.
    pub(super) const fn of<'a>(&'a self, snapshot: &'a str, policies: &'a Policies) -> Rest<'a> {
        Rest { resting: self, snapshot, policies }
    }

    fn tell(&self, snapshots: &BTreeMap<String, Policies>) {
        let rests = snapshots.iter().flat_map(|(snapshot, policies)| {
            let why = format!("StateSnapshot {snapshot} brings the other replicas to rest: waiting until they go on");
            policies.iter().map(move |policy| (policy.clone(), why.clone()))
        });
        let rests: BTreeMap<_, _> = rests.collect();
        self.told.send_if_modified(|told| {
            let changed = **told != rests;
            *told = Arc::new(rests);
            changed
        });
    }
}

/// A snapshot on its way.
pub(super) struct Rest<'a> {
    resting: &'a Resting,
    snapshot: &'a str,
    policies: &'a Policies,
}

impl Rest<'_> {
    /// It is so far: until all were captured, or it was given up, nobody of theirs begins.
    pub(super) fn is_in(&self, phase: PhaseStatus) {
        use PhaseStatus::{Cutting, Freezing, Preparing};
        let mut snapshots = self.resting.snapshots();
        match phase {
            Preparing | Freezing | Cutting => snapshots.insert(self.snapshot.to_owned(), self.policies.clone()),
            _ => snapshots.remove(self.snapshot),
        };
        self.resting.tell(&snapshots);
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let mut snapshots = self.resting.snapshots();
        snapshots.remove(self.snapshot);
        self.resting.tell(&snapshots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_shut_until_all_were_captured() {
        let (told, rests) = watch::channel(Rests::default());
        let resting = Resting::new(told);
        let web = Policies::from([("shop".to_owned(), "web".to_owned())]);
        let both = Policies::from([("bank".to_owned(), "book".to_owned()), ("shop".to_owned(), "web".to_owned())]);
        let shut =
            || -> Vec<String> { rests.borrow().keys().map(|(namespace, policy)| format!("{namespace}/{policy}")).collect() };
        let (one, two) = (resting.of("shop/one", &web), resting.of("holdfast-system/two", &both));
        assert!(shut().is_empty(), "it has not begun");
        one.is_in(PhaseStatus::Preparing);
        one.is_in(PhaseStatus::Cutting);
        assert_eq!(shut(), ["shop/web"]);
        two.is_in(PhaseStatus::Freezing);
        one.is_in(PhaseStatus::Sealing);
        assert_eq!(shut(), ["bank/book", "shop/web"], "the other one still has it");
        assert!(rests.borrow().values().all(|why| why.contains("holdfast-system/two")), "{rests:?}");
        two.is_in(PhaseStatus::Aborting);
        assert!(shut().is_empty());
        two.is_in(PhaseStatus::Preparing);
        drop(two);
        assert!(shut().is_empty(), "whatever became of it");
    }
}
