// SPDX-License-Identifier: Apache-2.0
//! A simulated agent: a real session and a real writer of a lineage, without files that change and without a program that is stopped.

use holdfast_agent::clock::SystemClock;
use holdfast_agent::status::{LastCheckpoint, Phase};
use holdfast_agent::{Command, Connection, Cut, Session, Status, Who, Word};
use holdfast_core::checkpoint::{Quality, Scope};
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::time::Interval;
use holdfast_store::capture::{Checkpointing, Clock, Dirt, Filter, Old, Request, Source, capture};
use holdfast_store::disk::Dir;
use holdfast_store::reader::Reader;
use holdfast_store::seal::Domain;
use holdfast_store::transport::{Retries, Retrying, Transport};
use holdfast_store::write::{self, CheckpointMeta, Opening, Takeover, Tuning};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How long an agent takes for its own work in a barrier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) prepare: Duration,
    pub(crate) cut: Duration,
}

/// What a member was told in a barrier, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Heard {
    /// The first order: to make durable what is dirty.
    pub(crate) prepare: Option<Instant>,
    pub(crate) cut: Option<Instant>,
    /// It goes on.
    pub(crate) goes: Option<Instant>,
    /// The checkpoint that it gave is durable.
    pub(crate) sealed: Option<(Instant, u64)>,
}

/// A simulated agent; dropped, it is gone.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) pace: Pace,
    heard: Arc<Mutex<Heard>>,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
    _status: watch::Sender<Status>,
}

impl Member {
    /// Opens a session, claims the lineage, and captures the state: from then on it protects it.
    pub(crate) async fn start(url: &str, token: &str, name: String, state: &Path, pace: Pace) -> Self {
        let connection = Connection::new(url, Some(token)).expect("an address");
        let session = Session::open(connection, Who::of("default", &name, "a simulated agent")).await.expect("a session");
        let transport: Arc<dyn Transport> = Arc::new(Retrying::new(Arc::new(session.transport()), Retries::default()));
        let domain = Arc::clone(&session.granted().domain);
        let mut writer = Writer::claim(transport, domain, &name, session.owner()).await;
        let state = state.to_owned();
        let first = writer.with(move |writer| first_checkpoint(writer, &state)).await;
        let status = Status { phase: Phase::Protecting, checkpoint: Some(first), checkpoints: 1, ..Status::default() };
        let (status, seen) = watch::channel(status);
        let (commands, asked) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let mut tasks = JoinSet::new();
        let serving = session.serve(seen, commands, async move { drop(stopped.await) });
        tasks.spawn(async move { drop(serving.await) });
        let work = Work { asked, writer, last: first, pace, heard: Arc::clone(&heard) };
        tasks.spawn(work.run());
        Self { name, pace, heard, stop, tasks, _status: status }
    }

    pub(crate) fn heard(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it in good order.
    pub(crate) async fn end(mut self) {
        drop(self.stop);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What an agent does when it is asked.
struct Work {
    asked: mpsc::Receiver<Command>,
    writer: Writer,
    last: LastCheckpoint,
    pace: Pace,
    heard: Arc<Mutex<Heard>>,
}

impl Work {
    async fn run(mut self) {
        while let Some(command) = self.asked.recv().await {
            match command {
                Command::Flush(answer) => {
                    self.note(|heard, now| heard.prepare = heard.prepare.or(Some(now)));
                    tokio::time::sleep(self.pace.prepare).await;
                    let _ = answer.send(Ok(self.last)); // nobody may wait any more
                }
                Command::Cut(cut) => self.cut(cut).await,
                Command::Hold(_) => {}
                Command::End(_) => return,
            }
        }
    }

    async fn cut(&mut self, cut: Cut) {
        let (taken, word, sealed) = cut.into_answers();
        self.note(|heard, now| heard.cut = Some(now));
        tokio::time::sleep(self.pace.cut).await;
        let _ = taken.send(());
        if word.await != Ok(Word::Keep) {
            return; // called off
        }
        self.note(|heard, now| heard.goes = Some(now));
        self.last = self.writer.with(again).await;
        let sequence = self.last.sequence;
        self.note(|heard, now| heard.sealed = Some((now, sequence)));
        let _ = sealed.send(Ok(self.last));
    }

    fn note(&self, note: impl FnOnce(&mut Heard, Instant)) {
        note(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
    }
}

/// The writer of a lineage, through the coordinator's relay.
struct Writer(Option<Box<write::Session>>);

impl Writer {
    async fn claim(transport: Arc<dyn Transport>, domain: Arc<Domain>, name: &str, owner: OwnerId) -> Self {
        let opening = Opening {
            reader: Arc::new(Reader::new(transport, domain, Handle::current(), None)),
            name: name.to_owned(),
            owner,
            holder: "a simulated agent".to_owned(),
            holder_key: HolderKey::new([9; 16]),
            takeover: Takeover::SameOwner,
            watermark: None,
            back_to: None,
            tuning: Tuning { encoders: 1, ..Tuning::default() },
            now: SystemClock.now(),
        };
        Self(Some(Box::new(Box::pin(write::Session::open(opening)).await.expect("a claim"))))
    }

    /// Has a thread do something with it that blocks.
    async fn with(&mut self, work: impl FnOnce(&mut write::Session) -> LastCheckpoint + Send + 'static) -> LastCheckpoint {
        let mut session = self.0.take().expect("nobody else has it");
        let done = tokio::task::spawn_blocking(move || (work(&mut session), session)).await;
        let (last, session) = done.expect("a checkpoint");
        self.0 = Some(session);
        last
    }
}

fn first_checkpoint(session: &mut write::Session, state: &Path) -> LastCheckpoint {
    let dir = Arc::new(Dir::open_root(state).expect("a directory"));
    let sources = [Source { label: "data".to_owned(), dir, filter: Filter::default() }];
    let dirt = BTreeMap::from([("data".to_owned(), Dirt::all())]);
    let cancel = AtomicBool::new(false);
    let request = Request {
        sources: &sources,
        dirt: &dirt,
        foreign: false,
        scratch: None,
        clock: &SystemClock,
        cancel: &cancel,
        observer: None,
        encoders: 1,
        clones: None,
        brief: false,
        partial_after: Duration::from_secs(3600),
    };
    let (roots, totals, reader) = (session.roots().to_vec(), *session.totals(), Arc::clone(session.reader()));
    let mut sink = Checkpointing { session, scope: Scope::default(), volume: None, partials: 0 };
    let outcome = capture(&request, &Old { roots: &roots, totals: &totals, reader: &reader }, &mut sink).expect("a capture");
    let meta = CheckpointMeta { totals: outcome.totals, ..said(outcome.interval) };
    last(session.commit(&outcome.roots, meta).expect("a checkpoint"))
}

/// One more checkpoint of the same state: what is sealed in a barrier.
fn again(session: &mut write::Session) -> LastCheckpoint {
    let (roots, totals, now) = (session.roots().to_vec(), *session.totals(), SystemClock.now());
    let interval = Interval { first_open: now, last_close: now, clock_error: SystemClock.error() };
    last(session.commit(&roots, CheckpointMeta { totals, ..said(interval) }).expect("a checkpoint"))
}

fn said(interval: Interval) -> CheckpointMeta {
    let (quality, scope, now) = (Quality::Clean, Scope::default(), SystemClock.now());
    CheckpointMeta { interval, quality, scope, totals: Default::default(), volume: None, problems: Vec::new(), now }
}

fn last(done: write::Acknowledged) -> LastCheckpoint {
    LastCheckpoint { sequence: done.sequence, last_close: done.interval.last_close, quality: done.quality, root: done.root }
}
