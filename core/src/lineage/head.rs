// SPDX-License-Identifier: Apache-2.0
//! The search for a lineage's head.

use crate::gallop::Gallop;

/// What the search asks the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Does the entry with this number exist in the lineage's boundaries register?
    BoundaryExists(u64),
    /// Which sequence does this entry of the boundaries register hold?
    Boundary(u64),
    /// Does the record with this sequence exist?
    RecordExists(u64),
}

/// The store's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To the two questions about existence.
    Exists(bool),
    /// To [`Question::Boundary`].
    Sequence(u64),
}

/// Finds the newest record: first the boundary, below which numbers may be missing, then the end of the contiguous numbers above it.
///
/// Both hints save questions and are never trusted: a wrong hint costs time, not truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSearch {
    register: Gallop,
    /// Sequence of the newest boundary; 0 while there is none or it has not been read.
    boundary: u64,
    hint: u64,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Register,
    Boundary,
    Hint,
    Records(Gallop),
}

impl HeadSearch {
    /// A search that expects the head near `hint` (0: nowhere) and knows that boundary entry `boundary_entry` exists (0: none).
    #[must_use]
    pub fn new(hint: u64, boundary_entry: u64) -> Self {
        Self { register: Gallop::from(boundary_entry), boundary: 0, hint, phase: Phase::Register }
    }

    /// What to ask next; `None` once the head is known.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        match &self.phase {
            Phase::Register => self.register.probe().map(Question::BoundaryExists),
            Phase::Boundary => Some(Question::Boundary(self.register.last())),
            Phase::Hint => Some(Question::RecordExists(self.hint)),
            Phase::Records(gallop) => gallop.probe().map(Question::RecordExists),
        }
    }

    /// Takes the answer to [`question`](Self::question). An answer of the wrong kind is ignored.
    pub fn answer(&mut self, answer: Answer) {
        match (&mut self.phase, answer) {
            (Phase::Register, Answer::Exists(exists)) => {
                self.register.answer(exists);
                if self.register.probe().is_none() {
                    if self.register.last() == 0 { self.after_boundary() } else { self.phase = Phase::Boundary }
                }
            }
            (Phase::Boundary, Answer::Sequence(sequence)) => {
                self.boundary = sequence;
                self.after_boundary();
            }
            (Phase::Hint, Answer::Exists(exists)) => {
                self.phase = Phase::Records(Gallop::from(if exists { self.hint } else { self.boundary }));
            }
            (Phase::Records(gallop), Answer::Exists(exists)) => gallop.answer(exists),
            _ => {}
        }
    }

    fn after_boundary(&mut self) {
        // a record at or above the boundary is never removed, so a hint above it is worth a question; one below is stale
        self.phase = if self.hint > self.boundary { Phase::Hint } else { Phase::Records(Gallop::from(self.boundary)) };
    }

    /// The newest record's sequence, 0 if the lineage has none. Meaningful once [`question`](Self::question) is `None`.
    #[must_use]
    pub const fn head(&self) -> u64 {
        match &self.phase {
            Phase::Records(gallop) => gallop.last(),
            _ => 0,
        }
    }

    /// The newest entry of the boundaries register, 0 if there is none.
    #[must_use]
    pub const fn boundary_entry(&self) -> u64 {
        self.register.last()
    }

    /// The sequence that entry holds, 0 if there is none.
    #[must_use]
    pub const fn boundary(&self) -> u64 {
        self.boundary
    }
}
