// SPDX-License-Identifier: Apache-2.0
//! Faults by rule: the nth request of a method to keys with a prefix meets this fault.

use std::ops::{Bound, RangeBounds};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;

use super::{Fault, Faults, Request};

#[derive(Debug)]
enum Target {
    Objects { method: Method, prefix: String },
    Lists,
}

impl Target {
    fn is_met_by(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Objects { method, prefix } => {
                method == request.method && !request.key.is_empty() && request.key.starts_with(prefix)
            }
            Self::Lists => request.is_list(),
        }
    }
}

#[derive(Debug)]
struct Rule {
    target: Target,
    hits: (Bound<u64>, Bound<u64>),
    seen: u64,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    fired: u64,
}

/// [`Faults`] by rule. Rules can be added while the server runs; share the script by an `Arc`.
///
/// Each rule counts the requests it is about from the moment it was added, also those that another rule took. Of the
/// rules that are due for a request, the one added first decides.
///
/// ```
/// use holdfast_s3_server::{Fault, Script};
/// use http::{Method, StatusCode};
///
/// let script = Script::new();
/// // the second PUT below log/ takes effect, but its answer is lost
/// script.nth(Method::PUT, "log/", 2, Fault::ApplyThenDrop);
/// // the store is overloaded for the next three reads of anything
/// script.range(Method::GET, "", 1..=3, Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
/// ```
#[derive(Debug, Default)]
pub struct Script {
    rules: Mutex<Rules>,
}

impl Script {
    /// A script without rules: nothing goes wrong.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The nth request from now, counted from 1, with this method for an object whose key starts so.
    pub fn nth(&self, method: Method, prefix: &str, nth: u64, fault: Fault) {
        self.range(method, prefix, nth..=nth, fault);
    }

    /// Every request from now on with this method for an object whose key starts so.
    pub fn always(&self, method: Method, prefix: &str, fault: Fault) {
        self.range(method, prefix, .., fault);
    }

    /// Those of these numbers, counted from 1 and from now, with this method for an object whose key starts so.
    pub fn range(&self, method: Method, prefix: &str, hits: impl RangeBounds<u64>, fault: Fault) {
        self.add(Target::Objects { method, prefix: prefix.to_owned() }, &hits, fault);
    }

    /// Those of these numbers, counted from 1 and from now, of the pages of listings.
    pub fn lists(&self, hits: impl RangeBounds<u64>, fault: Fault) {
        self.add(Target::Lists, &hits, fault);
    }

    /// How often a rule was due so far: a test that passes without its fault proves nothing.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.lock().fired
    }

    /// Takes every rule back.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    fn add(&self, target: Target, hits: &impl RangeBounds<u64>, fault: Fault) {
        let hits = (hits.start_bound().cloned(), hits.end_bound().cloned());
        self.lock().rules.push(Rule { target, hits, seen: 0, fault });
    }

    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faults for Script {
    fn decide(&self, request: &Request<'_>) -> Option<Fault> {
        let mut script = self.lock();
        let mut due = None;
        for rule in script.rules.iter_mut().filter(|rule| rule.target.is_met_by(request)) {
            rule.seen += 1;
            if due.is_none() && rule.hits.contains(&rule.seen) {
                due = Some(rule.fault.clone());
            }
        }
        script.fired += u64::from(due.is_some());
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(method: &'a Method, key: &'a str) -> Request<'a> {
        Request { method, bucket: "b", key, query: "", nth: 1 }
    }

    #[test]
    fn the_nth_of_a_prefix_and_no_other() {
        let script = Script::new();
        script.nth(Method::PUT, "log/", 2, Fault::BlackHole);
        let hit = |method: &Method, key: &str| script.decide(&request(method, key)).is_some();
        assert!(!hit(&Method::PUT, "log/1"));
        assert!(!hit(&Method::GET, "log/1"), "another method");
        assert!(!hit(&Method::PUT, "chunk/1"), "another prefix");
        assert!(hit(&Method::PUT, "log/2"));
        assert!(!hit(&Method::PUT, "log/3"));
        assert_eq!(script.fired(), 1);
    }

    #[test]
    fn the_first_rule_that_is_due_decides_and_all_count() {
        let script = Script::new();
        script.nth(Method::PUT, "", 1, Fault::ApplyThenDrop);
        script.range(Method::PUT, "", 1..3, Fault::BlackHole);
        let key = request(&Method::PUT, "k");
        assert!(matches!(script.decide(&key), Some(Fault::ApplyThenDrop)));
        assert!(matches!(script.decide(&key), Some(Fault::BlackHole)), "it counted the first one too");
        assert!(script.decide(&key).is_none());
        script.always(Method::PUT, "", Fault::BlackHole);
        assert!(script.decide(&key).is_some());
        script.clear();
        assert!(script.decide(&key).is_none());
    }

    #[test]
    fn listings_have_rules_of_their_own() {
        let script = Script::new();
        script.lists(.., Fault::OmitKeys(vec!["a".into()]));
        let list = Request { query: "list-type=2", ..request(&Method::GET, "") };
        assert!(script.decide(&list).is_some());
        assert!(script.decide(&request(&Method::GET, "a")).is_none());
        script.clear();
        script.always(Method::GET, "", Fault::BlackHole);
        assert!(script.decide(&list).is_none(), "the empty prefix means every object, not the bucket");
    }
}
