// SPDX-License-Identifier: Apache-2.0
//! Several writers of one lineage against a store that loses answers, applies late and thins, driven by seeds.

use super::*;
use crate::id::RecordHash;
use std::collections::BTreeMap;

/// xorshift64*, Vigna 2014: enough for choosing faults.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    hash: RecordHash,
    generation: u64,
    previous: Option<RecordHash>,
    claim: bool,
}

#[derive(Default)]
struct Store {
    records: BTreeMap<u64, Record>,
    /// Every body that ever was under a number, thinned or not.
    ever: BTreeMap<u64, Record>,
    boundaries: Vec<u64>,
    /// Requests that were sent and not answered: they may still land.
    in_flight: Vec<(u64, Record)>,
}

impl Store {
    fn create(&mut self, sequence: u64, record: Record) -> bool {
        if self.records.contains_key(&sequence) {
            return false;
        }
        self.records.insert(sequence, record);
        self.ever.entry(sequence).or_insert(record);
        true
    }

    fn head(&self) -> u64 {
        self.records.keys().next_back().copied().unwrap_or(0)
    }

    fn boundary(&self) -> u64 {
        self.boundaries.last().copied().unwrap_or(0)
    }
}

struct Actor {
    writer: Writer,
    name: u64,
    bodies: u64,
    record: Option<Record>,
    acknowledged: Vec<(u64, RecordHash)>,
    stalled: u64,
}

impl Actor {
    fn new(name: u64, hint: u64) -> Self {
        Self { writer: Writer::new(hint, 0, name), name, bodies: 0, record: None, acknowledged: Vec::new(), stalled: 0 }
    }

    fn build(&mut self, generation: u64, claim: bool) -> RecordHash {
        self.bodies += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.name.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.bodies.to_le_bytes());
        let hash = RecordHash::new(bytes);
        self.record = Some(Record { hash, generation, previous: self.writer.head().map(|head| head.hash), claim });
        hash
    }

    fn put(&mut self, sequence: u64, store: &mut Store, dice: &mut Dice, faults: bool) -> PutOutcome {
        let record = self.record.expect("a record was built");
        match if faults { dice.roll(10) } else { 9 } {
            0 => PutOutcome::NotApplied,
            1 => PutOutcome::Unknown,
            2 => {
                store.create(sequence, record); // applied, answer lost
                PutOutcome::Unknown
            }
            3 => {
                store.in_flight.push((sequence, record)); // applied some other time, or never
                PutOutcome::Unknown
            }
            _ if store.create(sequence, record) => PutOutcome::Created,
            _ => PutOutcome::Exists,
        }
    }

    fn look(&self, sequence: u64, store: &Store) -> Seen {
        match store.records.get(&sequence) {
            Some(found) if Some(found.hash) == self.record.map(|record| record.hash) => Seen::Mine,
            Some(_) => Seen::Other,
            None => Seen::Nothing,
        }
    }

    /// Performs the writer's present action. Returns whether it ended fenced.
    fn act(&mut self, store: &mut Store, dice: &mut Dice, faults: bool) -> bool {
        let silent = faults && dice.one_in(8);
        let event = match self.writer.action() {
            Action::Ask(_) | Action::Read(_) if silent => Event::Failed,
            Action::Ask(Question::BoundaryExists(k)) => Event::Answer(Answer::Exists(k <= store.boundaries.len() as u64)),
            Action::Ask(Question::Boundary(k)) => {
                Event::Answer(Answer::Sequence(store.boundaries[usize::try_from(k - 1).expect("small")]))
            }
            Action::Ask(Question::RecordExists(n)) => Event::Answer(Answer::Exists(store.records.contains_key(&n))),
            Action::Read(sequence) => match store.records.get(&sequence) {
                None => Event::Failed,
                Some(record) => {
                    Event::Read(Head { sequence, hash: record.hash, generation: record.generation, boundary_entry: 0 })
                }
            },
            Action::BuildClaim { generation, .. } => Event::Built(self.build(generation, true)),
            Action::Put(sequence) => Event::Put(self.put(sequence, store, dice, faults)),
            Action::Look(_) if silent => Event::Looked(Seen::Unknown),
            Action::Look(sequence) => Event::Looked(self.look(sequence, store)),
            Action::Wait(_) => Event::Waited,
            Action::Ready => {
                self.acknowledge();
                Event::Built(self.build(self.writer.generation(), false))
            }
            Action::Fenced => return true,
        };
        self.writer.step(event);
        false
    }

    fn acknowledge(&mut self) {
        let head = self.writer.head().expect("a ready writer has a head");
        self.acknowledged.push((head.sequence, head.hash));
    }
}

/// What a reader takes for history: a contiguous, chained run of numbers from the boundary to the head, generations by their claims.
fn history(store: &Store) -> Vec<(u64, Record)> {
    let from = store.boundary().max(1);
    let run: Vec<_> = (from..).map_while(|n| store.records.get(&n).map(|record| (n, *record))).collect();
    for pair in run.windows(2) {
        let ((_, earlier), (n, later)) = (pair[0], pair[1]);
        assert_eq!(later.previous, Some(earlier.hash), "record {n} does not follow its predecessor");
        assert_eq!(later.generation, earlier.generation + u64::from(later.claim), "generation of record {n}");
    }
    run
}

fn nemesis(store: &mut Store, actors: &mut Vec<Actor>, dice: &mut Dice) {
    match dice.roll(6) {
        0 if !store.in_flight.is_empty() => {
            let index = usize::try_from(dice.roll(store.in_flight.len() as u64)).expect("small");
            let (sequence, record) = store.in_flight.swap_remove(index);
            store.create(sequence, record);
        }
        1 if actors.len() < 6 => {
            let hint = if dice.one_in(2) { dice.roll(store.head() + 3) } else { 0 };
            actors.push(Actor::new(actors.len() as u64 + 1, hint));
        }
        2 => {
            let index = usize::try_from(dice.roll(actors.len() as u64)).expect("small");
            actors[index].stalled = dice.roll(60);
        }
        // retention, with no margin at all: the boundary may be the head itself
        3 if store.head() > store.boundary() => {
            let run = history(store);
            let (boundary, _) = run[usize::try_from(dice.roll(run.len() as u64)).expect("small")];
            store.boundaries.push(boundary);
            store.records.retain(|n, _| *n >= boundary);
        }
        _ => {}
    }
}

fn check_acknowledged(store: &Store, actors: &[Actor], seed: u64) {
    let boundary = store.boundary();
    for actor in actors {
        for (sequence, hash) in &actor.acknowledged {
            assert_eq!(
                store.ever.get(sequence).map(|r| r.hash),
                Some(*hash),
                "seed {seed}: {sequence} was acknowledged and is not what was first there"
            );
            assert!(
                *sequence < boundary || store.records.get(sequence).map(|r| r.hash) == Some(*hash),
                "seed {seed}: {sequence}"
            );
        }
    }
}

fn run(seed: u64) -> (usize, usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut store = Store::default();
    let mut actors = vec![Actor::new(1, 0)];
    for _ in 0..400 {
        if dice.one_in(5) {
            nemesis(&mut store, &mut actors, &mut dice);
        }
        let index = usize::try_from(dice.roll(actors.len() as u64)).expect("small");
        let actor = &mut actors[index];
        if actor.stalled > 0 {
            actor.stalled -= 1;
            continue;
        }
        if actor.act(&mut store, &mut dice, true) {
            assert!(actors.len() > 1, "seed {seed}: a lone writer fenced itself");
        }
        history(&store);
        check_acknowledged(&store, &actors, seed);
    }
    let fenced = actors.iter().filter(|actor| actor.writer.action() == Action::Fenced).count();
    liveness(&mut store, &mut actors, &mut dice, seed);
    (fenced, store.boundaries.len())
}

/// Faults stop: whoever claims now becomes the only writer and commits.
fn liveness(store: &mut Store, actors: &mut [Actor], dice: &mut Dice, seed: u64) {
    let mut last = Actor::new(99, 0);
    for _ in 0..200 {
        last.act(store, dice, false);
    }
    assert!(last.acknowledged.len() > 10, "seed {seed}: no progress without faults");
    for actor in actors {
        let before = actor.acknowledged.len();
        let claimed = !actor.acknowledged.is_empty();
        for _ in 0..60 {
            if claimed {
                actor.act(store, dice, false);
            }
        }
        assert!(actor.acknowledged.len() <= before + 1, "seed {seed}: a replaced writer goes on");
    }
}

#[test]
fn one_history_whatever_the_store_does() {
    let (mut fenced, mut boundaries) = (0, 0);
    for seed in 1..=3000 {
        let (f, b) = run(seed);
        fenced += f;
        boundaries += b;
    }
    assert!(fenced > 500 && boundaries > 500, "the seeds no longer reach the interesting states: {fenced} {boundaries}");
}

#[test]
fn a_lost_answer_is_not_a_lost_record() {
    let mut settle = Settle::new(1);
    settle.put(PutOutcome::Unknown);
    assert!(settle.maybe_applied());
    assert!(matches!(settle.step(), Step::Wait(_)));
    settle.waited();
    settle.put(PutOutcome::Exists);
    assert_eq!(settle.step(), Step::Look);
    settle.looked(Seen::Mine);
    assert_eq!(settle.step(), Step::Won);
}

#[test]
fn only_anothers_bytes_mean_lost() {
    for outcome in [PutOutcome::Unknown, PutOutcome::NotApplied] {
        let mut settle = Settle::new(1);
        for _ in 0..1000 {
            settle.put(outcome);
            let Step::Wait(pause) = settle.step() else { panic!("{:?}", settle.step()) };
            assert!(pause <= settle::BACKOFF_MAX);
            settle.waited();
        }
        settle.put(PutOutcome::Exists);
        settle.looked(Seen::Nothing);
        assert!(matches!(settle.step(), Step::Wait(_)));
        settle.waited();
        settle.put(PutOutcome::Exists);
        settle.looked(Seen::Other);
        assert_eq!(settle.step(), Step::Lost);
    }
}
