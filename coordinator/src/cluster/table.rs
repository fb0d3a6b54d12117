// SPDX-License-Identifier: Apache-2.0
//! The repositories of the cluster, each with its coordinator or with why it has none.

use super::RepositoryKey;
use crate::Coordinator;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The repositories of the cluster. Whoever reconciles StateRepositories sends a new table when one changes. An empty one by default, of which nothing
/// is known yet; one that is made of states is all there is.
#[derive(Debug, Clone, Default)]
pub struct Repositories {
    states: Arc<BTreeMap<RepositoryKey, RepositoryState>>,
    listed: bool,
}

/// A StateRepository, as far as the coordinator is concerned.
#[derive(Debug, Clone)]
pub enum RepositoryState {
    /// It was not tried yet: a leader opens a few at a time.
    Opening,
    /// It can be used: a coordinator with [`Access::Open`](crate::Access::Open) (the front asks who calls) and with
    /// [`Config::domain`](crate::Config::domain) set, so that nobody gets at another namespace's domain through it.
    Ready(Coordinator),
    /// It can't be used, and why, for people.
    NotReady(String),
}

/// Why a repository has no coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    /// There is none of that name.
    #[error("it does not exist")]
    Missing,
    /// It was not tried yet, and will be.
    #[error("{0}")]
    Untried(&'static str),
    /// It can't be used now.
    #[error("{0}")]
    Away(String),
}

impl FromIterator<(RepositoryKey, RepositoryState)> for Repositories {
    fn from_iter<T: IntoIterator<Item = (RepositoryKey, RepositoryState)>>(states: T) -> Self {
        Self { states: Arc::new(states.into_iter().collect()), listed: true }
    }
}

impl Repositories {
    /// The coordinator of a repository.
    pub(crate) fn coordinator(&self, key: &RepositoryKey) -> Result<&Coordinator, Unready> {
        match self.states.get(key) {
            Some(RepositoryState::Ready(coordinator)) => Ok(coordinator),
            Some(RepositoryState::NotReady(why)) => Err(Unready::Away(why.clone())),
            Some(RepositoryState::Opening) => Err(Unready::Untried("it is being opened")),
            None if !self.listed => Err(Unready::Untried("it was not looked at yet")),
            None => Err(Unready::Missing),
        }
    }

    /// Those that can be used.
    pub(crate) fn ready(&self) -> impl Iterator<Item = (&RepositoryKey, &Coordinator)> {
        self.states.iter().filter_map(|(key, state)| match state {
            RepositoryState::Ready(coordinator) => Some((key, coordinator)),
            _ => None,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn contains(&self, key: &RepositoryKey) -> bool {
        self.states.contains_key(key)
    }

    /// Whether all that there are were tried, whatever came of it.
    pub(crate) fn is_tried(&self) -> bool {
        self.listed && !self.states.values().any(|state| matches!(state, RepositoryState::Opening))
    }

    /// What came of one; whether that is new, as whoever tells it knows of coordinators.
    pub(super) fn put(&mut self, key: &RepositoryKey, state: RepositoryState, is_same: bool) -> bool {
        let unchanged = match (&state, self.states.get(key)) {
            (RepositoryState::Ready(_), Some(RepositoryState::Ready(_))) => is_same,
            (RepositoryState::NotReady(why), Some(RepositoryState::NotReady(before))) => why == before,
            _ => false,
        };
        if !unchanged {
            Arc::make_mut(&mut self.states).insert(key.clone(), state);
        }
        !unchanged
    }

    /// These are all there are; whether that is new.
    pub(super) fn list(&mut self, existing: &[RepositoryKey]) -> bool {
        let new: Vec<&RepositoryKey> = existing.iter().filter(|key| !self.contains(key)).collect();
        let gone = self.states.keys().any(|key| !existing.contains(key));
        let changed = gone || !new.is_empty() || !self.listed;
        if changed {
            let states = Arc::make_mut(&mut self.states);
            states.retain(|key, _| existing.contains(key));
            states.extend(new.into_iter().map(|key| (key.clone(), RepositoryState::Opening)));
            self.listed = true;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(table: &Repositories, name: &str) -> String {
        match table.coordinator(&RepositoryKey::new("shop", name)) {
            Ok(_) => "ready".to_owned(),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn only_what_is_known_not_to_be_there_is_missing() {
        let (one, two) = (RepositoryKey::new("shop", "one"), RepositoryKey::new("shop", "two"));
        let mut table = Repositories::default();
        assert_eq!((why(&table, "one").as_str(), table.is_tried()), ("it was not looked at yet", false));
        assert!(table.list(&[one.clone(), two.clone()]) && !table.list(&[one.clone(), two.clone()]));
        assert_eq!([why(&table, "one"), why(&table, "three")], ["it is being opened", "it does not exist"]);
        let away = || RepositoryState::NotReady("its store is away".to_owned());
        assert!(table.put(&one, away(), true) && !table.put(&one, away(), true));
        assert_eq!((why(&table, "one").as_str(), table.is_tried()), ("its store is away", false));
        table.put(&two, away(), true);
        assert!(table.is_tried(), "tried is tried, whatever came of it");
        assert!(table.list(std::slice::from_ref(&two)), "one has gone");
        assert_eq!((why(&table, "one").as_str(), table.len()), ("it does not exist", 1));
    }
}
