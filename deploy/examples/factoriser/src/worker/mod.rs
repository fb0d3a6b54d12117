// SPDX-License-Identifier: Apache-2.0
//! A worker: searches its share of the space, keeps its progress in its state directory and tells it over HTTP.
//!
//! - `GET /progress`: the [`Report`]. The master asks with `?master=true`.
//! - `GET /healthz`: `ok`.
//! - `POST /known`: what others have done of its share, a [`Known`](crate::report::Known); the master's word to begin.
//! - `POST /stop`: the solution, a [`Stop`](crate::report::Stop); no need to search on.
//!
//! A worker that starts first waits for the master's word, so that it searches nothing again that others have searched
//! while there was another number of workers. If no master asks, it begins by itself.

mod http;
mod search;
mod shared;

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Error;
use crate::report::Report;
use crate::server::Listener;
use crate::shutdown::StopSignals;
use crate::space::{MAX_WORKERS, Space};
use crate::state::StateDir;

use search::Search;
use shared::Shared;

/// How a worker is to work.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The number whose factors are searched.
    pub number: u64,
    /// Which worker this is, from 0.
    pub index: u32,
    /// Among how many workers the work is shared.
    pub workers: u32,
    /// The state directory, of this worker's own; it is made if it isn't there.
    pub state: PathBuf,
    /// The address of its HTTP interface; port 0 is any free port.
    pub listen: SocketAddr,
    /// Candidates per second at most; `None` is as many as possible.
    pub rate: Option<NonZeroU64>,
    /// How long to wait for a master to ask, before the search begins without its word.
    pub wait: Duration,
    /// How long to stay, once stopped, for the master to fetch the last progress; not at all if no master asks.
    pub linger: Duration,
}

impl WorkerConfig {
    /// How long a worker waits for a master to ask, unless told otherwise.
    pub const WAIT: Duration = Duration::from_secs(2);
    /// How long a worker stays for a master to fetch its last progress, unless told otherwise.
    pub const LINGER: Duration = Duration::from_secs(1);

    fn space(&self) -> Result<Space, Error> {
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return Err(Error::Workers(self.workers as usize));
        }
        if self.index >= self.workers {
            return Err(Error::Index { index: self.index, workers: self.workers });
        }
        Space::new(self.number)
    }
}

/// A worker with its state read and its address bound, ready to work.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    shared: Arc<Shared>,
    state: StateDir,
    listener: Listener,
}

/// Stops the search when the worker's future is dropped: its thread can't be.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Worker {
    /// Opens the state directory and binds the address.
    pub async fn bind(config: WorkerConfig) -> Result<Self, Error> {
        let space = config.space()?;
        let (state, loaded) = StateDir::open(&config.state, space)?;
        let listener = Listener::bind(config.listen).await?;
        let shared = Arc::new(Shared::new(space, config.index, config.workers, loaded));
        Ok(Self { config, shared, state, listener })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// What it would answer now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// Works until it is told to stop, writes its last progress and returns what it then is.
    ///
    /// It goes on to serve when there is nothing left to search.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Result<Report, Error> {
        let Self { config, shared, state, listener } = self;
        let _stop = StopOnDrop(shared.clone());
        let mut server = listener.serve(http::router(shared.clone()));
        let search = Search::new(shared.clone(), state, config.rate, config.wait);
        let mut thread = JoinSet::new();
        thread.spawn_blocking(move || search.run());
        let early = tokio::select! {
            () = stop => None,
            ended = server.ended() => Some(ended),
            ended = thread.join_next() => Some(ended.unwrap_or(Ok(Ok(())))?),
        };
        shared.stop();
        if let Some(ended) = early {
            thread.join_next().await.unwrap_or(Ok(Ok(())))??;
            return ended.map(|()| shared.report());
        }
        thread.join_next().await.unwrap_or(Ok(Ok(())))??;
        shared.linger(config.linger).await;
        server.stop().await?;
        Ok(shared.report())
    }
}

/// Runs a worker until SIGTERM or SIGINT.
pub async fn run(config: WorkerConfig) -> Result<(), Error> {
    run_announced(config, |_, _| {}, |_| {}).await
}

/// Like [`run`], with a word at the start and one at the end.
pub(crate) async fn run_announced(
    config: WorkerConfig,
    started: impl FnOnce(SocketAddr, &Report) + Send,
    stopped: impl FnOnce(&Report) + Send,
) -> Result<(), Error> {
    let signals = StopSignals::catch()?;
    let worker = Worker::bind(config).await?;
    started(worker.address(), &worker.report());
    let last = worker.run_until(signals.wait()).await?;
    stopped(&last);
    Ok(())
}
