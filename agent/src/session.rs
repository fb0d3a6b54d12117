// SPDX-License-Identifier: Apache-2.0
//! The agent's side of its session with a coordinator: it is granted its lineage, says how it is, makes durable what it is asked to.
//!
//! The coordinator may be gone at any time and for any time. The agent goes on with what it was granted, as far as the relay works, and
//! otherwise lags; the session is opened again, with growing pauses, for as long as the agent lives.

use crate::agent::{Ask, Rests};
use crate::clock::SystemClock;
use crate::connection::Connection;
use crate::grant::{GrantToken, Granted};
use crate::quiesce::Quiescing;
use crate::remote::RemoteTransport;
use crate::{AgentError, Command, Status};
use holdfast_core::id::OwnerId;
use holdfast_core::time::Monotonic;
use holdfast_proto::barrier;
use holdfast_proto::v1::{self, session_request, session_response};
use holdfast_store::capture::Clock;
use machine::{Action, Event, Machine};
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

mod caller;
mod error;
mod link;
mod machine;
mod part;
mod report;

pub use caller::{Caller, Notice, Notices, Offer, Start, Who};
pub use error::SessionError;
use link::{Link, Welcomed};
use part::Part;
pub use part::rests_alone;

/// How long the coordinator has to take the last report.
const FAREWELL: Duration = Duration::from_secs(2);

type Connecting = Pin<Box<dyn Future<Output = Result<(Link, Welcomed), SessionError>> + Send>>;

/// An open session.
pub struct Session {
    connection: Connection,
    caller: Caller,
    notices: Notices,
    machine: Machine,
    link: Option<Link>,
    connecting: Option<Connecting>,
    flushes: JoinSet<(u64, Result<u64, String>)>,
    granted: Granted,
    owner: OwnerId,
    offer: Offer,
    token: GrantToken,
    reported: Option<report::Gist>,
    /// When the pod that this is in will be gone.
    stopping: watch::Receiver<Option<Monotonic>>,
    quiescing: Quiescing,
    /// The agent asks for rests of its own.
    asks: Option<mpsc::Receiver<Ask>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {:?})", self.granted.name, self.connection)
    }
}

impl Session {
    /// Opens a session. Tries again, with growing pauses, while the coordinator can't be reached; cancel-safe.
    ///
    /// # Errors
    /// If the coordinator refuses for good, or what it grants can't be used.
    pub async fn open(connection: Connection, who: Who) -> Result<Self, AgentError> {
        let refused = std::sync::Arc::new(std::sync::Mutex::new(None));
        let told = std::sync::Arc::clone(&refused);
        let (over, mut is_over) = watch::channel(false);
        let notices = Notices::new(move |notice| match notice {
            Notice::Failed(error) if error.is_final() => {
                *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                over.send_replace(true);
            }
            Notice::Failed(error) => tracing::warn!(%error, "no session yet; trying again"),
            Notice::Waiting { reason, message } => tracing::info!(reason, message, "the coordinator has us wait"),
        });
        tokio::select! {
            session = Self::open_patiently(connection, Caller::new(who)?, notices) => session,
            _ = is_over.wait_for(|over| *over) => {
                let error = refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                Err(error.map_or_else(|| AgentError::Thread("the session's notices ended".to_owned()), AgentError::from))
            }
        }
    }

    /// Opens a session, or goes on with the one that `caller` had, however long it takes: whatever keeps it from being opened is told. Cancel-safe.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub async fn open_patiently(connection: Connection, mut caller: Caller, notices: Notices) -> Result<Self, AgentError> {
        let jitter = u64::from_le_bytes(caller.instance.first_chunk().copied().unwrap_or_default());
        let mut machine = Machine::new(SystemClock.monotonic(), jitter);
        loop {
            let _ = machine.step(SystemClock.monotonic(), Event::Tick);
            match Link::open(connection.clone(), caller.clone(), notices.clone()).await {
                Ok((link, welcomed)) => {
                    let _ = machine.step(SystemClock.monotonic(), Event::Welcomed(welcomed.terms));
                    let Welcomed { granted, owner, offer, session, .. } = welcomed;
                    caller.welcomed(session);
                    let (token, flushes) = (GrantToken::new(&granted.token), JoinSet::new());
                    let (link, connecting, reported) = (Some(link), None, None);
                    let (_, stopping) = watch::channel(None);
                    return Ok(Self {
                        connection,
                        caller,
                        notices,
                        machine,
                        link,
                        connecting,
                        flushes,
                        granted,
                        owner,
                        offer,
                        token,
                        reported,
                        stopping,
                        quiescing: Quiescing::nothing(),
                        asks: None,
                    });
                }
                Err(error) => {
                    caller.refused(&error);
                    notices.tell(Notice::Failed(error));
                }
            }
            let _ = machine.step(SystemClock.monotonic(), Event::Lost);
            sleep_until(machine.deadline()).await;
        }
    }

    /// Passes on when the pod that this is in will be gone, as soon as that is known.
    #[must_use]
    pub fn heeding(self, stopping: watch::Receiver<Option<Monotonic>>) -> Self {
        Self { stopping, ..self }
    }

    /// How the application is brought to rest: not at all, unless this is said. With it comes where the agent asks for rests of its own, for
    /// [`Prepared::resting`](crate::Prepared::resting), if there are such.
    #[must_use]
    pub fn quiescing(self, quiescing: Quiescing) -> (Self, Option<Rests>) {
        let (rests, asks) = Rests::of(&quiescing).unzip();
        (Self { quiescing, asks, ..self }, rests)
    }

    /// What the coordinator said about this start.
    #[must_use]
    pub const fn offer(&self) -> Offer {
        self.offer
    }

    /// What was granted.
    #[must_use]
    pub const fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Whom claims are made for.
    #[must_use]
    pub const fn owner(&self) -> OwnerId {
        self.owner
    }

    /// The lineage's objects, through the relay. As the session is renewed, so is what it sends.
    #[must_use]
    pub fn transport(&self) -> RemoteTransport {
        RemoteTransport::new(self.connection.channel(), self.token.clone())
            .authorized(self.connection.tokens().clone())
            .at(self.connection.url())
    }

    /// Says how the agent is and passes on what it is asked, until `stop`; then says it once more and ends the session in good order. Returns
    /// what it takes to go on with it.
    pub async fn serve(
        mut self,
        mut status: watch::Receiver<Status>,
        commands: mpsc::Sender<Command>,
        stop: impl Future<Output = ()>,
    ) -> Caller {
        let mut stop = pin!(stop);
        let (mut told, mut heeding) = (true, true);
        let mut part = Part::begin(self.quiescing.clone(), commands.clone(), self.asks.take());
        // the first word after the welcome: until then the coordinator knows nothing of this agent
        self.report(&status);
        self.say_stopping();
        loop {
            let wake = self.machine.deadline();
            let event = tokio::select! {
                () = &mut stop => break,
                connected = connected(&mut self.connecting) => self.connected(connected),
                heard = heard(&mut self.link) => self.heard(heard, &mut part),
                Some(flushed) = self.flushes.join_next() => match flushed {
                    Ok((id, result)) => Event::Flushed { id, result },
                    Err(_) => Event::Tick, // called off with the session that it was for
                },
                changed = status.changed(), if told => {
                    told = changed.is_ok();
                    self.changed(&status)
                }
                changed = self.stopping.changed(), if heeding => {
                    heeding = changed.is_ok();
                    self.say_stopping();
                    Event::Tick
                }
                () = part.next() => Event::Tick,
                () = sleep_until(wake) => Event::Tick,
            };
            for (id, answer) in part.answers() {
                self.say(session_request::Event::Barrier(barrier::answer(id, answer)));
            }
            for action in self.machine.step(SystemClock.monotonic(), event) {
                self.perform(action, &status, &commands);
            }
        }
        part.close().await;
        self.report(&status);
        if let Some(link) = self.link.take() {
            link.close(FAREWELL).await;
        }
        self.caller
    }

    /// Lag grows all the time; only what is worth a message of its own is news.
    fn changed(&mut self, status: &watch::Receiver<Status>) -> Event {
        if self.reported == Some(report::Gist::of(&status.borrow())) { Event::Tick } else { Event::Changed }
    }

    fn connected(&mut self, connected: Result<(Link, Welcomed), SessionError>) -> Event {
        self.connecting = None;
        match connected {
            Ok((_, welcomed)) if welcomed.granted.lineage != self.granted.lineage || welcomed.owner != self.owner => {
                tracing::error!(session = ?self, "the coordinator granted another lineage than before, or for another owner");
                self.link = None;
                Event::Lost
            }
            Ok((link, welcomed)) => {
                tracing::info!(session = ?self, "the session is open again");
                self.link = Some(link);
                self.token.renew(&welcomed.granted.token);
                self.caller.welcomed(welcomed.session);
                self.say_stopping();
                Event::Welcomed(welcomed.terms)
            }
            Err(error) => {
                self.caller.refused(&error);
                self.notices.tell(Notice::Failed(error));
                self.link = None;
                Event::Lost
            }
        }
    }

    fn heard(&mut self, heard: Result<session_response::Command, SessionError>, part: &mut Part) -> Event {
        match heard {
            Ok(session_response::Command::Flush(flush)) => {
                Event::Flush { id: flush.id, within: Duration::from_millis(flush.within_ms.into()) }
            }
            Ok(session_response::Command::Barrier(order)) => {
                match barrier::order_of(order) {
                    Ok((id, order)) => part.order(id, order),
                    // of a later version: whoever sent it waits in vain, and will give up
                    Err(error) => tracing::warn!(%error, "an order of a barrier is not understood"),
                }
                Event::Tick
            }
            Ok(session_response::Command::Welcome(_) | session_response::Command::Waiting(_)) => Event::Tick,
            Err(error) => {
                tracing::warn!(%error, "the session is over; opening a new one");
                part.lost();
                self.link = None;
                self.flushes.abort_all();
                if self.connecting.is_some() { Event::Tick } else { Event::Lost }
            }
        }
    }

    fn perform(&mut self, action: Action, status: &watch::Receiver<Status>, commands: &mpsc::Sender<Command>) {
        match action {
            Action::Connect => {
                // the old connection stays until the new one is there: so the coordinator never takes this agent for gone
                self.flushes.abort_all();
                self.connecting = Some(Box::pin(Link::open(self.connection.clone(), self.caller.clone(), self.notices.clone())));
            }
            Action::Report => self.report(status),
            Action::Flush { id, within } => {
                let flush = flush(commands.clone(), within);
                self.flushes.spawn(async move { (id, flush.await) });
            }
            Action::Answer { id, result } => {
                let (sequence, error) = match result {
                    Ok(sequence) => (sequence, String::new()),
                    Err(error) => (0, error),
                };
                self.say(session_request::Event::Flushed(v1::FlushDone { id, sequence, error }));
            }
        }
    }

    fn report(&mut self, status: &watch::Receiver<Status>) {
        let (report, gist) = {
            let status = status.borrow();
            (report::report(&status, SystemClock.now(), SystemClock.monotonic()), report::Gist::of(&status))
        };
        self.reported = Some(gist);
        self.say(session_request::Event::Status(report));
    }

    /// What is granted must outlive the pod's grace, since its token may not.
    fn say_stopping(&self) {
        let Some(gone_at) = *self.stopping.borrow() else { return };
        let left = gone_at.since(SystemClock.monotonic());
        let grace_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        self.say(session_request::Event::Stopping(v1::Stopping { grace_ms }));
    }

    /// What can't be sent belongs to a session that is about to end: hearing of it will say so.
    fn say(&self, event: session_request::Event) {
        if let Some(link) = &self.link {
            link.say(event);
        }
    }
}

async fn flush(commands: mpsc::Sender<Command>, within: Duration) -> Result<u64, String> {
    let (answer, wait) = oneshot::channel();
    let ended = || "the agent has ended".to_owned();
    let flushed = async {
        commands.send(Command::Flush(answer)).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?.map(|checkpoint| checkpoint.sequence)
    };
    tokio::time::timeout(within, flushed).await.unwrap_or_else(|_| Err(format!("it was not durable within {within:?}")))
}

async fn connected(connecting: &mut Option<Connecting>) -> Result<(Link, Welcomed), SessionError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn heard(link: &mut Option<Link>) -> Result<session_response::Command, SessionError> {
    match link {
        Some(link) => link.hear().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(until: Option<Monotonic>) {
    match until {
        Some(until) => tokio::time::sleep(until.since(SystemClock.monotonic())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
