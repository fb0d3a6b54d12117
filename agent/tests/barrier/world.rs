// SPDX-License-Identifier: Apache-2.0
//! A coordinator over an S3 server, and agents with sessions at it.

use crate::bank::{BEGIN, Book, HOUSES, audit};
use crate::common::files_of;
use crate::kit::{self, Lab, in_time};
use holdfast_agent::quiesce::{Means, Quiescing, Whom};
use holdfast_agent::status::LastCheckpoint;
use holdfast_agent::{AgentConfig, Command as Ask, Connection, Session, Status, Who, prepare};
use holdfast_coordinator::{Access, Config, Coordinator};
use holdfast_core::id::OwnerId;
use holdfast_core::pod::PodHook;
use holdfast_core::policy::Call;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::{self, CreateSnapshotRequest, ListLineagesRequest, Snapshot};
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::restore::Progress;
use holdfast_store::transport::{Retries, Retrying, Transport};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// The program that keeps watch: the agent's.
pub(crate) fn quiescing(means: Means) -> Quiescing {
    let keeper = (PathBuf::from(env!("CARGO_BIN_EXE_holdfast-agent")), vec!["keeper".into()]);
    Quiescing { means, budget: Duration::from_secs(20), every_checkpoint: false, keeper }
}

/// A coordinator, and the store beneath it.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) url: String,
    pub(crate) channel: Channel,
    _tasks: JoinSet<()>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let lab = Lab::start().await;
        let repository =
            Repository::create(Arc::clone(&lab.transport), b"passphrase", Kdf::QUICK, holdfast_core::time::Timestamp::default());
        let repository = repository.await.expect("a repository");
        let config = Config { repository, owner: OwnerId::new([1; 16]), access: Access::Open, domain: None };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { Coordinator::new(config).serve(listener, std::future::pending()).await.expect("served") });
        let channel = Endpoint::from_shared(url.clone()).expect("an address").connect_lazy();
        Self { lab, url, channel, _tasks: tasks }
    }

    /// Waits until so many agents protect their states, as far as the coordinator knows.
    pub(crate) async fn protected(&self, count: usize) {
        let all = async {
            loop {
                let mut client = LineageServiceClient::new(self.channel.clone());
                let lineages = client.list_lineages(ListLineagesRequest::default()).await.expect("a list").into_inner().lineages;
                let streams =
                    |lineage: &&v1::Lineage| lineage.live.as_ref().is_some_and(|live| live.phase() == v1::Phase::Streaming);
                if lineages.iter().filter(streams).count() >= count {
                    return;
                }
            }
        };
        in_time(all).await;
    }

    pub(crate) async fn snapshot(&self, name: &str, accept_fuzzy: bool) -> Result<Snapshot, tonic::Status> {
        let wanted = CreateSnapshotRequest { name: name.to_owned(), accept_fuzzy, ..CreateSnapshotRequest::default() };
        let mut request = tonic::Request::new(wanted);
        request.set_timeout(Duration::from_secs(40));
        Ok(SnapshotServiceClient::new(self.channel.clone()).create_snapshot(request).await?.into_inner())
    }

    /// The books in a snapshot, restored from the store alone.
    pub(crate) async fn books(&self, snapshot: &Snapshot) -> Vec<Book> {
        let mut books = Vec::new();
        for member in &snapshot.members {
            let checkpoint = member.checkpoint.as_ref().expect("a checkpoint");
            let lineage = &checkpoint.lineage.as_ref().expect("a lineage").lineage;
            let (transport, domain) = (Arc::clone(&self.lab.transport), Arc::clone(&self.lab.domain));
            let files = files_of(transport, domain, lineage, checkpoint.sequence).await;
            books.push(Book::read(&files["book"]));
        }
        books
    }
}

/// An agent in this process, with its session.
pub(crate) struct Agent {
    tasks: JoinSet<()>,
    commands: mpsc::Sender<Ask>,
    stop: oneshot::Sender<()>,
}

impl Agent {
    pub(crate) async fn start(url: &str, lineage: &str, base: &Path, quiescing: Quiescing) -> Self {
        let connection = Connection::new(url, None).expect("an address");
        let session = in_time(Session::open(connection, Who::of("default", lineage, "a test"))).await.expect("a session");
        let transport: Arc<dyn Transport> = Arc::new(Retrying::new(Arc::new(session.transport()), Retries::default()));
        let domain = Arc::clone(&session.granted().domain);
        let state = kit::config(&base.join(lineage), &base.join("scratch"));
        let config = AgentConfig { lineage: lineage.to_owned(), owner: session.owner(), ..state };
        let (status, seen) = watch::channel(Status::default());
        let (commands, asked) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let prepared = prepare(config, transport, domain, status, Arc::new(Progress::default()));
        let prepared = Box::pin(prepared).await.expect("prepared");
        let mut tasks = JoinSet::new();
        let (session, rests) = session.quiescing(quiescing);
        let serving = session.serve(seen, commands.clone(), async move { drop(stopped.await) });
        tasks.spawn(async move { drop(serving.await) });
        tasks.spawn(async move { drop(prepared.resting(rests).agent.run(asked).await) });
        Self { tasks, commands, stop }
    }

    /// Makes durable what is dirty.
    pub(crate) async fn flush(&self) -> LastCheckpoint {
        let (answer, wait) = oneshot::channel();
        self.commands.send(Ask::Flush(answer)).await.expect("running");
        in_time(wait).await.expect("an answer").expect("a checkpoint")
    }

    /// Ends it in good order.
    pub(crate) async fn end(mut self) {
        self.commands.send(Ask::End(Duration::from_secs(30))).await.expect("running");
        drop(self.stop);
        in_time(async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// An agent's process: it protects a state and freezes what a process has started, until it is killed.
pub(crate) async fn hold(url: &str, lineage: &str, base: &Path, application: i32) {
    let _agent = Agent::start(url, lineage, base, quiescing(Means::Freeze(Whom::StartedBy(application)))).await;
    println!("protects");
    std::future::pending::<()>().await;
}

/// A process of this program, which says one line when it is ready.
pub(crate) fn process(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped"));
    (child, lines)
}

/// How a bank is brought to rest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Nothing,
    Freezing,
    /// For snapshots and for every checkpoint.
    FreezingAlways,
    Asking,
}

/// A bank at work, and its agents.
pub(crate) struct Bank {
    pub(crate) world: World,
    houses: Vec<Child>,
    agents: Vec<Agent>,
}

impl Bank {
    pub(crate) async fn open(by: By) -> Self {
        let world = World::start().await;
        let program = std::env::current_exe().expect("this program");
        let (mut houses, mut lines, mut ports) = (Vec::new(), Vec::new(), String::new());
        for number in 0..HOUSES {
            let state = world.lab.path(&format!("house-{number}"));
            std::fs::create_dir_all(&state).expect("a directory");
            // the application is what the shell has started
            let mut command = Command::new("sh");
            command.args(["-c", "exec 3<&0; \"$@\" <&3 & wait", "sh"]).arg(&program).args(["--bank", &number.to_string()]);
            command.arg(&state).arg(world.lab.path(&format!("hook-{number}"))).process_group(0);
            let mut house = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a house");
            let mut reader = BufReader::new(house.stdout.take().expect("piped"));
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            ports.push_str(line.split_whitespace().nth(1).expect("a port"));
            ports.push(' ');
            houses.push(house);
            lines.push(reader);
        }
        for house in &mut houses {
            writeln!(house.stdin.as_mut().expect("piped"), "{ports}").expect("told");
        }
        for reader in &mut lines {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            assert_eq!(line.trim(), "open");
        }
        let mut agents = Vec::new();
        for (number, house) in houses.iter().enumerate() {
            let whom = Whom::StartedBy(i32::try_from(house.id()).expect("small"));
            let hook = |send: &str| {
                let path = world.lab.path(&format!("hook-{number}")).display().to_string();
                let call = Call::Socket { path, send: send.to_owned(), expect: Some("ok".to_owned()) };
                PodHook { call, timeout_ms: 10_000 }
            };
            let means = match by {
                By::Nothing => Means::Nothing,
                By::Freezing | By::FreezingAlways => Means::Freeze(whom),
                By::Asking => Means::Hooks { before: hook("rest"), after: Some(hook("go")), whom },
            };
            let base = world.lab.base.path();
            let quiescing = Quiescing { every_checkpoint: matches!(by, By::FreezingAlways), ..quiescing(means) };
            agents.push(Agent::start(&world.url, &format!("house-{number}"), base, quiescing).await);
        }
        world.protected(HOUSES).await;
        Self { world, houses, agents }
    }

    /// What is wrong in a snapshot, and how much money has moved when it was taken.
    pub(crate) async fn audited(&self, snapshot: &Snapshot) -> (Option<String>, i64) {
        let books = self.world.books(snapshot).await;
        assert_eq!(books.len(), HOUSES);
        for book in &books {
            let moved: i64 = book.received.iter().sum::<i64>() - book.sent.iter().sum::<i64>();
            assert_eq!(book.balance, BEGIN + moved, "a book is one moment by itself");
        }
        (audit(&books), books.iter().flat_map(|book| book.sent).sum())
    }
}

impl Bank {
    /// Ends its agents; then it may go.
    pub(crate) async fn close(mut self) {
        for agent in self.agents.drain(..) {
            agent.end().await;
        }
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        for house in &mut self.houses {
            let group = rustix::process::Pid::from_child(house);
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let _ = house.wait();
        }
    }
}
