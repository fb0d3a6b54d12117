// SPDX-License-Identifier: Apache-2.0
//! How the making of a copy goes on: a plain function of what stands written, so that it does not matter which coordinator leads.
//!
//! ```text
//! checkpoints kept -> each history begins, once -> lineages, ConfigMaps, claims, policies -> workloads -> receipts
//! ```
//!
//! A history is there before the first object, and all of them before the first pod: no pod of the copy can begin an empty one.

use holdfast_api::restore::{MadeObject, RestoredMember};

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// These members' histories begin.
    Begin(Vec<usize>),
    /// Make these objects, in this order.
    Make(Vec<usize>),
    /// All is made: its pods restore, and prove it.
    Start,
}

/// What is to be done next.
pub(super) fn next(members: &[RestoredMember], objects: &[MadeObject]) -> Next {
    let begin: Vec<usize> = (0..members.len()).filter(|index| members[*index].claim.is_none()).collect();
    if !begin.is_empty() {
        return Next::Begin(begin);
    }
    let make: Vec<usize> = (0..objects.len()).filter(|index| !objects[*index].made).collect();
    if make.is_empty() { Next::Start } else { Next::Make(make) }
}

/// Whether pods are made by it.
pub(super) fn is_workload(kind: &str) -> bool {
    matches!(kind, "Deployment" | "StatefulSet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_api::restore::OriginStatus;
    use std::collections::{BTreeMap, BTreeSet};

    fn member(name: &str) -> RestoredMember {
        RestoredMember {
            lineage: name.to_owned(),
            stored_as: format!("statefulset/copy/{name}@abababab"),
            sequence: 0,
            root: "aa".to_owned(),
            origin: Some(OriginStatus { stored_as: format!("statefulset/web/{name}"), sequence: 7 }),
            head: 0,
            kept: Some(1),
            claim: None,
            before: None,
        }
    }

    fn object(kind: &str) -> MadeObject {
        MadeObject { kind: kind.to_owned(), name: "x".to_owned(), made: false }
    }

    /// What stands written survives a leader; what is in the log and in the cluster does, too.
    #[derive(Clone)]
    struct World {
        members: Vec<RestoredMember>,
        objects: Vec<MadeObject>,
        /// Of each lineage, claims in its log.
        claims: BTreeMap<usize, u32>,
        /// Of each object, how often it was made.
        there: BTreeMap<usize, u32>,
    }

    impl World {
        /// One step of a leader that may die after the first half of what it does, before it is written down.
        fn step(&mut self, dies: bool) -> bool {
            match next(&self.members, &self.objects) {
                Next::Begin(who) => {
                    assert!(self.there.is_empty(), "an object is there before a history");
                    let done = if dies { &who[..1] } else { &who[..] };
                    for index in done {
                        // the log knows the claim of an earlier try
                        self.claims.insert(*index, 1);
                        if !dies {
                            self.members[*index].claim = Some(3);
                        }
                    }
                }
                Next::Make(which) => {
                    let done = if dies { &which[..1] } else { &which[..] };
                    for index in done {
                        let is_last = is_workload(&self.objects[*index].kind);
                        let before: BTreeSet<usize> = (0..*index).collect();
                        assert!(!is_last || before.iter().all(|one| self.there.contains_key(one)), "a pod would start on less");
                        // the API server has one object of a name
                        self.there.insert(*index, 1);
                        if !dies {
                            self.objects[*index].made = true;
                        }
                    }
                }
                Next::Start => return true,
            }
            false
        }
    }

    #[test]
    fn a_leader_may_die_at_every_step() {
        let kinds = ["StateLineage", "StateLineage", "ConfigMap", "StatePolicy", "StatefulSet"];
        let begin = World {
            members: vec![member("0"), member("1")],
            objects: kinds.map(object).to_vec(),
            claims: BTreeMap::new(),
            there: BTreeMap::new(),
        };
        let mut lengths = BTreeSet::new();
        for deaths in 0_u32..1 << 10 {
            let mut world = begin.clone();
            let steps = (0..64).position(|step| world.step(step < 10 && deaths & (1 << step) != 0));
            lengths.insert(steps.expect("it ends"));
            assert_eq!((world.claims.len(), world.there.len()), (2, kinds.len()), "{deaths:b}");
        }
        assert!(lengths.len() > 3, "deaths cost steps: {lengths:?}");
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        let begun = RestoredMember { claim: Some(3), ..member("0") };
        let mut objects = vec![object("StateLineage"), object("ConfigMap"), object("Deployment")];
        assert_eq!(next(&[begun.clone(), member("1")], &objects), Next::Begin(vec![1]));
        objects[1].made = true;
        assert_eq!(next(std::slice::from_ref(&begun), &objects), Next::Make(vec![0, 2]));
        objects.iter_mut().for_each(|object| object.made = true);
        assert_eq!(next(&[begun], &objects), Next::Start);
    }
}
