// SPDX-License-Identifier: Apache-2.0
//! Why the gate is shut, in the words of a cluster: what `kubectl logs`, conditions and Events show.

use crate::AgentError;
use crate::session::SessionError;
use holdfast_core::disk::Refusal;
use holdfast_store::StoreError;

/// Why not: one word of a closed set, and a sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// In CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Why {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Why there is no session.
#[must_use]
pub(super) fn of_session(error: &SessionError) -> Why {
    match error {
        SessionError::Token(error) => Why::new("TokenMissing", error.to_string()),
        error if error.is_silence() => Why::new("CoordinatorUnreachable", error.to_string()),
        error => Why::new("CoordinatorRefused", error.to_string()),
    }
}

/// Why the application may not start, or its state is not protected.
#[must_use]
pub(super) fn of_agent(error: &AgentError) -> Why {
    match error {
        AgentError::Refused(refusal) => Why::new(refusal.reason(), format!("{refusal}{}", advice(refusal))),
        AgentError::Session(error) => of_session(error),
        AgentError::Locked { .. } => Why::new("Locked", error.to_string()),
        AgentError::StatePath { .. } | AgentError::Replaced { .. } => Why::new("StatePathUnusable", error.to_string()),
        AgentError::Scratch { .. } | AgentError::ScratchIsState { .. } => Why::new("ScratchUnusable", error.to_string()),
        AgentError::Vanished { .. } => Why::new("StateMissing", error.to_string()),
        AgentError::Restore(holdfast_store::restore::RestoreError::Target { .. }) => Why::new("RestoreFailed", error.to_string()),
        AgentError::NotProven { .. } => Why::new("RestoreNotProven", error.to_string()),
        AgentError::Store(store) | AgentError::Restore(holdfast_store::restore::RestoreError::Store(store)) => {
            of_store(store, error)
        }
        error => Why::new("Failed", error.to_string()),
    }
}

fn of_store(store: &StoreError, error: &AgentError) -> Why {
    match store {
        StoreError::Held { .. } => {
            Why::new("SlotHeld", format!("{error}: it is taken over as soon as the coordinator knows that this one is gone"))
        }
        StoreError::ForeignOwner { .. } => {
            Why::new("ForeignLineageFound", format!("{error}: say whether to adopt it, to fork it or to begin afresh"))
        }
        StoreError::Fenced { .. } => {
            Why::new("Fenced", format!("{error}: nothing that is written here becomes part of its history"))
        }
        StoreError::Transport(_) => Why::new("StoreUnreachable", error.to_string()),
        StoreError::Damaged { .. } | StoreError::Missing { .. } | StoreError::RolledBack { .. } => {
            Why::new("RepositoryDamaged", error.to_string())
        }
        _ => Why::new("RepositoryRefused", error.to_string()),
    }
}

/// What to do about a disk that was refused.
fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::HalfRestored { .. } => {
            ", and there is nothing to finish it with: give the pod an empty volume, or make the repository available"
        }
        Refusal::OtherLineage { .. } => ": give this pod a volume of its own, or empty this one",
        Refusal::Unmarked { .. } => {
            ": set restore.onDivergence in the StatePolicy to PreferDisk to keep the volume's, or to PreferStore to restore the repository's (the volume's is captured first); or decide for this one on its StateLineage"
        }
        Refusal::Diverged { .. } => {
            ": set restore.onDivergence in the StatePolicy to PreferDisk or PreferStore (the loser stays in the history), or decide for this one on its StateLineage"
        }
        Refusal::Mixed { .. } => {
            ": check the pod's volumes; if this is as it should be, say on its StateLineage that the disk is to be adopted"
        }
        Refusal::Overtaken { .. } => ": what the application writes here is not captured; delete this pod",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_speaks_of_policies_and_never_of_flags() {
        let label = || "data".to_owned();
        let refusals = [
            Refusal::HalfRestored { label: label(), sequence: 1 },
            Refusal::Unmarked { label: label(), sequence: 1 },
            Refusal::Diverged { label: label(), sequence: 1 },
            Refusal::Mixed { empty: label(), full: label() },
            Refusal::Overtaken { label: label(), sequence: 1 },
        ];
        for refusal in refusals {
            let why = of_agent(&refusal.clone().into());
            assert_eq!(why.reason, refusal.reason());
            assert!(!why.message.contains("--") && why.message.len() > refusal.to_string().len(), "{}", why.message);
        }
        let held = StoreError::Held { lineage: "x".to_owned(), holder: "pod y".to_owned() };
        assert_eq!(of_agent(&held.into()).reason, "SlotHeld");
    }
}
