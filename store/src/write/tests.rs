// SPDX-License-Identifier: Apache-2.0
//! Sessions on a model store: what was committed is what is read, whatever happened in between.

use super::*;
use crate::error::StoreError;
use crate::log::{Log, Selector};
use crate::reader::Reader;
use crate::repository::{Kdf, Repository};
use crate::transport::Transport;
use crate::transport::memory::Memory;
use crate::tree::kind::content_of;
use crate::tree::{
    Body, Content, ContentMap, Cursor, Directory, Editor, Entry, Extent, Inode, MapRef, Mtime, Name, RootItem, Stamp, Xattrs,
};
use holdfast_core::checkpoint::{Quality, Scope, Totals};
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::time::{Interval, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod fork;

type Files = BTreeMap<String, Vec<u8>>;

struct World {
    memory: Arc<Memory>,
    domain: Arc<crate::seal::Domain>,
    runtime: tokio::runtime::Runtime,
    tuning: Tuning,
}

fn inode(body: Body) -> Inode {
    let mtime = Mtime { seconds: 1, nanos: 2 };
    Inode { mode: 0o755, uid: 0, gid: 0, mtime, xattrs: Xattrs::None, body, stamp: Stamp::default() }
}

impl World {
    fn new() -> Self {
        let memory = Arc::new(Memory::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let transport: Arc<dyn Transport> = memory.clone();
        let domain = runtime.block_on(async {
            let repository = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("a store");
            Arc::new(repository.domain("default").await.expect("keys"))
        });
        let tuning = Tuning {
            pack_bytes: 64 << 10,
            node_pack_bytes: 32 << 10,
            fold_bytes: 8 << 10,
            fold_after: 20,
            uploads: 2,
            encoders: 2,
        };
        Self { memory, domain, runtime, tuning }
    }

    fn reader(&self) -> Arc<Reader> {
        let transport: Arc<dyn Transport> = self.memory.clone();
        Arc::new(Reader::new(transport, Arc::clone(&self.domain), self.runtime.handle().clone(), None))
    }

    fn opening(&self, holder: u8) -> Opening {
        Opening {
            reader: self.reader(),
            name: "web-0".to_owned(),
            owner: OwnerId::new([1; 16]),
            holder: format!("holder {holder}"),
            holder_key: HolderKey::new([holder; 16]),
            takeover: Takeover::SameOwner,
            watermark: None,
            back_to: None,
            tuning: self.tuning.clone(),
            now: Timestamp::from_nanos(1),
        }
    }

    fn open(&self, holder: u8) -> Session {
        self.runtime.block_on(Session::open(self.opening(holder))).expect("a claim")
    }

    fn log(&self) -> Log {
        let transport: Arc<dyn Transport> = self.memory.clone();
        Log::new(transport, Arc::clone(&self.domain), self.domain.keys.identity.lineage_id("web-0"))
    }

    /// What a checkpoint holds, read from the store alone.
    fn files(&self, sequence: u64) -> Files {
        let entry = self.runtime.block_on(self.log().read(sequence)).expect("a record");
        let checkpoint = entry.record.checkpoint().expect("a checkpoint");
        read_files(&self.reader(), &checkpoint.roots[0].entries())
    }
}

fn read_files(reader: &Reader, map: &MapRef<Directory>) -> Files {
    let mut files = Files::new();
    let mut cursor = Cursor::new(reader, map).expect("a map");
    while let Some((name, entry)) = cursor.next(reader).expect("an item") {
        let Entry::Inode(inode) = entry else { panic!("no links here") };
        let Body::File { size, content } = &inode.body else { panic!("files only") };
        let bytes = match content {
            Content::None => Vec::new(),
            Content::Inline(bytes) => bytes.to_vec(),
            Content::Chunk { id, place } => reader.chunk(place, u32::try_from(*size).expect("small"), id).expect("a chunk"),
            Content::Extents { map, .. } => {
                let mut bytes = Vec::new();
                let mut extents = Cursor::new(reader, map).expect("a map");
                while let Some(extent) = extents.next(reader).expect("an extent") {
                    bytes.extend(reader.chunk(&extent.place, extent.len, &extent.id).expect("a chunk"));
                }
                bytes
            }
        };
        assert_eq!(bytes.len() as u64, *size);
        files.insert(String::from_utf8_lossy(name.as_bytes()).into_owned(), bytes);
    }
    files
}

/// Content that compresses a little, different for each seed.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3] & 0x3f
    };
    (0..len).map(next).collect()
}

/// Applies changes (`None` removes) to the session's tree, as a capture does.
fn change(session: &mut Session, changes: &BTreeMap<String, Option<Vec<u8>>>) -> Composed {
    let encoders = Encoders::new(session.reader().domain().keys.identity.clone(), 2);
    let mut batcher = Batcher::new(&encoders);
    let old = session.roots().first().map_or(MapRef::Empty, RootItem::entries);
    let chunks = |content: &Vec<u8>, batcher: &mut Batcher<'_>| -> Vec<_> {
        content.chunks(40_000).map(|chunk| (batcher.add(chunk, None), chunk.len())).collect()
    };
    let batches: Vec<_> =
        changes.iter().map(|(name, content)| (name, content.as_ref().map(|c| (c.len(), chunks(c, &mut batcher))))).collect();
    batcher.flush();
    let mut editor = Editor::new(old);
    let composer = session.composer();
    for (name, content) in batches {
        let Some((size, chunks)) = content else {
            editor.remove(composer, name.as_bytes()).expect("an edit");
            continue;
        };
        let mut extents = Editor::<ContentMap>::new(MapRef::Empty);
        let mut start = 0;
        for ((batch, index), _) in chunks {
            let stored = composer.stored(&encoders, &batch, index).expect("a chunk");
            extents.put(composer, Extent { start, len: stored.len, id: stored.id, place: stored.place }).expect("an edit");
            start += u64::from(stored.len);
        }
        let map = extents.finish(composer).expect("an edit");
        let content = match changes[name].as_deref() {
            Some(bytes) if (1..=64).contains(&size) => Content::Inline(bytes.into()),
            _ => content_of(size as u64, map, 0),
        };
        let entry = Entry::Inode(Box::new(inode(Body::File { size: size as u64, content })));
        editor.put(composer, (Name::new(name.as_bytes()).expect("a name"), entry)).expect("an edit");
    }
    let map = editor.finish(composer).expect("an edit");
    vec![RootItem {
        label: "data".to_owned(),
        directory: inode(Body::Directory { map, sums: Totals::default() }),
        links: MapRef::Empty,
    }]
}

fn meta(at: i64, quality: Quality) -> CheckpointMeta {
    let moment = Timestamp::from_nanos(at);
    CheckpointMeta {
        interval: Interval { first_open: moment, last_close: moment, clock_error: Duration::ZERO },
        quality,
        scope: Scope::default(),
        totals: Totals::default(),
        volume: None,
        problems: Vec::new(),
        now: moment,
    }
}

fn commit(session: &mut Session, at: i64, changes: &[(&str, Option<Vec<u8>>)]) -> Acknowledged {
    let changes = changes.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect();
    let roots = change(session, &changes);
    session.commit(&roots, meta(at, Quality::Clean)).expect("a commit")
}

#[test]
fn a_small_change_is_one_request_that_writes() {
    let world = World::new();
    let mut session = world.open(1);
    commit(&mut session, 10, &[("a", Some(bytes(1, 1000)))]);
    world.memory.take_requests();
    let second = commit(&mut session, 20, &[("b", Some(bytes(2, 500)))]);
    let requests: Vec<_> = world.memory.take_requests().into_iter().map(|request| request.operation).collect();
    assert_eq!(requests, ["create", "size"], "the record, and the question for the boundary");
    assert!(!second.fold);
    assert_eq!(world.files(second.sequence), Files::from([("a".into(), bytes(1, 1000)), ("b".into(), bytes(2, 500))]));
}

#[test]
fn a_record_is_read_without_any_other() {
    let world = World::new();
    let mut session = world.open(1);
    for i in 0..5_u64 {
        commit(&mut session, 10 + i64::try_from(i).expect("small"), &[(&format!("f{i}"), Some(bytes(i, 600)))]);
    }
    let last = session.base();
    for sequence in 1..last {
        world.memory.tamper(&world.log().name(sequence), None);
    }
    assert_eq!(world.files(last).len(), 5);
}

#[test]
fn large_captures_go_to_packs_as_they_come() {
    let world = World::new();
    let mut session = world.open(1);
    let files: Files = (0..40).map(|i| (format!("file{i:03}"), bytes(i, 30_000))).collect();
    let changes = files.iter().map(|(name, content)| (name.clone(), Some(content.clone()))).collect();
    let roots = change(&mut session, &changes);
    assert!(session.composer().is_streaming());
    let done = session.commit(&roots, meta(5, Quality::Clean)).expect("a commit");
    assert!(done.fold);
    let packs = world.memory.objects().keys().filter(|name| name.as_str().contains("/packs/")).count();
    assert!(packs > 10, "{packs} packs");
    assert_eq!(world.files(done.sequence), files);
    // and the next change is small again
    let next = commit(&mut session, 6, &[("file005", None)]);
    assert!(!next.fold && next.uploaded_bytes < 8000, "{next:?}");
    assert_eq!(world.files(next.sequence).len(), 39);
}

#[test]
fn a_new_holder_goes_on_where_the_old_one_was() {
    let world = World::new();
    let mut model = Files::new();
    for round in 0..4_u8 {
        let mut session = world.open(round + 1);
        assert_eq!(session.generation(), u64::from(round) + 1);
        for i in 0..3_u8 {
            let name = format!("r{round}f{i}");
            let content = bytes(u64::from(round * 8 + i), 300 + usize::from(i) * 700);
            commit(&mut session, i64::from(round) * 10 + i64::from(i), &[(&name, Some(content.clone()))]);
            model.insert(name, content);
        }
        assert_eq!(world.files(session.base()), model);
    }
}

#[test]
fn the_replaced_holder_is_fenced_and_nothing_of_it_is_history() {
    let world = World::new();
    let mut old = world.open(1);
    commit(&mut old, 1, &[("a", Some(bytes(1, 100)))]);
    let mut new = world.open(2);
    let roots = change(&mut old, &BTreeMap::from([("late".to_owned(), Some(bytes(9, 100)))]));
    assert!(matches!(old.commit(&roots, meta(2, Quality::Clean)), Err(StoreError::Fenced { .. })));
    assert!(matches!(old.commit(&roots, meta(2, Quality::Clean)), Err(StoreError::Ended)));
    let done = commit(&mut new, 3, &[("b", Some(bytes(2, 100)))]);
    assert_eq!(world.files(done.sequence).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_polite_holder_takes_only_what_was_closed() {
    let world = World::new();
    let mut session = world.open(1);
    commit(&mut session, 1, &[("a", Some(bytes(1, 100)))]);
    let polite = |gone| Opening { takeover: Takeover::Polite(gone), ..world.opening(2) };
    let open = |opening| world.runtime.block_on(Session::open(opening));
    assert!(matches!(open(polite(None)), Err(StoreError::Held { .. })));
    assert!(matches!(open(Opening { owner: OwnerId::new([2; 16]), ..polite(None) }), Err(StoreError::ForeignOwner { .. })));
    assert!(open(polite(Some(HolderKey::new([1; 16])))).is_ok(), "its holder is known to be gone");
    let session = world.open(3);
    session.seal("done", Timestamp::from_nanos(9)).expect("a seal");
    let session = open(polite(None)).expect("it was closed");
    assert_eq!(world.files(session.base()).len(), 1);
}

#[test]
fn who_has_looked_at_a_log_claims_only_what_was_seen() {
    let world = World::new();
    let mut session = world.open(1);
    let first = commit(&mut session, 1, &[("a", Some(bytes(1, 100)))]);
    let seen = commit(&mut session, 2, &[("b", Some(bytes(2, 100)))]);
    let back = |newest| Opening { takeover: Takeover::After(newest), back_to: Some(first.sequence), ..world.opening(2) };
    let open = |opening| world.runtime.block_on(Session::open(opening));
    assert!(matches!(open(back(first.record)), Err(StoreError::Fenced { .. })), "there is a newer one");
    let restored = open(back(seen.record)).expect("nothing came between");
    assert_eq!(world.files(restored.base()).into_keys().collect::<Vec<_>>(), ["a"]);
    assert!(matches!(open(back(seen.record)), Err(StoreError::Fenced { .. })), "a second one comes too late");
    let foreign = Opening { owner: OwnerId::new([2; 16]), ..back(restored.head().expect("a head").hash) };
    assert!(matches!(open(foreign), Err(StoreError::ForeignOwner { .. })));
}

#[test]
fn a_rolled_back_store_is_refused() {
    let world = World::new();
    let mut session = world.open(1);
    let done = commit(&mut session, 1, &[("a", Some(bytes(1, 100)))]);
    let seen = Opening { watermark: Some((done.sequence, done.record)), ..world.opening(2) };
    world.memory.tamper(&world.log().name(done.sequence), None);
    assert!(matches!(world.runtime.block_on(Session::open(seen)), Err(StoreError::RolledBack { found: 1, seen: 2, .. })));
}

/// A partial checkpoint is where the capture goes on, and not the state of anything.
#[test]
fn a_partial_checkpoint_is_resumed_and_not_restored() {
    let world = World::new();
    let mut session = world.open(1);
    let complete = commit(&mut session, 1, &[("a", Some(bytes(1, 100)))]);
    let roots = change(&mut session, &BTreeMap::from([("b".to_owned(), Some(bytes(2, 50_000)))]));
    let partial = session.commit(&roots, meta(2, Quality::Partial)).expect("a commit");
    drop(session);
    let again = world.open(2);
    assert_eq!((again.base(), again.quality()), (partial.sequence, Some(Quality::Partial)));
    drop(again);
    let mut third = world.open(3);
    assert_eq!(third.base(), partial.sequence, "also after a claim that came to nothing");
    let newest = world.runtime.block_on(world.log().find(Selector::Newest, false)).expect("a log").expect("a checkpoint");
    assert_eq!(newest.sequence, complete.sequence);
    world.memory.take_requests();
    let done = commit(&mut third, 3, &[("c", Some(bytes(3, 100)))]);
    assert!(done.uploaded_bytes < 10_000, "what the partial one stored is not stored again");
    assert_eq!(world.files(done.sequence).len(), 3);
}

#[test]
fn checkpoints_are_found_by_time_whatever_clocks_did() {
    let world = World::new();
    let mut times = Vec::new();
    for (holder, clock) in [(1_u8, 1000), (2, 9_000_000), (3, 2000)] {
        let mut session = world.open(holder);
        for i in 0..30 {
            let at = clock + i64::from(i) * 10;
            let done = commit(&mut session, at, &[(&format!("{holder}-{i}"), Some(bytes(1, 10)))]);
            times.push((at, done.sequence));
        }
    }
    let at =
        |moment| world.runtime.block_on(world.log().find(Selector::At(Timestamp::from_nanos(moment)), false)).expect("a log");
    for moment in [999, 1000, 1005, 1289, 1290, 1999, 2000, 2155, 2290, 5000, 9_000_100, 99_000_000] {
        let expected = times.iter().filter(|(time, _)| *time <= moment).max().map(|(_, sequence)| *sequence);
        assert_eq!(at(moment).map(|mark| mark.sequence), expected, "at {moment}");
    }
    let log = world.log();
    let mut timeline = log.timeline(u64::MAX);
    let listed: Vec<_> =
        std::iter::from_fn(|| world.runtime.block_on(timeline.next()).expect("a log")).map(|mark| mark.sequence).collect();
    assert_eq!(listed, times.iter().rev().map(|(_, sequence)| *sequence).collect::<Vec<_>>());
}

/// Hundreds of checkpoints with folds and consolidations: any of them reads right, and a restore never touches many objects.
#[test]
fn folds_and_consolidations_keep_every_state_readable_and_gathered() {
    let mut world = World::new();
    world.tuning.fold_after = 2;
    let mut session = world.open(1);
    let (mut model, mut states) = (Files::new(), Vec::new());
    for i in 0..700_u64 {
        let name = format!("file{:03}", (i * 37) % 90);
        let content = (i % 7 != 3).then(|| bytes(i, 200 + usize::try_from(i % 5).expect("small") * 900));
        let done = commit(&mut session, i64::try_from(i).expect("small"), &[(&name, content.clone())]);
        match content {
            Some(content) => model.insert(name, content),
            None => model.remove(&name),
        };
        if i % 97 == 0 || i == 699 {
            states.push((done.sequence, model.clone()));
        }
    }
    for (sequence, files) in &states {
        assert_eq!(world.files(*sequence), *files, "checkpoint {sequence}");
    }
    world.memory.take_requests();
    world.files(session.base());
    let objects: std::collections::BTreeSet<_> = world.memory.take_requests().into_iter().map(|request| request.object).collect();
    assert!(objects.len() <= 2 * 16 * 3, "a restore reads {} objects", objects.len());
}

/// Dies after each request of a run in turn: whatever was acknowledged is there, and the next holder goes on.
#[test]
fn a_death_after_any_request_loses_nothing_acknowledged() {
    for allowed in 0.. {
        let world = World::new();
        let acknowledged = std::sync::Mutex::new(Files::new());
        let finished = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let opening = Opening { reader: dying(&world, allowed), ..world.opening(1) };
                let Ok(mut session) = world.runtime.block_on(Session::open(opening)) else { return false };
                for i in 0..6_u64 {
                    let content = bytes(i, if i == 2 { 100_000 } else { 400 });
                    let name = format!("f{i}");
                    let roots = change(&mut session, &BTreeMap::from([(name.clone(), Some(content.clone()))]));
                    if session.commit(&roots, meta(i64::try_from(i).expect("small"), Quality::Clean)).is_err() {
                        return false;
                    }
                    acknowledged.lock().expect("no panic").insert(name, content);
                }
                true
            });
            run.join().unwrap_or(false)
        });
        let mut session = world.open(2);
        let stored = if session.base() == 0 { Files::new() } else { world.files(session.base()) };
        let acknowledged = acknowledged.into_inner().expect("no panic");
        assert!(acknowledged.iter().all(|(name, content)| stored.get(name) == Some(content)), "after {allowed} requests");
        assert!(stored.len() <= acknowledged.len() + 1, "at most the one that was in flight more");
        commit(&mut session, 99, &[("next", Some(bytes(7, 50)))]);
        if finished {
            break;
        }
    }
}

/// A reader whose store refuses everything after so many creations.
fn dying(world: &World, allowed: usize) -> Arc<Reader> {
    let transport = Arc::new(Dying { memory: Arc::clone(&world.memory), left: std::sync::atomic::AtomicUsize::new(allowed) });
    Arc::new(Reader::new(transport, Arc::clone(&world.domain), world.runtime.handle().clone(), None))
}

#[derive(Debug)]
struct Dying {
    memory: Arc<Memory>,
    left: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Transport for Dying {
    async fn create(
        &self,
        name: &crate::name::Name,
        body: &crate::transport::Body,
    ) -> Result<crate::transport::Created, crate::transport::TransportError> {
        use std::sync::atomic::Ordering::SeqCst;
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            std::panic::resume_unwind(Box::new("dead")); // without the hook's message
        }
        self.memory.create(name, body).await
    }

    async fn get(
        &self,
        name: &crate::name::Name,
        range: crate::transport::Range,
    ) -> Result<bytes::Bytes, crate::transport::TransportError> {
        self.memory.get(name, range).await
    }

    async fn size(&self, name: &crate::name::Name) -> Result<Option<u64>, crate::transport::TransportError> {
        self.memory.size(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        by_level: bool,
        limit: u16,
    ) -> Result<crate::transport::Page, crate::transport::TransportError> {
        self.memory.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &crate::name::Name) -> Result<(), crate::transport::TransportError> {
        self.memory.delete(name).await
    }

    fn location(&self) -> String {
        "dying".to_owned()
    }
}
