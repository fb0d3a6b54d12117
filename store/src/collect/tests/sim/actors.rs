// SPDX-License-Identifier: Apache-2.0
//! Who takes part: writers, collectors, restores, snapshots, forks.

use super::*;

impl Sim {
    /// Somebody begins.
    pub(super) fn start(&mut self) {
        let name = LINEAGES[self.dice.roll(2)];
        match self.dice.roll(11) {
            0..=3 => self.writer(name),
            4..=6 => self.collector(),
            7 => self.restorer(name),
            8 => self.snapshotter(),
            9 => self.replacer(name),
            _ => self.forker(name),
        }
    }

    pub(super) fn writer(&mut self, name: &'static str) {
        let (number, repository) = self.gated();
        let (world, domain) = (Arc::clone(&self.world), Arc::clone(&self.domain));
        let (seed, clock) = (self.dice.roll(1 << 30) as u64, self.clock());
        self.spawn(number, "writer", async move {
            let lineage = lineage_of(&domain, name);
            let log = Log::new(Arc::clone(repository.transport()), domain, lineage);
            let claimed = Scribe::claim(log.clone(), name, Start::Newest, &world.archive, clock).await;
            if let Ok(scribe) = claimed {
                write(&world, &log, scribe, seed).await;
            }
        });
    }

    fn collector(&mut self) {
        let (retention, exact_max) = (policy(&mut self.dice), [0, 2, 512][self.dice.roll(3)]);
        let keep = self.dice.roll(5) == 0;
        self.collector_as((!keep).then_some(retention), exact_max);
    }

    /// One that leaves this; `None`: everything.
    pub(super) fn collector_as(&mut self, retention: Option<Retention>, exact_max: u64) {
        let (number, repository) = self.gated();
        let now = self.clock();
        self.spawn(number, "collector", async move {
            let report = run(&repository, &|_, _| retention.clone(), now, exact_max).await;
            trace(|| format!("{number} has collected: exact {exact_max}, {report:?}"));
        });
    }

    /// Pins a checkpoint, reads it, perhaps goes back to it, and lets it go.
    pub(super) fn restorer(&mut self, name: &'static str) {
        let (number, repository) = self.gated();
        let (world, domain) = (Arc::clone(&self.world), Arc::clone(&self.domain));
        let (seed, clock) = (self.dice.roll(1 << 30) as u64, self.clock());
        self.spawn(number, "restorer", async move {
            let mut dice = Dice::new(seed);
            let lineage = lineage_of(&domain, name);
            let log = Log::new(Arc::clone(repository.transport()), domain, lineage);
            let Some(sequence) = choose(&world, log.lineage(), &mut dice) else { return };
            let Ok(pinned) = pin(&repository, &log, sequence, Purpose::Restore, [1; 16], clock).await else { return };
            let key = (log.lineage(), sequence, pinned.number);
            lock(&world.truth).pinned.insert(key);
            contents(&log, &pinned.entry).await.expect("what is pinned can be read");
            let whole = pinned.entry.record.checkpoint().is_some_and(|checkpoint| checkpoint.quality != Quality::Partial);
            let back = whole && dice.roll(2) == 0;
            let scribe = match back {
                true => Scribe::claim(log.clone(), name, Start::Restore(sequence), &world.archive, clock).await.ok(),
                false => None,
            };
            lock(&world.truth).pinned.remove(&key);
            unpin(&log, pinned.number).await.ok();
            if let Some(scribe) = scribe {
                write(&world, &log, scribe, seed).await;
            }
        });
    }

    /// Captures what it finds as a branch, and goes back to what was the newest: as a writer that may not read collections.
    fn replacer(&mut self, name: &'static str) {
        let (number, repository) = self.gated();
        let (world, domain) = (Arc::clone(&self.world), Arc::clone(&self.domain));
        let (seed, clock) = (self.dice.roll(1 << 30) as u64, self.clock());
        self.spawn(number, "replacer", async move {
            let mut dice = Dice::new(seed);
            let log = Log::new(Arc::clone(repository.transport()), Arc::clone(&domain), lineage_of(&domain, name));
            let Ok(mut scribe) = Scribe::claim(log.clone(), name, Start::Newest, &world.archive, clock).await else { return };
            let Ok(Some(newest)) = log.find(Selector::Newest, false).await else { return };
            let Ok(pin) = hold(&log, newest.sequence, Purpose::Restore, clock).await else { return };
            let branch = {
                let fold = dice.roll(2) == 0;
                scribe.checkpoint(&mut dice, fold, false, Quality::Clean, world.now()).await
            };
            if branch.is_err() {
                return;
            }
            let key = (log.lineage(), newest.sequence, pin);
            lock(&world.truth).pinned.insert(key);
            let back = Start::Restore(newest.sequence);
            let scribe = Scribe::claim(log.clone(), name, back, &world.archive, clock).await;
            lock(&world.truth).pinned.remove(&key);
            if let Ok(scribe) = scribe {
                let_go(&log, newest.sequence, Purpose::Restore).await.ok();
                write(&world, &log, scribe, seed).await;
            }
        });
    }

    fn snapshotter(&mut self) {
        let (number, repository) = self.gated();
        let (world, domain) = (Arc::clone(&self.world), Arc::clone(&self.domain));
        let (seed, created) = (self.dice.roll(1 << 30) as u64, self.clock());
        self.spawn(number, "snapshot", async move {
            let mut dice = Dice::new(seed);
            let mut id = [0; 16];
            id[..8].copy_from_slice(&seed.to_le_bytes());
            let wanted = LINEAGES.iter().filter_map(|name| {
                let log = Log::new(Arc::clone(repository.transport()), Arc::clone(&domain), lineage_of(&domain, name));
                let sequence = choose(&world, log.lineage(), &mut dice)?;
                Some(Wanted { log, name: (*name).to_owned(), sequence, pause: None })
            });
            let members: Vec<Wanted> = wanted.collect();
            let snapshots = Snapshots::new(repository.clone());
            let (labels, consistency) = (BTreeMap::new(), Consistency::Crash);
            let (name, setting) = (seed.to_string(), Setting::default());
            let id_of = SnapshotId::new(id);
            let proposal = Proposal { id: id_of, name, rename: true, created, consistency, labels, members, skew: None, setting };
            let Ok(Made::New(snapshot) | Made::Before(snapshot)) = snapshots.create(&proposal).await else { return };
            let of = snapshot.members.iter().map(|member| (member.lineage, member.sequence)).collect();
            lock(&world.truth).snapshots.insert(id, of);
            if dice.roll(2) == 0 {
                lock(&world.truth).snapshots.remove(&id);
                snapshots.delete(SnapshotId::new(id)).await.ok();
            }
        });
    }

    fn forker(&mut self, name: &'static str) {
        let (number, repository) = self.gated();
        let (world, domain) = (Arc::clone(&self.world), Arc::clone(&self.domain));
        let (seed, clock) = (self.dice.roll(1 << 30) as u64, self.clock());
        self.spawn(number, "fork", async move {
            let mut dice = Dice::new(seed);
            let log = Log::new(Arc::clone(repository.transport()), Arc::clone(&domain), lineage_of(&domain, name));
            let Some(sequence) = choose(&world, log.lineage(), &mut dice) else { return };
            let Ok(pinned) = pin(&repository, &log, sequence, Purpose::Fork, [2; 16], clock).await else { return };
            lock(&world.truth).pinned.insert((log.lineage(), sequence, pinned.number));
            let origin = crate::record::Origin { lineage: log.lineage(), sequence, record: pinned.entry.hash };
            let fork = format!("fork-{seed}");
            let own = Log::new(Arc::clone(repository.transport()), Arc::clone(&domain), domain.keys.identity.lineage_id(&fork));
            if let Ok(scribe) = Scribe::claim(own.clone(), &fork, Start::Fork(origin), &world.archive, clock).await {
                write(&world, &own, scribe, seed).await;
            }
        });
    }
}

/// A checkpoint that somebody was told of.
fn choose(world: &World, lineage: LineageId, dice: &mut Dice) -> Option<u64> {
    let there: BTreeSet<u64> = sequences(&world.memory.objects(), lineage);
    let truth = lock(&world.truth);
    let known = truth.acknowledged.keys().filter(|(of, sequence)| *of == lineage && there.contains(sequence));
    let known: Vec<u64> = known.map(|(_, sequence)| *sequence).collect();
    // old ones are more interesting: they are on their way out
    let index = dice.roll(known.len().max(1)).min(dice.roll(known.len().max(1)));
    known.get(index).copied()
}

/// The records of a lineage that are there.
fn sequences(objects: &BTreeMap<Name, Bytes>, lineage: LineageId) -> BTreeSet<u64> {
    let of_lineage = |name: &Name| match locate(name.as_str()) {
        Some((_, of, Located::Record(sequence))) if of == lineage => Some(sequence),
        _ => None,
    };
    objects.keys().filter_map(of_lineage).collect()
}

async fn write(world: &Arc<World>, log: &Log, mut scribe: Scribe, seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..2 + dice.roll(12) {
        let fold = dice.roll(3) == 0;
        let quality = [Quality::Partial, Quality::Fuzzy, Quality::Clean, Quality::Clean][dice.roll(4)];
        let gather = fold && dice.roll(4) == 0;
        let Ok(sequence) = scribe.checkpoint(&mut dice, fold, gather, quality, world.now()).await else { return };
        let hash = world.memory.objects().get(&log.name(sequence)).map(|bytes| RecordHash::new(Sha256::digest(bytes).into()));
        if let Some(hash) = hash {
            lock(&world.truth).acknowledged.insert((log.lineage(), sequence), hash);
        }
    }
}
