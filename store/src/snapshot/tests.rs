// SPDX-License-Identifier: Apache-2.0
//! Snapshots under races and crashes: all or nothing, once.

use super::*;
use crate::capture::Dirt;
use crate::log::Log;
use crate::name::Name;
use crate::repository::Kdf;
use crate::testkit::Lab;
use crate::transport::{Body, Created, Page, Range, Transport, TransportError};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// A store whose client dies at a creation: before it was applied, or after.
#[derive(Debug)]
struct Dying {
    inner: Arc<dyn Transport>,
    left: AtomicUsize,
    applies: bool,
    died: Notify,
}

#[async_trait]
impl Transport for Dying {
    async fn create(&self, name: &Name, body: &Body) -> Result<Created, TransportError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) != 1 {
            return self.inner.create(name, body).await;
        }
        if self.applies {
            self.inner.create(name, body).await.expect("the model store");
        }
        self.died.notify_one();
        std::future::pending().await
    }

    async fn get(&self, name: &Name, range: Range) -> Result<Bytes, TransportError> {
        self.inner.get(name, range).await
    }

    async fn size(&self, name: &Name) -> Result<Option<u64>, TransportError> {
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, by_level: bool, limit: u16) -> Result<Page, TransportError> {
        self.inner.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &Name) -> Result<(), TransportError> {
        self.inner.delete(name).await
    }

    fn location(&self) -> String {
        "a store whose client dies".to_owned()
    }
}

struct World {
    lab: Lab,
    sequences: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new();
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = lab.open(1);
        let sequences = ["one", "two"].map(|content| {
            std::fs::write(directory.path().join("file"), content).expect("a file");
            lab.capture(&mut session, directory.path(), Dirt::all(), true).1.sequence
        });
        Self { lab, sequences: sequences.to_vec() }
    }

    async fn repository(&self) -> Repository {
        let transport: Arc<dyn Transport> = self.lab.memory.clone();
        self.over(transport).await
    }

    async fn over(&self, transport: Arc<dyn Transport>) -> Repository {
        Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.expect("a repository")
    }

    fn wanted(&self) -> Vec<Wanted> {
        let wanted = |sequence: &u64| Wanted {
            log: self.lab.log(),
            name: "web-0".to_owned(),
            sequence: *sequence,
            pause: Some(Duration::from_millis(7)),
        };
        self.sequences.iter().map(wanted).collect()
    }

    fn through(&self, transport: &Arc<dyn Transport>) -> Vec<Wanted> {
        let log = Log::new(Arc::clone(transport), Arc::clone(&self.lab.domain), self.lab.log().lineage());
        self.wanted().into_iter().map(|wanted| Wanted { log: log.clone(), ..wanted }).collect()
    }

    fn proposal(&self, id: u8, name: &str) -> Proposal {
        Proposal {
            id: SnapshotId::new([id; 16]),
            name: name.to_owned(),
            rename: false,
            created: Timestamp::from_nanos(5),
            consistency: Consistency::Crash,
            skew: Some(Duration::from_micros(3)),
            labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
            members: self.wanted(),
            setting: Setting::default(),
        }
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.lab.runtime.block_on(future)
    }

    /// The numbers of the pins that hold.
    async fn pins(&self) -> Vec<u64> {
        pins(&self.lab.log()).await.expect("pins").iter().map(|pin| pin.number).collect()
    }
}

fn snapshot(made: Made) -> Arc<Snapshot> {
    match made {
        Made::New(snapshot) | Made::Before(snapshot) => snapshot,
    }
}

#[test]
fn a_snapshot_is_taken_listed_and_deleted_with_its_pins() {
    let world = World::new();
    world.block_on(async {
        let snapshots = Snapshots::new(world.repository().await);
        let made = snapshot(snapshots.create(&world.proposal(1, "first")).await.expect("a snapshot"));
        assert_eq!((made.skew, made.members[0].pause), (Some(Duration::from_micros(3)), Some(Duration::from_millis(7))));
        assert_eq!((made.number, made.members.len(), made.name.as_str()), (1, 2, "first"));
        let mut pins: Vec<_> = made.members.iter().map(|member| member.pin).collect();
        pins.sort_unstable();
        assert_eq!(world.pins().await, pins);
        let elsewhere = Snapshots::new(world.repository().await);
        assert_eq!(elsewhere.list().await.expect("a list"), std::slice::from_ref(&made));
        assert!(matches!(snapshots.create(&world.proposal(2, "first")).await, Err(StoreError::NameTaken { .. })));
        assert_eq!(world.pins().await.len(), 2, "what was refused pins nothing");
        let renamed = Proposal { rename: true, ..world.proposal(2, "first") };
        assert_eq!(snapshot(snapshots.create(&renamed).await.expect("a snapshot")).name, "first-2");
        assert!(snapshots.delete(made.id).await.expect("a withdrawal"));
        assert!(snapshots.delete(made.id).await.expect("again"));
        assert!(!snapshots.delete(SnapshotId::new([9; 16])).await.expect("nothing to do"));
        assert_eq!(elsewhere.list().await.expect("a list").len(), 1, "others see it");
        assert_eq!(world.pins().await.len(), 2);
        assert!(matches!(elsewhere.create(&world.proposal(1, "x")).await, Err(StoreError::Withdrawn { .. })));
        assert!(snapshots.create(&world.proposal(3, "first")).await.is_ok(), "the name is free again");
    });
}

#[test]
fn what_the_members_ran_as_comes_back() {
    let world = World::new();
    world.block_on(async {
        let snapshots = Snapshots::new(world.repository().await);
        let text = str::to_owned;
        let json = br#"{"kind":"Deployment"}"#.repeat(50_000);
        let whole =
            Manifest { api_version: text("apps/v1"), kind: text("Deployment"), namespace: text("shop"), name: text("web"), json };
        let by_name =
            Manifest { api_version: text("v1"), kind: text("Secret"), name: text("tls"), json: Vec::new(), ..whole.clone() };
        let image = Image { lineage: text("web/0"), container: text("web"), image: text("web:7"), digest: text("web@sha256:ab") };
        let setting = Setting { manifests: vec![whole, by_name], images: vec![image] };
        let proposal = Proposal { setting: setting.clone(), ..world.proposal(1, "first") };
        let made = snapshot(snapshots.create(&proposal).await.expect("a snapshot"));
        let elsewhere = Snapshots::new(world.repository().await);
        assert_eq!(elsewhere.list().await.expect("a list"), std::slice::from_ref(&made));
        assert_eq!(elsewhere.setting(made.number).await.expect("a setting"), setting);
        let bare = snapshot(snapshots.create(&world.proposal(2, "second")).await.expect("a snapshot"));
        assert_eq!(elsewhere.setting(bare.number).await.expect("a setting"), Setting::default());
    });
}

#[test]
fn a_request_that_is_repeated_makes_one_snapshot() {
    let world = World::new();
    world.block_on(async {
        let repository = world.repository().await;
        let snapshots = Snapshots::new(repository.clone());
        let id = snapshots.id_of_request("nightly 1");
        assert_eq!(id, Snapshots::new(repository.clone()).id_of_request("nightly 1"));
        assert_ne!(id, snapshots.id_of_request("nightly 2"));
        let proposal = Proposal { id, ..world.proposal(0, "nightly") };
        let first = snapshot(snapshots.create(&proposal).await.expect("a snapshot"));
        let again = Snapshots::new(repository).create(&proposal).await.expect("the same");
        assert_eq!(again, Made::Before(first));
        assert_eq!(world.pins().await.len(), 2, "the repetition holds nothing");
    });
}

#[test]
fn of_creators_that_race_each_name_and_request_has_one_winner() {
    let world = World::new();
    world.block_on(async {
        let repository = world.repository().await;
        let create = async |id, name: &str| Snapshots::new(repository.clone()).create(&world.proposal(id, name)).await;
        let (one, two) = tokio::join!(create(1, "same"), create(2, "same"));
        assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{one:?} {two:?}");
        let (one, two) = tokio::join!(create(3, "three"), create(3, "three"));
        assert_eq!(snapshot(one.expect("one")).number, snapshot(two.expect("the same")).number);
        let (one, two) = tokio::join!(create(4, "four"), create(5, "five"));
        assert_ne!(snapshot(one.expect("one")).number, snapshot(two.expect("another")).number);
        let all = Snapshots::new(repository.clone()).list().await.expect("a list");
        assert_eq!(all.len(), 4);
        assert_eq!(world.pins().await.len(), 8, "losers hold nothing");
    });
}

#[test]
fn a_crash_at_any_put_leaves_all_or_nothing() {
    for applies in [false, true] {
        for left in 1.. {
            let world = World::new();
            let finished = world.block_on(crash(&world, left, applies));
            if finished {
                assert!(left >= 4, "two pins and the snapshot");
                break;
            }
        }
    }
}

/// Dies at the n-th creation, looks at what is left, and asks again. Whether it did not come to dying.
async fn crash(world: &World, left: usize, applies: bool) -> bool {
    let repository = world.repository().await;
    let died = Notify::new();
    let dying = Arc::new(Dying { inner: world.lab.memory.clone(), left: AtomicUsize::new(left), applies, died });
    let transport: Arc<dyn Transport> = dying.clone();
    let proposal = Proposal { members: world.through(&transport), ..world.proposal(1, "first") };
    let snapshots = Snapshots::new(world.over(transport).await);
    let finished = tokio::select! {
        made = snapshots.create(&proposal) => made.is_ok(),
        () = dying.died.notified() => false,
    };
    let after = Snapshots::new(repository);
    let pinned = world.pins().await;
    for visible in after.list().await.expect("a list") {
        assert_eq!(visible.members.len(), 2);
        assert!(visible.members.iter().all(|member| pinned.contains(&member.pin)), "{left} {applies}: {pinned:?}");
    }
    let made = snapshot(after.create(&world.proposal(1, "first")).await.expect("the second try"));
    assert_eq!(after.list().await.expect("a list"), [made]);
    finished
}

#[test]
fn what_is_condemned_or_no_history_can_not_be_made_needed() {
    let world = World::new();
    world.block_on(async {
        let repository = world.repository().await;
        let log = world.lab.log();
        let [first, second] = [world.sequences[0], world.sequences[1]];
        let condemned = wire::Collection { format: 1, condemned: vec![log.name(first).to_string()], ..Default::default() };
        let collections = Register::collections(&**repository.transport(), repository.own_domain());
        collections.append(&condemned.encode_to_vec()).await.expect("an entry");
        let snapshots = Snapshots::new(repository.clone());
        let refused = snapshots.create(&world.proposal(1, "x")).await.expect_err("condemned");
        assert!(matches!(&refused, StoreError::Leaving { sequence, .. } if *sequence == first), "{refused}");
        assert!(world.pins().await.is_empty() && snapshots.list().await.expect("a list").is_empty());
        let boundary = wire::Boundary { sequence: second + 1, ..Default::default() };
        let boundaries = Register::boundaries(&**repository.transport(), log.domain(), log.lineage());
        assert_eq!(boundaries.append(&boundary.encode_to_vec()).await.expect("an entry"), 1);
        let refused = pin(&repository, &log, second, Purpose::Read, [1; 16], Timestamp::default()).await;
        assert!(matches!(refused, Err(StoreError::Leaving { .. })), "{refused:?}");
        let missing = pin(&repository, &log, 1, Purpose::Read, [1; 16], Timestamp::default()).await;
        assert!(missing.expect_err("a claim is no checkpoint").is_missing());
    });
}

#[test]
fn a_damaged_snapshot_does_not_hide_the_others() {
    let world = World::new();
    world.block_on(async {
        let repository = world.repository().await;
        for (id, name) in [(1, "one"), (2, "two")] {
            Snapshots::new(repository.clone()).create(&world.proposal(id, name)).await.expect("a snapshot");
        }
        let name = Name::entry(crate::name::Register::Snapshots, 1);
        world.lab.memory.tamper(&name, Some(Bytes::from_static(b"HOLDFAST")));
        let snapshots = Snapshots::new(repository);
        let names: Vec<_> = snapshots.list().await.expect("a list").iter().map(|snapshot| snapshot.name.clone()).collect();
        assert_eq!(names, ["two"]);
        assert_eq!(snapshot(snapshots.create(&world.proposal(3, "three")).await.expect("a snapshot")).number, 3);
    });
}
