// SPDX-License-Identifier: Apache-2.0
//! Which pod's agent is brought to another image next, and what became of those that were. Plain functions.

use crate::cluster::replicas::Workload;
use std::collections::BTreeSet;
use std::time::Duration;

/// An agent that was given an image is back within this: the node pulls the image, and the agent begins.
const PATIENCE: Duration = Duration::from_secs(300);
/// And reads its state anew, since what it remembers of that goes with its container: so fast at least.
const BYTES_PER_SECOND: u64 = 20 << 20;

/// How long an agent is waited for whose state has so many bytes.
pub(super) fn patience(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / BYTES_PER_SECOND)
}

/// How far a pod's agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is of the image that is wanted.
    Current,
    /// It is of another.
    Outdated,
    /// It was given another image, and before it was known to have come back, yet another is wanted.
    Stranded,
    /// It was given the image.
    Given {
        /// For so long.
        age: Duration,
        /// It has been protecting its pod for a while since.
        is_back: bool,
    },
    /// It was given the image, and was not back in time.
    Late,
}

/// A pod with an agent and a lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) workload: Workload,
    pub(super) stage: Stage,
    /// How long its agent is waited for.
    pub(super) patience: Duration,
    /// Its lineage's changes are durable within its cadence.
    pub(super) is_protected: bool,
    /// It must not be touched now: a snapshot is being taken, a restore goes on, or the API server has just refused.
    pub(super) is_held: bool,
}

/// What is to be done with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Give its agent the image.
    Give,
    /// Its agent is back: say so.
    Finish,
    /// Its agent was not back in time: remember it.
    GiveUp,
}

/// What is next, by the pods' places in the list. At most so many agents are away at once, one of each workload; and only one in all, before any
/// pod is known to be protected by an agent of the image.
pub(super) fn plan(replicas: &[Replica], at_once: usize) -> Vec<(usize, Step)> {
    let (mut steps, mut away, mut is_proven, mut closed) = (Vec::new(), 0, false, BTreeSet::new());
    for (index, replica) in replicas.iter().enumerate() {
        match replica.stage {
            Stage::Current => is_proven |= replica.is_protected,
            Stage::Given { age, is_back } => {
                if is_back {
                    steps.push((index, Step::Finish));
                } else if age >= replica.patience {
                    steps.push((index, Step::GiveUp));
                }
                away += 1;
                closed.insert(&replica.workload);
            }
            // for its workload it is over until another image is wanted, for the others once it is back
            Stage::Late => {
                away += usize::from(!replica.is_protected);
                closed.insert(&replica.workload);
            }
            Stage::Outdated | Stage::Stranded => {}
        }
    }
    let limit = if is_proven { at_once } else { at_once.min(1) };
    // first those whose agent may be away already: a wrong image must not keep them from the right one
    let stranded = |replica: &Replica| replica.stage == Stage::Stranded;
    let ready = |replica: &Replica| replica.stage == Stage::Outdated && replica.is_protected && !replica.is_held;
    let all = || replicas.iter().enumerate();
    for (index, replica) in all().filter(|(_, one)| stranded(one)).chain(all().filter(|(_, one)| ready(one))) {
        if away < limit && closed.insert(&replica.workload) && !replica.is_held {
            away += 1;
            steps.push((index, Step::Give));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Stage = Stage::Given { age: Duration::from_secs(10), is_back: false };
    const BACK: Stage = Stage::Given { age: Duration::from_secs(400), is_back: true };
    const OVERDUE: Stage = Stage::Given { age: PATIENCE, is_back: false };

    /// A protected pod of a workload.
    fn one(workload: &str, stage: Stage) -> Replica {
        let workload = ("shop".to_owned(), "Deployment".to_owned(), workload.to_owned());
        Replica { workload, stage, patience: PATIENCE, is_protected: true, is_held: false }
    }

    fn unprotected(replica: Replica) -> Replica {
        Replica { is_protected: false, ..replica }
    }

    fn held(replica: Replica) -> Replica {
        Replica { is_held: true, ..replica }
    }

    /// What is done with three at once.
    fn steps(replicas: &[Replica]) -> Vec<(usize, Step)> {
        plan(replicas, 3)
    }

    #[test]
    fn the_first_goes_alone_and_then_one_of_each_workload() {
        use Stage::{Current, Outdated, Stranded};
        let give = |all: &[usize]| all.iter().map(|index| (*index, Step::Give)).collect::<Vec<_>>();
        let outdated = |names: &[&str]| names.iter().map(|name| one(name, Outdated)).collect::<Vec<_>>();
        let with = |proof: Replica, names: &[&str]| [vec![proof], outdated(names)].concat();
        let table = [
            ("nobody runs it yet: one", outdated(&["a", "b", "c"]), give(&[0])),
            ("nobody is protected by it yet", with(unprotected(one("p", Current)), &["a", "b"]), give(&[1])),
            ("one is: as many as may be", with(one("p", Current), &["a", "b", "c", "d"]), give(&[1, 2, 3])),
            ("one of each workload", with(one("p", Current), &["a", "a", "b"]), give(&[1, 3])),
            ("its workload's others may have it already", with(one("a", Current), &["a"]), give(&[1])),
            ("the first is on its way: nobody else", with(one("a", YOUNG), &["b"]), vec![]),
            (
                "none of a workload of which one is on its way",
                [with(one("p", Current), &["a"]), vec![one("a", YOUNG)]].concat(),
                vec![],
            ),
            (
                "with those on their way no more than may be",
                [with(one("p", Current), &["a", "b"]), vec![one("c", YOUNG), one("d", YOUNG)]].concat(),
                give(&[1]),
            ),
            ("what is not protected waits", vec![unprotected(one("a", Outdated)), one("b", Outdated)], give(&[1])),
            ("what is held waits", vec![held(one("a", Outdated)), one("b", Outdated)], give(&[1])),
            ("a wrong image is put right first", vec![one("a", Outdated), unprotected(one("b", Stranded))], give(&[1])),
            (
                "and none beside one that has to wait for that",
                vec![one("b", Outdated), held(unprotected(one("b", Stranded))), one("c", Outdated)],
                give(&[2]),
            ),
            ("all have it", vec![one("a", Current), one("b", Current)], vec![]),
        ];
        for (what, replicas, expected) in table {
            assert_eq!(steps(&replicas), expected, "{what}");
        }
        assert_eq!(plan(&outdated(&["a"]), 0), [], "switched off");
    }

    #[test]
    fn who_is_back_is_done_and_who_is_not_stops_the_others() {
        use Stage::{Current, Late, Outdated};
        assert_eq!(
            steps(&[one("a", BACK), one("a", Outdated), one("b", Outdated)]),
            [(0, Step::Finish)],
            "the next look goes on"
        );
        let overdue = || unprotected(one("a", OVERDUE));
        assert_eq!(steps(&[overdue(), one("a", Outdated), one("b", Outdated)]), [(0, Step::GiveUp)]);
        let large = Replica { patience: patience(1 << 30), ..overdue() };
        assert_eq!(steps(&[large]), [], "a gibibyte is read for most of a minute");
        let late = || unprotected(one("a", Late));
        assert_eq!(steps(&[late(), one("a", Outdated), one("b", Outdated)]), [], "the first of all: nobody else");
        let proven = [one("p", Current), late(), one("a", Outdated), one("b", Outdated)];
        assert_eq!(steps(&proven), [(3, Step::Give)], "others go on, its workload does not");
        let lost = |name| unprotected(one(name, Late));
        let many = [one("p", Current), lost("a"), lost("b"), lost("c"), one("d", Outdated)];
        assert_eq!(steps(&many), [], "as many as may be away are away");
        let came = [one("p", Current), one("a", Late), lost("b"), lost("c"), one("d", Outdated), one("a", Outdated)];
        assert_eq!(steps(&came), [(4, Step::Give)], "one that came late is away no more, and its workload stays as it is");
    }
}
