// SPDX-License-Identifier: Apache-2.0
//! What a restore proves, and what comes of one that can't be proven.

use crate::common::noise;
use crate::kit::{LINEAGE, Lab};
use holdfast_agent::AgentError;
use holdfast_agent::clock::SystemClock;
use holdfast_core::checkpoint::{Quality, Scope};
use holdfast_core::id::HolderKey;
use holdfast_store::capture::{Checkpointing, Clock, Dirt, Filter, Old, Request, Source, capture};
use holdfast_store::disk::Dir;
use holdfast_store::reader::Reader;
use holdfast_store::write::{Acknowledged, CheckpointMeta, Opening, Session, Takeover, Tuning};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;

/// Somebody who writes to the same directory without pause, once there is something in it.
struct Intruder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Intruder {
    fn begin(path: PathBuf) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let is_empty = |path: &Path| fs::read_dir(path).map_or(true, |mut names| names.next().is_none());
            while path.parent().is_some_and(is_empty) && !told.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            for round in 0_u64.. {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let _ = fs::write(&path, round.to_le_bytes()); // the directory may be on its way
            }
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic");
    }
}

/// What a disk holds beside what was asked for is not taken for the state, now or later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_proven_is_not_stored() {
    let lab = Lab::start().await;
    fs::create_dir(lab.path("state")).expect("a directory");
    for i in 0..300 {
        fs::write(lab.path("state").join(format!("f{i}")), format!("file {i}")).expect("a file");
    }
    let agent = lab.agent().await;
    let asked = agent.flush().await;
    agent.end().await;
    fs::remove_dir_all(lab.path("state")).expect("lost");
    fs::create_dir(lab.path("state")).expect("a directory");
    let intruder = Intruder::begin(lab.path("state/intruder"));
    let refused = lab.try_agent(lab.config()).await.map(|_| ()).expect_err("something else is there");
    intruder.end();
    let AgentError::NotProven { first, .. } = &refused else { panic!("{refused}") };
    assert!(first.contains("intruder"), "{refused}");
    assert_eq!(lab.restored(0).await.0, asked.sequence, "nothing of it was stored");
    let mut config = lab.config();
    config.choices.resume = true;
    let again = lab.try_agent(config).await.expect("finished");
    assert_eq!(again.restored.as_ref().map(|restored| restored.root_on_disk), Some(asked.root));
    assert!(!lab.path("state/intruder").exists());
    again.end().await;
}

/// Stores what is in a directory as a checkpoint that something changed under, as another agent before this one.
async fn fuzzy(lab: &Lab, state: PathBuf) -> Acknowledged {
    let opening = Opening {
        reader: Arc::new(Reader::new(Arc::clone(&lab.transport), Arc::clone(&lab.domain), Handle::current(), None)),
        name: LINEAGE.to_owned(),
        owner: lab.config().owner,
        holder: "another".to_owned(),
        holder_key: HolderKey::new([7; 16]),
        takeover: Takeover::SameOwner,
        watermark: None,
        back_to: None,
        tuning: Tuning { encoders: 1, ..Tuning::default() },
        now: SystemClock.now(),
    };
    let mut session = Session::open(opening).await.expect("a claim");
    let captured = tokio::task::spawn_blocking(move || {
        let dir = Arc::new(Dir::open_root(&state).expect("a directory"));
        let request = Request {
            sources: &[Source { label: "data".to_owned(), dir, filter: Filter::default() }],
            dirt: &[("data".to_owned(), Dirt::all())].into(),
            foreign: false,
            scratch: None,
            clock: &SystemClock,
            cancel: &AtomicBool::new(false),
            observer: None,
            encoders: 1,
            clones: None,
            brief: false,
            partial_after: Duration::MAX,
        };
        let (roots, totals, reader) = (session.roots().to_vec(), *session.totals(), Arc::clone(session.reader()));
        let mut sink = Checkpointing { session: &mut session, scope: Scope::default(), volume: None, partials: 0 };
        let outcome = capture(&request, &Old { roots: &roots, totals: &totals, reader: &reader }, &mut sink).expect("captured");
        let meta = CheckpointMeta {
            interval: outcome.interval,
            quality: Quality::Fuzzy,
            scope: Scope::default(),
            totals: outcome.totals,
            volume: None,
            problems: Vec::new(),
            now: SystemClock.now(),
        };
        session.commit(&outcome.roots, meta).expect("a checkpoint")
    });
    captured.await.expect("no panic")
}

/// The newest state is another tree than the one that is restored: its extents lie elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_checkpoint_than_the_newest_is_proven_too() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut seed = 1_u64;
    let mut clean = agent.flush().await;
    for _ in 0..3 {
        // extents end where each capture ended
        let mut log = File::options().create(true).append(true).open(lab.path("state/app.log")).expect("a file");
        log.write_all(&noise(700_000, &mut seed)).expect("written");
        clean = agent.flush().await;
    }
    // what is written may be heard of while it is captured already
    while clean.quality != Quality::Clean {
        clean = agent.flush().await;
    }
    agent.end().await;
    let whole = fs::read(lab.path("state/app.log")).expect("a file");
    fs::write(lab.path("state/app.log"), b"rotated").expect("a file");
    let newest = fuzzy(&lab, lab.path("state")).await;
    let mut config = crate::kit::config(&lab.path("elsewhere"), &lab.path("other scratch"));
    (config.clean_only, config.takeover) = (true, Takeover::SameOwner);
    let again = lab.try_agent(config).await.expect("proven");
    let restored = again.restored.as_ref().expect("restored");
    assert_eq!((restored.sequence, restored.root_on_disk), (clean.sequence, clean.root));
    assert_eq!(restored.passed_over.map(|newer| newer.sequence), Some(newest.sequence));
    assert!(fs::read(lab.path("elsewhere/app.log")).expect("a file") == whole);
    again.end().await;
}
