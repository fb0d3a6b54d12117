// SPDX-License-Identifier: Apache-2.0
//! The agent's side of its session with a coordinator: it is granted its lineage, says how it is, makes durable what it is asked to.
//!
//! The coordinator may be gone at any time and for any time. The agent goes on with what it was granted, as far as the relay works, and
//! otherwise lags; the session is opened again, with growing pauses, for as long as the agent lives.

use crate::clock::SystemClock;
use crate::connection::Connection;
use crate::grant::{GrantToken, Granted};
use crate::remote::RemoteTransport;
use crate::{AgentError, Command, Status};
use holdfast_core::id::OwnerId;
use holdfast_core::time::Monotonic;
use holdfast_proto::v1::{self, session_request, session_response};
use holdfast_store::capture::Clock;
use machine::{Action, Event, Machine};
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

mod error;
mod link;
mod machine;
mod report;

pub use error::SessionError;
use link::{Link, Welcomed};

/// How long the coordinator has to take the last report.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who opens a session, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The domain's name.
    pub domain: String,
    /// The lineage's.
    pub lineage: String,
    /// Who this is, for people.
    pub holder: String,
}

type Connecting = Pin<Box<dyn Future<Output = Result<(Link, Welcomed), SessionError>> + Send>>;

/// An open session.
pub struct Session {
    connection: Connection,
    who: Who,
    instance: [u8; 16],
    machine: Machine,
    link: Option<Link>,
    connecting: Option<Connecting>,
    flushes: JoinSet<(u64, Result<u64, String>)>,
    granted: Granted,
    owner: OwnerId,
    token: GrantToken,
    reported: Option<report::Gist>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {}/{})", self.connection, self.who.domain, self.who.lineage)
    }
}

impl Session {
    /// Opens a session, however long it takes for the coordinator to be there. Cancel-safe.
    ///
    /// # Errors
    /// If the coordinator refuses for good.
    pub async fn open(connection: Connection, who: Who) -> Result<Self, AgentError> {
        let instance = crate::gate::random()?;
        let [a, b, c, d, e, f, g, h, ..] = instance;
        let mut machine = Machine::new(SystemClock.monotonic(), u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        loop {
            let _ = machine.step(SystemClock.monotonic(), Event::Tick);
            match Link::open(connection.clone(), who.clone(), instance).await {
                Ok((link, welcomed)) => {
                    // its first report follows when it is served
                    let _ = machine.step(SystemClock.monotonic(), Event::Welcomed(welcomed.terms));
                    let _ = machine.step(SystemClock.monotonic(), Event::Changed);
                    let token = GrantToken::new(&welcomed.granted.token);
                    let (granted, owner) = (welcomed.granted, welcomed.owner);
                    let (connecting, flushes) = (None, JoinSet::new());
                    let link = Some(link);
                    return Ok(Self {
                        connection,
                        who,
                        instance,
                        machine,
                        link,
                        connecting,
                        flushes,
                        granted,
                        owner,
                        token,
                        reported: None,
                    });
                }
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "no session yet; trying again"),
            }
            let _ = machine.step(SystemClock.monotonic(), Event::Lost);
            sleep_until(machine.deadline()).await;
        }
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
            .authorized(self.connection.bearer().cloned())
            .at(self.connection.url())
    }

    /// Says how the agent is and passes on what it is asked, until `stop`; then says it once more and ends the session in good order.
    pub async fn serve(
        mut self,
        mut status: watch::Receiver<Status>,
        commands: mpsc::Sender<Command>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        let mut told = true;
        loop {
            let wake = self.machine.deadline();
            let event = tokio::select! {
                () = &mut stop => break,
                connected = connected(&mut self.connecting) => self.connected(connected),
                heard = heard(&mut self.link) => self.heard(heard),
                Some(flushed) = self.flushes.join_next() => match flushed {
                    Ok((id, result)) => Event::Flushed { id, result },
                    Err(_) => Event::Tick, // called off with the session that it was for
                },
                changed = status.changed(), if told => {
                    told = changed.is_ok();
                    self.changed(&status)
                }
                () = sleep_until(wake) => Event::Tick,
            };
            for action in self.machine.step(SystemClock.monotonic(), event) {
                self.perform(action, &status, &commands);
            }
        }
        self.report(&status);
        if let Some(link) = self.link.take() {
            link.close(FAREWELL).await;
        }
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
                Event::Welcomed(welcomed.terms)
            }
            Err(error) => {
                tracing::warn!(%error, "no session; trying again");
                self.link = None;
                Event::Lost
            }
        }
    }

    fn heard(&mut self, heard: Result<session_response::Command, SessionError>) -> Event {
        match heard {
            Ok(session_response::Command::Flush(flush)) => {
                Event::Flush { id: flush.id, within: Duration::from_millis(flush.within_ms.into()) }
            }
            Ok(session_response::Command::Welcome(_) | session_response::Command::Waiting(_)) => Event::Tick,
            Err(error) => {
                tracing::warn!(%error, "the session is over; opening a new one");
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
                self.connecting = Some(Box::pin(Link::open(self.connection.clone(), self.who.clone(), self.instance)));
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
            (report::report(&status, SystemClock.now()), report::Gist::of(&status))
        };
        self.reported = Some(gist);
        self.say(session_request::Event::Status(report));
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
