// SPDX-License-Identifier: Apache-2.0
//! A repository on an S3 server that fails when told to, state directories, and agents on them.

use crate::common::files_of;
use holdfast_agent::clock::SystemClock;
use holdfast_agent::config::Budget;
use holdfast_agent::status::LastCheckpoint;
use holdfast_agent::{AgentConfig, AgentError, Command, Prepared, Restored, StatePath, Status, prepare};
use holdfast_core::cadence::Paces;
use holdfast_core::disk::Choices;
use holdfast_core::id::OwnerId;
use holdfast_s3_server::{Config, Script, Server};
use holdfast_store::capture::{Clock, Filter};
use holdfast_store::log::{Log, Selector};
use holdfast_store::name;
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::restore::Progress;
use holdfast_store::seal::Domain;
use holdfast_store::transport::s3::{Options as Place, S3};
use holdfast_store::transport::{Retries, Retrying, Transport};
use holdfast_store::write::{Takeover, Tuning};
use http::Method;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub(crate) const LINEAGE: &str = "web-0";
/// How long anything may take: for tests that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) script: Arc<Script>,
    pub(crate) domain: Arc<Domain>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) base: TempDir,
}

/// A client of the server with this key.
pub(crate) async fn transport(endpoint: String, key: &str) -> Arc<dyn Transport> {
    let place = Place {
        bucket: "bucket".to_owned(),
        endpoint: Some(endpoint),
        region: Some("us-east-1".to_owned()),
        credentials: Some(("key".to_owned(), key.to_owned())),
        ..Place::default()
    };
    Arc::new(Retrying::new(Arc::new(S3::new(place).await), Retries::default()))
}

pub(crate) async fn domain(transport: &Arc<dyn Transport>) -> Arc<Domain> {
    let repository = Repository::create(Arc::clone(transport), b"passphrase", Kdf::QUICK, SystemClock.now()).await.expect("made");
    Arc::new(repository.domain("default").await.expect("keys"))
}

pub(crate) fn config(state: &Path, scratch: &Path) -> AgentConfig {
    std::fs::create_dir_all(state).expect("a directory");
    let path = StatePath {
        label: "data".to_owned(),
        path: state.to_owned(),
        include: Vec::new(),
        exclude: Vec::new(),
        filter: Filter::default(),
        read_only: false,
    };
    let millis = Duration::from_millis;
    AgentConfig {
        lineage: LINEAGE.to_owned(),
        paths: vec![path],
        owner: OwnerId::new([1; 16]),
        holder: "a test".to_owned(),
        takeover: Takeover::Polite(None),
        choices: Choices::default(),
        clean_only: false,
        special: false,
        paces: Paces { settle: millis(10), quiet: millis(20), limit: millis(100), scan: Duration::from_secs(3600) },
        partial_after: AgentConfig::PARTIAL_AFTER,
        scratch: scratch.to_owned(),
        scratch_bytes: 1 << 26,
        watches_max: 1000,
        reflink: true,
        tuning: Tuning { encoders: 1, ..Tuning::default() },
        holder_key: None,
        budget: Budget::default(),
    }
}

impl Lab {
    pub(crate) async fn start() -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let script = Arc::new(Script::new());
        let server = Server::start(Config {
            buckets: vec!["bucket".to_owned()],
            durable: false,
            faults: Some(script.clone()),
            ..Config::new(base.path().join("s3"), "key", "secret")
        });
        let server = server.await.expect("a server");
        let transport = transport(server.endpoint(), "secret").await;
        let domain = domain(&transport).await;
        Self { server, script, domain, transport, base }
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.base.path().join(part)
    }

    pub(crate) fn config(&self) -> AgentConfig {
        config(&self.path("state"), &self.path("scratch"))
    }

    pub(crate) async fn agent(&self) -> Agent {
        self.try_agent(self.config()).await.expect("an agent")
    }

    pub(crate) async fn try_agent(&self, config: AgentConfig) -> Result<Agent, AgentError> {
        Agent::start(config, &self.transport, &self.domain).await
    }

    pub(crate) fn log(&self) -> Log {
        Log::new(Arc::clone(&self.transport), Arc::clone(&self.domain), self.domain.keys.identity.lineage_id(LINEAGE))
    }

    /// Records that were put so far, and other objects of the lineage.
    pub(crate) fn puts(&self) -> (u64, u64) {
        let (domain, lineage) = (self.domain.keys.id, self.domain.keys.identity.lineage_id(LINEAGE));
        let count = |prefix: &str| self.server.counters().count_prefix(&Method::PUT, prefix);
        let records = count(&self.records());
        (records, count(&name::below(domain, lineage)) - records)
    }

    /// What the names of records begin with.
    pub(crate) fn records(&self) -> String {
        name::records_of(self.domain.keys.id, self.domain.keys.identity.lineage_id(LINEAGE))
    }

    /// What the names of packs begin with.
    pub(crate) fn packs(&self) -> String {
        format!("{}packs/", name::below(self.domain.keys.id, self.domain.keys.identity.lineage_id(LINEAGE)))
    }

    /// The files of a checkpoint (0: the newest), read from the store alone.
    pub(crate) async fn restored(&self, sequence: u64) -> (u64, BTreeMap<String, Vec<u8>>) {
        let log = self.log();
        let sequence = match sequence {
            0 => log.find(Selector::Newest, false).await.expect("a timeline").expect("a checkpoint").sequence,
            sequence => sequence,
        };
        (sequence, files_of(Arc::clone(&self.transport), Arc::clone(&self.domain), LINEAGE, sequence).await)
    }
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) restored: Option<Restored>,
    pub(crate) status: watch::Receiver<Status>,
    commands: mpsc::Sender<Command>,
    task: JoinSet<Result<Status, AgentError>>,
}

impl Agent {
    pub(crate) async fn start(
        config: AgentConfig,
        transport: &Arc<dyn Transport>,
        domain: &Arc<Domain>,
    ) -> Result<Self, AgentError> {
        let (told, status) = watch::channel(Status::default());
        let progress = Arc::new(Progress::default());
        let prepared = Box::pin(prepare(config, Arc::clone(transport), Arc::clone(domain), told, progress)).await;
        let Prepared { agent, restored } = prepared?;
        let (commands, asked) = mpsc::channel(4);
        let mut task = JoinSet::new();
        task.spawn(agent.run(asked));
        Ok(Self { restored, status, commands, task })
    }

    /// Asks for a flush; the answer comes when it is awaited.
    pub(crate) async fn ask(&self) -> oneshot::Receiver<Result<LastCheckpoint, String>> {
        let (answer, wait) = oneshot::channel();
        self.commands.send(Command::Flush(answer)).await.expect("running");
        wait
    }

    pub(crate) async fn flush(&self) -> LastCheckpoint {
        let wait = self.ask().await;
        in_time(wait).await.expect("an answer").expect("durable")
    }

    /// Waits for a status like this.
    pub(crate) async fn until(&mut self, like: impl FnMut(&Status) -> bool) -> Status {
        in_time(self.status.wait_for(like)).await.expect("running").clone()
    }

    pub(crate) async fn ended(&mut self) -> Result<Status, AgentError> {
        in_time(self.task.join_next()).await.expect("a task").expect("no panic")
    }

    pub(crate) async fn end(self) -> Status {
        self.end_within(Duration::from_secs(30)).await
    }

    pub(crate) async fn end_within(mut self, within: Duration) -> Status {
        self.commands.send(Command::End(within)).await.expect("running");
        self.ended().await.expect("a good end")
    }
}

/// A future's value, or a failed test.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it never came to be")
}

/// Waits, without sleeping, for what another task is about to do.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    in_time(met).await;
}
