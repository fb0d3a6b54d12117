// SPDX-License-Identifier: Apache-2.0
//! The loop: gather what is heard, decide when to capture, have it done, say how it went.

use crate::AgentError;
use crate::capture::{Done, Setting};
use crate::clock::SystemClock;
use crate::config::AgentConfig;
use crate::dirty::Dirty;
use crate::problems::{Problems, Uncaptured};
use crate::scratch::{LineageScratch, Memory};
use crate::status::{LastCheckpoint, Phase, Status};
use crate::watch::{Ear, Heard};
use holdfast_core::cadence::Cadence;
use holdfast_core::checkpoint::Quality;
use holdfast_core::lag::{Ended, Ledger};
use holdfast_core::time::Monotonic;
use holdfast_store::capture::CaptureError;
use holdfast_store::log::Trouble;
use holdfast_store::write::{Acknowledged, Opening, Session};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What an agent can be told while it runs.
#[derive(Debug)]
pub enum Command {
    /// Capture now, and say what came of it.
    Flush(oneshot::Sender<Result<LastCheckpoint, String>>),
    /// Begin no capture for so long that nobody asks for: a cut is about to come.
    Hold(Duration),
    /// Take hold of the state as it is.
    Cut(Cut),
    /// The application has ended: capture the last of it, seal the lineage, end. Whatever is not done after this long is left.
    End(Duration),
}

/// A capture that has ended: the session comes back with what came of it.
type Finished = Result<(Box<Session>, Setting, Result<Done, AgentError>), AgentError>;
/// A flush compares everything if that takes no longer: then it misses nothing, not even what makes no noise.
const FLUSH_SCAN_MAX: Duration = Duration::from_millis(300);
type Waiting = oneshot::Sender<Result<LastCheckpoint, String>>;
type Capturing = Pin<Box<dyn Future<Output = Finished> + Send>>;

mod asked;
mod claim;
mod cut;
mod decide;
mod end;
mod rest;

use asked::Asked;
use cut::Cutting;
pub use cut::{Cut, Grip, Word};
pub(crate) use rest::Ask;
use rest::Resting;
pub use rest::Rests;

/// An agent whose application may run.
pub struct Agent {
    config: AgentConfig,
    /// How the lineage was claimed, to claim it again.
    opening: Opening,
    scratch: LineageScratch,
    /// `None` while a capture has it.
    session: Option<Box<Session>>,
    setting: Setting,
    ear: Ear,
    dirty: Dirty,
    cadence: Cadence,
    capturing: Option<Capturing>,
    /// Whether the capture under way compares everything.
    scanning: bool,
    /// When the last capture began.
    began: Monotonic,
    ledger: Ledger,
    /// Who asked for what is dirty to be made durable: before the capture under way began, and since.
    serving: Vec<Waiting>,
    waiting: Vec<Waiting>,
    /// No capture begins before this, unless somebody asks for it.
    hold: Option<Monotonic>,
    /// A cut that is to be made, or whose capture is under way.
    cutting: Cutting,
    resting: Resting,
    status: watch::Sender<Status>,
    last: Option<LastCheckpoint>,
    /// What keeps the store from answering. Shared with the session, which a capture has just when this is of interest.
    store_trouble: Trouble,
    /// Why the last capture failed on this side of the store.
    fault: Option<String>,
    uncaptured: Uncaptured,
}

/// What an agent is made of.
pub(crate) struct Parts {
    pub(crate) config: AgentConfig,
    pub(crate) opening: Opening,
    pub(crate) scratch: LineageScratch,
    pub(crate) session: Session,
    pub(crate) setting: Setting,
    pub(crate) ear: Ear,
    pub(crate) status: watch::Sender<Status>,
    /// The checkpoint that the session goes on from.
    pub(crate) last: Option<LastCheckpoint>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agent({})", self.config.lineage)
    }
}

impl Agent {
    pub(crate) fn new(parts: Parts, restored: bool) -> Self {
        let Parts { config, opening, scratch, session, setting, ear, status, last } = parts;
        let now = SystemClock.monotonic();
        let mut cadence = Cadence::new(config.paces, now);
        if restored {
            // the proof was a scan
            cadence.began();
            cadence.ended(now, Some(Duration::ZERO));
        }
        let store_trouble = session.trouble();
        let session = Some(Box::new(session));
        let (dirty, serving, waiting) = (Dirty::default(), Vec::new(), Vec::new());
        let mut agent = Self {
            config,
            opening,
            scratch,
            session,
            setting,
            ear,
            dirty,
            cadence,
            capturing: None,
            scanning: false,
            began: now,
            ledger: Ledger::default(),
            serving,
            waiting,
            hold: None,
            cutting: Cutting::default(),
            resting: Resting::default(),
            status,
            last,
            store_trouble,
            fault: None,
            uncaptured: Uncaptured::default(),
        };
        agent.note_session();
        agent.show(Phase::Protecting);
        agent
    }

    /// What the program that is protected must inherit: as long as it runs, nobody else protects its state, whatever becomes of this process.
    ///
    /// # Errors
    /// If there are too many open files.
    pub fn lease(&self) -> std::io::Result<OwnedFd> {
        self.scratch.lease()
    }

    /// Captures what changes until told to end, or until it must not any more.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another holder has taken over; whatever else makes protecting impossible.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<Status, AgentError> {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let wake = self.decide();
            tokio::select! {
                heard = self.ear.next() => self.heard(heard),
                finished = finish(&mut self.capturing) => {
                    // claiming the lineage again takes as long as the store is away: whoever ends this agent must not wait for that
                    let mut asked = Asked::default();
                    let ended = unless_ended(self.captured(finished), asked.until_end(&mut commands)).await?;
                    self.take_up(asked);
                    if let Some(within) = ended {
                        return self.end(within).await;
                    }
                }
                () = sleep_until(wake) => {}
                certain = self.cutting.answered(), if self.capturing.is_none() => self.answered(certain),
                cut = self.resting.answered(), if self.capturing.is_none() => self.rested(cut),
                _ = tick.tick() => self.guard(),
                command = commands.recv() => {
                    let mut asked = Asked::default();
                    let ended = asked.heed(command);
                    self.take_up(asked);
                    if let Some(within) = ended {
                        return self.end(within).await;
                    }
                }
            }
            self.show(Phase::Protecting);
        }
    }

    /// No clone is held on to while its volume runs short of space.
    fn guard(&self) {
        if let Some(clones) = &self.setting.clones {
            clones.guard();
        }
    }

    fn heard(&mut self, heard: Option<Heard>) {
        match heard {
            Some(heard) => self.note(&heard),
            None => self.cadence.distrust(SystemClock.monotonic()),
        }
        if self.catch_up() {
            self.cadence.distrust(SystemClock.monotonic());
        }
    }

    /// Notes all that was heard so far; whether some of it was lost.
    fn catch_up(&mut self) -> bool {
        let mut more = Vec::new();
        let lost = self.ear.drain(|heard| more.push(heard));
        more.iter().for_each(|heard| self.note(heard));
        lost
    }

    fn note(&mut self, heard: &Heard) {
        self.cadence.changed(SystemClock.monotonic());
        let label = &self.config.paths[heard.root].label;
        self.dirty.add(label, &heard.path, heard.rescan);
        if heard.moved
            && let Some((_, parent)) = heard.path.split_last()
        {
            self.dirty.add(label, parent, false); // its own times have changed
        }
    }

    async fn captured(&mut self, finished: Finished) -> Result<(), AgentError> {
        self.capturing = None;
        let (session, _, done) = finished?;
        self.session = Some(session);
        let now = SystemClock.monotonic();
        match done {
            Ok(done) => {
                self.fault = None;
                self.note_lag(now, &done);
                self.cadence.ended(now, self.scanning.then_some(done.took));
                if done.unstable > 0 {
                    self.cadence.disturbed(now);
                }
                self.acknowledged(&done);
                self.note_rest(now, self.cutting.is_sealing(), done.reading);
                self.note_problems(now, done);
                let answer = self.last.ok_or_else(|| "there is no checkpoint yet".to_owned());
                self.answer(&answer);
                Ok(())
            }
            // a session that failed has ended; what it had not committed is still on the disk
            Err(AgentError::Store(error) | AgentError::Capture(CaptureError::Store(error))) => {
                self.answer(&Err(error.to_string()));
                self.cadence.failed(now);
                self.reopen(error).await
            }
            Err(error) => {
                tracing::warn!(lineage = %self.config.lineage, %error, "could not capture; trying again");
                self.cadence.failed(now);
                self.answer(&Err(error.to_string()));
                self.fault = Some(error.to_string());
                Ok(())
            }
        }
    }

    fn answer(&mut self, answer: &Result<LastCheckpoint, String>) {
        for waiting in self.serving.drain(..).chain(self.cutting.sealing()) {
            let _ = waiting.send(answer.clone()); // whoever asked may have gone
        }
    }

    fn note_session(&mut self) {
        let Some(session) = &self.session else { return };
        let totals = *session.totals();
        let last = self.last;
        self.status.send_modify(|status| {
            status.totals = totals;
            status.checkpoint = last;
        });
    }

    /// What becomes durable was as old as it ever was.
    fn note_lag(&mut self, now: Monotonic, done: &Done) {
        let taken = done.checkpoint.as_ref().map(|checkpoint| match checkpoint.quality {
            Quality::Clean => true,
            Quality::Fuzzy => !self.config.clean_only,
            Quality::Partial => false,
        });
        let ended = Ended { began: self.began, scan: self.scanning, taken };
        if let Some(oldest) = self.ledger.ended(self.cadence.oldest(), ended) {
            self.status.send_modify(|status| {
                status.peak.with(now, now.since(oldest));
            });
        }
    }

    /// What could not be captured is told until it can be.
    fn note_problems(&mut self, now: Monotonic, done: Done) {
        if self.uncaptured.ended(done.problems, done.totals.problems) {
            self.cadence.distrust(now);
        }
        let told = self.uncaptured.told(&self.config.paths);
        let is_new = self.status.send_if_modified(|status| {
            let is_new = status.problems != told;
            status.problems.clone_from(&told);
            is_new
        });
        if let Some(Problems { count, path, what }) = told.filter(|_| is_new) {
            tracing::warn!(lineage = %self.config.lineage, count, path = %path.display(), what, "NOT ALL OF THE STATE CAN BE CAPTURED");
        }
    }

    fn acknowledged(&mut self, done: &Done) {
        let Some(checkpoint) = &done.checkpoint else { return };
        let last = last_of(checkpoint);
        self.last = Some(last);
        if let (Some(session), Some(memory)) = (&self.session, self.scratch.recall())
            && let Some(head) = session.head()
        {
            self.scratch.remember(Memory { watermark: (head.sequence, head.hash), ..memory });
        }
        tracing::debug!(
            sequence = checkpoint.sequence,
            quality = %checkpoint.quality,
            uploaded_bytes = checkpoint.uploaded_bytes,
            took_ms = done.took.as_millis(),
            "checkpoint"
        );
        let totals = done.totals;
        self.status.send_modify(|status| {
            status.checkpoint = Some(last);
            status.totals = totals;
            status.uploaded_bytes += checkpoint.uploaded_bytes;
            status.checkpoints += 1;
        });
    }

    fn show(&self, phase: Phase) {
        let now = SystemClock.monotonic();
        let oldest = self.ledger.oldest(self.cadence.oldest());
        let trouble = self.store_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trouble = trouble.or_else(|| self.fault.clone());
        let (watched, dirty_paths) = (self.setting.watch.watched(), self.dirty.len());
        self.status.send_modify(|status| {
            status.phase = phase;
            status.oldest = oldest;
            status.peak.with(now, status.lag(now).unwrap_or_default());
            status.trouble = trouble;
            status.watched = watched;
            status.dirty_paths = dirty_paths;
        });
    }
}

/// An acknowledged checkpoint as the status tells it.
pub(crate) const fn last_of(checkpoint: &Acknowledged) -> LastCheckpoint {
    LastCheckpoint {
        sequence: checkpoint.sequence,
        last_close: checkpoint.interval.last_close,
        quality: checkpoint.quality,
        root: checkpoint.root,
    }
}

/// What a capture gave is taken up, unless the agent is to end before that is done: then within what time. It is begun in any case, however early
/// the end comes: until then the capture's session is in nobody's hands, and the capture must not be waited for again.
async fn unless_ended<E>(
    taken_up: impl Future<Output = Result<(), E>>,
    end: impl Future<Output = Duration>,
) -> Result<Option<Duration>, E> {
    tokio::select! {
        biased;
        taken_up = taken_up => taken_up.map(|()| None),
        within = end => Ok(Some(within)),
    }
}

async fn finish(capturing: &mut Option<Capturing>) -> Finished {
    match capturing {
        Some(capturing) => capturing.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(until: Option<Monotonic>) {
    match until {
        Some(until) => tokio::time::sleep(until.since(SystemClock.monotonic())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn what_a_capture_gave_is_taken_up_however_early_the_end_comes() {
        let within = Duration::from_secs(7);
        // a choice by chance would have to be the right one every time
        for _ in 0..64 {
            let begun = Cell::new(false);
            let store_away = async {
                begun.set(true);
                std::future::pending::<Result<(), AgentError>>().await
            };
            assert_eq!(unless_ended(store_away, std::future::ready(within)).await.expect("no error"), Some(within));
            assert!(begun.get(), "its session would be lost");
            let at_once = std::future::ready(Ok::<_, AgentError>(()));
            assert_eq!(unless_ended(at_once, std::future::ready(within)).await.expect("no error"), None);
        }
    }
}
