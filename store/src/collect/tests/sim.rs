// SPDX-License-Identifier: Apache-2.0
//! Writers, restores, forks, snapshots and collectors over one store, driven by seeds: any of them may die, sleep or lag at every request,
//! creations arrive late, clocks leap. After each deletion and each boundary, everything that is needed must still be readable.

use super::*;
use crate::log::Selector;
use crate::name::{Located, Name, locate};
use crate::repository::{Kdf, Repository};
use crate::seal::Domain;
use crate::seal::tests::dictate;
use crate::snapshot::{Consistency, Made, Proposal, Purpose, Setting, Snapshots, Wanted, hold, let_go, pin, unpin};
use crate::testkit::{Dice, rounds};
use crate::transport::memory::Memory;
use crate::transport::{Body, Created, Page, Range, Transport, TransportError};
use crate::write::scribe::{Archive, Scribe, Start, State};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::{RecordHash, SnapshotId};
use holdfast_core::policy::{Tier, Window};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

mod actors;
mod gate;
mod judge;

use gate::{Gate, Ticket, World, decides, lock, trace};
use judge::settle;

struct Actor {
    number: usize,
    what: &'static str,
    future: LocalBoxFuture<'static, ()>,
    stalled: usize,
}

struct Sim {
    seed: u64,
    dice: Dice,
    world: Arc<World>,
    repository: Repository,
    domain: Arc<Domain>,
    actors: Vec<Actor>,
    spawned: usize,
    /// Creations of the dead that may still arrive.
    late: Vec<(Name, Body)>,
    leaps: bool,
    reached: BTreeMap<&'static str, u64>,
}

const LINEAGES: [&str; 2] = ["web", "db"];

fn policy(dice: &mut Dice) -> Retention {
    let keep_all = Duration::from_secs([0, 20, 200][dice.roll(3)]);
    let tiers = match dice.roll(3) {
        0 => vec![],
        1 => vec![Tier { window: Window::Every(Duration::from_secs(50)), count: 3 }],
        _ => vec![Tier { window: Window::Every(Duration::from_secs(20)), count: 20 }],
    };
    Retention { keep_all, tiers }
}

impl Sim {
    async fn new(seed: u64) -> Self {
        let memory = Arc::new(Memory::default());
        let world = Arc::new(World {
            memory: Arc::clone(&memory),
            waiting: Mutex::default(),
            deleted: Mutex::default(),
            bounded: Mutex::default(),
            archive: Archive::default(),
            truth: Mutex::default(),
            hashes: Mutex::default(),
            clock: AtomicI64::new(0),
            forwards: AtomicI64::new(0),
            lost: AtomicI64::new(0),
        });
        let (repository, domain) = template(&memory).await;
        dictate(Some(seed));
        let mut dice = Dice::new(seed);
        let leaps = dice.roll(3) == 0;
        let (actors, late) = (Vec::new(), Vec::new());
        Self { seed, dice, world, repository, domain, actors, spawned: 0, late, leaps, reached: BTreeMap::new() }
    }

    /// The repository as one actor sees it.
    fn gated(&mut self) -> (usize, Repository) {
        self.spawned += 1;
        let gate: Arc<dyn Transport> = Arc::new(Gate { world: Arc::clone(&self.world), actor: self.spawned });
        (self.spawned, self.repository.through(gate))
    }

    fn spawn(&mut self, number: usize, what: &'static str, future: impl Future<Output = ()> + 'static) {
        *self.reached.entry(what).or_default() += 1;
        trace(|| format!("{number} is a {what}"));
        self.actors.push(Actor { number, what, future: future.boxed_local(), stalled: 0 });
    }

    fn clock(&mut self) -> Timestamp {
        let leap = if self.leaps && self.dice.roll(4) == 0 { self.dice.roll(40_000_000) as i64 - 20_000_000 } else { 0 };
        Timestamp::from_nanos(self.world.now().nanos() + leap * 1_000_000_000)
    }

    /// One request of somebody goes through, or somebody dies.
    async fn step(&mut self) {
        self.world.clock.fetch_add(1 + self.dice.roll(3) as i64, Ordering::Relaxed);
        if !self.late.is_empty() && self.dice.roll(20) == 0 {
            let (name, body) = self.late.swap_remove(self.dice.roll(self.late.len()));
            let created = self.world.memory.create(&name, &body).await;
            trace(|| format!("late: {name}: {created:?}"));
            *self.reached.entry("late").or_default() += 1;
        }
        let ready: Vec<usize> =
            self.actors.iter().enumerate().filter(|(_, one)| one.stalled == 0).map(|(index, _)| index).collect();
        for actor in &mut self.actors {
            actor.stalled = actor.stalled.saturating_sub(1);
        }
        let Some(index) = ready.get(self.dice.roll(ready.len().max(1))).copied() else { return };
        match self.dice.roll(1500) {
            0..=1 => return self.kill(index).await,
            2..=8 => self.actors[index].stalled = 10 + self.dice.roll(1500),
            _ => {}
        }
        if self.is_about_to(self.actors[index].number, decides) {
            match self.dice.roll(24) {
                0 => return self.kill(index).await,
                // who sleeps before what decides finds the world changed
                1..=5 => return self.actors[index].stalled = 60 + self.dice.roll(1000),
                _ => {}
            }
        }
        self.advance(index).await;
    }

    /// Whether one of an actor's requests that wait is such a creation.
    fn is_about_to(&self, actor: usize, create: impl Fn(&Name) -> bool) -> bool {
        let is = |ticket: &Ticket| ticket.actor == actor && ticket.create.as_ref().is_some_and(|(name, _)| create(name));
        lock(&self.world.waiting).iter().any(is)
    }

    /// One request of that actor goes through.
    async fn advance(&mut self, index: usize) {
        let number = self.actors[index].number;
        let tickets: Vec<usize> =
            lock(&self.world.waiting).iter().enumerate().filter(|(_, one)| one.actor == number).map(|(at, _)| at).collect();
        if let Some(at) = tickets.get(self.dice.roll(tickets.len().max(1))).copied() {
            let ticket = lock(&self.world.waiting).swap_remove(at);
            ticket.turn.send(()).ok();
        } else {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        if futures::poll!(&mut self.actors[index].future).is_ready() {
            self.actors.swap_remove(index);
        }
        self.look(false).await;
    }

    /// Plays the newest actor alone, until it ends or is about to create such an object; which one it is.
    async fn play(&mut self, until: impl Fn(&Name) -> bool) -> usize {
        let number = self.spawned;
        self.go_on(number, until).await;
        number
    }

    /// Plays an actor alone, until it ends or is about to create such an object.
    async fn go_on(&mut self, number: usize, until: impl Fn(&Name) -> bool) {
        while let Some(index) = self.actors.iter().position(|actor| actor.number == number)
            && !self.is_about_to(number, &until)
        {
            self.world.clock.fetch_add(1, Ordering::Relaxed);
            self.advance(index).await;
        }
    }

    async fn kill(&mut self, index: usize) {
        let actor = self.actors.swap_remove(index);
        trace(|| format!("{} dies", actor.number));
        *self.reached.entry(if actor.what == "collector" { "collector died" } else { "other died" }).or_default() += 1;
        drop(actor.future);
        let mut waiting = std::mem::take(&mut *lock(&self.world.waiting));
        let (dead, alive): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|ticket| ticket.actor == actor.number);
        *lock(&self.world.waiting) = alive;
        for (name, body) in dead.into_iter().filter_map(|ticket| ticket.create) {
            match self.dice.roll(3) {
                0 => {
                    let created = self.world.memory.create(&name, &body).await;
                    trace(|| format!("the dead {} has created {name}: {created:?}", actor.number));
                }
                1 => self.late.push((name, body)),
                _ => {}
            }
        }
        self.look(false).await;
    }
}

/// Its objects, itself, and its domain.
type Template = (BTreeMap<Name, Bytes>, Repository, Arc<Domain>);

/// A repository that was made once: its keys are the slow part.
pub(super) async fn template(memory: &Arc<Memory>) -> (Repository, Arc<Domain>) {
    static MADE: Mutex<Option<Template>> = Mutex::new(None);
    let transport: Arc<dyn Transport> = memory.clone();
    let made =
        lock(&MADE).as_ref().map(|(objects, repository, domain)| (objects.clone(), repository.clone(), Arc::clone(domain)));
    if let Some((objects, repository, domain)) = made {
        for (name, bytes) in &objects {
            memory.tamper(name, Some(bytes.clone()));
        }
        return (repository.through(transport), domain);
    }
    // whoever is first: a seed is the same world in every run
    dictate(Some(1));
    let created = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("a repository");
    let domain = Arc::new(created.domain("default").await.expect("keys"));
    dictate(None);
    *lock(&MADE) = Some((memory.objects(), created.clone(), Arc::clone(&domain)));
    (created, domain)
}

fn lineage_of(domain: &Domain, name: &str) -> LineageId {
    domain.keys.identity.lineage_id(name)
}

pub(super) async fn run(
    repository: &Repository,
    retention: &(dyn Fn(&str, &str) -> Option<Retention> + Sync),
    now: Timestamp,
    exact_max: u64,
) -> Result<Report> {
    let rewrite = Some(Worth { dead_bytes: 1, live_percent: 60 });
    let options = Options { margin: Duration::ZERO, rewrite, exact_max, ..Options::default() };
    let (owner, holder_key) = (OwnerId::new([1; 16]), HolderKey::new([7; 16]));
    collect(&Request { repository, owner, holder: "sim".to_owned(), holder_key, now, retention, options }).await
}

async fn one_world(seed: u64, steps: usize, reached: &mut BTreeMap<&'static str, u64>) -> Sim {
    let mut sim = Sim::new(seed).await;
    for _ in 0..steps {
        if sim.actors.is_empty() || (sim.actors.len() < 5 && sim.dice.roll(12) == 0) {
            sim.start();
        }
        sim.step().await;
    }
    settle(&mut sim).await;
    for (what, times) in &sim.reached {
        *reached.entry(what).or_default() += times;
    }
    for (what, times) in [("forwards", &sim.world.forwards), ("lost", &sim.world.lost)] {
        *reached.entry(what).or_default() += u64::try_from(times.load(Ordering::Relaxed)).expect("a count");
    }
    sim
}

/// A collector sleeps before what decides whether it may delete. Others do all they want meanwhile, and then it wakes.
async fn one_race(seed: u64) {
    let mut sim = Sim::new(seed).await;
    for _ in 0..3 {
        sim.writer(LINEAGES[0]);
        sim.play(|_| false).await;
    }
    let place = ["collections/", "/boundaries/"][sim.dice.roll(2)];
    let everything = Retention { keep_all: Duration::ZERO, tiers: Vec::new() };
    sim.collector_as(Some(everything), 512);
    let sleeper = sim.play(|name| name.as_str().contains(place)).await;
    for _ in 0..1 + sim.dice.roll(2) {
        match sim.dice.roll(8) {
            0..=3 => sim.restorer(LINEAGES[0]),
            4 => sim.collector_as(None, 512),
            _ => sim.start(),
        }
        sim.play(|_| false).await;
    }
    sim.go_on(sleeper, |_| false).await;
    settle(&mut sim).await;
}

/// `HOLDFAST_SEEDS=100-2000` tries others, and more of them.
fn seeds(few: u64) -> std::ops::RangeInclusive<u64> {
    let given = std::env::var("HOLDFAST_SEEDS").ok();
    let range =
        given.as_deref().and_then(|text| text.split_once('-')).and_then(|(from, to)| Some(from.parse().ok()?..=to.parse().ok()?));
    range.unwrap_or(1..=rounds(few))
}

#[test]
fn nothing_that_is_needed_is_ever_deleted_and_all_else_goes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut reached = BTreeMap::new();
    let many = seeds(8).count() >= 100;
    for seed in seeds(8) {
        runtime.block_on(one_world(seed, 3000, &mut reached));
    }
    dictate(None);
    let table = format!("{reached:?}");
    let interesting = [
        "packs deleted",
        "others deleted",
        "collector died",
        "late",
        "forwards",
        "lost",
        "restorer",
        "replacer",
        "snapshot",
        "fork",
    ];
    for what in interesting {
        assert!(!many || reached.get(what).is_some_and(|times| *times > 20), "the seeds no longer reach {what}: {table}");
    }
}

#[test]
fn a_collector_that_oversleeps_deletes_nothing_that_became_needed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for seed in seeds(32) {
        runtime.block_on(one_race(seed));
    }
    dictate(None);
}
