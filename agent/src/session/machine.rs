// SPDX-License-Identifier: Apache-2.0
//! When to connect, what to say and when to begin anew: the decisions of a session, without a connection.

use holdfast_core::time::{Monotonic, doubled};
use std::collections::BTreeMap;
use std::time::Duration;

/// Reports of changes are at least so far apart: what comes in between is told together.
const REPORT_GAP: Duration = Duration::from_millis(200);
/// The first pause after a failure; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause: while there is no leader, nothing is made durable.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A session that lasted so long was a good one: the next failure is a first one again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// Flushes under way at most; more are refused.
const FLUSHES_MAX: usize = 16;

/// What the coordinator said when it welcomed this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// A report at least so often.
    pub(super) report_every: Duration,
    /// The grant holds for so long from now; `None`: nobody said.
    pub(super) granted_for: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing but time.
    Tick,
    /// The coordinator has welcomed this agent.
    Welcomed(Terms),
    /// The connection, or the attempt to make one, is over.
    Lost,
    /// There is something new to report.
    Changed,
    /// The coordinator asks for everything dirty to be made durable.
    Flush {
        /// Its number for it.
        id: u64,
        /// It gives up after so long.
        within: Duration,
    },
    /// The agent has, or could not.
    Flushed {
        /// The coordinator's number.
        id: u64,
        /// The checkpoint, or why not.
        result: Result<u64, String>,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(super) enum Action {
    /// Make a connection, in place of the one there is: hello, and wait for the welcome.
    Connect,
    /// Say how things are.
    Report,
    /// Have the agent make durable what is dirty.
    Flush {
        /// For the answer.
        id: u64,
        /// And no longer than this.
        within: Duration,
    },
    /// Answer a flush.
    Answer {
        /// The coordinator's number.
        id: u64,
        /// The checkpoint, or why not.
        result: Result<u64, String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing until then.
    Apart {
        until: Monotonic,
    },
    /// An attempt is under way; it ends by itself.
    Connecting,
    Open {
        since: Monotonic,
        every: Duration,
        reported: Monotonic,
        renew: Option<Renewal>,
    },
}

/// When the grant should be renewed, and when it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Renewal {
    at: Monotonic,
    latest: Monotonic,
}

/// The decisions.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    failures: u32,
    jitter: u64,
    /// Something is to be reported.
    news: bool,
    /// Flushes under way, and when they are given up. A new session knows nothing of those of the last.
    flushes: BTreeMap<u64, Monotonic>,
}

impl Machine {
    /// A session to be opened at once. `jitter` keeps agents apart that lost their coordinator together.
    pub(super) const fn new(now: Monotonic, jitter: u64) -> Self {
        Self { state: State::Apart { until: now }, failures: 0, jitter, news: true, flushes: BTreeMap::new() }
    }

    /// Takes what happened and says what to do.
    pub(super) fn step(&mut self, now: Monotonic, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Changed => self.news = true,
            Event::Lost => self.lost(now),
            Event::Welcomed(terms) => self.welcomed(now, terms, &mut actions),
            Event::Flush { id, within } => self.flush(now, id, within, &mut actions),
            Event::Flushed { id, result } => {
                if self.flushes.remove(&id).is_some() {
                    actions.push(Action::Answer { id, result });
                }
            }
        }
        self.due(now, &mut actions);
        actions
    }

    /// When to be called again even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        match self.state {
            State::Apart { until } => Some(until),
            State::Connecting => None,
            State::Open { every, reported, renew, .. } => {
                let report = reported.plus(if self.news { REPORT_GAP.min(every) } else { every });
                let renew = renew.map(|renew| if self.flushes.is_empty() { renew.at } else { renew.latest });
                let flushes = self.flushes.values().copied();
                flushes.chain(renew).chain([report]).min()
            }
        }
    }

    fn welcomed(&mut self, now: Monotonic, terms: Terms, actions: &mut Vec<Action>) {
        if self.state != State::Connecting {
            return;
        }
        // two thirds of the time are for use, the rest is for a coordinator that is gone just then
        let renewal = |time: Duration| Renewal { at: now.plus(time * 2 / 3), latest: now.plus(time * 5 / 6) };
        let renew = terms.granted_for.map(|time| renewal(time.max(Duration::from_secs(3))));
        let every = terms.report_every.max(REPORT_GAP);
        self.state = State::Open { since: now, every, reported: now, renew };
        self.news = false;
        actions.push(Action::Report);
    }

    fn lost(&mut self, now: Monotonic) {
        if let State::Open { since, .. } = self.state
            && now.since(since) >= GOOD_AFTER
        {
            self.failures = 0;
        }
        self.flushes.clear();
        self.state = State::Apart { until: now.plus(self.pause()) };
    }

    fn flush(&mut self, now: Monotonic, id: u64, within: Duration, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Open { .. }) || self.flushes.contains_key(&id) {
            return;
        }
        if self.flushes.len() >= FLUSHES_MAX {
            let result = Err(format!("{FLUSHES_MAX} flushes are under way already"));
            return actions.push(Action::Answer { id, result });
        }
        self.flushes.insert(id, now.plus(within));
        actions.push(Action::Flush { id, within });
    }

    fn due(&mut self, now: Monotonic, actions: &mut Vec<Action>) {
        let late: Vec<u64> = self.flushes.iter().filter(|(_, until)| now >= **until).map(|(id, _)| *id).collect();
        for id in late {
            self.flushes.remove(&id);
            actions.push(Action::Answer { id, result: Err("it was not durable in time".to_owned()) });
        }
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.state {
            State::Apart { .. } => self.connect(actions),
            State::Connecting => {}
            State::Open { renew: Some(renew), .. } if now >= if self.flushes.is_empty() { renew.at } else { renew.latest } => {
                self.flushes.clear();
                self.connect(actions);
            }
            State::Open { reported, .. } => {
                *reported = now;
                self.news = false;
                actions.push(Action::Report);
            }
        }
    }

    fn connect(&mut self, actions: &mut Vec<Action>) {
        self.state = State::Connecting;
        actions.push(Action::Connect);
    }

    /// Doubles; a random half of it keeps agents apart.
    fn pause(&mut self) -> Duration {
        let ceiling = doubled(PAUSE_MIN, self.failures, PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        // Knuth's linear congruential generator (MMIX); its upper bits are random enough for this
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let spread = u32::try_from(self.jitter >> 48).unwrap_or(0);
        ceiling / 2 + (ceiling / 2).mul_f64(f64::from(spread) / 65_536.0)
    }
}

#[cfg(test)]
mod tests;
