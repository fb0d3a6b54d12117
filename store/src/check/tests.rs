// SPDX-License-Identifier: Apache-2.0
//! Whatever is taken away or changed is found, and what it spoils is told.

use super::*;
use crate::capture::Dirt;
use crate::log::{Boundary, Log};
use crate::name::Name;
use crate::testkit::{Dice, Lab};
use crate::transport::memory::Memory;
use crate::transport::{Body, Created, Page, Range, Transport, TransportError};
use bytes::Bytes;
use holdfast_core::collection::Kept;
use holdfast_core::time::Timestamp;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A lineage of a few checkpoints with small and large files, a deep tree, hard links, and a directory of several nodes.
fn lab() -> (Lab, tempfile::TempDir) {
    let lab = Lab::new();
    let directory = tempfile::tempdir().expect("a directory");
    let mut dice = Dice::new(3);
    let root = directory.path();
    fs::create_dir_all(root.join("many/deep/er")).expect("a directory");
    for index in 0..400 {
        fs::write(root.join(format!("many/file-{index:03}")), dice.bytes(200)).expect("a file");
    }
    fs::write(root.join("large"), dice.bytes(3 << 20)).expect("a file");
    fs::write(root.join("many/deep/er/kilo"), dice.bytes(5000)).expect("a file");
    fs::hard_link(root.join("large"), root.join("large-again")).expect("a link");
    let mut session = lab.open(1);
    lab.capture(&mut session, root, Dirt::all(), true);
    for round in 0..3 {
        change(root, round, &mut dice);
        lab.capture(&mut session, root, Dirt::all(), false);
    }
    (lab, directory)
}

fn change(root: &Path, round: usize, dice: &mut Dice) {
    fs::write(root.join("many/file-200"), dice.bytes(300 + round)).expect("a file");
    fs::write(root.join("new"), dice.bytes(1_500_000 + round)).expect("a file");
}

fn checked(lab: &Lab, options: Options) -> Report {
    let (log, reader) = (lab.log(), lab.reader());
    let (cancel, progress) = (AtomicBool::new(false), Progress::default());
    check(&Request { log: &log, reader: &reader, options, cancel: &cancel, progress: &progress }).expect("a store that answers")
}

const ALL: Options = Options { all: true, read_data: true };

#[test]
fn a_sound_lineage_has_no_findings() {
    let (lab, _directory) = lab();
    let report = checked(&lab, ALL);
    assert_eq!(report.findings, []);
    assert_eq!((report.head, report.newest, report.records, report.checkpoints), (5, Some(5), 5, 4));
    assert!(report.nodes > 10 && report.chunks > 400 && report.packs > 0 && report.data_bytes > 2 << 20, "{report:?}");
    let newest = checked(&lab, Options::default());
    assert_eq!((newest.findings.len(), newest.checkpoints, newest.data_bytes), (0, 1, 0));
}

#[test]
fn the_newest_is_checked_without_reading_its_data() {
    let (lab, _directory) = lab();
    lab.memory.take_requests();
    checked(&lab, Options::default());
    let packs = lab.memory.take_requests().into_iter().filter(|one| one.operation == "get" && one.object.contains("/packs/"));
    let fetched: u64 = packs.map(|one| one.bytes).sum();
    assert!(fetched < 1 << 20, "{fetched} bytes of packs were fetched");
}

/// Objects that a lineage's checkpoints need.
fn needed(lab: &Lab) -> Vec<(Name, Bytes)> {
    let below = crate::name::below(lab.domain.keys.id, lab.log().lineage());
    lab.memory.objects().into_iter().filter(|(name, _)| name.as_str().starts_with(&below)).collect()
}

#[test]
fn every_object_that_is_lost_is_named() {
    let (lab, _directory) = lab();
    for (name, bytes) in needed(&lab) {
        // nothing follows the last record: what is lost there is not known by what is left
        let is_head = name == lab.log().name(5);
        lab.memory.tamper(&name, None);
        for options in [ALL, Options { all: true, read_data: false }] {
            let report = checked(&lab, options);
            let named = report.findings.iter().any(|finding| finding.kind == Kind::Missing && finding.object == name.as_str());
            assert_eq!(named, !is_head, "{name}: {:?}", report.findings);
        }
        lab.memory.tamper(&name, Some(bytes));
    }
    assert_eq!(checked(&lab, ALL).findings, []);
}

#[test]
fn every_flipped_bit_that_matters_is_found() {
    let (lab, _directory) = lab();
    let mut dice = Dice::new(11);
    for (name, bytes) in needed(&lab) {
        let clean = bytes.clone();
        for at in [0, 50, 64 + dice.roll(20), 100 + dice.roll(bytes.len() / 4)] {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 4;
            lab.memory.tamper(&name, Some(flipped.into()));
            let report = checked(&lab, ALL);
            // a pack's header is made again from its name: readers don't look at it
            let unread = name.as_str().contains("/packs/") && at < 64;
            let named = report.findings.iter().any(|finding| finding.object == name.as_str());
            assert!(named || unread, "{name} at {at}: {:?}", report.findings);
        }
        lab.memory.tamper(&name, Some(clean));
    }
}

#[test]
fn a_truncated_pack_is_found_without_reading_it() {
    let (lab, _directory) = lab();
    let first = needed(&lab).into_iter().filter(|(name, _)| name.as_str().contains("/packs/0000000000000002/"));
    let largest = first.max_by_key(|(_, bytes)| bytes.len());
    let (name, bytes) = largest.expect("a pack");
    lab.memory.tamper(&name, Some(bytes.slice(..bytes.len() / 2)));
    let report = checked(&lab, Options { all: true, read_data: false });
    let finding = report.findings.iter().find(|finding| finding.object == name.as_str()).expect("a finding");
    assert_eq!(finding.kind, Kind::Damaged);
    assert!(finding.what.contains("truncated"), "{finding:?}");
    assert_eq!(finding.checkpoints, [5, 4, 3, 2], "the large file is in all of them");
    assert!(finding.paths.iter().any(|path| path == b"data/large" || path == b"data/large-again"), "{finding:?}");
}

#[test]
fn what_spoils_an_old_checkpoint_alone_is_told_of_that_one() {
    let (lab, _directory) = lab();
    let third = needed(&lab).into_iter().filter(|(name, _)| name.as_str().contains("/packs/0000000000000003/"));
    let (name, bytes) = third.max_by_key(|(_, bytes)| bytes.len()).expect("checkpoint 3 has a pack of its own");
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 1; // most of it is the file that each checkpoint replaced
    lab.memory.tamper(&name, Some(flipped.into()));
    assert_eq!(checked(&lab, Options { all: false, read_data: true }).findings, [], "the newest does not need it");
    let report = checked(&lab, ALL);
    assert!(report.findings.iter().all(|finding| finding.checkpoints == [3]), "{:?}", report.findings);
    assert!(report.findings.iter().any(|finding| finding.paths == [b"data/new".to_vec()]), "{:?}", report.findings);
}

#[test]
fn an_exchanged_record_breaks_the_chain() {
    let (lab, directory) = lab();
    // the same keys and the same names, but another history from record 3 on
    let objects = lab.memory.objects();
    for sequence in 3..=5 {
        lab.memory.tamper(&lab.log().name(sequence), None);
    }
    let mut session = lab.open(2);
    lab.capture(&mut session, directory.path(), Dirt::all(), false);
    let other = lab.memory.objects()[&lab.log().name(3)].clone();
    for (name, bytes) in objects {
        lab.memory.tamper(&name, Some(bytes));
    }
    lab.memory.tamper(&lab.log().name(3), Some(other));
    let report = checked(&lab, Options::default());
    let finding = report.findings.iter().find(|finding| finding.kind == Kind::History).expect("a finding");
    assert!(report.findings.iter().any(|finding| finding.what.contains("does not continue record 3")), "{finding:?}");
}

#[test]
fn a_store_that_does_not_answer_is_no_damage() {
    let (lab, _directory) = lab();
    let (log, reader) = (lab.log(), lab.reader());
    lab.memory.set_failing(true);
    let (cancel, progress) = (AtomicBool::new(false), Progress::default());
    let found = check(&Request { log: &log, reader: &reader, options: ALL, cancel: &cancel, progress: &progress });
    assert!(found.expect_err("no answer").is_retryable());
}

/// A store in which retention takes a record as soon as somebody reads it.
#[derive(Debug)]
struct Thinning {
    memory: Arc<Memory>,
    taken: Name,
    boundary: (Name, Bytes),
}

#[async_trait::async_trait]
impl Transport for Thinning {
    async fn create(&self, name: &Name, body: &Body) -> std::result::Result<Created, TransportError> {
        self.memory.create(name, body).await
    }

    async fn get(&self, name: &Name, range: Range) -> std::result::Result<Bytes, TransportError> {
        if *name == self.taken {
            self.memory.tamper(&self.boundary.0, Some(self.boundary.1.clone()));
            self.memory.tamper(name, None);
        }
        self.memory.get(name, range).await
    }

    async fn size(&self, name: &Name) -> std::result::Result<Option<u64>, TransportError> {
        self.memory.size(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        by_level: bool,
        limit: u16,
    ) -> std::result::Result<Page, TransportError> {
        self.memory.list(prefix, after, by_level, limit).await
    }

    async fn delete(&self, name: &Name) -> std::result::Result<(), TransportError> {
        self.memory.delete(name).await
    }

    fn location(&self) -> String {
        "thinning".to_owned()
    }
}

#[test]
fn what_retention_takes_meanwhile_is_not_missing() {
    let (lab, _directory) = lab();
    let log = lab.log();
    let kept = |sequence| {
        let hash = lab.runtime.block_on(log.read(sequence)).expect("a record").hash;
        (sequence, (hash, Kept { sequence, time: Timestamp::default(), quality: None }))
    };
    let boundary = Boundary { entry: 1, sequence: 5, kept: [1, 2, 4].map(kept).into(), ..Boundary::default() };
    lab.runtime.block_on(lab.log().boundaries().put(1, &boundary.to_body())).expect("a boundary");
    let name = log.boundaries().name(1);
    let bytes = lab.memory.objects()[&name].clone();
    lab.memory.tamper(&name, None);
    let thinning = Thinning { memory: Arc::clone(&lab.memory), taken: log.name(3), boundary: (name, bytes) };
    let log = Log::new(Arc::new(thinning), Arc::clone(&lab.domain), log.lineage());
    let (cancel, progress, reader) = (AtomicBool::new(false), Progress::default(), lab.reader());
    let request = Request { log: &log, reader: &reader, options: ALL, cancel: &cancel, progress: &progress };
    let report = check(&request).expect("a store that answers");
    assert_eq!(report.findings, []);
    assert_eq!((report.records, report.checkpoints), (4, 3));
}
