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

/// A request that waits for its turn.
#[derive(Debug)]
struct Ticket {
    actor: usize,
    create: Option<(Name, Body)>,
    turn: oneshot::Sender<()>,
}

/// What everybody shares, and what must always be true.
#[derive(Debug)]
struct World {
    memory: Arc<Memory>,
    waiting: Mutex<Vec<Ticket>>,
    /// What changed since the last look: what was deleted, and whether a boundary was won.
    deleted: Mutex<Vec<Name>>,
    bounded: Mutex<bool>,
    archive: Archive,
    truth: Mutex<Truth>,
    /// SHA-256 of records that were hashed before.
    hashes: Mutex<BTreeMap<(Name, usize), RecordHash>>,
    /// True time, in seconds.
    clock: AtomicI64,
    /// Forwards that were created.
    forwards: AtomicI64,
    /// Races of collectors that were lost.
    lost: AtomicI64,
}

/// What people were told that they have.
#[derive(Debug, Default)]
struct Truth {
    pinned: BTreeSet<(LineageId, u64, u64)>,
    snapshots: BTreeMap<[u8; 16], Vec<(LineageId, u64)>>,
    acknowledged: BTreeMap<(LineageId, u64), RecordHash>,
}

impl Truth {
    fn newest(&self, lineage: LineageId) -> Option<u64> {
        let of_lineage = self.acknowledged.range((lineage, 0)..=(lineage, u64::MAX));
        of_lineage.last().map(|((_, sequence), _)| *sequence)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos((1_800_000_000 + self.clock.load(Ordering::Relaxed)) * 1_000_000_000)
    }
}

/// What happened, for whoever looks for the cause of a failure: `HOLDFAST_TRACE=1`.
fn trace(what: impl FnOnce() -> String) {
    if std::env::var_os("HOLDFAST_TRACE").is_some() {
        eprintln!("{}", what());
    }
}

/// One actor's way to the store: each request waits for its turn.
#[derive(Debug)]
struct Gate {
    world: Arc<World>,
    actor: usize,
}

impl Gate {
    async fn pass(&self, create: Option<(Name, Body)>) {
        let (turn, given) = oneshot::channel();
        lock(&self.world.waiting).push(Ticket { actor: self.actor, create, turn });
        given.await.ok();
    }
}

#[async_trait]
impl Transport for Gate {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        self.pass(Some((name.clone(), body.clone()))).await;
        let created = self.world.memory.create(name, body).await;
        trace(|| format!("{} creates {name}: {created:?}", self.actor));
        if decides(name) && matches!(created, Ok(Created::Exists)) {
            self.world.lost.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(created, Ok(Created::Yes)) {
            *lock(&self.world.bounded) |= name.as_str().contains("/boundaries/");
            self.world.forwards.fetch_add(i64::from(name.as_str().contains("/forwards/")), Ordering::Relaxed);
        }
        created
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.pass(None).await;
        self.world.memory.get(name, range).await
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.pass(None).await;
        self.world.memory.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        self.pass(None).await;
        self.world.memory.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        self.pass(None).await;
        lock(&self.world.deleted).push(name.clone());
        trace(|| format!("{} deletes {name}", self.actor));
        self.world.memory.delete(name).await
    }

    fn location(&self) -> String {
        "a store where everybody waits".to_owned()
    }
}

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

    /// Everything that is needed must be readable: of what a change can have touched.
    async fn look(&mut self, all: bool) {
        let deleted = std::mem::take(&mut *lock(&self.world.deleted));
        let bounded = std::mem::take(&mut *lock(&self.world.bounded));
        if deleted.is_empty() && !bounded && !all {
            return;
        }
        for name in &deleted {
            let what = if name.as_str().contains("/packs/") { "packs deleted" } else { "others deleted" };
            *self.reached.entry(what).or_default() += 1;
        }
        lock(&self.world.hashes).retain(|(name, _), _| !deleted.contains(name));
        let moved: BTreeSet<(LineageId, u64)> = deleted.iter().filter_map(place_of).collect();
        for (lineage, sequence, hash) in self.needed().await {
            let log = self.log(lineage);
            let Some(state) = lock(&self.world.archive).get(&hash).map(Arc::clone) else { continue };
            // a pack that a forward leads to has the sequence of the pack that it is of
            let touched = state.packs.iter().filter_map(place_of).any(|place| moved.contains(&place));
            if touched || all {
                self.readable(&log, sequence, &state).await;
            }
        }
    }

    fn log(&self, lineage: LineageId) -> Log {
        Log::new(Arc::clone(self.repository.transport()), Arc::clone(&self.domain), lineage)
    }

    async fn readable(&self, log: &Log, sequence: u64, state: &State) {
        let seed = self.seed;
        let entry = log.read(sequence).await.unwrap_or_else(|error| panic!("seed {seed}: checkpoint {sequence}: {error}"));
        let found = contents(log, &entry).await.unwrap_or_else(|error| panic!("seed {seed}: checkpoint {sequence}: {error}"));
        let expected: Vec<_> = state.files.iter().map(|file| file.bytes.to_vec()).collect();
        assert!(found == expected, "seed {seed}: checkpoint {sequence} holds other bytes");
    }

    /// All checkpoints that are history, pinned, or members of snapshots, and what each head goes on from.
    async fn needed(&self) -> Vec<(LineageId, u64, RecordHash)> {
        let objects = self.world.memory.objects();
        let mut heads: BTreeMap<LineageId, BTreeSet<u64>> = BTreeMap::new();
        for name in objects.keys() {
            if let Some((_, lineage, Located::Record(sequence))) = locate(name.as_str()) {
                heads.entry(lineage).or_default().insert(sequence);
            }
        }
        let mut needed = BTreeSet::new();
        for (lineage, records) in heads {
            let boundary = self.log(lineage).boundary().await.expect("a boundary");
            let first = boundary.sequence.max(1);
            let run: Vec<u64> = (first..).take_while(|sequence| records.contains(sequence)).collect();
            assert_eq!(run.len(), records.range(first..).count(), "seed {}: a record above boundary {first} is gone", self.seed);
            let acknowledged = lock(&self.world.truth).newest(lineage);
            let told = acknowledged.filter(|told| *told >= first && run.last() < Some(told));
            assert!(told.is_none(), "seed {}: record {told:?} was acknowledged and is gone", self.seed);
            if let Some(head) = run.last() {
                // whoever claims next goes on from this
                let head = self.log(lineage).read_body(*head).await.expect("the head");
                needed.extend(Some(head.state()).filter(|state| *state > 0).map(|state| (lineage, state)));
            }
            needed.extend(run.into_iter().chain(boundary.kept.keys().copied()).map(|sequence| (lineage, sequence)));
            let missing = boundary.kept.keys().find(|sequence| !records.contains(sequence));
            assert!(missing.is_none(), "seed {}: record {missing:?} is kept and gone", self.seed);
            assert!(boundary.sequence <= 1 || records.contains(&boundary.sequence), "seed {}: no head", self.seed);
        }
        {
            let truth = lock(&self.world.truth);
            needed.extend(truth.pinned.iter().map(|(lineage, sequence, _)| (*lineage, *sequence)));
            needed.extend(truth.snapshots.values().flatten().copied());
        }
        let mut hashes = lock(&self.world.hashes);
        let hashed = needed.into_iter().map(|(lineage, sequence)| {
            let name = self.log(lineage).name(sequence);
            let bytes = objects.get(&name);
            let bytes = bytes.unwrap_or_else(|| panic!("seed {}: record {sequence} is needed and gone", self.seed));
            // the same bytes lie at the same address as long as the object is there
            let key = (name, bytes.as_ptr() as usize);
            let hash = *hashes.entry(key).or_insert_with(|| RecordHash::new(Sha256::digest(bytes).into()));
            (lineage, sequence, hash)
        });
        hashed.collect()
    }
}

/// Whether a collector's right to delete depends on creating it.
fn decides(name: &Name) -> bool {
    name.as_str().contains("/boundaries/") || name.as_str().starts_with("collections/")
}

/// Whose pack or forward it is, and of which sequence.
fn place_of(name: &Name) -> Option<(LineageId, u64)> {
    match locate(name.as_str())? {
        (_, lineage, Located::Pack(sequence, _) | Located::Forward(sequence, _)) => Some((lineage, sequence)),
        _ => None,
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

/// Faults stop: what nobody needs goes, and what is left is what is reached.
async fn settle(sim: &mut Sim) {
    let seed = sim.seed;
    while let Some(index) = sim.actors.len().checked_sub(1) {
        sim.kill(index).await;
    }
    for (name, body) in std::mem::take(&mut sim.late) {
        if sim.dice.roll(2) == 0 {
            sim.world.memory.create(&name, &body).await.ok();
        }
    }
    sim.look(true).await;
    lock(&sim.world.truth).pinned.clear();
    let snapshots = Snapshots::new(sim.repository.clone()).list().await.expect("snapshots");
    let living: BTreeSet<Vec<u8>> = snapshots.iter().map(|snapshot| snapshot.id.as_bytes().to_vec()).collect();
    for lineage in crate::lineages::lineages(&sim.repository, &sim.domain, None, 1000).await.expect("lineages") {
        let log = sim.log(lineage);
        for one in crate::snapshot::pins(&log).await.expect("pins") {
            // those who died with a pin in their hands would be told of it by a person
            if one.purpose == "restore" || (one.purpose == "snapshot" && !living.contains(&one.by)) {
                unpin(&log, one.number).await.expect("unpinned");
            }
        }
    }
    let retention = policy(&mut sim.dice);
    let mut rounds = 0;
    loop {
        let now = sim.world.now();
        let report = run(&sim.repository, &|_, _| Some(retention.clone()), now, 512).await.expect("a collection");
        assert!(report.problems.is_empty(), "seed {seed}: {:?}", report.problems);
        assert_eq!(report.ended, Ended::Done, "seed {seed}");
        rounds += 1;
        if rounds >= 3 && !report.more && report.gone().is_empty() {
            break;
        }
        assert!(rounds < 12, "seed {seed}: there is always more to do: {report:#?}");
    }
    *lock(&sim.world.bounded) = true;
    sim.look(true).await;
    let role = Role::read(&sim.repository, 0).await.expect("the role");
    assert!(role.condemned.is_empty() && role.compacting.is_empty(), "seed {seed}: {role:?}");
    nothing_is_left(sim).await;
}

/// Space has gone back to what is kept.
async fn nothing_is_left(sim: &Sim) {
    let seed = sim.seed;
    let objects = sim.world.memory.objects();
    let mut open: Vec<Name> = Vec::new();
    for (_, _, hash) in sim.needed().await {
        open.extend(lock(&sim.world.archive).get(&hash).into_iter().flat_map(|state| state.packs.iter().cloned()));
    }
    let mut reached: BTreeSet<Name> = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !reached.insert(name.clone()) {
            continue;
        }
        let object = compact::pack_of(&name).expect("a pack");
        let forward = crate::forward::Forward::read(&**sim.repository.transport(), &sim.domain, object).await.expect("a forward");
        open.extend(
            forward.into_iter().flat_map(|forward| forward.targets().collect::<Vec<_>>()).map(|to| to.name(sim.domain.keys.id)),
        );
    }
    let mut boundaries = BTreeMap::new();
    for name in objects.keys() {
        let Some((domain, lineage, located)) = locate(name.as_str()) else { continue };
        let needed = match located {
            Located::Pack(..) => reached.contains(name),
            Located::Forward(sequence, nonce) => reached.contains(&Located::Pack(sequence, nonce).name(domain, lineage)),
            Located::Record(sequence) => {
                if let std::collections::btree_map::Entry::Vacant(unknown) = boundaries.entry(lineage) {
                    unknown.insert(sim.log(lineage).boundary().await.expect("a boundary"));
                }
                boundaries[&lineage].contains(sequence)
            }
        };
        // what lies above the head is for a record that may still come
        let ahead = matches!(located, Located::Pack(sequence, _) if !objects.contains_key(&Located::Record(sequence).name(domain, lineage))
            && sequence > boundaries.get(&lineage).map_or(0, |boundary| boundary.sequence)
            && sim.log(lineage).head(0).await.expect("a head") < sequence);
        assert!(needed || ahead, "seed {seed}: {name} is left");
    }
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
