// SPDX-License-Identifier: Apache-2.0
//! Why something that was asked for is not done, or not yet.

use super::table::Unready;
use super::{Repositories, RepositoryKey};
use crate::Coordinator;

/// Names in a message.
const NAMES_MAX: usize = 10;

/// Why something is not done, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hindrance {
    /// Of the condition, in CamelCase.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
    /// It can pass by itself: it is tried again.
    pub(crate) passes: bool,
}

impl Hindrance {
    /// Something that only another object can get around.
    pub(crate) fn lasting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passes: false }
    }

    /// Something that can pass by itself.
    pub(crate) fn passing(reason: &'static str, message: impl Into<String>) -> Self {
        Self { passes: true, ..Self::lasting(reason, message) }
    }
}

/// Names for a message, and how many more there are.
pub(crate) fn listed(names: &[&str]) -> String {
    let shown = &names[..names.len().min(NAMES_MAX)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The coordinator of a repository.
///
/// # Errors
/// If it has none for the moment.
pub(crate) fn coordinator(repositories: &Repositories, key: &RepositoryKey) -> Result<Coordinator, Hindrance> {
    let not_ready =
        |why: Unready| Hindrance::passing("RepositoryNotReady", format!("StateRepository {key} can't be used: {why}"));
    repositories.coordinator(key).cloned().map_err(not_ready)
}
