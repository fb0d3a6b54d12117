// SPDX-License-Identifier: Apache-2.0
//! When a capture begins, and what it takes along.

use super::{Agent, FLUSH_SCAN_MAX};
use crate::capture::{Done, Job, Setting};
use crate::clock::SystemClock;
use crate::{AgentError, capture, thread};
use holdfast_core::cadence::Next;
use holdfast_core::time::Monotonic;
use holdfast_store::write::Session;

impl Agent {
    /// Starts what is due; says when to look again.
    pub(super) fn decide(&mut self) -> Option<Monotonic> {
        let now = SystemClock.monotonic();
        if self.cutting.is_due() {
            // it begins once all that happened so far is heard of; what else is to be captured is captured with it
            self.call();
            return None;
        }
        if self.resting.is_asked() {
            return None;
        }
        self.hold = self.hold.filter(|hold| now < *hold);
        if let Some(hold) = self.hold.filter(|_| self.waiting.is_empty()) {
            return Some(hold);
        }
        let next = match self.cadence.next(now) {
            // without watches, only scans tell
            Next::Capture if self.setting.watch.is_incomplete() => Next::Scan,
            next => next,
        };
        match next {
            Next::Busy => None,
            Next::Scan => {
                self.start(true);
                None
            }
            Next::Capture => {
                self.begin(now, false);
                None
            }
            Next::Wait(until) => {
                // somebody may ask for one, or the last may have been made without rest
                let asked = if self.waiting.is_empty() { self.resting.wanted(now) } else { Some(now) };
                let until = asked.map_or(until, |asked| asked.min(until));
                if until > now {
                    return Some(until);
                }
                self.begin(now, self.setting.watch.is_incomplete() || self.cadence.scan_took() <= FLUSH_SCAN_MAX);
                None
            }
        }
    }

    pub(super) fn start(&mut self, scan: bool) {
        let Some(session) = self.session.take() else { return };
        self.scanning = scan;
        let doubts = self.resting.doubts();
        self.launch(session, "capture", scan, false, move |session, setting, job| capture::run(session, setting, job, doubts));
    }

    /// Begins a capture of what is dirty, or of everything. `brief`: the application stands still for it.
    pub(super) fn launch(
        &mut self,
        mut session: Box<Session>,
        name: &'static str,
        everything: bool,
        brief: bool,
        work: impl FnOnce(&mut Session, &Setting, &Job) -> Result<Done, AgentError> + Send + 'static,
    ) {
        // a capture that is under way may have passed by what is dirty now: whoever asks meanwhile waits for the next
        self.serving.append(&mut self.waiting);
        if everything {
            let labels = self.config.paths.iter().map(|path| path.label.as_str());
            self.dirty.everything(labels);
        }
        self.uncaptured.began(everything, &mut self.dirty);
        let job = Job { dirt: self.dirty.take(), foreign: false, always: false, brief };
        tracing::trace!(name, everything, "begins");
        self.began = SystemClock.monotonic();
        self.cadence.began();
        let setting = self.setting.clone();
        self.capturing = Some(Box::pin(thread::run(name, move || {
            let done = work(&mut session, &setting, &job);
            (session, setting, done)
        })));
    }
}
