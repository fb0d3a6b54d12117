// SPDX-License-Identifier: Apache-2.0
//! What the demo plays on: an S3 server, a repository in it, a coordinator. All in this process, on this machine only.

use anyhow::Context;
use holdfast_agent::Connection;
use holdfast_agent::clock::SystemClock;
use holdfast_coordinator::{Access, Config as CoordinatorConfig, Coordinator, CoordinatorError};
use holdfast_s3_server::{Config as S3Config, Server};
use holdfast_store::capture::Clock;
use holdfast_store::repository::{Kdf, Repository};
use holdfast_store::transport::s3::{Options, S3};
use holdfast_store::transport::{Retries, Retrying};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const BUCKET: &str = "holdfast-demo";

/// The stage, until it is struck.
pub(super) struct Stage {
    directory: TempDir,
    s3: Server,
    pub(super) url: String,
    pub(super) connection: Connection,
    pub(super) verbose: u8,
    coordinator: JoinSet<Result<(), CoordinatorError>>,
    stop: oneshot::Sender<()>,
}

fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
    Ok(hex::encode(bytes))
}

/// A file that only its owner can read.
fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    let file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(secret.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}

impl Stage {
    pub(super) async fn build(base: Option<PathBuf>, verbose: u8) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("holdfast-demo-");
        let directory = match base {
            Some(base) => builder.tempdir_in(base),
            None => builder.tempdir(),
        };
        let directory = directory.context("make a directory for the demo")?;
        for part in ["logs", "state", "scratch", "receipts"] {
            std::fs::create_dir(directory.path().join(part)).context("make a directory for the demo")?;
        }
        let key = secret()?;
        let s3 = Server::start(S3Config {
            buckets: vec![BUCKET.to_owned()],
            durable: false, // what the demo writes need not survive a power cut
            ..S3Config::new(directory.path().join("s3"), "demo", key.as_str())
        });
        let s3 = s3.await.context("start the S3 server")?;
        let repository = repository(&s3, key).await?;
        let token = secret()?;
        write_secret(&directory.path().join("token"), &token)?;
        let config = CoordinatorConfig {
            repository,
            owner: crate::run::owner(Some("holdfast demo")),
            access: Access::Token(token.clone()),
            domain: None,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen for the coordinator")?;
        let url = format!("http://{}", listener.local_addr().context("listen for the coordinator")?);
        let (stop, stopped) = oneshot::channel::<()>();
        let mut coordinator = JoinSet::new();
        coordinator.spawn(Coordinator::new(config).serve(listener, async move { drop(stopped.await) }));
        let connection = Connection::new(&url, Some(&token))?;
        Ok(Self { directory, s3, url, connection, verbose, coordinator, stop })
    }

    pub(super) fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    /// Objects and bytes that the S3 server holds, and requests that it has had.
    pub(super) fn stored(&self) -> (u64, u64, u64) {
        let (mut objects, mut bytes) = (0, 0);
        let mut open = vec![self.path("s3")];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => open.push(entry.path()),
                    Ok(meta) => {
                        objects += 1;
                        bytes += meta.len();
                    }
                    Err(_) => {}
                }
            }
        }
        (objects, bytes, self.s3.counters().total())
    }

    /// Ends it all; says where the data is, if it is kept.
    pub(super) async fn strike(mut self, keep_data: bool) -> Option<PathBuf> {
        drop(self.stop);
        while let Some(ended) = self.coordinator.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the coordinator ended badly"),
                Err(error) => tracing::warn!(%error, "the coordinator ended badly"),
            }
        }
        self.s3.shutdown().await;
        keep_data.then(|| self.directory.keep())
    }
}

async fn repository(s3: &Server, key: String) -> anyhow::Result<Repository> {
    let options = Options {
        bucket: BUCKET.to_owned(),
        endpoint: Some(s3.endpoint()),
        region: Some("us-east-1".to_owned()),
        credentials: Some(("demo".to_owned(), key)),
        ..Options::default()
    };
    let transport = Arc::new(Retrying::new(Arc::new(S3::new(options).await), Retries::default()));
    // nobody types this passphrase, and it ends with the demo
    let repository = Repository::create(transport, secret()?.as_bytes(), Kdf::QUICK, SystemClock.now()).await;
    repository.context("create the repository")
}
