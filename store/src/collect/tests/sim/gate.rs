// SPDX-License-Identifier: Apache-2.0
//! The store as each actor sees it: every request waits for its turn.

use super::*;

/// A request that waits for its turn.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) actor: usize,
    pub(super) create: Option<(Name, Body)>,
    pub(super) turn: oneshot::Sender<()>,
}

/// What everybody shares, and what must always be true.
#[derive(Debug)]
pub(super) struct World {
    pub(super) memory: Arc<Memory>,
    pub(super) waiting: Mutex<Vec<Ticket>>,
    /// What changed since the last look: what was deleted, and whether a boundary was won.
    pub(super) deleted: Mutex<Vec<Name>>,
    pub(super) bounded: Mutex<bool>,
    pub(super) archive: Archive,
    pub(super) truth: Mutex<Truth>,
    /// SHA-256 of records that were hashed before.
    pub(super) hashes: Mutex<BTreeMap<(Name, usize), RecordHash>>,
    /// True time, in seconds.
    pub(super) clock: AtomicI64,
    /// Forwards that were created.
    pub(super) forwards: AtomicI64,
    /// Races of collectors that were lost.
    pub(super) lost: AtomicI64,
}

/// What people were told that they have.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) pinned: BTreeSet<(LineageId, u64, u64)>,
    pub(super) snapshots: BTreeMap<[u8; 16], Vec<(LineageId, u64)>>,
    pub(super) acknowledged: BTreeMap<(LineageId, u64), RecordHash>,
}

impl Truth {
    pub(super) fn newest(&self, lineage: LineageId) -> Option<u64> {
        let of_lineage = self.acknowledged.range((lineage, 0)..=(lineage, u64::MAX));
        of_lineage.last().map(|((_, sequence), _)| *sequence)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_nanos((1_800_000_000 + self.clock.load(Ordering::Relaxed)) * 1_000_000_000)
    }
}

/// What happened, for whoever looks for the cause of a failure: `HOLDFAST_TRACE=1`.
pub(super) fn trace(what: impl FnOnce() -> String) {
    if std::env::var_os("HOLDFAST_TRACE").is_some() {
        eprintln!("{}", what());
    }
}

/// One actor's way to the store: each request waits for its turn.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) world: Arc<World>,
    pub(super) actor: usize,
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

/// Whether a collector's right to delete depends on creating it.
pub(super) fn decides(name: &Name) -> bool {
    name.as_str().contains("/boundaries/") || name.as_str().starts_with("collections/")
}
