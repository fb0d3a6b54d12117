// SPDX-License-Identifier: Apache-2.0
//! A pod's connection, as its session sees it: words from the task of the slots one way, what the agent says the other.

use super::slots::{Ask, News, Said};
use crate::session::usher::{Usher, Word};
use crate::status;
use holdfast_core::disk::refusal_in;
use holdfast_proto::v1::{Live, Phase};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// That an agent lives is passed on at most so often.
const HEARD_EVERY: Duration = Duration::from_secs(2);

/// Accompanies one connection of a pod's agent.
#[derive(Debug)]
pub(super) struct PodUsher {
    asks: mpsc::Sender<Ask>,
    hears: watch::Receiver<Said>,
    uid: String,
    connection: u64,
    heard: Option<Instant>,
    news: Option<News>,
}

impl PodUsher {
    pub(super) fn new(asks: mpsc::Sender<Ask>, hears: watch::Receiver<Said>, uid: String, connection: u64) -> Self {
        Self { asks, hears, uid, connection, heard: None, news: None }
    }
}

#[tonic::async_trait]
impl Usher for PodUsher {
    async fn next(&mut self) -> Word {
        loop {
            if self.hears.changed().await.is_err() {
                return Word::End { status: status::shutting_down(), revoke: false };
            }
            let said = self.hears.borrow_and_update().clone();
            let Some(speech) = said.0 else { continue };
            return speech.word();
        }
    }

    fn heard(&mut self, live: Option<&Live>) {
        let news = live.and_then(news);
        let is_new = news.is_some() && news != self.news;
        if !is_new && self.heard.is_some_and(|heard| heard.elapsed() < HEARD_EVERY) {
            return;
        }
        let ask = Ask::Heard { uid: self.uid.clone(), connection: self.connection, news: news.clone().filter(|_| is_new) };
        // a full queue has other things to do: what is new is said again with the next report
        if self.asks.try_send(ask).is_ok() {
            self.heard = Some(Instant::now());
            if is_new {
                self.news = news;
            }
        }
    }

    fn stopping(&mut self, grace: Duration) {
        tracing::debug!(pod = self.uid, grace = grace.as_secs_f32(), "the pod is being ended");
        self.heard(None);
    }
}

impl Drop for PodUsher {
    fn drop(&mut self) {
        // should the queue be full, the task finds the connection gone when it looks next
        self.asks.try_send(Ask::Leaves { uid: self.uid.clone(), connection: self.connection }).ok();
    }
}

/// What a report tells of a session that has its lineage.
fn news(live: &Live) -> Option<News> {
    match live.phase() {
        Phase::Unspecified => None,
        // one that has just begun waits for nobody, and one that the store refuses for no decision
        Phase::Waiting => Some(match refusal_in(&live.trouble) {
            Some((reason, message)) => News::Stuck(reason, message.to_owned()),
            None => News::Begins,
        }),
        Phase::Ended => Some(News::Ended),
        Phase::Restoring | Phase::Seeding | Phase::Streaming | Phase::Ending => Some(News::Goes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decision_is_waited_for() {
        let of =
            |phase: Phase, trouble: &str| news(&Live { phase: phase.into(), trouble: trouble.to_owned(), ..Live::default() });
        let diverged = "Diverged: state path data is older: choose";
        assert_eq!(of(Phase::Waiting, diverged), Some(News::Stuck("Diverged", "state path data is older: choose".to_owned())));
        assert_eq!(of(Phase::Waiting, "Unmarked: choose"), Some(News::Stuck("Unmarked", "choose".to_owned())));
        assert_eq!(of(Phase::Waiting, ""), Some(News::Begins));
        assert_eq!(of(Phase::Waiting, "StoreRefused: Diverged: 403"), Some(News::Begins));
        assert_eq!(of(Phase::Restoring, diverged), Some(News::Goes));
        assert_eq!(of(Phase::Ended, ""), Some(News::Ended));
    }
}
