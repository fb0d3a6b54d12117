// SPDX-License-Identifier: Apache-2.0
//! Events on the objects concerned, so that `kubectl describe` answers what happened. Nobody waits for one to be told, and the same thing is not
//! told again and again.

use super::metrics::Metrics;
use crate::clock::Clock;
use holdfast_core::time::Monotonic;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait to be told; more are dropped, and counted.
const QUEUE: usize = 1024;
/// The same is told again after this, while it goes on.
const AGAIN_AFTER: Duration = Duration::from_secs(240);
/// What was told is remembered of so many.
const TOLD_MAX: usize = 8192;
/// Longest note: the API server takes 1 kB.
const NOTE_MAX: usize = 1000;
/// One that the API server doesn't take within this is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct News {
    /// To what.
    pub(crate) about: ObjectReference,
    /// Somebody may have to do something.
    pub(crate) is_warning: bool,
    /// In CamelCase, one of a closed set.
    pub(crate) reason: &'static str,
    /// What was being done, in CamelCase.
    pub(crate) action: &'static str,
    /// For people.
    pub(crate) note: String,
}

impl News {
    /// Nothing to worry about.
    pub(crate) fn normal(about: ObjectReference, reason: &'static str, action: &'static str, note: impl Into<String>) -> Self {
        Self { about, is_warning: false, reason, action, note: note.into() }
    }

    /// Somebody may have to do something.
    pub(crate) fn warning(about: ObjectReference, reason: &'static str, action: &'static str, note: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::normal(about, reason, action, note) }
    }
}

/// Where news are handed in; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<News>,
    metrics: Metrics,
}

/// Where they come out.
pub(crate) type Queue = mpsc::Receiver<News>;

impl Events {
    /// A place to hand news in, and the other end, for [`tell`].
    pub(crate) fn new(metrics: Metrics) -> (Self, Queue) {
        let (queue, news) = mpsc::channel(QUEUE);
        (Self { queue, metrics }, news)
    }

    /// Hands something in; never waits.
    pub(crate) fn tell(&self, mut news: News) {
        news.note.truncate(news.note.floor_char_boundary(NOTE_MAX));
        if self.queue.try_send(news).is_err() {
            self.metrics.event_dropped();
        }
    }
}

/// What was told of an object, by reason.
struct Told {
    note: String,
    at: Monotonic,
    /// One for each note: it counts what is the same, and would take a new note for an old one.
    recorder: Recorder,
}

/// Tells what is handed in, until `stop`.
pub(crate) async fn tell(client: Client, reporter: Reporter, clock: Clock, mut news: Queue, stop: CancellationToken) {
    let mut told: HashMap<(String, &'static str), Told> = HashMap::new();
    while let Some(Some(news)) = stop.run_until_cancelled(news.recv()).await {
        let now = clock.monotonic();
        let key = (key(&news.about), news.reason);
        let before = told.get(&key).filter(|told| told.note == news.note);
        if before.is_some_and(|told| now.since(told.at) < AGAIN_AFTER) {
            continue;
        }
        let recorder = before.map_or_else(|| Recorder::new(client.clone(), reporter.clone()), |told| told.recorder.clone());
        let event = Event {
            type_: if news.is_warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.to_owned(),
            note: Some(news.note.clone()),
            action: news.action.to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(PATIENCE, recorder.publish(&event, &news.about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = news.reason, "an event could not be told"),
            Err(_) => tracing::warn!(reason = news.reason, "an event could not be told in time"),
        }
        if told.len() >= TOLD_MAX {
            told.retain(|_, told| now.since(told.at) < AGAIN_AFTER);
        }
        if told.len() < TOLD_MAX {
            told.insert(key, Told { note: news.note, at: now, recorder });
        }
    }
}

fn key(about: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}/{}/{}", part(&about.kind), part(&about.namespace), part(&about.name), part(&about.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kube_kit::ApiServer;

    #[tokio::test]
    async fn the_same_is_told_once_and_what_changed_again() {
        let server = ApiServer::default();
        let (events, queue) = Events::new(Metrics::default());
        let about = |name: &str| ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some("shop".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        for _ in 0..100 {
            events.tell(News::warning(about("web-0"), "SlotHeld", "Wait", "web-1 holds it"));
        }
        events.tell(News::warning(about("web-1"), "SlotHeld", "Wait", "web-1 holds it"));
        events.tell(News::warning(about("web-0"), "SlotHeld", "Wait", "web-2 holds it"));
        events.tell(News::normal(about("web-0"), "Restored", "Restore", "x".repeat(5000)));
        let stop = CancellationToken::new();
        let telling = tell(server.client(), "holdfast".into(), Clock::new(), queue, stop.clone());
        let seen = async {
            server.until(|server| (server.list("events").len() == 4).then_some(())).await;
            stop.cancel();
        };
        tokio::join!(telling, seen);
        assert_eq!(server.writes().len(), 4);
        let notes: Vec<usize> = server.list("events").iter().map(|event| event["note"].as_str().expect("a note").len()).collect();
        assert!(notes.iter().all(|len| *len <= NOTE_MAX), "{notes:?}");
    }

    #[tokio::test]
    async fn who_tells_too_much_is_not_kept_waiting() {
        let metrics = Metrics::default();
        let (events, queue) = Events::new(metrics.clone());
        for number in 0..QUEUE + 7 {
            events.tell(News::normal(ObjectReference::default(), "Much", "Tell", number.to_string()));
        }
        assert!(metrics.text().contains("events_dropped_total 7"), "{}", metrics.text());
        drop(queue);
    }
}
