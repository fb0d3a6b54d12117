// SPDX-License-Identifier: Apache-2.0
//! From the start to SIGTERM. Whatever goes wrong is told, waited out and tried again: the one thing that never happens is that the application
//! starts on less than its state.

use super::alone::Disk;
use super::board::Board;
use super::settings::Settings;
use super::{receipt, words};
use crate::clock::SystemClock;
use crate::connection::{Connection, ConnectionError, Tokens};
use crate::governor::Paced;
use crate::session::{Caller, Notice, Notices, Session, Who};
use crate::status::{Phase, Status};
use crate::{AgentError, Command, Prepared, prepare};
use holdfast_core::time::Monotonic;
use holdfast_store::restore::Progress;
use holdfast_store::transport::{Retries, Retrying, Transport};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Between tries to prepare; a person's decision is heard of by the next.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// Of the grace that is left, for the end of the process itself.
const LEAVE: Duration = Duration::from_millis(500);
/// The least that the kubelet gives.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// How an attempt ended.
enum Outcome {
    /// The process is to end.
    End,
    /// Try again, after a while.
    Again,
}

pub(super) struct Life {
    settings: Settings,
    board: Board,
    connection: Connection,
    /// When the pod will be gone.
    stopping: watch::Receiver<Option<Monotonic>>,
    /// SIGTERM has come.
    ended: watch::Receiver<bool>,
    /// No pace is kept any more.
    hurry: watch::Sender<bool>,
    status: watch::Sender<Status>,
    lineage: String,
    pause: Duration,
}

impl Life {
    pub(super) fn new(
        settings: Settings,
        board: Board,
        stopping: watch::Receiver<Option<Monotonic>>,
        ended: watch::Receiver<bool>,
    ) -> Result<Self, ConnectionError> {
        let connection = Connection::secure(&settings.coordinator, &settings.authorities, Tokens::file(&settings.token))?;
        let (hurry, status) = (watch::Sender::new(false), watch::Sender::new(Status::default()));
        Ok(Self { settings, board, connection, stopping, ended, hurry, status, lineage: String::new(), pause: PAUSE_MIN })
    }

    /// Until SIGTERM, and what is to be done then.
    pub(super) async fn run(mut self) {
        match Disk::look(&self.settings) {
            Ok(disk) if disk.is_in_use(&self.settings) => self.board.open("this pod's application may be running already"),
            Ok(_) => {}
            Err(error) => self.tell(&error),
        }
        let mut ended = self.ended.clone();
        let mut next = None;
        while let Some(caller) = next.take().or_else(|| self.caller()) {
            let Some(session) = self.session(caller).await else { break };
            let (outcome, caller) = Box::pin(self.attempt(session)).await;
            if matches!(outcome, Outcome::End) {
                break;
            }
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => break,
                () = tokio::time::sleep(self.pause) => {}
            }
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            next = caller;
        }
        receipt::write(&self.settings.termination_log, &self.lineage, &self.status.borrow());
    }

    /// `None`: the system has no random numbers, and nothing can be done here.
    fn caller(&self) -> Option<Caller> {
        Caller::new(Who::by_token(&self.settings.holder)).inspect_err(|error| self.tell(error)).ok()
    }

    /// Says what went wrong, at the gate, in the log, and to the coordinator.
    fn tell(&self, error: &AgentError) {
        let words::Why { reason, message } = words::of_agent(error, &self.lineage);
        self.board.wait(reason, &message);
        self.status.send_modify(|status| status.trouble = Some(format!("{reason}: {message}")));
    }

    /// A session; `None`: the process is to end.
    async fn session(&self, caller: Caller) -> Option<Session> {
        let heard = Arc::new(Mutex::new(SystemClock.monotonic()));
        let (board, last) = (self.board.clone(), Arc::clone(&heard));
        let notices = Notices::new(move |notice| {
            let answered = match notice {
                Notice::Waiting { reason, message } => {
                    board.wait(&reason, &message);
                    true
                }
                Notice::Failed(error) => {
                    let words::Why { reason, message } = words::of_session(&error);
                    board.wait(reason, &message);
                    !error.is_silence()
                }
            };
            if answered {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = SystemClock.monotonic();
            }
        });
        let mut ended = self.ended.clone();
        let opening = Session::open_patiently(self.connection.clone(), caller, notices);
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => None,
            // it ends only with a session, or where there are no random numbers
            session = opening => session.inspect_err(|error| self.tell(error)).ok().map(|session| session.heeding(self.stopping.clone())),
            () = self.alone(&heard) => None,
        }
    }

    /// Opens the gate when nobody has answered for too long, if that may be. Never ends.
    async fn alone(&self, heard: &Mutex<Monotonic>) {
        let after = self.settings.alone_after;
        while self.settings.policy.start_alone && !self.board.is_open() {
            let since = SystemClock.monotonic().since(*heard.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(left) = after.checked_sub(since).filter(|left| !left.is_zero()) {
                tokio::time::sleep(left).await;
                continue;
            }
            match self.take_alone() {
                Ok(true) => self.board.open("no coordinator answers; the volume is that of the last checkpoint"),
                Ok(false) => tracing::debug!("no coordinator answers, and the volume does not say that it holds the state"),
                Err(error) => tracing::warn!(%error, "no coordinator answers, and the volume can't be used"),
            }
            tokio::time::sleep(after).await;
        }
        std::future::pending::<()>().await;
    }

    fn take_alone(&self) -> Result<bool, AgentError> {
        let disk = Disk::look(&self.settings)?;
        let whole = disk.is_whole();
        if whole {
            disk.take(&self.settings)?;
        }
        Ok(whole)
    }

    /// Prepares and protects, as long as it goes well.
    async fn attempt(&mut self, session: Session) -> (Outcome, Option<Caller>) {
        self.lineage.clone_from(&session.granted().name);
        let config = self.settings.agent(&self.lineage, session.owner(), session.offer());
        let (transport, domain) = (self.transport(&session), Arc::clone(&session.granted().domain));
        let (commands, asked) = mpsc::channel(4);
        let (stop, stopped) = oneshot::channel::<()>();
        let (mut sessions, mut others) = (JoinSet::new(), JoinSet::new());
        let (session, rests) = session.quiescing(self.settings.quiescing());
        let serving = session.serve(self.status.subscribe(), commands.clone(), async move { drop(stopped.await) });
        sessions.spawn(serving);
        others.spawn(receipt::keep(self.settings.termination_log.clone(), self.lineage.clone(), self.status.subscribe()));
        others.spawn(precopy(self.stopping.clone(), commands.clone()));
        self.status.send_modify(|status| status.phase = Phase::Starting);
        let progress = Arc::new(Progress::default());
        if !self.board.is_open() {
            self.board.wait(
                "Preparing",
                "the coordinator has granted the lineage; the volume is being looked at, and restored if it must be",
            );
        }
        let mut ended = self.ended.clone();
        let prepared = tokio::select! {
            prepared = prepare(config, transport, domain, self.status.clone(), Arc::clone(&progress)) => prepared,
            _ = ended.wait_for(|ended| *ended) => return (Outcome::End, None),
            () = follow(&self.status, &self.board, &progress) => return (Outcome::Again, None),
        };
        let outcome = match prepared {
            Ok(prepared) => Box::pin(self.protect(prepared.resting(rests), commands, asked)).await,
            Err(error) => {
                self.tell(&error);
                // whoever looks at the lineage must be able to read it there
                tokio::select! {
                    _ = ended.wait_for(|ended| *ended) => Outcome::End,
                    () = tokio::time::sleep(self.pause) => Outcome::Again,
                }
            }
        };
        others.shutdown().await;
        drop(stop);
        let caller = sessions.join_next().await.and_then(Result::ok);
        (outcome, caller)
    }

    /// The lineage's objects, as fast as they may be written.
    fn transport(&self, session: &Session) -> Arc<dyn Transport> {
        let remote: Arc<dyn Transport> = Arc::new(session.transport());
        let paced = match self.settings.policy.upload_bytes_per_second {
            Some(rate) => Arc::new(Paced::new(remote, rate, self.hurry.subscribe())),
            None => remote,
        };
        Arc::new(Retrying::new(paced, Retries::default()))
    }

    async fn protect(&mut self, prepared: Prepared, commands: mpsc::Sender<Command>, asked: mpsc::Receiver<Command>) -> Outcome {
        if let Some(restored) = &prepared.restored {
            tracing::info!(
                lineage = self.lineage, sequence = restored.sequence, captured = %restored.last_close, root = %restored.root,
                root_on_disk = %restored.root_on_disk, entries = restored.entries, written_bytes = restored.written_bytes,
                fetched_bytes = restored.fetched_bytes, took_ms = restored.took.as_millis(), deviations = restored.deviations.len(),
                "restored"
            );
            for deviation in &restored.deviations {
                tracing::warn!(path = %holdfast_store::disk::display(&deviation.path), what = %deviation.what, "not restored as it was");
            }
        }
        if !self.board.is_open() {
            self.board.open(if prepared.restored.is_some() { "the state is restored" } else { "the volume holds the state" });
        }
        self.pause = PAUSE_MIN;
        let mut ended = self.ended.clone();
        let mut agent = std::pin::pin!(prepared.agent.run(asked));
        let result = tokio::select! {
            result = &mut agent => result,
            _ = ended.wait_for(|ended| *ended) => {
                self.hurry.send_replace(true);
                let within = self.time_left();
                tracing::info!(?within, "capturing what is left");
                // a full queue belongs to an agent that ends by itself
                let _ = commands.try_send(Command::End(within));
                let result = agent.await;
                match &result {
                    Ok(status) => tracing::info!(
                        lineage = self.lineage, sequence = status.checkpoint.map_or(0, |last| last.sequence), "the lineage is closed"
                    ),
                    Err(error) => self.tell(error),
                }
                return Outcome::End;
            }
        };
        match result {
            Ok(_) => tracing::error!("the agent has ended by itself"),
            Err(error) => {
                tracing::error!(%error, fenced = error.is_fenced(), "THE STATE IS NOT PROTECTED; trying again");
                self.tell(&error);
                if error.is_fenced() {
                    self.pause = PAUSE_MAX;
                }
            }
        }
        Outcome::Again
    }

    /// For the last capture.
    fn time_left(&self) -> Duration {
        let gone_at = *self.stopping.borrow();
        let left = gone_at.map_or(self.settings.grace, |gone_at| gone_at.since(SystemClock.monotonic()));
        left.max(GRACE_MIN).saturating_sub(LEAVE)
    }
}

/// The application is being ended: what has changed so far is captured while it does so, and less is left for the end.
async fn precopy(mut stopping: watch::Receiver<Option<Monotonic>>, commands: mpsc::Sender<Command>) {
    if stopping.wait_for(Option::is_some).await.is_err() {
        return;
    }
    tracing::info!("the pod is being ended; capturing what has changed so far");
    let (answer, wait) = oneshot::channel();
    if commands.send(Command::Flush(answer)).await.is_ok() {
        let _ = wait.await; // the end comes whatever came of it
    }
}

/// Says at the gate how far a restore is. Never ends.
fn follow<'a>(status: &watch::Sender<Status>, board: &'a Board, progress: &'a Progress) -> impl Future<Output = ()> + use<'a> {
    use std::sync::atomic::Ordering::Relaxed;
    let mut status = status.subscribe();
    async move {
        while status.wait_for(|status| status.phase == Phase::Restoring).await.is_ok() && !board.is_open() {
            let restored = status.borrow().restored;
            let what = restored.map_or_else(String::new, |brief| {
                let newer = brief.passed_over.map_or_else(String::new, |newer| {
                    format!(
                        ", the newest clean one (checkpoint {} of {} is newer and not clean)",
                        newer.sequence, newer.last_close
                    )
                });
                format!("checkpoint {} of {}{newer}", brief.sequence, brief.last_close)
            });
            let (entries, mebibytes) = (progress.entries.load(Relaxed), progress.bytes.load(Relaxed) >> 20);
            board.wait("Restoring", &format!("{what}: {entries} entries and {mebibytes} MiB are in place"));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        std::future::pending::<()>().await;
    }
}
