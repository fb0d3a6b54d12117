// SPDX-License-Identifier: Apache-2.0
//! What the gate is told, and whether it is open.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Whether the application may start, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// It may.
    pub open: bool,
    /// Why not: one word of a closed set, in CamelCase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The same for people, with what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The gate's board. Clones are the same board.
#[derive(Debug, Clone)]
pub struct Board(watch::Sender<Posted>);

impl Default for Board {
    fn default() -> Self {
        let (reason, message) = ("Starting".to_owned(), "the agent has just been started".to_owned());
        Self(watch::Sender::new(Posted { open: false, reason, message }))
    }
}

impl Board {
    /// Says why the gate is shut, in the log, too, once per change. A gate that was opened stays open: the application runs.
    pub fn wait(&self, reason: &str, message: &str) {
        let changed = self.0.send_if_modified(|posted| {
            let news = posted.reason != reason || posted.message != message;
            (posted.reason, posted.message) = (reason.to_owned(), message.to_owned());
            news
        });
        if changed {
            let open = self.is_open();
            tracing::info!(reason, message, gate = if open { "open" } else { "shut" }, "waiting");
        }
    }

    /// Lets the application start.
    pub fn open(&self, message: &str) {
        self.0.send_modify(|posted| *posted = Posted { open: true, reason: String::new(), message: String::new() });
        tracing::info!(message, "the gate is open");
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.borrow().open
    }

    /// Follows what is posted.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Posted> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_was_opened_stays_open() {
        let board = Board::default();
        let mut seen = board.follow();
        board.wait("SlotHeld", "somebody has it");
        assert!(seen.has_changed().expect("a board"));
        assert_eq!(seen.borrow_and_update().reason, "SlotHeld");
        board.wait("SlotHeld", "somebody has it");
        assert!(!seen.has_changed().expect("a board"), "the same is no news");
        board.open("restored");
        board.wait("StoreUnreachable", "later");
        assert!(board.is_open() && seen.borrow_and_update().open);
    }
}
