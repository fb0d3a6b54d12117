// SPDX-License-Identifier: Apache-2.0
//! A cut: the state is read at once, and made durable when whoever asked for it says so.

use super::{Agent, FLUSH_SCAN_MAX, Waiting};
use crate::capture;
use crate::clock::SystemClock;
use crate::status::LastCheckpoint;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::oneshot;

/// What is to become of a state that was taken hold of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing has moved while it was read: it is one moment.
    Keep,
    /// Something may have: it is a checkpoint like others.
    Doubt,
}

/// The order to take hold of the state as it is.
#[derive(Debug)]
pub struct Cut {
    taken: oneshot::Sender<()>,
    word: oneshot::Receiver<Word>,
    sealed: Waiting,
    /// Everything is compared, if that takes no time: also what makes no noise is found.
    pub(super) thorough: bool,
}

/// The other side of a [`Cut`]; dropped, what was taken hold of is in doubt.
#[derive(Debug)]
pub struct Grip {
    /// The state is taken hold of; an error: it can't be.
    pub taken: oneshot::Receiver<()>,
    /// What is to become of it.
    pub word: oneshot::Sender<Word>,
    /// The checkpoint that holds it.
    pub sealed: oneshot::Receiver<Result<LastCheckpoint, String>>,
}

impl Cut {
    /// An order and its other side.
    #[must_use]
    pub fn new() -> (Self, Grip) {
        let (taken, is_taken) = oneshot::channel();
        let (say, word) = oneshot::channel();
        let (sealed, is_sealed) = oneshot::channel();
        (Self { taken, word, sealed, thorough: true }, Grip { taken: is_taken, word: say, sealed: is_sealed })
    }

    /// What has to be answered, for whoever takes an agent's place: that the state is taken hold of, and then, with the word that was heard, the
    /// checkpoint that holds it.
    #[must_use]
    pub fn into_answers(self) -> (oneshot::Sender<()>, oneshot::Receiver<Word>, oneshot::Sender<Result<LastCheckpoint, String>>) {
        (self.taken, self.word, self.sealed)
    }
}

type Echo = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A cut on its way.
#[derive(Default)]
pub(super) struct Cutting {
    due: Option<Cut>,
    echo: Option<Echo>,
    sealing: Option<Waiting>,
}

impl Cutting {
    pub(super) const fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Everything that has happened is heard of; `false`: that is not certain. Cancel-safe.
    pub(super) async fn answered(&mut self) -> bool {
        match &mut self.echo {
            Some(echo) => echo.await,
            None => std::future::pending().await,
        }
    }

    /// Whether the capture under way is one.
    pub(super) const fn is_sealing(&self) -> bool {
        self.sealing.is_some()
    }

    /// Who waits for the state that was taken hold of to be durable.
    pub(super) fn sealing(&mut self) -> Option<Waiting> {
        self.sealing.take()
    }
}

impl Agent {
    /// A later cut takes the place of one that has not begun.
    pub(super) fn cut(&mut self, cut: Cut) {
        self.cutting.due = Some(cut);
        self.cutting.echo = None;
    }

    pub(super) fn call(&mut self) {
        if self.capturing.is_none() && self.session.is_some() && self.cutting.echo.is_none() {
            let watch = self.setting.watch.clone();
            self.cutting.echo = Some(Box::pin(async move { watch.echo().await }));
        }
    }

    /// Reads the state: what was heard of so far and, where that may not be all, everything.
    pub(super) fn answered(&mut self, certain: bool) {
        self.cutting.echo = None;
        let lost = self.catch_up();
        let (Some(Cut { taken, word, sealed, thorough }), Some(session)) = (self.cutting.due.take(), self.session.take()) else {
            return;
        };
        if lost {
            self.cadence.distrust(SystemClock.monotonic());
        }
        self.hold = None;
        self.scanning = false;
        // whoever asked for a flush is served by it, too
        self.cutting.sealing = Some(sealed);
        let deaf = lost || !certain || self.setting.watch.is_incomplete();
        let everything = deaf || thorough && self.cadence.scan_took() <= FLUSH_SCAN_MAX;
        self.launch(session, "cut", everything, true, move |session, setting, job| {
            // the application may be at rest until this is done
            let mut state = setting.governor.owing(|| capture::take(session, setting, job))?;
            let _ = taken.send(()); // nobody may be there any more: then it is in doubt
            if word.blocking_recv() != Ok(Word::Keep) {
                state.doubt();
            }
            capture::keep(session, setting, job, state)
        });
    }
}
