// SPDX-License-Identifier: Apache-2.0
//! How a restore in place goes on: a plain function of what stands written and of what is seen, so that it does not matter which coordinator leads.
//!
//! ```text
//! gates shut -> pods end -> none runs -> each lineage goes back, once -> all are written down -> gates open -> receipts
//! ```

use crate::cluster::hindrance::listed;
use holdfast_api::restore::{ReceiptStatus, RestoredMember};
use std::collections::BTreeSet;
use std::time::Duration;

/// A pod that should have ended by itself is worth a word after this.
const OVERDUE: Duration = Duration::from_secs(30);

/// A pod that has one of the lineages, and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) name: String,
    pub(super) uid: String,
    /// It was asked to end: by when it should have, this long ago.
    pub(super) ending: Option<Duration>,
    /// Its node is lost, and it was given up: what it still writes is no history.
    pub(super) given_up: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask these pods to end: name, UID.
    End(Vec<(String, String)>),
    /// Nothing but wait until no pod runs, and what to say.
    Wait(String),
    /// No pod runs: these members go back.
    GoBack(Vec<usize>),
    /// Open the gates, and look for receipts of these members.
    Start(Vec<usize>),
    /// All is there.
    Settle,
}

/// What is to be done next.
pub(super) fn next(members: &[RestoredMember], receipts: &[ReceiptStatus], pods: &[Bearer]) -> Next {
    let to_go: Vec<usize> = (0..members.len()).filter(|index| members[*index].claim.is_none()).collect();
    if to_go.is_empty() {
        let has = |member: &RestoredMember| receipts.iter().any(|receipt| receipt.lineage == member.lineage);
        let missing: Vec<usize> = (0..members.len()).filter(|index| !has(&members[*index])).collect();
        return if missing.is_empty() { Next::Settle } else { Next::Start(missing) };
    }
    let begin: Vec<_> = pods.iter().filter(|pod| pod.ending.is_none()).map(|pod| (pod.name.clone(), pod.uid.clone())).collect();
    if !begin.is_empty() {
        return Next::End(begin);
    }
    let run: Vec<&Bearer> = pods.iter().filter(|pod| !pod.given_up).collect();
    if run.is_empty() { Next::GoBack(to_go) } else { Next::Wait(still_run(&run)) }
}

fn still_run(pods: &[&Bearer]) -> String {
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    let mut message = format!("all gates are shut; waiting until no pod runs any more: {}", listed(&names));
    let longest = pods.iter().filter_map(|pod| Some((pod.ending.filter(|over| *over >= OVERDUE)?, &pod.name))).max();
    if let Some((over, name)) = longest {
        message.push_str(&format!(
            "; {name} should have ended {} s ago: if its node is lost for good, tell Kubernetes so (node.kubernetes.io/out-of-service), or delete the pod by force",
            over.as_secs()
        ));
    }
    message
}

/// Whether every file holds what was asked for, everywhere; and in which words. `spoilt`: replicas of which some don't.
pub(super) fn outcome(receipts: &[ReceiptStatus], spoilt: &BTreeSet<String>) -> (bool, String) {
    let count = receipts.len();
    let bad: Vec<&str> = spoilt.iter().map(String::as_str).collect();
    if !bad.is_empty() {
        let message = format!("{} of {count} replicas hold other files than were asked for: {}", bad.len(), listed(&bad));
        return (false, message);
    }
    let all = match count {
        1 => "one replica is as it was, as its receipt proves".to_owned(),
        count => format!("{count} replicas are as they were, as their receipts prove"),
    };
    match receipts
        .iter()
        .filter(|receipt| receipt.root_asked != receipt.root_found)
        .map(|receipt| receipt.deviations)
        .sum::<i32>()
    {
        0 => (true, all),
        // what belongs to somebody else can't be changed: most of the time that is the volume's own directory
        deviations => (true, format!("{all}, but for the owner, mode or times of {deviations} files or directories")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, claim: Option<i64>) -> RestoredMember {
        RestoredMember {
            lineage: name.to_owned(),
            stored_as: format!("statefulset/{name}"),
            sequence: 3,
            root: "aa".to_owned(),
            origin: None,
            head: 9,
            kept: Some(1),
            claim,
            before: claim.map(|claim| claim - 2),
        }
    }

    fn receipt(name: &str, found: &str, deviations: i32) -> ReceiptStatus {
        ReceiptStatus {
            lineage: name.to_owned(),
            sequence: 3,
            proof: Some(13),
            before: Some(9),
            root_asked: "aa".to_owned(),
            root_found: found.to_owned(),
            deviations,
            directory: None,
            bytes: None,
            took_ms: None,
        }
    }

    fn pod(name: &str, ending: Option<u64>) -> Bearer {
        let ending = ending.map(Duration::from_secs);
        Bearer { name: name.to_owned(), uid: format!("uid-{name}"), ending, given_up: false }
    }

    #[test]
    fn nobody_goes_back_while_a_pod_runs() {
        let members = [member("a", None), member("b", None)];
        let end = |names: &[&str]| Next::End(names.iter().map(|name| ((*name).to_owned(), format!("uid-{name}"))).collect());
        assert_eq!(next(&members, &[], &[pod("a", None), pod("b", None)]), end(&["a", "b"]), "all together");
        assert_eq!(next(&members, &[], &[pod("a", Some(0)), pod("b", None)]), end(&["b"]), "one that came late");
        assert!(matches!(next(&members, &[], &[pod("a", Some(0))]), Next::Wait(said) if said.ends_with(": a")));
        assert!(matches!(next(&members, &[], &[pod("a", Some(90))]), Next::Wait(said) if said.contains("ended 90 s ago")));
        let lost = Bearer { given_up: true, ..pod("a", Some(90)) };
        assert_eq!(next(&members, &[], std::slice::from_ref(&lost)), Next::GoBack(vec![0, 1]), "given up, as slots do");
        assert!(matches!(next(&members, &[], &[lost, pod("b", Some(1))]), Next::Wait(_)));
        assert_eq!(next(&members, &[], &[]), Next::GoBack(vec![0, 1]));
    }

    #[test]
    fn who_went_back_never_does_again() {
        let half = [member("a", Some(11)), member("b", None)];
        assert_eq!(next(&half, &[], &[]), Next::GoBack(vec![1]));
        let all = [member("a", Some(11)), member("b", Some(14))];
        assert_eq!(
            next(&all, &[], &[pod("a", None), pod("b", None)]),
            Next::Start(vec![0, 1]),
            "their pods start, and are let be"
        );
        assert_eq!(next(&all, &[receipt("b", "aa", 0)], &[]), Next::Start(vec![0]));
        assert_eq!(next(&all, &[receipt("a", "aa", 0), receipt("b", "aa", 0)], &[pod("a", None)]), Next::Settle);
    }

    #[test]
    fn only_what_is_proven_is_a_success() {
        let (none, b) = (BTreeSet::new(), BTreeSet::from(["b".to_owned()]));
        let two = |found: &str, deviations| [receipt("a", "aa", 0), receipt("b", found, deviations)];
        assert_eq!(outcome(&two("aa", 0), &none).1, "2 replicas are as they were, as their receipts prove");
        assert_eq!(outcome(&two("bb", 0), &none), outcome(&two("aa", 0), &none), "cut otherwise, and everything the same");
        let (good, said) = outcome(&two("bb", 1), &none);
        assert!(good && said.ends_with("prove, but for the owner, mode or times of 1 files or directories"), "{said}");
        let (good, said) = outcome(&two("bb", 2), &b);
        assert!(!good && said.contains("1 of 2") && said.ends_with(": b"), "{said}");
    }

    /// A world of two replicas: what stands written survives, what a leader had in mind does not.
    #[derive(Clone)]
    struct World {
        members: Vec<RestoredMember>,
        receipts: Vec<ReceiptStatus>,
        pods: Vec<Bearer>,
        /// Of each lineage: claims in its log, and whether its application has started since.
        claims: [u32; 2],
        started: [bool; 2],
    }

    impl World {
        /// One step of a leader that may die after the first half of what it does: before it is written down.
        fn step(&mut self, dies: bool) -> bool {
            match next(&self.members, &self.receipts, &self.pods) {
                Next::End(pods) => {
                    let taken = if dies { 1 } else { pods.len() };
                    for (name, _) in pods.into_iter().take(taken) {
                        for pod in self.pods.iter_mut().filter(|pod| pod.name == name) {
                            pod.ending = Some(Duration::ZERO);
                        }
                    }
                }
                Next::Wait(_) => drop(self.pods.pop()),
                Next::GoBack(who) => {
                    assert!(self.pods.iter().all(|pod| pod.given_up), "a pod runs");
                    for index in who {
                        assert!(!self.started[index], "its application has started");
                        // the log knows the claim of an earlier try
                        self.claims[index] = 1;
                        if !dies {
                            self.members[index].claim = Some(11);
                        }
                    }
                }
                Next::Start(who) => {
                    for index in who {
                        self.started[index] = true;
                        if !dies {
                            let name = self.members[index].lineage.clone();
                            self.receipts.push(receipt(&name, "aa", 0));
                        }
                    }
                }
                Next::Settle => return true,
            }
            false
        }
    }

    #[test]
    fn a_leader_may_die_at_every_step() {
        let begin = World {
            members: vec![member("a", None), member("b", None)],
            receipts: Vec::new(),
            pods: vec![pod("a", None), pod("b", None)],
            claims: [0; 2],
            started: [false; 2],
        };
        let mut lengths = BTreeSet::new();
        for deaths in 0_u32..1 << 12 {
            let mut world = begin.clone();
            let steps = (0..64).position(|step| world.step(step < 12 && deaths & (1 << step) != 0));
            lengths.insert(steps.expect("it ends"));
            assert_eq!((world.claims, world.started, world.receipts.len()), ([1; 2], [true; 2], 2), "{deaths:b}");
        }
        assert!(lengths.len() > 3, "deaths cost steps: {lengths:?}");
    }
}
