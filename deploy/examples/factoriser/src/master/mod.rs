// SPDX-License-Identifier: Apache-2.0
//! The master: asks its workers, adds up, tells them what they need to know, and answers for all of them.
//!
//! - `GET /progress`: the [`Progress`].
//! - `GET /healthz`: `ok`.
//!
//! The master assigns nothing: who searches which block follows from the number of workers. It is needed when that number
//! changes, to tell each worker what others have done of what is its share now, and when the solution is found.

mod board;
mod poll;
mod urls;

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use tokio::time::MissedTickBehavior;

use crate::Error;
use crate::report::Progress;
use crate::server::Listener;
use crate::shutdown::StopSignals;
use crate::space::Space;
use crate::state::{Found, clear, read, replace};

pub use board::Ledger;
pub use urls::worker_urls;

use board::Board;
use poll::Poll;

/// The name of the file in which a master remembers its workers' last reports.
pub const LEDGER_FILE: &str = "ledger.json";

/// How a master is to work.
#[derive(Debug, Clone)]
pub struct MasterConfig {
    /// The number whose factors are searched.
    pub number: u64,
    /// The workers' addresses by index, as [`worker_urls`] makes them.
    pub workers: Vec<String>,
    /// The address of its HTTP interface; port 0 is any free port.
    pub listen: SocketAddr,
    /// A directory for its memory. Without one, what workers have done that are no more is forgotten with the process.
    pub state: Option<PathBuf>,
    /// How often the workers are asked.
    pub poll: Duration,
    /// How long a worker waits to begin for the others to be heard of.
    pub patience: Duration,
}

impl MasterConfig {
    /// How often the workers are asked, unless told otherwise.
    pub const POLL: Duration = Duration::from_millis(250);
    /// How long a worker waits for the others to be heard of, unless told otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(10);
}

/// A master with its memory read and its address bound, ready to work.
#[derive(Debug)]
pub struct Master {
    config: MasterConfig,
    board: Arc<Mutex<Board>>,
    listener: Listener,
}

/// Keeps the ledger file up to date.
#[derive(Debug)]
struct Memory {
    dir: Option<PathBuf>,
    written: Ledger,
}

impl Memory {
    fn write(&mut self, ledger: Ledger) -> Result<(), Error> {
        if let Some(dir) = self.dir.as_deref().filter(|_| ledger != self.written) {
            replace(dir, LEDGER_FILE, &ledger)?;
        }
        self.written = ledger;
        Ok(())
    }
}

fn remembered(dir: &Path, space: &Space) -> Result<Ledger, Error> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    clear(dir, LEDGER_FILE)?;
    let path = dir.join(LEDGER_FILE);
    match read::<Ledger>(&path)? {
        Found::Whole(ledger) if ledger.number != space.number() => {
            Err(Error::OtherNumber { path, found: ledger.number, number: space.number() })
        }
        Found::Whole(ledger) => Ok(ledger),
        // the workers know what they have done
        Found::Nothing | Found::Torn(_) => Ok(Ledger::new(space.number())),
    }
}

impl Master {
    /// Reads the memory and binds the address.
    pub async fn bind(config: MasterConfig) -> Result<Self, Error> {
        let space = Space::new(config.number)?;
        let workers = worker_urls(&config.workers, None)?;
        let ledger = config.state.as_deref().map_or_else(|| Ok(Ledger::new(space.number())), |dir| remembered(dir, &space))?;
        let board = Arc::new(Mutex::new(Board::new(space, workers, ledger, config.patience)));
        let listener = Listener::bind(config.listen).await?;
        Ok(Self { config, board, listener })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Works until it is told to stop, asks the workers a last time and returns what it then knows.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send) -> Result<Progress, Error> {
        let Self { config, board, listener } = self;
        let router =
            Router::new().route("/progress", get(progress)).route("/healthz", get(|| async { "ok" })).with_state(board.clone());
        let mut server = listener.serve(router);
        let mut memory = Memory { dir: config.state, written: Ledger::new(config.number) };
        let poll = Poll::new(board.clone());
        let mut ticks = tokio::time::interval(config.poll.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                ended = server.ended() => return ended.map(|()| lock(&board).progress()),
                _ = ticks.tick() => {}
            }
            poll.round().await;
            memory.write(lock(&board).ledger())?;
        }
        poll.round().await;
        memory.write(lock(&board).ledger())?;
        server.stop().await?;
        Ok(lock(&board).progress())
    }
}

/// The board. Every change to it is made whole under the lock, so a panic elsewhere leaves nothing half done.
fn lock(board: &Mutex<Board>) -> std::sync::MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn progress(State(board): State<Arc<Mutex<Board>>>) -> Json<Progress> {
    Json(lock(&board).progress())
}

/// Runs a master until SIGTERM or SIGINT.
pub async fn run(config: MasterConfig) -> Result<(), Error> {
    run_announced(config, |_| {}, |_| {}).await
}

/// Like [`run`], with a word at the start and one at the end.
pub(crate) async fn run_announced(
    config: MasterConfig,
    started: impl FnOnce(SocketAddr) + Send,
    stopped: impl FnOnce(&Progress) + Send,
) -> Result<(), Error> {
    let signals = StopSignals::catch()?;
    let master = Master::bind(config).await?;
    started(master.address());
    let last = master.run_until(signals.wait()).await?;
    stopped(&last);
    Ok(())
}
