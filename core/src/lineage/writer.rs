// SPDX-License-Identifier: Apache-2.0
//! The writer of a lineage: claims it, commits one record at a time, finds out when it has been replaced.

use super::settle::{BACKOFF_MAX, BACKOFF_MIN};
use super::{Answer, HeadSearch, PutOutcome, Question, Seen, Settle, Step};
use crate::id::RecordHash;
use crate::time::doubled;
use std::time::Duration;

/// The newest record of a lineage, as far as its successor needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of its object; the successor's `previous`.
    pub hash: RecordHash,
    /// The generation of the newest claim.
    pub generation: u64,
    /// The newest boundary entry it knew of.
    pub boundary_entry: u64,
}

/// What the shell must do for the writer. There is always exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Ask the store; answer with [`Event::Answer`], or [`Event::Failed`] if it didn't say.
    Ask(Question),
    /// Read this record; answer with [`Event::Read`].
    Read(u64),
    /// Build a claim with this number, generation and predecessor; answer with [`Event::Built`].
    BuildClaim {
        /// The number to claim.
        sequence: u64,
        /// The claim's generation.
        generation: u64,
        /// The record before it.
        after: Option<Head>,
    },
    /// Create the record that was built last; answer with [`Event::Put`].
    Put(u64),
    /// Read what lies under that number; answer with [`Event::Looked`].
    Look(u64),
    /// Wait so long; answer with [`Event::Waited`].
    Wait(Duration),
    /// The lineage is ours and nothing is in flight: commit with [`Event::Built`] when there is something to say.
    Ready,
    /// Another has taken the lineage. Nothing may be written any more.
    Fenced,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To [`Action::Ask`].
    Answer(Answer),
    /// To [`Action::Read`].
    Read(Head),
    /// The store gave no answer to a question or a read.
    Failed,
    /// The bytes of the next record are ready; this is their hash.
    Built(RecordHash),
    /// To [`Action::Put`].
    Put(PutOutcome),
    /// To [`Action::Look`].
    Looked(Seen),
    /// To [`Action::Wait`].
    Waited,
}

/// The writer's part in the log protocol, without the store, the bytes and the clock.
#[derive(Debug, Clone)]
pub struct Writer {
    head: Option<Head>,
    generation: u64,
    /// The number of the claim that was won; 0 before.
    claimed: u64,
    boundary_entry: u64,
    jitter: u64,
    failures: u32,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Searching(HeadSearch),
    Pausing(HeadSearch),
    Reading(u64),
    PausingToRead(u64),
    Building(u64),
    Settling {
        sequence: u64,
        hash: RecordHash,
        settle: Settle,
    },
    /// Won, and asking whether the boundary has overtaken it before anybody is told.
    Confirming {
        won: Head,
        search: HeadSearch,
    },
    PausingToConfirm {
        won: Head,
        search: HeadSearch,
    },
    Ready,
    Fenced,
}

impl Writer {
    /// A writer that is about to claim its lineage. The hints are those of [`HeadSearch::new`]; `jitter` spreads pauses.
    #[must_use]
    pub fn new(hint: u64, boundary_entry: u64, jitter: u64) -> Self {
        Self {
            head: None,
            generation: 0,
            claimed: 0,
            boundary_entry,
            jitter,
            failures: 0,
            state: State::Searching(HeadSearch::new(hint, boundary_entry)),
        }
    }

    /// The newest record of the log, as far as this writer knows: its own last one once it is [`Action::Ready`].
    #[must_use]
    pub const fn head(&self) -> Option<Head> {
        self.head
    }

    /// The generation of this writer's claim; 0 before it has one.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether no claim of this writer has been won yet.
    #[must_use]
    pub const fn generation_is_unclaimed(&self) -> bool {
        self.claimed == 0
    }

    /// The number of this writer's claim; 0 before it was won.
    #[must_use]
    pub const fn claimed_at(&self) -> u64 {
        self.claimed
    }

    /// The newest boundary entry this writer has seen; 0: none.
    #[must_use]
    pub const fn boundary_entry(&self) -> u64 {
        self.boundary_entry
    }

    /// The number the next record would have.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.head.map_or(1, |head| head.sequence + 1)
    }

    /// What must be done now.
    pub fn action(&self) -> Action {
        match &self.state {
            // a finished search moves on at once, see `answered`
            State::Searching(search) | State::Confirming { search, .. } => {
                search.question().map_or(Action::Wait(Duration::ZERO), Action::Ask)
            }
            State::Pausing(_) | State::PausingToRead(_) | State::PausingToConfirm { .. } => Action::Wait(self.pause()),
            State::Reading(sequence) => Action::Read(*sequence),
            State::Building(sequence) => {
                Action::BuildClaim { sequence: *sequence, generation: self.generation + 1, after: self.head }
            }
            State::Settling { sequence, settle, .. } => match settle.step() {
                Step::Put => Action::Put(*sequence),
                Step::Look => Action::Look(*sequence),
                Step::Wait(pause) => Action::Wait(pause),
                Step::Won | Step::Lost => Action::Wait(Duration::ZERO),
            },
            State::Ready => Action::Ready,
            State::Fenced => Action::Fenced,
        }
    }

    /// Takes what happened. An event that does not answer the present [`action`](Self::action) is ignored.
    pub fn step(&mut self, event: Event) {
        let state = std::mem::replace(&mut self.state, State::Fenced);
        self.state = match (state, event) {
            (State::Searching(search), Event::Answer(answer)) => self.answered(search, answer),
            (State::Searching(search), Event::Failed) => self.failed(State::Pausing(search)),
            (State::Pausing(search), Event::Waited) => State::Searching(search),
            (State::Reading(_), Event::Read(head)) => self.read(head),
            (State::Reading(sequence), Event::Failed) => self.failed(State::PausingToRead(sequence)),
            (State::PausingToRead(sequence), Event::Waited) => State::Reading(sequence),
            (State::Building(sequence), Event::Built(hash)) => self.settling(sequence, hash),
            (State::Ready, Event::Built(hash)) => self.settling(self.next_sequence(), hash),
            (State::Settling { sequence, hash, mut settle }, event) => {
                match event {
                    Event::Put(outcome) => settle.put(outcome),
                    Event::Looked(seen) => settle.looked(seen),
                    Event::Waited => settle.waited(),
                    _ => {}
                }
                self.settled(sequence, hash, settle)
            }
            (State::Confirming { won, search }, Event::Answer(answer)) => self.confirmed(won, search, answer),
            (State::Confirming { won, search }, Event::Failed) => self.failed(State::PausingToConfirm { won, search }),
            (State::PausingToConfirm { won, search }, Event::Waited) => State::Confirming { won, search },
            (state, _) => state,
        };
    }

    fn answered(&mut self, mut search: HeadSearch, answer: Answer) -> State {
        self.failures = 0;
        search.answer(answer);
        if search.question().is_some() {
            return State::Searching(search);
        }
        self.boundary_entry = search.boundary_entry();
        if search.head() == 0 { State::Building(1) } else { State::Reading(search.head()) }
    }

    fn read(&mut self, head: Head) -> State {
        self.failures = 0;
        self.head = Some(head);
        self.generation = head.generation;
        self.boundary_entry = self.boundary_entry.max(head.boundary_entry);
        State::Building(head.sequence + 1)
    }

    fn settling(&mut self, sequence: u64, hash: RecordHash) -> State {
        self.jitter = self.jitter.rotate_left(17) ^ sequence;
        State::Settling { sequence, hash, settle: Settle::new(self.jitter) }
    }

    fn settled(&mut self, sequence: u64, hash: RecordHash, settle: Settle) -> State {
        match settle.step() {
            Step::Won => {
                let generation = if self.claimed > 0 { self.generation } else { self.generation + 1 };
                let won = Head { sequence, hash, generation, boundary_entry: self.boundary_entry };
                State::Confirming { won, search: HeadSearch::new(sequence, self.boundary_entry) }
            }
            // a claim that loses its number tries the next; a commit that does has been replaced
            Step::Lost if self.claimed == 0 => State::Searching(HeadSearch::new(sequence, self.boundary_entry)),
            Step::Lost => State::Fenced,
            Step::Put | Step::Look | Step::Wait(_) => State::Settling { sequence, hash, settle },
        }
    }

    /// Reads on until the boundary is known: only that part of the search is needed.
    fn confirmed(&mut self, won: Head, mut search: HeadSearch, answer: Answer) -> State {
        self.failures = 0;
        search.answer(answer);
        if let Some(Question::BoundaryExists(_) | Question::Boundary(_)) = search.question() {
            return State::Confirming { won, search };
        }
        self.boundary_entry = search.boundary_entry();
        if search.boundary() > won.sequence {
            // retention has passed this number: history went on without us, and the record we just won is not part of it
            return if self.claimed > 0 { State::Fenced } else { State::Searching(HeadSearch::new(0, self.boundary_entry)) };
        }
        self.head = Some(Head { boundary_entry: self.boundary_entry, ..won });
        self.generation = won.generation;
        if self.claimed == 0 {
            self.claimed = won.sequence;
        }
        State::Ready
    }

    fn failed(&mut self, state: State) -> State {
        self.failures = self.failures.saturating_add(1);
        state
    }

    fn pause(&self) -> Duration {
        doubled(BACKOFF_MIN, self.failures, BACKOFF_MAX)
    }
}
