// SPDX-License-Identifier: Apache-2.0
//! What the tests share: workers and masters in this process, workers in processes of their own, and waiting.

#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use holdfast_factoriser::Error;
use holdfast_factoriser::client::Client;
use holdfast_factoriser::master::{Master, MasterConfig};
use holdfast_factoriser::report::{Progress, Report};
use holdfast_factoriser::worker::{Worker, WorkerConfig};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes: what isn't there by then never will be.
pub(crate) const NEVER: Duration = Duration::from_secs(60);

/// Any free port.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let found = tokio::time::timeout(NEVER, async {
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// Something that runs in this process until it is stopped.
pub(crate) struct Running<T> {
    pub(crate) url: String,
    stop: CancellationToken,
    task: JoinSet<Result<T, Error>>,
}

impl<T: 'static> Running<T> {
    /// Asks it to stop and returns its last word.
    pub(crate) async fn stop(mut self) -> T {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap()
    }

    /// Whether it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<T, Error> {
        self.task.join_next().await.unwrap().unwrap()
    }
}

/// A worker that begins when its master says so, or at once if there is none.
pub(crate) fn worker_config(number: u64, index: u32, workers: u32, state: &Path, has_master: bool) -> WorkerConfig {
    let wait = if has_master { NEVER } else { Duration::ZERO };
    WorkerConfig { number, index, workers, state: state.to_owned(), listen: ANY, rate: None, wait, linger: NEVER }
}

pub(crate) async fn start_worker(config: WorkerConfig) -> Running<Report> {
    let (worker, stop) = (Worker::bind(config).await.unwrap(), CancellationToken::new());
    let url = format!("http://{}", worker.address());
    let mut task = JoinSet::new();
    task.spawn(worker.run_until(stop.clone().cancelled_owned()));
    Running { url, stop, task }
}

pub(crate) async fn start_master(number: u64, workers: Vec<String>, state: Option<&Path>) -> Running<Progress> {
    let poll = Duration::from_millis(5);
    let config = MasterConfig { number, workers, listen: ANY, state: state.map(Path::to_owned), poll, patience: NEVER };
    let (master, stop) = (Master::bind(config).await.unwrap(), CancellationToken::new());
    let url = format!("http://{}", master.address());
    let mut task = JoinSet::new();
    task.spawn(master.run_until(stop.clone().cancelled_owned()));
    Running { url, stop, task }
}

pub(crate) async fn report(url: &str) -> Report {
    Client::new().get(&format!("{url}/progress")).await.unwrap()
}

pub(crate) async fn progress(url: &str) -> Progress {
    Client::new().get(&format!("{url}/progress")).await.unwrap()
}

/// Waits until a worker's report is as wished.
pub(crate) async fn report_when(url: &str, wish: impl Fn(&Report) -> bool) -> Report {
    let wish = &wish;
    until("the report wished for", || async move { Some(report(url).await).filter(wish) }).await
}

/// Waits until the master's answer is as wished.
pub(crate) async fn progress_when(url: &str, wish: impl Fn(&Progress) -> bool) -> Progress {
    let wish = &wish;
    until("the progress wished for", || async move { Some(progress(url).await).filter(wish) }).await
}

/// The program, with no more of the environment than it needs.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_factoriser"));
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A process that listens, and where.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) url: String,
}

/// Starts the program and waits for it to say where it listens.
pub(crate) async fn start_process(args: &[&str]) -> Process {
    start(program(args)).await
}

/// Starts a command and waits for it to say where it listens.
pub(crate) async fn start(mut command: Command) -> Process {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap_or_default();
    let url = first.rsplit_once(' ').map(|(_, url)| url.to_owned());
    let url = url.filter(|url| url.starts_with("http://")).unwrap_or_else(|| panic!("{first:?} is no address"));
    // keeps reading, or the process would block or fail when it says something
    let mut reader = JoinSet::new();
    reader.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    reader.detach_all();
    Process { child, url }
}

impl Process {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.unwrap(), signal).unwrap();
    }
}
