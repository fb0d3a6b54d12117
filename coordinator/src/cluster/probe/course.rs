// SPDX-License-Identifier: Apache-2.0
//! What the answers to probes mean, and what is to be said of them. Plain functions of answers and of the time.

use crate::cluster::pki::Now;
use holdfast_api::labels;
use holdfast_core::time::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

/// The entry of the webhook's configuration that is asked about probes, and about nothing else.
pub(super) const ENTRY: &str = "probe.holdfast.dev";
/// So many attempts in a row fail before anybody is told: a single one may have met a webhook that was being replaced.
const FAILURES: u32 = 3;
/// Between attempts, until it is known how things are, so many times sooner.
const SOONER: u32 = 6;
/// What the API server says of a webhook that answers 404.
const NOT_FOUND: &str = "could not find the requested resource";
/// The longest words of the API server that are passed on, in bytes.
const WORDS_MAX: usize = 600;

/// What one attempt has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The webhook has answered.
    Reached,
    /// It could not be reached, in the API server's words.
    Unreached(String),
    /// Nothing.
    Unknown(Gap),
}

/// Why an attempt has shown nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Gap {
    /// Older manifests are applied.
    #[error("the MutatingWebhookConfiguration holdfast has no entry probe.holdfast.dev: apply deploy/ of this version")]
    NoEntry,
    /// Other manifests are applied, or the API server has not read them yet.
    #[error("the API server did not ask the webhook: is its entry probe.holdfast.dev as deploy/ has it?")]
    NotAsked,
    /// It will be replaced soon, most of the time.
    #[error("the webhook that answers is of an earlier version, which knows no probes")]
    OldWebhook,
    /// Rights, quotas, other admission.
    #[error("the coordinator can't try to create a ConfigMap in its own namespace: {0}")]
    Refused(String),
    /// Whatever else.
    #[error("the API server did not try it: {0}")]
    Failed(String),
}

/// What an answer to a probe with this word means.
pub(super) fn read(answer: Result<ConfigMap, kube::Error>, word: &str) -> Finding {
    let status = match answer {
        Ok(map) if map.annotations().get(labels::PROBED).is_some_and(|found| found == word) => return Finding::Reached,
        Ok(_) => return Finding::Unknown(Gap::NotAsked),
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Finding::Unknown(Gap::Failed(error.to_string())),
    };
    // of others' webhooks it says the same
    let ours = format!("failed calling webhook {ENTRY:?}: ");
    match status.message.split_once(&ours) {
        Some((_, words)) if words.contains(NOT_FOUND) => Finding::Unknown(Gap::OldWebhook),
        Some((_, words)) => Finding::Unreached(words[..words.floor_char_boundary(WORDS_MAX)].to_owned()),
        None if status.is_forbidden() => Finding::Unknown(Gap::Refused(status.message.clone())),
        None => Finding::Unknown(Gap::Failed(status.message.clone())),
    }
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Saying {
    /// It is reachable; before, nothing was known.
    Reachable,
    /// It is reachable again, after so long.
    Again(Duration),
    /// It is not.
    Unreachable { since: Timestamp, words: String, begins: bool },
    /// Nothing is known.
    Unknown(Gap),
}

/// What is known after some attempts.
#[derive(Debug, Default)]
pub(super) struct Course {
    known: bool,
    failing: Option<Failing>,
    /// What was said to be in the way.
    gap: Option<Discriminant<Gap>>,
}

#[derive(Debug)]
struct Failing {
    since: Now,
    /// Those with which it was told: what is told does not change while it goes on.
    words: String,
    times: u32,
}

impl Course {
    /// Takes in what an attempt has shown; returns what is to be told.
    pub(super) fn learn(&mut self, now: Now, finding: Finding) -> Option<Saying> {
        match finding {
            Finding::Reached => {
                self.gap = None;
                let was_known = std::mem::replace(&mut self.known, true);
                match self.failing.take().filter(|failing| failing.times >= FAILURES) {
                    Some(failing) => Some(Saying::Again(now.steady.since(failing.since.steady))),
                    None => (!was_known).then_some(Saying::Reachable),
                }
            }
            Finding::Unreached(words) => {
                self.gap = None;
                let failing = self.failing.get_or_insert_with(|| Failing { since: now, words: String::new(), times: 0 });
                failing.times = failing.times.saturating_add(1);
                if failing.times <= FAILURES {
                    failing.words = words;
                }
                if failing.times < FAILURES {
                    return None;
                }
                self.known = true;
                let (words, begins) = (failing.words.clone(), failing.times == FAILURES);
                Some(Saying::Unreachable { since: failing.since.day, words, begins })
            }
            Finding::Unknown(gap) => {
                self.known = false;
                let kind = discriminant(&gap);
                (self.gap.replace(kind) != Some(kind)).then_some(Saying::Unknown(gap))
            }
        }
    }

    /// Whether the API server reaches the webhook, if that is known.
    pub(super) fn reachable(&self) -> Option<bool> {
        self.known.then(|| self.trouble().is_none())
    }

    /// Why it doesn't.
    pub(super) fn trouble(&self) -> Option<&str> {
        let failing = self.failing.as_ref().filter(|failing| self.known && failing.times >= FAILURES);
        failing.map(|failing| failing.words.as_str())
    }

    /// Until the next attempt.
    pub(super) fn pause(&self, every: Duration) -> Duration {
        let is_settled = self.failing.is_none() && (self.known || self.gap.is_some());
        if is_settled { every } else { every / SOONER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kube_kit::failure;
    use holdfast_core::time::Monotonic;
    use http::StatusCode;
    use serde_json::json;

    fn marked(annotations: serde_json::Value) -> Result<ConfigMap, kube::Error> {
        Ok(serde_json::from_value(json!({ "metadata": { "name": "probe", "annotations": annotations } })).expect("a ConfigMap"))
    }

    fn refused(code: StatusCode, reason: &str, message: &str) -> Result<ConfigMap, kube::Error> {
        let status = serde_json::from_value(failure(code, reason, message)).expect("a Status");
        Err(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn answers_are_told_apart() {
        let internal = |message: &str| refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message);
        assert_eq!(read(marked(json!({ labels::PROBED: "word" })), "word"), Finding::Reached);
        let not_asked = Finding::Unknown(Gap::NotAsked);
        assert_eq!(read(marked(json!({ labels::PROBED: "another" })), "word"), not_asked, "an answer to another question");
        assert_eq!(read(marked(json!({})), "word"), not_asked);
        let away = r#"failed to call webhook: Post "https://holdfast-webhook.holdfast-system.svc:443/mutate/probe?timeout=5s": dial tcp 10.0.0.1:443: i/o timeout"#;
        let message = format!(r#"Internal error occurred: failed calling webhook "probe.holdfast.dev": {away}"#);
        assert_eq!(read(internal(&message), "word"), Finding::Unreached(away.to_owned()));
        let others = r#"Internal error occurred: failed calling webhook "pods.example.com": failed to call webhook: no"#;
        assert_eq!(read(internal(others), "word"), Finding::Unknown(Gap::Failed(others.to_owned())));
        let old = r#"failed calling webhook "probe.holdfast.dev": failed to call webhook: the server could not find the requested resource"#;
        assert_eq!(read(internal(old), "word"), Finding::Unknown(Gap::OldWebhook));
        let rights = "configmaps is forbidden: User \"x\" cannot create resource \"configmaps\"";
        let found = read(refused(StatusCode::FORBIDDEN, "Forbidden", rights), "word");
        assert_eq!(found, Finding::Unknown(Gap::Refused(rights.to_owned())));
        let long = format!(r#"failed calling webhook "probe.holdfast.dev": {}"#, "ä".repeat(5000));
        assert!(matches!(read(internal(&long), "word"), Finding::Unreached(words) if words.len() == WORDS_MAX));
    }

    fn at(seconds: u64) -> Now {
        let since = Duration::from_secs(seconds);
        Now { day: Timestamp::default().plus(since), steady: Monotonic(since) }
    }

    fn away(words: &str) -> Finding {
        Finding::Unreached(words.to_owned())
    }

    /// What is known after an attempt: whether it is reachable, and in how many seconds the next one comes, of 60.
    fn state(course: &Course) -> (Option<bool>, u64) {
        (course.reachable(), course.pause(Duration::from_secs(60)).as_secs())
    }

    #[test]
    fn several_failures_in_a_row_are_told_and_so_is_their_end() {
        let mut course = Course::default();
        assert_eq!(state(&course), (None, 10));
        assert_eq!(course.learn(at(10), Finding::Reached), Some(Saying::Reachable));
        assert_eq!((course.learn(at(70), Finding::Reached), state(&course)), (None, (Some(true), 60)));
        // one that failed, and it was nothing
        assert_eq!((course.learn(at(130), away("one")), state(&course)), (None, (Some(true), 10)));
        assert_eq!((course.learn(at(140), Finding::Reached), state(&course)), (None, (Some(true), 60)));
        assert_eq!(course.learn(at(200), away("one")), None);
        assert_eq!(course.learn(at(210), away("two")), None);
        let told = |begins| Saying::Unreachable { since: at(200).day, words: "three".to_owned(), begins };
        assert_eq!(course.learn(at(220), away("three")), Some(told(true)));
        assert_eq!((course.trouble(), state(&course)), (Some("three"), (Some(false), 10)));
        assert_eq!(course.learn(at(230), away("four")), Some(told(false)), "it goes on, and is called the same");
        assert_eq!(course.learn(at(243), Finding::Reached), Some(Saying::Again(Duration::from_secs(43))));
        assert_eq!((course.trouble(), state(&course)), (None, (Some(true), 60)));
    }

    #[test]
    fn what_is_not_known_is_said_once_and_nothing_is_claimed() {
        let mut course = Course::default();
        assert_eq!(course.learn(at(10), Finding::Unknown(Gap::NoEntry)), Some(Saying::Unknown(Gap::NoEntry)));
        assert_eq!(state(&course), (None, 60));
        assert_eq!(course.learn(at(70), Finding::Unknown(Gap::NoEntry)), None);
        assert_eq!(course.learn(at(130), Finding::Unknown(Gap::OldWebhook)), Some(Saying::Unknown(Gap::OldWebhook)));
        let refused = |words: &str| Finding::Unknown(Gap::Refused(words.to_owned()));
        assert!(course.learn(at(190), refused("one")).is_some() && course.learn(at(250), refused("two")).is_none());
        assert_eq!(course.learn(at(310), Finding::Reached), Some(Saying::Reachable));
        for second in [370, 380, 390] {
            course.learn(at(second), away("no"));
        }
        assert_eq!(state(&course), (Some(false), 10));
        // an API server that does not answer says nothing of the webhook, and ends no outage
        assert!(course.learn(at(400), Finding::Unknown(Gap::Failed("no answer".to_owned()))).is_some());
        assert_eq!((course.trouble(), state(&course)), (None, (None, 10)));
        assert_eq!(course.learn(at(410), Finding::Reached), Some(Saying::Again(Duration::from_secs(40))));
    }
}
