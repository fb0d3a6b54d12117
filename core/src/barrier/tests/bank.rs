// SPDX-License-Identifier: Apache-2.0
//! Accounts that send each other money without pause: what one moment of all of them must look like.

use super::world::{Dice, Fault, Planted, World};
use std::collections::BTreeSet;

/// What an account holds, and what it remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    balance: i64,
    sent: BTreeSet<u64>,
    received: BTreeSet<u64>,
}

#[derive(Debug)]
struct Transfer {
    to: usize,
    amount: i64,
}

#[derive(Debug)]
pub(super) struct Bank {
    accounts: Vec<State>,
    transfers: Vec<Transfer>,
    told: usize,
}

const EACH: i64 = 1000;

impl Bank {
    pub(super) fn new(accounts: usize) -> Self {
        let account = State { balance: EACH, ..State::default() };
        Self { accounts: vec![account; accounts], transfers: Vec::new(), told: 0 }
    }

    /// Somebody who is not stopped sends something to somebody.
    pub(super) fn act(&mut self, dice: &mut Dice, runs: impl Fn(usize) -> bool) {
        let count = self.accounts.len() as u64;
        let (from, to) = (dice.below(count), dice.below(count));
        let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
        if from == to || !runs(from) {
            return;
        }
        let amount = i64::try_from(1 + dice.below(9)).unwrap_or(1);
        let id = self.transfers.len() as u64;
        self.transfers.push(Transfer { to, amount });
        self.accounts[from].balance -= amount;
        self.accounts[from].sent.insert(id);
    }

    /// The transfers that were sent since this was asked last.
    pub(super) fn sent_now(&mut self) -> Vec<u64> {
        let fresh = (self.told..self.transfers.len()).map(|id| id as u64).collect();
        self.told = self.transfers.len();
        fresh
    }

    fn transfer(&self, id: u64) -> &Transfer {
        &self.transfers[usize::try_from(id).unwrap_or(0)]
    }

    pub(super) fn receiver(&self, id: u64) -> usize {
        self.transfer(id).to
    }

    pub(super) fn receive(&mut self, id: u64) {
        let (to, amount) = (self.transfer(id).to, self.transfer(id).amount);
        if self.accounts[to].received.insert(id) {
            self.accounts[to].balance += amount;
        }
    }

    pub(super) fn state(&self, account: usize) -> State {
        self.accounts[account].clone()
    }

    /// No receipt lacks its sending, and nothing is lost or made.
    pub(super) fn check(&self, states: &[State]) -> Result<(), String> {
        let sent: BTreeSet<_> = states.iter().flat_map(|state| &state.sent).collect();
        let received: BTreeSet<_> = states.iter().flat_map(|state| &state.received).collect();
        if let Some(id) = received.difference(&sent).next() {
            return Err(format!("transfer {id} was received and never sent"));
        }
        let on_the_way: i64 = sent.difference(&received).map(|id| self.transfer(**id).amount).sum();
        let held: i64 = states.iter().map(|state| state.balance).sum();
        let whole = EACH * i64::try_from(states.len()).unwrap_or(0);
        if held + on_the_way == whole { Ok(()) } else { Err(format!("{held} and {on_the_way} on the way, of {whole}")) }
    }
}

const MILLIS: u64 = 20_000;
const SEEDS: u64 = 600;

#[test]
fn every_world_keeps_its_promises() {
    let (mut taken, mut aborted, mut own, mut passed, mut cells) = (0, 0, 0, 0, BTreeSet::new());
    for seed in 0..SEEDS {
        match World::new(seed, false, Planted::Nothing).run(MILLIS) {
            Ok(report) => {
                taken += report.taken;
                aborted += report.aborted;
                own += report.own;
                passed += report.passed;
                cells.extend(report.cells);
            }
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    assert!(taken > SEEDS * 3 / 4 && aborted > SEEDS, "both happen often: {taken} taken, {aborted} aborted");
    assert!(own > SEEDS && passed > SEEDS, "both happen often: {own} rests of their own, {passed} that did not come");
    reached(&cells);
}

/// Every phase has seen every fault that can strike in it.
fn reached(cells: &BTreeSet<(&'static str, Fault)>) {
    use Fault::*;
    let phases = ["Preparing", "Freezing", "Cutting", "Sealing", "Committing", "Aborting"];
    let anywhere = [CoordinatorDies, AgentDies, SessionBreaks, MessageTwice, Cancelled];
    let row = |phase: &str| cells.iter().filter(|(at, _)| *at == phase).map(|(_, fault)| *fault).collect::<Vec<_>>();
    let table: Vec<_> = phases.iter().map(|phase| format!("{phase}: {:?}", row(phase))).collect();
    let wanted = phases.iter().flat_map(|phase| anywhere.map(|fault| (*phase, fault)));
    let special = [
        ("Preparing", PreCopyFails),
        ("Freezing", FreezeFails),
        ("Cutting", CutFails),
        ("Sealing", SealFails),
        ("Preparing", MessageLost),
        ("Freezing", MessageLost),
        ("Cutting", MessageLost),
        ("Sealing", MessageLost),
        ("Aborting", MessageLost),
    ];
    // nothing is said while a set is being made visible
    let missing: Vec<_> =
        wanted.chain(special).filter(|cell| *cell != ("Committing", MessageTwice) && !cells.contains(cell)).collect();
    assert!(missing.is_empty(), "never tried: {missing:?} of {table:#?}");
}

#[test]
fn nothing_goes_wrong_by_itself() {
    for seed in 0..60 {
        let report = World::new(seed, true, Planted::Nothing).run(MILLIS).expect("a calm world");
        assert!(report.taken >= 3 && report.aborted == 0, "seed {seed}: {report:?}");
    }
}

#[test]
fn what_is_broken_on_purpose_is_noticed() {
    for planted in [Planted::NoRest, Planted::GoEarly, Planted::NoClock, Planted::OneShort] {
        let noticed = (0..300).find_map(|seed| World::new(seed, false, planted).run(MILLIS).err());
        assert!(noticed.is_some(), "{planted:?}");
    }
}
