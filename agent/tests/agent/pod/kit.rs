// SPDX-License-Identifier: Apache-2.0
//! A world for one pod after another: a repository, a coordinator in front of it, a volume, and the agent's program.

use crate::common::{files, files_of};
use crate::pod::front::{Authority, Front, Heard, Shared};
use crate::pod::store::Fickle;
use holdfast_agent::clock::SystemClock;
use holdfast_agent::pod::Receipt;
use holdfast_core::pod::{PodConfig, PodDivergence, PodPath, PodRestore};
use holdfast_store::capture::Clock;
use holdfast_store::log::Log;
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::Transport;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

pub(crate) const LINEAGE: &str = "statefulset/web/0";
/// How long anything may take: for tests that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) store: Arc<Fickle>,
    pub(crate) repository: Repository,
    pub(crate) shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    pub(crate) front: Option<Front>,
    pub(crate) base: TempDir,
    pods: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        let store = Arc::new(Fickle::default());
        let transport: Arc<dyn Transport> = store.clone();
        let repository = Repository::create(transport, b"passphrase", Kdf::QUICK, SystemClock.now()).await.expect("made");
        let base = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("first");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Shared::new(&authority);
        let mut world = Self { store, repository, shared, address, front: None, base, pods: 0 };
        fs::create_dir(world.path("state")).expect("a directory");
        fs::write(world.path("ca.crt"), &authority.pem).expect("a file");
        world.token("first");
        world.front = Some(Front::start(&world, listener).await);
        world
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.base.path().join(part)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    pub(crate) fn state(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.path("state"))
    }

    /// Another token, in the file and at the front, as if it had been rotated.
    pub(crate) fn token(&self, token: &str) {
        fs::write(self.path("token"), token).expect("a file");
        self.shared.rules.send_modify(|rules| rules.tokens = [token.to_owned()].into());
    }

    /// The coordinator is gone, with all its connections.
    pub(crate) fn stop(&mut self) {
        self.front = None;
    }

    /// Another one takes its place.
    pub(crate) async fn restart(&mut self) {
        let listener = until_some(async || TcpListener::bind(self.address).await.ok()).await;
        self.front = Some(Front::start(self, listener).await);
    }

    pub(crate) fn config(&self) -> PodConfig {
        PodConfig {
            version: PodConfig::VERSION,
            paths: vec![PodPath {
                label: "data".to_owned(),
                path: self.path("state").display().to_string(),
                include: Vec::new(),
                exclude: Vec::new(),
                read_only: false,
            }],
            settle_ms: 10,
            quiet_ms: 20,
            limit_ms: 200,
            scan_ms: 60_000,
            restore: PodRestore::IfEmpty,
            clean_only: false,
            special_files: false,
            on_divergence: PodDivergence::Wait,
            start_alone: false,
            cpu_millis: 2000,
            memory_bytes: 64 << 20,
            scratch_bytes: 64 << 20,
            read_bytes_per_second: None,
            upload_bytes_per_second: None,
            quiesce: None,
        }
    }

    /// Another pod: with a scratch space of its own.
    pub(crate) fn pod(&mut self) -> Pod {
        self.pods += 1;
        let uid = format!("{}-{}-{}", std::process::id(), self.address.port(), self.pods);
        let directory = self.path(&format!("pod-{}", self.pods));
        fs::create_dir_all(directory.join("scratch")).expect("a directory");
        fs::write(directory.join("termination-log"), b"").expect("a file");
        Pod {
            uid,
            directory,
            authorities: self.path("ca.crt"),
            token: self.path("token"),
            url: format!("https://localhost:{}", self.address.port()),
            config: self.config(),
            variables: Vec::new(),
        }
    }

    /// The files of a checkpoint (0: the newest along the history), read from the store alone.
    pub(crate) async fn restored(&self, sequence: u64) -> BTreeMap<String, Vec<u8>> {
        let domain = Arc::new(self.repository.domain("default").await.expect("keys"));
        let transport: Arc<dyn Transport> = self.store.clone();
        let log = Log::new(Arc::clone(&transport), Arc::clone(&domain), domain.keys.identity.lineage_id(LINEAGE));
        let sequence = match sequence {
            0 => log.read_body(log.head(0).await.expect("a head")).await.expect("a record").state(),
            sequence => sequence,
        };
        files_of(transport, domain, LINEAGE, sequence).await
    }

    /// Waits until the front has heard something like this.
    pub(crate) async fn heard(&self, like: impl FnMut(&Heard) -> bool) -> Heard {
        in_time(self.shared.heard.subscribe().wait_for(like)).await.expect("a front").clone()
    }

    /// Waits for a checkpoint later than all so far that holds everything.
    pub(crate) async fn caught_up(&self) -> Heard {
        let before = self.shared.heard.borrow().reports;
        // a change that was just made may not have been heard of by the next report
        self.heard(|heard| {
            let live = heard.report.live.clone().unwrap_or_default();
            heard.reports > before + 2 && heard.report.sequence > 0 && live.lag_ms == 0 && live.trouble.is_empty()
        })
        .await
    }
}

/// What the webhook would have made.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) directory: PathBuf,
    authorities: PathBuf,
    token: PathBuf,
    url: String,
    pub(crate) config: PodConfig,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Pod {
    fn command(&self, subcommand: &str) -> Command {
        let given = std::env::var_os("HOLDFAST_AGENT_BINARY");
        let mut command = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast-agent").into()));
        command.arg(subcommand).env_clear().env("HOLDFAST_POD_UID", &self.uid).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Its agent. Restarted, it finds no scratch space: a container's own files go with it.
    pub(crate) fn agent(&self) -> Agent {
        let scratch = self.directory.join("scratch");
        fs::remove_dir_all(&scratch).and_then(|()| fs::create_dir(&scratch)).expect("a directory");
        let log = File::options().create(true).append(true).open(self.directory.join("log")).expect("a file");
        let mut command = self.command("serve");
        command
            .env("HOLDFAST_POD_CONFIG", serde_json::to_string(&self.config).expect("JSON"))
            .env("HOLDFAST_COORDINATOR", &self.url)
            .env("HOLDFAST_CA_FILE", &self.authorities)
            .env("HOLDFAST_TOKEN_FILE", &self.token)
            .env("HOLDFAST_POD_NAME", "web-0")
            .env("HOLDFAST_NODE_NAME", "one")
            .env("HOLDFAST_GRACE_SECONDS", "30")
            .env("HOLDFAST_SCRATCH", &scratch)
            .env("HOLDFAST_TERMINATION_LOG", self.directory.join("termination-log"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log);
        Agent { child: command.spawn().expect("started") }
    }

    pub(crate) fn gate(&self) -> Agent {
        let said = File::create(self.directory.join("gate")).expect("a file");
        Agent { child: self.command("gate").stdout(said).spawn().expect("started") }
    }

    /// The preStop hook.
    pub(crate) async fn stopping(&self) {
        assert!(in_time(self.command("stopping").status()).await.expect("started").success());
    }

    /// What the gate has said, once it has said this.
    pub(crate) async fn gate_says(&self, what: &str) -> String {
        self.reads("gate", what).await
    }

    /// What the agent has logged, once it has logged this.
    pub(crate) async fn logs(&self, what: &str) -> String {
        self.reads("log", what).await
    }

    async fn reads(&self, file: &str, what: &str) -> String {
        let path = self.directory.join(file);
        until_some(async || fs::read_to_string(&path).ok().filter(|text| text.contains(what))).await
    }

    pub(crate) fn receipt(&self) -> Receipt {
        let text = fs::read_to_string(self.directory.join("termination-log")).expect("a file");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }
}

pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("running")).expect("a number");
        kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("sent");
    }

    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        in_time(self.child.wait()).await.expect("ended");
    }

    /// SIGTERM, and its end.
    pub(crate) async fn term(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        in_time(self.child.wait()).await.expect("ended")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("running")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("asked").is_none()
    }
}

/// A future's value, or a failed test.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it never came to be")
}

/// Looks at what another process does until there is something to see.
pub(crate) async fn until_some<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let seen = async {
        loop {
            tick.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    in_time(seen).await
}

/// The files of a directory, by name.
/// Whether a path is there.
pub(crate) fn is_there(path: &Path) -> bool {
    path.exists()
}
