// SPDX-License-Identifier: Apache-2.0
//! What must be there whatever happens, and what must be gone in the end.

use super::*;

impl Sim {
    /// Everything that is needed must be readable: of what a change can have touched.
    pub(super) async fn look(&mut self, all: bool) {
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

    pub(super) fn log(&self, lineage: LineageId) -> Log {
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
    pub(super) async fn needed(&self) -> Vec<(LineageId, u64, RecordHash)> {
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

/// Whose pack or forward it is, and of which sequence.
fn place_of(name: &Name) -> Option<(LineageId, u64)> {
    match locate(name.as_str())? {
        (_, lineage, Located::Pack(sequence, _) | Located::Forward(sequence, _)) => Some((lineage, sequence)),
        _ => None,
    }
}

/// Faults stop: what nobody needs goes, and what is left is what is reached.
pub(super) async fn settle(sim: &mut Sim) {
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
