// SPDX-License-Identifier: Apache-2.0
//! Why the gate is shut, in the words of a cluster: what `kubectl logs`, conditions and Events show.

use crate::AgentError;
use crate::session::SessionError;
use holdfast_core::disk::Refusal;
use holdfast_core::object;
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

/// Why the application may not start, or its state is not protected. `lineage` is its name in the repository, empty while none is granted.
#[must_use]
pub(super) fn of_agent(error: &AgentError, lineage: &str) -> Why {
    match error {
        AgentError::Refused(refusal) => Why::new(refusal.reason(), format!("{refusal}: {}", advice(refusal, lineage))),
        AgentError::Session(error) => of_session(error),
        AgentError::Locked { .. } => Why::new("Locked", error.to_string()),
        AgentError::StatePath { .. } | AgentError::Replaced { .. } => Why::new("StatePathUnusable", error.to_string()),
        AgentError::Scratch { .. } | AgentError::ScratchIsState { .. } => Why::new("ScratchUnusable", error.to_string()),
        AgentError::Vanished { .. } => Why::new("StateMissing", error.to_string()),
        AgentError::Restore(holdfast_store::restore::RestoreError::Target { .. }) => Why::new("RestoreFailed", error.to_string()),
        AgentError::NotProven { .. } => Why::new("RestoreNotProven", error.to_string()),
        AgentError::Store(store) | AgentError::Restore(holdfast_store::restore::RestoreError::Store(store)) => {
            of_store(store, error, lineage)
        }
        error => Why::new("Failed", error.to_string()),
    }
}

fn of_store(store: &StoreError, error: &AgentError, lineage: &str) -> Why {
    match store {
        StoreError::Held { .. } => {
            Why::new("SlotHeld", format!("{error}: it is taken over as soon as the coordinator knows that this one is gone"))
        }
        StoreError::ForeignOwner { .. } => {
            let (adopt, record) = (choose(lineage, "adopt"), record(lineage));
            let message = format!(
                "{error}: take it over with {adopt}, which fences its cluster's agents, or begin a history of its own with the word fresh \
                 instead{record}"
            );
            Why::new("ForeignLineageFound", message)
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
fn advice(refusal: &Refusal, lineage: &str) -> String {
    let record = record(lineage);
    match refusal {
        Refusal::HalfRestored { .. } => {
            "there is nothing to finish it with; give the pod an empty volume, or make the repository available".to_owned()
        }
        Refusal::OtherLineage { .. } => "give this pod a volume of its own, or empty this one".to_owned(),
        Refusal::Unmarked { .. } | Refusal::Diverged { .. } => format!(
            "restore the repository's state with {} (the volume's is captured first), or keep the volume's with the word adopt-disk instead \
             (the repository's stays in the history){record}; restore.onDivergence in the StatePolicy, PreferStore or PreferDisk, decides \
             it for all",
            choose(lineage, "prefer-store"),
        ),
        Refusal::Mixed { .. } => format!(
            "check the pod's volumes; if this is as it should be, keep what they hold with {}{record}",
            choose(lineage, "adopt-disk"),
        ),
        Refusal::OtherPaths { .. } => format!(
            "give the state path in the StatePolicy the label that it had, or begin with what the volume holds with {} (the repository's \
             stays in the history){record}",
            choose(lineage, "adopt-disk"),
        ),
        Refusal::Overtaken { .. } => "what the application writes here is not captured; delete this pod".to_owned(),
    }
}

/// How a person decides for one lineage.
fn choose(lineage: &str, choice: &str) -> String {
    let name = object::plain(lineage).unwrap_or_else(|| "NAME".to_owned());
    format!("`kubectl annotate statelineage {name} holdfast.dev/choose={choice}`")
}

/// Where its record's name stands, if it can't be told here.
fn record(lineage: &str) -> &'static str {
    if object::plain(lineage).is_some() { "" } else { " (NAME is the pod's label holdfast.dev/lineage)" }
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
            Refusal::OtherPaths { sequence: 1, stored: label(), named: "date".to_owned() },
        ];
        for refusal in refusals {
            let why = of_agent(&refusal.clone().into(), "statefulset/web/0");
            assert_eq!(why.reason, refusal.reason());
            assert!(!why.message.contains("--") && why.message.len() > refusal.to_string().len(), "{}", why.message);
        }
        let held = StoreError::Held { lineage: "x".to_owned(), holder: "pod y".to_owned() };
        assert_eq!(of_agent(&held.into(), "").reason, "SlotHeld");
    }

    #[test]
    fn a_choice_comes_with_the_command_that_makes_it() {
        let label = || "data".to_owned();
        let commands = [
            (AgentError::from(Refusal::Diverged { label: label(), sequence: 1 }), "prefer-store"),
            (Refusal::Unmarked { label: label(), sequence: 1 }.into(), "prefer-store"),
            (Refusal::Mixed { empty: label(), full: label() }.into(), "adopt-disk"),
            (Refusal::OtherPaths { sequence: 1, stored: label(), named: label() }.into(), "adopt-disk"),
        ];
        for (error, word) in commands {
            let said = of_agent(&error, "statefulset/web/0").message;
            let command = format!("`kubectl annotate statelineage statefulset-web-0 holdfast.dev/choose={word}`");
            assert!(said.contains(&command) && !said.contains("NAME"), "{said}");
            for unclear in ["", "daemonset/log/node-7"] {
                let said = of_agent(&error, unclear).message;
                assert!(said.contains("statelineage NAME ") && said.contains("the pod's label holdfast.dev/lineage"), "{said}");
            }
        }
    }
}
