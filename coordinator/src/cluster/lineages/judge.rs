// SPDX-License-Identifier: Apache-2.0
//! What is to be said of a lineage, from what its agent says, from its pod, and from how long nothing was heard. Plain functions.

use crate::cluster::WaitingFor;
use crate::cluster::conditions::{Saying, Truth};
use holdfast_core::time::{Monotonic, Timestamp};
use holdfast_proto::v1::Phase;
use std::time::Duration;

/// The condition of a StateLineage.
pub(crate) const PROTECTED: &str = "Protected";
/// Beyond what the cadence allows, uploading and reporting take their time.
const SLACK: Duration = Duration::from_secs(10);
/// An agent that changes coordinators is silent for a moment.
const RECONNECTS_WITHIN: Duration = Duration::from_secs(15);

/// What an agent that has a session says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) holder: String,
    pub(crate) phase: Phase,
    /// With the silence since.
    pub(crate) lag: Duration,
    /// The greatest of the last seconds, as its agent tells it; 0 if it doesn't.
    pub(crate) peak: Duration,
    pub(crate) trouble: String,
    /// It said that changes were not durable, however long ago that was.
    pub(crate) dirty: bool,
    /// What it can't capture, in a sentence; empty: nothing.
    pub(crate) unreadable: String,
    /// With the lengths of its files together, 0 if it did not tell.
    pub(crate) newest: Option<(Newest, u64)>,
}

/// The newest checkpoint that an agent has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) quality: holdfast_proto::v1::Quality,
}

/// What was last heard of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) lag: Duration,
    pub(crate) at: Monotonic,
    /// Its agent said that changes were not durable, and nothing else since.
    pub(crate) dirty: bool,
}

/// What is known of a lineage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) seen: Option<Seen>,
    pub(crate) heard: Option<Heard>,
    /// Whether its history was closed; not known before the log was read since its agent has gone.
    pub(crate) sealed: Option<bool>,
    /// What was said of it last, by whoever led, knew of changes that were not durable.
    pub(crate) was_dirty: bool,
    /// What the last agent that captured could not capture, whoever led then, in a sentence; empty: nothing.
    pub(crate) unreadable: String,
    /// A pod bears its label and has not ended.
    pub(crate) has_pod: bool,
    /// How old the newest known checkpoint is, by the day's clock.
    pub(crate) age: Option<Duration>,
    /// Changes are durable within this, by the policy.
    pub(crate) limit: Duration,
    /// The pod that has its slot and was not granted it yet, with what for.
    pub(crate) waiting: Option<(String, WaitingFor)>,
    /// What of its newest checkpoint could not be read back.
    pub(crate) damage: Option<String>,
    /// Why its repository can't be used, if it can't.
    pub(crate) repository: Option<String>,
}

impl Facts {
    /// Whether changes are not durable, as far as anybody has heard: what its agent said last, or what was heard before this process led. How old they
    /// were lately, and how long nothing was heard, says nothing of that. What an agent seals is whole.
    pub(crate) fn is_dirty(&self) -> bool {
        let is_sealed = self.seen.is_none() && self.sealed == Some(true);
        !is_sealed && self.heard.map_or(self.was_dirty, |heard| heard.dirty)
    }
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) saying: Saying,
    /// Seconds since the oldest change that is not durable, as far as is known; none where nothing writes.
    pub(crate) lag: Option<Duration>,
}

impl Judgement {
    pub(crate) fn is_protected(&self) -> bool {
        self.saying.is == Truth::True
    }
}

/// What is to be said of a lineage.
pub(crate) fn judge(now: Monotonic, facts: &Facts) -> Judgement {
    let say = |is: Truth, reason: &'static str, message: String, lag: Option<Duration>| Judgement {
        saying: Saying::new(PROTECTED, is, reason, message),
        lag,
    };
    if let Some(what) = &facts.damage {
        let message = format!("what is stored can't be read back: {what}; `holdfast check --read-data` tells all of it");
        return say(Truth::False, "Damaged", message, facts.seen.as_ref().map(|seen| seen.lag));
    }
    if let Some(seen) = &facts.seen {
        let (is, reason, message) = streaming(seen, facts.limit);
        return say(is, reason, message, Some(seen.lag));
    }
    if !facts.has_pod {
        if let Some((pod, waiting)) = &facts.waiting {
            return say(Truth::False, waiting.reason, format!("pod {pod} waits for it: {}", waiting.message), None);
        }
        let (is, reason, message) = left(facts);
        return say(is, reason, message, None);
    }
    let silent = facts.heard.map(|heard| now.since(heard.at));
    let lag = match (facts.heard, silent) {
        (Some(heard), Some(silent)) => Some(heard.lag + silent),
        // not heard by this process yet: nothing is known to be durable beyond the checkpoint
        _ => facts.age,
    };
    if let Some(why) = &facts.repository {
        return say(Truth::False, "RepositoryNotReady", format!("its repository can't be used: {why}"), lag);
    }
    match silent {
        Some(silent) if silent <= RECONNECTS_WITHIN => {
            say(Truth::Unknown, "Reconnecting", "its agent is changing coordinators".to_owned(), lag)
        }
        _ => say(Truth::False, "AgentSilent", "its pod runs, and nothing is heard of its agent".to_owned(), lag),
    }
}

/// What is said of a lineage that nobody writes.
fn left(facts: &Facts) -> (Truth, &'static str, String) {
    let text = str::to_owned;
    match facts.sealed {
        Some(false) if facts.is_dirty() => {
            let lost =
                "its pod has gone before everything was durable; what is not in the newest checkpoint is on its volume, or lost";
            (Truth::False, "Unsealed", text(lost))
        }
        None if facts.is_dirty() => {
            (Truth::Unknown, "NotRead", text("its pod has gone, and its newest checkpoint was not read yet"))
        }
        // what is sealed lacks it, too
        _ if !facts.unreadable.is_empty() => (Truth::False, "Unreadable", facts.unreadable.clone()),
        _ => (Truth::True, "AtRest", text("no pod writes it; its newest checkpoint is durable")),
    }
}

fn streaming(seen: &Seen, limit: Duration) -> (Truth, &'static str, String) {
    if !seen.trouble.is_empty() {
        return (Truth::False, "Trouble", seen.trouble.clone());
    }
    let text = str::to_owned;
    match seen.phase {
        Phase::Waiting => (Truth::False, "Waiting", text("its gate is shut: the Events of its pod say what for")),
        Phase::Restoring => (Truth::False, "Restoring", text("its state is being restored")),
        Phase::Seeding => (Truth::False, "Seeding", text("its first checkpoint is being made")),
        _ if seen.lag > limit + SLACK => {
            let message = format!("changes are durable within {} s by its policy, and some have waited longer", limit.as_secs());
            (Truth::False, "Lagging", message)
        }
        Phase::Streaming | Phase::Ending | Phase::Ended if !seen.unreadable.is_empty() => {
            (Truth::False, "Unreadable", seen.unreadable.clone())
        }
        Phase::Ending | Phase::Ended => {
            (Truth::True, "Ending", text("its application has ended, and the last checkpoint is made"))
        }
        Phase::Streaming | Phase::Unspecified => (Truth::True, "Streaming", text("its changes are durable within its cadence")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(phase: Phase, lag: u64, trouble: &str) -> Facts {
        let seen = Seen {
            holder: "web-0".to_owned(),
            phase,
            lag: seconds(lag),
            peak: Duration::ZERO,
            trouble: trouble.to_owned(),
            dirty: lag > 0,
            unreadable: String::new(),
            newest: None,
        };
        Facts { seen: Some(seen), has_pod: true, limit: seconds(10), ..Facts::default() }
    }

    fn judged(now: u64, facts: &Facts) -> (Truth, &'static str, Option<u64>) {
        let judgement = judge(Monotonic(seconds(now)), facts);
        (judgement.saying.is, judgement.saying.reason, judgement.lag.map(|lag| lag.as_secs()))
    }

    #[test]
    fn an_agent_is_believed_and_its_silence_counts() {
        assert_eq!(judged(0, &seen(Phase::Streaming, 3, "")), (Truth::True, "Streaming", Some(3)));
        assert_eq!(judged(0, &seen(Phase::Streaming, 20, "")), (Truth::True, "Streaming", Some(20)));
        assert_eq!(judged(0, &seen(Phase::Streaming, 21, "")), (Truth::False, "Lagging", Some(21)));
        assert_eq!(judged(0, &seen(Phase::Streaming, 0, "the store refuses")), (Truth::False, "Trouble", Some(0)));
        for (phase, reason) in [(Phase::Waiting, "Waiting"), (Phase::Restoring, "Restoring"), (Phase::Seeding, "Seeding")] {
            assert_eq!(judged(0, &seen(phase, 0, "")).1, reason);
        }
        let heard = Heard { lag: seconds(2), at: Monotonic(seconds(100)), dirty: true };
        let silent = Facts { heard: Some(heard), has_pod: true, limit: seconds(10), ..Facts::default() };
        assert_eq!(judged(110, &silent), (Truth::Unknown, "Reconnecting", Some(12)));
        assert_eq!(judged(160, &silent), (Truth::False, "AgentSilent", Some(62)));
        let away = Facts { repository: Some("no answer".to_owned()), ..silent };
        assert_eq!(judged(160, &away), (Truth::False, "RepositoryNotReady", Some(62)));
        let after_a_restart = Facts { heard: None, age: Some(seconds(300)), repository: None, ..away };
        assert_eq!(judged(160, &after_a_restart), (Truth::False, "AgentSilent", Some(300)));
    }

    #[test]
    fn what_cannot_be_read_back_is_not_protected() {
        let damaged = Facts { damage: Some("a pack is missing".to_owned()), ..seen(Phase::Streaming, 3, "") };
        assert_eq!(judged(0, &damaged), (Truth::False, "Damaged", Some(3)));
    }

    #[test]
    fn what_cannot_be_captured_is_not_protected() {
        let unreadable = |phase, trouble| {
            let mut facts = seen(phase, 3, trouble);
            facts.seen.iter_mut().for_each(|seen| seen.unreadable = "/data/key can't be captured".to_owned());
            judge(Monotonic::default(), &facts).saying
        };
        let said = unreadable(Phase::Streaming, "");
        assert_eq!((said.is, said.reason, said.message.as_str()), (Truth::False, "Unreadable", "/data/key can't be captured"));
        assert_eq!(unreadable(Phase::Ended, "").reason, "Unreadable", "its last checkpoint lacks it");
        // what keeps all of it from being durable is told first
        assert_eq!(unreadable(Phase::Streaming, "the store refuses").reason, "Trouble");
        assert_eq!(unreadable(Phase::Seeding, "").reason, "Seeding");
    }

    #[test]
    fn what_a_pod_waits_for_is_not_at_rest() {
        let foreign = WaitingFor::warning("ForeignLineageFound", "choose");
        let facts = Facts { waiting: Some(("web-0".to_owned(), foreign)), ..Facts::default() };
        let judgement = judge(Monotonic::default(), &facts);
        assert_eq!((judgement.saying.is, judgement.saying.reason), (Truth::False, "ForeignLineageFound"));
        assert_eq!(judgement.saying.message, "pod web-0 waits for it: choose");
        // of one that an agent writes, the agent speaks
        let seen = Facts { waiting: facts.waiting, ..seen(Phase::Streaming, 0, "") };
        assert_eq!(judged(0, &seen).1, "Streaming");
    }

    #[test]
    fn what_nobody_writes_does_not_lag() {
        assert_eq!(judged(0, &Facts::default()), (Truth::True, "AtRest", None));
        let heard = |lag, dirty| Some(Heard { lag: seconds(lag), at: Monotonic::default(), dirty });
        let of = |heard, sealed, was_dirty| judged(9, &Facts { heard, sealed, was_dirty, ..Facts::default() });
        assert_eq!(of(heard(5, true), Some(false), false), (Truth::False, "Unsealed", None));
        assert_eq!(of(heard(0, true), Some(false), false).1, "Unsealed", "it was heard of a moment ago");
        assert_eq!(of(heard(5, true), None, false), (Truth::Unknown, "NotRead", None));
        assert_eq!(of(heard(5, true), Some(true), true).1, "AtRest");
        assert_eq!(of(heard(0, false), Some(false), true).1, "AtRest");
        // its silence is no change
        assert_eq!(of(heard(60, false), Some(false), false).1, "AtRest");
        // whoever leads now has heard nothing of it: what was said before counts
        assert_eq!(of(None, Some(false), true), (Truth::False, "Unsealed", None));
        assert_eq!(of(None, Some(false), false).1, "AtRest");
        assert_eq!(of(None, Some(true), true).1, "AtRest");
    }
}
