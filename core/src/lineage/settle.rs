// SPDX-License-Identifier: Apache-2.0
//! Settling one conditional creation: won or lost, and nothing in between.

use crate::time::doubled;
use std::time::Duration;

/// What a conditional PUT answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The store created the object.
    Created,
    /// 412: there is an object of that name.
    Exists,
    /// Time-out, reset, 5xx or 409: it may have been applied, or may still be.
    Unknown,
    /// Refused for certain before it was applied: no connection, 400, 403.
    NotApplied,
}

/// What lies under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The very bytes that were put.
    Mine,
    /// Other bytes.
    Other,
    /// Nothing.
    Nothing,
    /// The store did not say.
    Unknown,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Put the bytes (the same ones each time) under the name, if absent.
    Put,
    /// Read what lies under the name.
    Look,
    /// Do nothing for so long, then take [`Settle::waited`].
    Wait(Duration),
    /// The name holds our bytes.
    Won,
    /// The name holds another's.
    Lost,
}

/// One name, one body, until the outcome is definite. Only somebody else's bytes mean that it was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    step: Step,
    failures: u32,
    maybe_applied: bool,
    jitter: u64,
}

/// First pause after a failure.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause between tries.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Settle {
    /// A creation that has not been tried. `jitter` spreads the pauses of different writers.
    pub const fn new(jitter: u64) -> Self {
        Self { step: Step::Put, failures: 0, maybe_applied: false, jitter }
    }

    /// What to do now.
    pub const fn step(&self) -> Step {
        self.step
    }

    /// Whether some try may have been applied, or may still be: until it is settled, the bytes must be kept.
    #[must_use]
    pub const fn maybe_applied(&self) -> bool {
        self.maybe_applied
    }

    /// Takes what the PUT answered.
    pub fn put(&mut self, outcome: PutOutcome) {
        if self.step != Step::Put {
            return;
        }
        self.step = match outcome {
            PutOutcome::Created => Step::Won,
            PutOutcome::Exists => Step::Look,
            PutOutcome::Unknown => {
                self.maybe_applied = true;
                self.pause()
            }
            PutOutcome::NotApplied => self.pause(),
        };
    }

    /// Takes what lies under the name.
    pub fn looked(&mut self, seen: Seen) {
        if self.step != Step::Look {
            return;
        }
        self.step = match seen {
            Seen::Mine => Step::Won,
            Seen::Other => Step::Lost,
            // "exists" and then "nothing": a store that contradicts itself has not answered
            Seen::Nothing | Seen::Unknown => self.pause(),
        };
    }

    /// The pause is over.
    pub fn waited(&mut self) {
        if matches!(self.step, Step::Wait(_)) {
            self.step = Step::Put;
        }
    }

    /// Exponential, with half of it spread: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), equal jitter.
    fn pause(&mut self) -> Step {
        let ceiling = doubled(BACKOFF_MIN, self.failures, BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.jitter = splitmix(self.jitter);
        let half = ceiling / 2;
        let spread = u32::try_from(self.jitter >> 40).unwrap_or(0); // 24 bits
        Step::Wait(half + half.mul_f64(f64::from(spread) / f64::from(1_u32 << 24)))
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (OOPSLA 2014).
const fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
