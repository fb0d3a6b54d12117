// SPDX-License-Identifier: Apache-2.0
//! What the tests of the coordinator share: a model store, a writer of checkpoints, a served coordinator, an agent that does as it is told.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use holdfast_coordinator::{Access, Config, Coordinator};
use holdfast_core::checkpoint::{Quality, Scope};
use holdfast_core::id::{HolderKey, OwnerId};
use holdfast_core::time::{Interval, Timestamp};
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{self, LineageRef, PointRef, SessionRequest, SessionResponse, point_ref::Point};
use holdfast_store::capture::{Checkpointing, Clock, Dirt, Filter, Old, Request, Source, capture};
use holdfast_store::disk::Dir;
use holdfast_store::reader::Reader;
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::seal::Domain;
use holdfast_store::transport::Transport;
use holdfast_store::transport::memory::Memory;
use holdfast_store::write::{Acknowledged, CheckpointMeta, Opening, Session, Takeover, Tuning};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

pub const OWNER: OwnerId = OwnerId::new([1; 16]);

#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the tests' own shell")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
    }

    fn error(&self) -> Duration {
        Duration::ZERO
    }
}

pub struct World {
    pub memory: Arc<Memory>,
    pub repository: Repository,
    pub domain: Arc<Domain>,
}

impl World {
    pub async fn new() -> Self {
        let memory = Arc::new(Memory::default());
        let transport: Arc<dyn Transport> = memory.clone();
        let repository = Repository::create(transport, b"secret", Kdf::QUICK, Timestamp::default()).await.unwrap();
        let domain = Arc::new(repository.domain("default").await.unwrap());
        Self { memory, repository, domain }
    }

    pub fn config(&self, access: Access) -> Config {
        Config { repository: self.repository.clone(), owner: OWNER, access, domain: None }
    }

    pub fn coordinator(&self) -> Coordinator {
        Coordinator::new(self.config(Access::Open))
    }

    pub async fn serve(&self) -> Served {
        Served::start(self.coordinator()).await
    }

    /// A lineage with a directory of its own.
    pub async fn writer(&self, name: &str) -> Writer {
        let transport: Arc<dyn Transport> = self.memory.clone();
        let reader = Arc::new(Reader::new(transport, Arc::clone(&self.domain), tokio::runtime::Handle::current(), None));
        let tuning = Tuning { pack_bytes: 1 << 20, node_pack_bytes: 256 << 10, encoders: 2, ..Tuning::default() };
        let opening = Opening {
            reader,
            name: name.to_owned(),
            owner: OWNER,
            holder: "a test".to_owned(),
            holder_key: HolderKey::new([9; 16]),
            takeover: Takeover::SameOwner,
            watermark: None,
            back_to: None,
            tuning,
            now: SystemClock.now(),
        };
        let session = Session::open(opening).await.unwrap();
        Writer { session: Some(session), directory: tempfile::tempdir().unwrap() }
    }

    pub async fn pins(&self, lineage: &str) -> usize {
        let transport: Arc<dyn Transport> = self.memory.clone();
        let id = self.domain.keys.identity.lineage_id(lineage);
        let log = holdfast_store::log::Log::new(transport, Arc::clone(&self.domain), id);
        holdfast_store::snapshot::pins(&log).await.unwrap().len()
    }
}

pub struct Writer {
    session: Option<Session>,
    directory: TempDir,
}

impl Writer {
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Captures the directory.
    pub async fn checkpoint(&mut self) -> Acknowledged {
        self.checkpoint_as(Quality::Clean).await
    }

    pub async fn checkpoint_as(&mut self, quality: Quality) -> Acknowledged {
        self.take(quality, Duration::ZERO).await
    }

    /// As one whose clock was so long ago.
    pub async fn checkpoint_of(&mut self, ago: Duration) -> Acknowledged {
        self.take(Quality::Clean, ago).await
    }

    async fn take(&mut self, quality: Quality, ago: Duration) -> Acknowledged {
        let (mut session, path) = (self.session.take().unwrap(), self.path().to_owned());
        let (session, done) = tokio::task::spawn_blocking(move || {
            let done = take(&mut session, path, quality, ago);
            (session, done)
        })
        .await
        .unwrap();
        self.session = Some(session);
        done
    }
}

fn take(session: &mut Session, path: PathBuf, quality: Quality, ago: Duration) -> Acknowledged {
    let dir = Arc::new(Dir::open_root(&path).unwrap());
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
        encoders: 2,
        clones: None,
        brief: false,
        partial_after: Duration::from_secs(3600),
    };
    let (roots, totals, reader) = (session.roots().to_vec(), *session.totals(), Arc::clone(session.reader()));
    let mut sink = Checkpointing { session, scope: Scope::default(), volume: None, partials: 0 };
    let outcome = capture(&request, &Old { roots: &roots, totals: &totals, reader: &reader }, &mut sink).unwrap();
    let then = |time: Timestamp| time.minus(ago);
    let Interval { first_open, last_close, clock_error } = outcome.interval;
    let meta = CheckpointMeta {
        interval: Interval { first_open: then(first_open), last_close: then(last_close), clock_error },
        quality,
        scope: Scope::default(),
        totals: outcome.totals,
        volume: None,
        problems: Vec::new(),
        now: then(SystemClock.now()),
    };
    session.commit(&outcome.roots, meta).unwrap()
}

/// A coordinator on a socket.
pub struct Served {
    pub coordinator: Coordinator,
    pub url: String,
    pub channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<Result<(), String>>,
}

impl Served {
    pub async fn start(coordinator: Coordinator) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut tasks = JoinSet::new();
        let serving = coordinator.clone();
        tasks.spawn(async move {
            let stopped = async {
                stopped.await.ok();
            };
            serving.serve(listener, stopped).await.map_err(|error| error.to_string())
        });
        let channel = Endpoint::from_shared(url.clone()).unwrap().connect_lazy();
        Self { coordinator, url, channel, stop: Some(stop), tasks }
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub async fn ended(mut self) {
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

/// An agent that says what the test says.
pub struct Agent {
    pub out: mpsc::Sender<SessionRequest>,
    pub commands: Streaming<SessionResponse>,
    pub welcome: v1::Welcome,
}

impl Agent {
    pub async fn open(channel: Channel, lineage: &str, instance: u8) -> Result<Self, Status> {
        Self::open_as(channel, lineage, instance, false).await
    }

    /// As [`open`](Self::open), and whether it follows the orders of barriers.
    pub async fn open_as(channel: Channel, lineage: &str, instance: u8, barriers: bool) -> Result<Self, Status> {
        Self::open_in(channel, names(lineage), instance, barriers).await
    }

    /// As [`open_as`](Self::open_as), in any domain.
    pub async fn open_in(channel: Channel, lineage: LineageRef, instance: u8, barriers: bool) -> Result<Self, Status> {
        let (out, events) = mpsc::channel(16);
        let hello = v1::Hello {
            protocol: holdfast_proto::AGENT_PROTOCOL,
            agent_version: "0.1.0".to_owned(),
            lineage: Some(lineage),
            holder: format!("agent {instance}"),
            instance: vec![instance; 16].into(),
            resume: String::new(),
            barriers,
        };
        out.send(SessionRequest { event: Some(Event::Hello(hello)) }).await.unwrap();
        let mut commands = AgentServiceClient::new(channel).session(ReceiverStream::new(events)).await?.into_inner();
        match commands.message().await?.and_then(|first| first.command) {
            Some(Command::Welcome(welcome)) => Ok(Self { out, commands, welcome }),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub async fn say(&self, event: Event) {
        self.out.send(SessionRequest { event: Some(event) }).await.unwrap();
    }

    pub async fn report(&self, lag_ms: u64) {
        let live = v1::Live { phase: v1::Phase::Streaming.into(), lag_ms, ..v1::Live::default() };
        self.say(Event::Status(v1::StatusReport { live: Some(live), ..v1::StatusReport::default() })).await;
    }

    /// The next flush that is asked for.
    pub async fn flush(&mut self) -> v1::Flush {
        match self.commands.message().await.unwrap().unwrap().command {
            Some(Command::Flush(flush)) => flush,
            other => panic!("no flush: {other:?}"),
        }
    }

    pub async fn flushed(&self, id: u64, sequence: u64, error: &str) {
        self.say(Event::Flushed(v1::FlushDone { id, sequence, error: error.to_owned() })).await;
    }

    /// How the session ends.
    pub async fn end(mut self) -> Status {
        loop {
            match self.commands.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the session ended without a word"),
                Err(status) => return status,
            }
        }
    }
}

pub fn names(lineage: &str) -> LineageRef {
    LineageRef { domain: "default".to_owned(), lineage: lineage.to_owned() }
}

pub fn newest(lineage: &str) -> Option<PointRef> {
    Some(PointRef { lineage: Some(names(lineage)), point: None, accept_fuzzy: false })
}

pub fn at_checkpoint(lineage: &str, sequence: u64) -> Option<PointRef> {
    Some(PointRef { point: Some(Point::Checkpoint(sequence)), ..newest(lineage).unwrap() })
}

pub fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> Reason {
    let status = answer.expect_err("a refusal");
    Problem::of(&status).reason.unwrap_or_else(|| panic!("no reason: {status:?}"))
}

pub async fn collect<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}
