// SPDX-License-Identifier: Apache-2.0
//! Objects on disk and the index of them in memory.
//!
//! A key's lock orders everything that happens to it: a change holds it from judging its condition until the file is
//! renamed, durable and in the index; opening an object holds it shared. So of writers that depend on the same state
//! one wins, and no reader sees an object come and go. Bodies are received and sent without it.

mod condition;
mod index;
mod late;
mod layout;
mod receive;
mod record;
mod scan;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use futures::StreamExt;
use tokio::sync::{Mutex, RwLock as KeyLock};
use tokio_util::task::TaskTracker;

use crate::config::Clock;
use crate::error::Error;
pub(crate) use condition::Condition;
pub(crate) use index::{Begin, Entry, Page, Query};
pub(crate) use late::Late;
use layout::{Layout, TempPath};
pub(crate) use receive::{ReceiveError, Received};
pub(crate) use record::{Damage, Headers, Meta};
pub use scan::Damaged;

/// Locks that the keys share. Two keys on one lock only wait for each other.
const LOCKS: usize = 1024;
/// As many as an S3 account has by default.
const BUCKETS: usize = 100;
/// Changes of one request that are made at a time: their fsyncs share a commit of the journal.
const CHANGES_AT_ONCE: usize = 16;

/// Why the store didn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("no such bucket")]
    NoBucket,
    #[error("the bucket exists")]
    BucketExists,
    #[error("no more buckets")]
    TooManyBuckets,
    #[error("no such key")]
    NoKey,
    #[error("the condition doesn't hold")]
    Precondition,
    #[error("too much metadata")]
    MetadataTooLarge,
    #[error("the file of the object is damaged")]
    Damaged(#[source] Damage),
    #[error("can't {doing}")]
    Io { doing: &'static str, source: io::Error },
    #[error("the runtime is shutting down")]
    Interrupted,
}

impl StoreError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// A bucket and its objects.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) created: SystemTime,
    objects: RwLock<BTreeMap<String, Entry>>,
}

impl Bucket {
    fn entry(&self, key: &str) -> Option<Entry> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn set(&self, key: String, entry: Entry) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
    }

    fn remove(&self, key: &str) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// A page of the listing.
    pub(crate) fn page(&self, query: &Query<'_>) -> Page {
        index::page(&self.objects.read().unwrap_or_else(PoisonError::into_inner), query)
    }
}

/// A complete object under a name that nobody asks for yet. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Staged {
    bucket: Arc<Bucket>,
    meta: Meta,
    temp: TempPath,
}

/// What a request wants to be different.
#[derive(Debug)]
pub(crate) enum Change {
    Put { staged: Box<Staged>, condition: Condition },
    Delete { bucket: Arc<Bucket>, key: String, condition: Condition },
}

impl Change {
    fn target(&self) -> (&str, &str) {
        match self {
            Self::Put { staged, .. } => (&staged.bucket.name, &staged.meta.key),
            Self::Delete { bucket, key, .. } => (&bucket.name, key),
        }
    }
}

/// Objects on disk and the index of them in memory.
pub(crate) struct Store {
    layout: Layout,
    buckets: RwLock<BTreeMap<String, Arc<Bucket>>>,
    creating: Arc<Mutex<()>>,
    locks: Vec<Arc<KeyLock<()>>>,
    /// Changes under way. They end by themselves even if the request they belong to is cancelled in the middle.
    tasks: TaskTracker,
    clock: Option<Clock>,
    durable: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("layout", &self.layout).field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl Store {
    /// Takes the directory, removes what a crash left, reads what is known about every object. Blocks.
    pub(crate) fn open(root: &Path, durable: bool, clock: Option<Clock>) -> Result<(Self, Vec<Damaged>), Error> {
        let layout = Layout::open(root)?;
        let (found, damaged) = scan::scan(&layout)?;
        let buckets = found.into_iter().map(|found| {
            let bucket = Bucket { name: found.name, created: found.created, objects: RwLock::new(found.objects) };
            (bucket.name.clone(), Arc::new(bucket))
        });
        let store = Self {
            layout,
            buckets: RwLock::new(buckets.collect()),
            creating: Arc::default(),
            locks: (0..LOCKS).map(|_| Arc::default()).collect(),
            tasks: TaskTracker::new(),
            clock,
            durable,
        };
        Ok((store, damaged))
    }

    /// Waits for changes under way and lets another server have the directory.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.layout.unlock();
    }

    /// Every bucket in the order of their names.
    pub(crate) fn buckets(&self) -> Vec<Arc<Bucket>> {
        self.buckets.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn bucket(&self, name: &str) -> Result<Arc<Bucket>, StoreError> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned().ok_or(StoreError::NoBucket)
    }

    /// Creates a bucket. The name must be one that S3 allows: it becomes a directory's.
    pub(crate) async fn create_bucket(self: &Arc<Self>, name: String) -> Result<(), StoreError> {
        let creating = Arc::clone(&self.creating).lock_owned().await;
        let store = Arc::clone(self);
        let created = self.tasks.spawn_blocking(move || {
            let _creating = creating;
            store.create_bucket_locked(name)
        });
        created.await.unwrap_or(Err(StoreError::Interrupted))
    }

    fn create_bucket_locked(&self, name: String) -> Result<(), StoreError> {
        let known = self.buckets();
        if known.iter().any(|bucket| bucket.name == name) {
            return Err(StoreError::BucketExists);
        }
        if known.len() >= BUCKETS {
            return Err(StoreError::TooManyBuckets);
        }
        let path = self.layout.bucket(&name);
        fs::create_dir(&path).map_err(StoreError::io("create a bucket"))?;
        self.sync(&self.layout.buckets())?;
        let created = fs::metadata(&path).and_then(|m| m.modified()).map_err(StoreError::io("read a bucket's time"))?;
        let bucket = Arc::new(Bucket { name: name.clone(), created, objects: RwLock::default() });
        self.buckets.write().unwrap_or_else(PoisonError::into_inner).insert(name, bucket);
        Ok(())
    }

    /// The file of an object and what is known about it; its body is the file's first `size` bytes.
    pub(crate) async fn open_object(self: &Arc<Self>, bucket: &Arc<Bucket>, key: &str) -> Result<(File, Meta), StoreError> {
        let guard = self.lock_of((&bucket.name, key)).read_owned().await;
        if bucket.entry(key).is_none() {
            return Err(StoreError::NoKey);
        }
        let path = self.layout.object(&bucket.name, key);
        let opened = self.tasks.spawn_blocking(move || {
            let _guard = guard;
            let file = File::open(path).map_err(StoreError::io("open an object"))?;
            let meta = Meta::read(&file).map_err(StoreError::Damaged)?;
            Ok((file, meta))
        });
        opened.await.unwrap_or(Err(StoreError::Interrupted))
    }

    /// Makes changes, each under its key's lock. The results are in the order of the changes.
    pub(crate) async fn apply(self: &Arc<Self>, changes: Vec<Change>) -> Vec<Result<(), StoreError>> {
        let made = changes.into_iter().map(|change| self.apply_one(change));
        futures::stream::iter(made).buffered(CHANGES_AT_ONCE).collect().await
    }

    async fn apply_one(self: &Arc<Self>, change: Change) -> Result<(), StoreError> {
        let guard = self.lock_of(change.target()).write_owned().await;
        let store = Arc::clone(self);
        // one closure from judging to indexing: a client that goes away can't leave the index behind the directory
        let made = self.tasks.spawn_blocking(move || {
            let _guard = guard;
            match change {
                Change::Put { staged, condition } => store.put_locked(*staged, &condition),
                Change::Delete { bucket, key, condition } => store.delete_locked(&bucket, &key, &condition),
            }
        });
        made.await.unwrap_or(Err(StoreError::Interrupted))
    }

    fn put_locked(&self, staged: Staged, condition: &Condition) -> Result<(), StoreError> {
        let Staged { bucket, meta, temp } = staged;
        condition.check_put(bucket.entry(&meta.key))?;
        temp.rename(&self.layout.object(&bucket.name, &meta.key)).map_err(StoreError::io("rename an upload"))?;
        let synced = self.sync(&self.layout.bucket(&bucket.name));
        // what the directory holds is what is served, even if a power cut may still undo it
        bucket.set(meta.key.clone(), Entry::from(&meta));
        synced
    }

    fn delete_locked(&self, bucket: &Bucket, key: &str, condition: &Condition) -> Result<(), StoreError> {
        let current = bucket.entry(key);
        condition.check_delete(current)?;
        if current.is_none() {
            return Ok(());
        }
        match fs::remove_file(self.layout.object(&bucket.name, key)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { doing: "remove an object", source });
            }
            _ => {}
        }
        let synced = self.sync(&self.layout.bucket(&bucket.name));
        bucket.remove(key);
        synced
    }

    fn sync(&self, directory: &Path) -> Result<(), StoreError> {
        if self.durable { layout::sync_directory(directory).map_err(StoreError::io("sync a directory")) } else { Ok(()) }
    }

    fn lock_of(&self, target: (&str, &str)) -> Arc<KeyLock<()>> {
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or(0);
        Arc::clone(&self.locks[at])
    }
}
