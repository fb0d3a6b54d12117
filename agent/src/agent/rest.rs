// SPDX-License-Identifier: Apache-2.0
//! Rest at every checkpoint: whoever can bring the application to rest is asked to, and the state is captured in that moment. Without an answer it is
//! captured as it is, and not taken for one moment; a rest is tried again, less and less often.

use super::Agent;
use super::cut::Cut;
use crate::clock::SystemClock;
use crate::quiesce::Quiescing;
use holdfast_core::checkpoint::Quality;
use holdfast_core::time::{Monotonic, doubled};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// If taking hold of the state took longer than this, what is dirty is made durable before the next rest, so that little is left for it; as long as
/// that makes it half as long at least. Files that are written all the time are read anew whatever was done before.
const LITTLE: Duration = Duration::from_millis(100);
/// Pause after the first rest that came to nothing; it doubles …
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// … up to this.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// A rest that the agent asks for; it comes with the order to cut, or not at all.
pub(crate) type Ask = oneshot::Sender<Cut>;

/// Where an agent asks for rest.
#[derive(Debug)]
pub struct Rests(mpsc::Sender<Ask>);

impl Rests {
    /// One, and where its asking is heard, if there is to be rest at every checkpoint.
    pub(crate) fn of(quiescing: &Quiescing) -> Option<(Self, mpsc::Receiver<Ask>)> {
        let (rests, asks) = mpsc::channel(1);
        quiescing.every_checkpoint.then_some((Self(rests), asks))
    }
}

/// What is known of the rests of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// `None`: checkpoints are made without.
    asks: Option<mpsc::Sender<Ask>>,
    asked: Option<oneshot::Receiver<Cut>>,
    /// The newest checkpoint is not of one moment.
    due: bool,
    /// It was found by a comparison of everything: there was no noise.
    silent: bool,
    /// What is dirty has just been made durable.
    copied: bool,
    /// How long taking hold of the state took: at rests that came without that, and at the last one before which it was done.
    plain: Duration,
    after_copy: Duration,
    /// Rests that came to nothing since one did not, and when to try again.
    failures: u32,
    /// The capture in place of the last of them has not ended yet.
    missed: bool,
    again: Option<Monotonic>,
}

impl Resting {
    pub(super) const fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether captures are taken for one moment only if the application was at rest.
    pub(super) const fn doubts(&self) -> bool {
        self.asks.is_some()
    }

    /// The order to cut; `None`: there is no rest. Cancel-safe.
    pub(super) async fn answered(&mut self) -> Option<Cut> {
        match &mut self.asked {
            Some(asked) => asked.await.ok(),
            None => std::future::pending().await,
        }
    }

    /// Asks for a rest, if that has any prospect. `troubled`: the store does not answer, and a rest would be as long as it may be.
    fn ask(&mut self, now: Monotonic, troubled: bool) -> bool {
        let Some(asks) = self.asks.as_ref().filter(|_| self.again.is_none_or(|again| now >= again)) else { return false };
        if troubled {
            self.failed(now);
            return false;
        }
        if !self.copied && self.plain > LITTLE && self.after_copy * 2 <= self.plain {
            self.copied = true;
            return false;
        }
        let (answer, asked) = oneshot::channel();
        // full or closed: nobody is there to bring rest
        self.asked = asks.try_send(answer).is_ok().then_some(asked);
        if self.asked.is_none() {
            self.failed(now);
        }
        self.is_asked()
    }

    fn failed(&mut self, now: Monotonic) {
        (self.failures, self.missed) = (self.failures.saturating_add(1), true);
        self.pause(now);
    }

    /// A capture has ended; `cut`: at rest, as far as anybody knew.
    fn ended(&mut self, now: Monotonic, is_clean: bool, cut: bool) {
        self.due = !is_clean;
        let missed = std::mem::take(&mut self.missed);
        if is_clean {
            (self.copied, self.failures, self.again) = (false, 0, None);
        } else if cut {
            // something moved though all was to be at rest
            self.failed(now);
            self.missed = false;
        } else if missed {
            // the pause begins once the capture is over that was made without; those that follow put nothing off
            self.pause(now);
        }
    }

    fn pause(&mut self, now: Monotonic) {
        self.again = Some(now.plus(doubled(AGAIN_MIN, self.failures.saturating_sub(1), AGAIN_MAX)));
    }

    fn note_reading(&mut self, reading: Duration) {
        if std::mem::take(&mut self.copied) {
            self.after_copy = reading;
            // some day it is tried without again
            self.plain = self.plain * 7 / 8;
        } else {
            self.plain = reading;
        }
    }

    /// When a rest is wanted though nothing has changed since; `None`: the newest checkpoint is of one moment.
    pub(super) fn wanted(&self, now: Monotonic) -> Option<Monotonic> {
        (self.due && self.doubts()).then(|| self.again.unwrap_or(now))
    }
}

impl Agent {
    /// Has the application brought to rest at every checkpoint.
    #[must_use]
    pub(crate) fn resting(mut self, rests: Option<Rests>) -> Self {
        let Some(Rests(asks)) = rests else { return self };
        let due = self.session.as_ref().is_some_and(|session| session.quality().is_some_and(|quality| quality < Quality::Clean));
        self.resting = Resting { asks: Some(asks), due, ..Resting::default() };
        self
    }

    /// Captures what is dirty: at rest, if that is how, and otherwise at once.
    pub(super) fn begin(&mut self, now: Monotonic, everything: bool) {
        let troubled = self.store_trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !self.resting.ask(now, troubled) {
            self.start(everything);
        }
    }

    /// The application is at rest, or there is no rest.
    pub(super) fn rested(&mut self, cut: Option<Cut>) {
        self.resting.asked = None;
        match cut {
            // what made no noise is found once more, if looking for it takes no time
            Some(mut cut) => {
                cut.thorough = self.resting.silent;
                self.cut(cut);
            }
            None => {
                self.resting.failed(SystemClock.monotonic());
                tracing::debug!("the application is not brought to rest now: the capture is made without");
                self.start(self.setting.watch.is_incomplete());
            }
        }
    }

    /// A capture has ended.
    pub(super) fn note_rest(&mut self, now: Monotonic, was_cut: bool, reading: Duration) {
        let quality = self.session.as_ref().and_then(|session| session.quality());
        if was_cut {
            self.resting.note_reading(reading);
        }
        self.resting.ended(now, quality.is_none_or(|quality| quality >= Quality::Clean), was_cut);
        self.resting.silent = self.resting.due && self.scanning;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn resting() -> (Resting, mpsc::Receiver<Ask>) {
        let quiescing = Quiescing { every_checkpoint: true, ..Quiescing::nothing() };
        let (Rests(asks), heard) = Rests::of(&quiescing).expect("they are wanted");
        (Resting { asks: Some(asks), ..Resting::default() }, heard)
    }

    #[test]
    fn nobody_is_stopped_while_the_store_does_not_answer() {
        let (mut resting, mut heard) = resting();
        assert!(!resting.ask(at(0), true));
        assert!(heard.try_recv().is_err());
        assert!(resting.again > Some(at(0)), "it is not asked for all the time");
        assert!(resting.ask(at(1000), false));
        assert!(heard.try_recv().is_ok() && resting.is_asked());
    }

    #[test]
    fn after_a_long_rest_what_is_dirty_is_made_durable_before_the_next() {
        let (mut resting, mut heard) = resting();
        let mut rest = |reading: Duration| {
            let copies = !resting.ask(at(0), false);
            assert!(!copies || resting.ask(at(1), false), "only once");
            assert!(heard.try_recv().is_ok());
            resting.note_reading(reading);
            copies
        };
        assert!(!rest(LITTLE * 8), "nothing is known yet");
        assert!(rest(LITTLE));
        let more = (0..100).take_while(|_| rest(LITTLE)).count();
        assert!((1..20).contains(&more), "some day it is tried without: {more}");
        assert!(!rest(LITTLE * 8) && rest(LITTLE * 7), "it was worth it, and is not any more");
        assert!(!rest(LITTLE * 8) && !rest(LITTLE * 8));
        assert!(!rest(LITTLE * 20) && rest(LITTLE), "there is more to gain");
    }

    #[test]
    fn a_rest_that_comes_to_nothing_is_tried_less_and_less_often() {
        let (mut resting, mut heard) = resting();
        resting.due = true;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            resting.failed(at(0));
            let wanted = resting.wanted(at(0)).expect("it is wanted");
            pauses.push(wanted.since(at(0)).as_secs());
            assert!(!resting.ask(at(0), false) && heard.try_recv().is_err(), "not before its time");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(resting.ask(at(60_000), false) && heard.try_recv().is_ok());
    }

    #[test]
    fn captures_that_follow_each_other_put_no_rest_off() {
        let (mut resting, mut heard) = resting();
        for _ in 0..4 {
            resting.failed(at(0));
        }
        // it would be tried after 8 s; each capture takes 400 ms
        let tried = (1..=30).find(|number| {
            let now = at(number * 400);
            resting.ended(now, false, false);
            resting.ask(now, false)
        });
        assert_eq!(tried, Some(21), "8 s after the end of the first");
        assert!(heard.try_recv().is_ok());
        resting.ended(at(9000), true, true);
        assert_eq!((resting.wanted(at(9000)), resting.failures), (None, 0));
    }

    #[test]
    fn where_nobody_brings_rest_none_is_waited_for() {
        let (mut resting, heard) = resting();
        drop(heard);
        assert!(!resting.ask(at(0), false) && !resting.is_asked());
        assert!(resting.again.is_some(), "it is not asked for all the time");
    }
}
