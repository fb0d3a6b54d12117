// SPDX-License-Identifier: Apache-2.0
//! Conditions: written only when they say something new, and dated when their status changed.

use holdfast_core::time::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message, in bytes: the API server takes 32 KiB, people read less.
const MESSAGE_MAX: usize = 1024;

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    const fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(is: bool) -> Self {
        if is { Self::True } else { Self::False }
    }
}

/// What a condition is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) kind: &'static str,
    pub(crate) is: Truth,
    /// In CamelCase, one of a closed set.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

impl Saying {
    pub(crate) fn new(kind: &'static str, is: impl Into<Truth>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, is: is.into(), reason, message: bounded(message.into()) }
    }
}

/// As much of a message as is written.
pub(crate) fn bounded(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_MAX));
    message
}

/// The conditions that say this, with the dates of those that said it before. Others' conditions are left out: they are merged by their type.
pub(crate) fn settled(before: &[Condition], sayings: &[Saying], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let condition = |saying: &Saying| {
        let old = find(before, saying.kind).filter(|old| old.status == saying.is.text());
        Condition {
            type_: saying.kind.to_owned(),
            status: saying.is.text().to_owned(),
            reason: saying.reason.to_owned(),
            message: saying.message.clone(),
            observed_generation: generation,
            last_transition_time: old.map_or_else(|| whole_seconds(now), |old| old.last_transition_time.clone()),
        }
    };
    sayings.iter().map(condition).collect()
}

/// The condition of a kind.
pub(crate) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a condition says that something is so.
pub(crate) fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == Truth::True.text())
}

/// Whether all of these stand there already.
pub(crate) fn all_said(before: &[Condition], wanted: &[Condition]) -> bool {
    wanted.iter().all(|wanted| before.contains(wanted))
}

/// A moment as the API carries it.
pub(crate) fn whole_seconds(moment: Timestamp) -> Time {
    Time(Timestamp::from_nanos(moment.nanos().div_euclid(1_000_000_000).saturating_mul(1_000_000_000)).to_jiff())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_changes_with_the_status_only() {
        let now = Timestamp::from_nanos(1_800_000_000_500_000_000);
        let later = now.plus(Duration::from_secs(60));
        let ready = |is: bool, reason| [Saying::new("Ready", is, reason, "because")];
        let first = settled(&[], &ready(false, "SecretMissing"), Some(1), now);
        assert_eq!(first[0].last_transition_time.0.to_string(), "2027-01-15T08:00:00Z");
        let same = settled(&first, &ready(false, "SecretMissing"), Some(1), later);
        assert!(all_said(&first, &same), "nothing to write");
        let other = settled(&first, &ready(false, "StoreUnreachable"), Some(2), later);
        assert_eq!(other[0].last_transition_time, first[0].last_transition_time);
        assert!(!all_said(&first, &other));
        let changed = settled(&other, &ready(true, "Ready"), Some(2), later);
        assert_ne!(changed[0].last_transition_time, first[0].last_transition_time);
        assert!(is_true(&changed, "Ready") && !is_true(&other, "Ready"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let saying = Saying::new("Ready", Truth::Unknown, "Long", "ö".repeat(2000));
        assert!(saying.message.len() <= MESSAGE_MAX && saying.message.ends_with('ö'));
    }
}
