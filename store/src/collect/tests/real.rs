// SPDX-License-Identifier: Apache-2.0
//! Collections of real trees, and what they cost.

use super::sim::{run, template};
use super::*;
use crate::capture::Dirt;
use crate::check::{self, check};
use crate::repository::{Kdf, Repository};
use crate::testkit::{Dice, Lab, describe, exact};
use crate::transport::Transport;
use crate::transport::memory::Memory;
use crate::write::scribe::{Archive, Scribe, Start};
use holdfast_core::checkpoint::Quality;
use holdfast_core::id::HolderKey;
use holdfast_core::policy::{Tier, Window};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const KEEP_NONE: Retention = Retention { keep_all: Duration::ZERO, tiers: Vec::new() };

fn repository(lab: &Lab) -> Repository {
    let transport: Arc<dyn Transport> = lab.memory.clone();
    let opened = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default());
    lab.runtime.block_on(opened).expect("it exists")
}

/// Everything that a tree can refer to: small files, pages, a stream, a large directory, hard links, a long list of attributes, a hole.
fn furnish(root: &Path, dice: &mut Dice) {
    for index in 0..300 {
        fs::create_dir_all(root.join("many")).expect("a directory");
        fs::write(root.join(format!("many/{index:04}")), dice.bytes(70 + index)).expect("a file");
    }
    fs::write(root.join("pages.db"), dice.bytes(2 << 20)).expect("a file");
    fs::write(root.join("stream.log"), dice.bytes(700_001)).expect("a file");
    fs::write(root.join("linked"), dice.bytes(9000)).expect("a file");
    fs::hard_link(root.join("linked"), root.join("many/also-linked")).expect("a link");
    let hole = fs::File::create(root.join("hole")).expect("a file");
    hole.set_len(3 << 20).expect("a hole");
    let file = fs::File::open(root.join("linked")).expect("a file");
    rustix::fs::fsetxattr(&file, "user.long", &dice.bytes(3000), rustix::fs::XattrFlags::empty()).ok();
}

fn disturb(root: &Path, dice: &mut Dice) {
    use std::os::unix::fs::FileExt;
    let pages = fs::OpenOptions::new().write(true).open(root.join("pages.db")).expect("a file");
    for _ in 0..20 {
        let page = dice.roll(512) as u64;
        pages.write_all_at(&dice.bytes(4096), page * 4096).expect("a page");
    }
    for _ in 0..30 {
        let (index, len) = (dice.roll(300), 70 + dice.roll(500));
        fs::write(root.join(format!("many/{index:04}")), dice.bytes(len)).expect("a file");
    }
    fs::write(root.join("linked"), dice.bytes(9000)).expect("a file");
    fs::write(root.join("stream.log"), dice.bytes(700_001)).expect("a file");
}

#[test]
fn a_thinned_and_rewritten_lineage_restores_as_before() {
    let mut lab = Lab::new();
    lab.tuning.fold_bytes = 64 << 10;
    lab.tuning.fold_after = 3;
    let (state, mut dice) = (tempfile::tempdir().expect("a directory"), Dice::new(7));
    furnish(state.path(), &mut dice);
    let mut session = lab.open(1);
    let mut states = Vec::new();
    for _ in 0..12 {
        let (_, done) = lab.capture(&mut session, state.path(), Dirt::all(), false);
        states.push((done.sequence, describe(state.path())));
        disturb(state.path(), &mut dice);
    }
    let before: u64 = lab.memory.objects().values().map(|bytes| bytes.len() as u64).sum();
    let (repository, kept) = (repository(&lab), states[4].0);
    let log = lab.log();
    let pinned = crate::snapshot::pin(&repository, &log, kept, crate::snapshot::Purpose::Read, [1; 16], Timestamp::default());
    lab.runtime.block_on(pinned).expect("a pin");
    let options =
        Options { margin: Duration::ZERO, rewrite: Some(Worth { dead_bytes: 1, live_percent: 80 }), ..Options::default() };
    let owner = OwnerId::new([1; 16]);
    let now = crate::capture::Clock::now(&crate::testkit::SystemClock);
    let holder_key = HolderKey::new([9; 16]);
    let request = |options, owner, now| Request {
        repository: &repository,
        owner,
        holder: "a test".to_owned(),
        holder_key,
        now,
        retention: &|_, _| Some(KEEP_NONE),
        options,
    };
    let collected = |options, owner| lab.runtime.block_on(collect(&request(options, owner, now))).expect("a collection");
    let objects = lab.memory.objects();
    let planned = collected(Options { dry_run: true, ..options }, owner);
    let foreign = collected(options, OwnerId::new([2; 16]));
    assert_eq!(lab.memory.objects().len(), objects.len(), "a plan and another's collector delete nothing");
    assert!(foreign.lineages[0].left_alone.is_some(), "{foreign:?}");
    let done = collected(options, owner);
    assert_eq!(planned.gone().keys().next(), done.gone().keys().next());
    assert!(done.problems.is_empty() && done.lineages[0].rewritten.objects > 0, "{done:#?}");
    let after: u64 = lab.memory.objects().values().map(|bytes| bytes.len() as u64).sum();
    assert!(after < before * 2 / 3, "{after} bytes of {before} are left");
    let last = states.last().expect("states").0;
    for (sequence, described) in states.iter().filter(|(sequence, _)| [kept, last].contains(sequence)) {
        let target = tempfile::tempdir().expect("a directory");
        lab.restore(*sequence, target.path(), &exact()).expect("a restore");
        assert_eq!(&describe(target.path()), described, "checkpoint {sequence}");
    }
    // the session that was open all the time goes on, reading what was moved
    let (_, next) = lab.capture(&mut session, state.path(), Dirt::all(), false);
    let target = tempfile::tempdir().expect("a directory");
    lab.restore(next.sequence, target.path(), &exact()).expect("a restore");
    assert_eq!(describe(target.path()), describe(state.path()));
    let reader = lab.reader();
    let (cancel, progress) = (AtomicBool::new(false), check::Progress::default());
    let options = check::Options { all: true, read_data: true };
    let report = check(&check::Request { log: &log, reader: &reader, options, cancel: &cancel, progress: &progress });
    let report = report.expect("a check");
    assert_eq!((report.finding_count, report.checkpoints), (0, 3), "{report:#?}");
}

#[test]
fn what_a_collection_costs_does_not_grow_with_history() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let memory = Arc::new(Memory::default());
        let (repository, domain) = template(&memory).await;
        let lineage = domain.keys.identity.lineage_id("web");
        let log = Log::new(Arc::clone(repository.transport()), domain, lineage);
        let at = |second: i64| Timestamp::from_nanos((1_800_000_000 + second) * 1_000_000_000);
        let mut scribe = Scribe::claim(log, "web", Start::Newest, &Archive::default(), at(0)).await.expect("a claim");
        let (mut dice, mut costs, mut second) = (Dice::new(1), Vec::new(), 0_i64);
        let tiers = vec![Tier { window: Window::Every(Duration::from_secs(60)), count: 20 }];
        let retention = Retention { keep_all: Duration::from_secs(60), tiers };
        for _ in 0..10 {
            for _ in 0..300 {
                second += 1;
                scribe
                    .checkpoint(&mut dice, second % 50 == 0, second % 200 == 0, Quality::Clean, at(second))
                    .await
                    .expect("a checkpoint");
            }
            memory.take_requests();
            let report = run(&repository, &|_, _| Some(retention.clone()), at(second), 0).await.expect("a collection");
            assert!(!report.more && report.problems.is_empty(), "{report:?}");
            let requests = memory.take_requests();
            costs.push(requests.iter().filter(|request| request.operation != "delete").count());
        }
        // 20 windows of a minute, and what lies above the boundary: after seven rounds of five minutes nothing grows any more
        assert!(costs[9] < costs[5] + costs[5] / 4, "{costs:?}");
        assert!(costs[9] < 400, "{costs:?}");
        let records = memory.objects().keys().filter(|name| name.as_str().contains("/log/")).count();
        assert!(records < 20 + 61 + 10, "{records} records are left of 3000");
    });
}
