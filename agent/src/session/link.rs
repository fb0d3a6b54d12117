// SPDX-License-Identifier: Apache-2.0
//! One connection of a session, from hello to its end.

use super::machine::Terms;
use super::{Caller, Notice, Notices, Offer, SessionError};
use crate::clock::SystemClock;
use crate::connection::Connection;
use crate::grant::{GrantError, Granted};
use holdfast_core::id::OwnerId;
use holdfast_proto::AGENT_PROTOCOL;
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::{self, SessionRequest, SessionResponse, session_request, session_response};
use holdfast_store::capture::Clock;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// From the first packet to the first answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Who has us wait says so every 30 seconds.
const WAITING_MAX: Duration = Duration::from_secs(90);
/// Messages that wait to be sent. Reports are seldom; a queue that is full belongs to a connection that is dead.
const QUEUE: usize = 64;

/// A connection that was welcomed.
pub(super) struct Link {
    url: String,
    out: mpsc::Sender<SessionRequest>,
    answers: Streaming<SessionResponse>,
    /// Something could not be sent: the connection is dead, whatever it looks like.
    stuck: std::sync::atomic::AtomicBool,
}

/// What the coordinator said first.
pub(super) struct Welcomed {
    pub(super) terms: Terms,
    pub(super) granted: Granted,
    pub(super) owner: OwnerId,
    pub(super) offer: Offer,
    /// The session's number.
    pub(super) session: String,
}

impl Link {
    /// Connects, says hello and waits for the welcome, as long as the coordinator says that there will be one.
    pub(super) async fn open(connection: Connection, caller: Caller, notices: Notices) -> Result<(Self, Welcomed), SessionError> {
        let url = connection.url().to_owned();
        let (out, mut answers, mut first) = in_time(&url, ANSWER_WITHIN, Self::greet(&connection, caller)).await?;
        let mut silence = ANSWER_WITHIN;
        let welcome = loop {
            match first {
                Some(session_response::Command::Welcome(welcome)) => break welcome,
                Some(session_response::Command::Waiting(v1::Waiting { reason, message })) => {
                    notices.tell(Notice::Waiting { reason, message });
                    silence = WAITING_MAX;
                }
                // a command of a later version
                None => {}
                Some(_) => return Err(SessionError::Confused { url, what: "did not begin with a welcome" }),
            }
            let next = async { answers.message().await.map_err(|answer| refused(&url, answer)) };
            let Some(response) = in_time(&url, silence, next).await? else {
                return Err(SessionError::Confused { url, what: "has ended the session" });
            };
            first = response.command;
        };
        let welcomed = understand(welcome)?;
        tracing::debug!(%url, "welcomed");
        Ok((Self { url, out, answers, stuck: false.into() }, welcomed))
    }

    async fn greet(connection: &Connection, caller: Caller) -> Result<Greeted, SessionError> {
        // going on with a session takes no token
        connection.tokens().renew().or_else(|error| if caller.resumes() { Ok(()) } else { Err(error) })?;
        let (out, requests) = mpsc::channel(QUEUE);
        let hello = v1::Hello {
            protocol: AGENT_PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            resume: caller.resume(),
            lineage: caller.who.lineage.map(|(domain, lineage)| v1::LineageRef { domain, lineage }),
            holder: caller.who.holder,
            instance: caller.instance.to_vec().into(),
            barriers: true,
        };
        // the queue is new: there is room
        let _ = out.try_send(SessionRequest { event: Some(session_request::Event::Hello(hello)) });
        let mut client = AgentServiceClient::new(connection.channel());
        let refused = |answer: Status| refused(connection.url(), answer);
        let request = connection.request(ReceiverStream::new(requests));
        let mut answers = client.session(request).await.map_err(refused)?.into_inner();
        match answers.message().await.map_err(refused)? {
            Some(first) => Ok((out, answers, first.command)),
            None => Err(SessionError::Confused { url: connection.url().to_owned(), what: "has ended the session" }),
        }
    }

    /// The next command. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Result<session_response::Command, SessionError> {
        use std::sync::atomic::Ordering::Relaxed;
        loop {
            if self.stuck.load(Relaxed) {
                return Err(SessionError::Confused { url: self.url.clone(), what: "takes no messages any more" });
            }
            match self.answers.message().await.map_err(|answer| refused(&self.url, answer))? {
                // a command of a later version: whoever sent it waits in vain, and will say so
                Some(SessionResponse { command: None }) => {}
                Some(SessionResponse { command: Some(command) }) => return Ok(command),
                None => return Err(SessionError::Confused { url: self.url.clone(), what: "has ended the session" }),
            }
        }
    }

    /// Sends a message, as soon as the connection takes it.
    pub(super) fn say(&self, event: session_request::Event) {
        if self.out.try_send(SessionRequest { event: Some(event) }).is_err() {
            self.stuck.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Ends the session: what was said before arrives, if the coordinator takes it in time.
    pub(super) async fn close(self, within: Duration) {
        let Self { out, mut answers, .. } = self;
        drop(out);
        let _ = tokio::time::timeout(within, async { while let Ok(Some(_)) = answers.message().await {} }).await;
    }
}

type Greeted = (mpsc::Sender<SessionRequest>, Streaming<SessionResponse>, Option<session_response::Command>);

fn refused(url: &str, answer: Status) -> SessionError {
    SessionError::Refused { url: url.to_owned(), answer: Box::new(answer) }
}

async fn in_time<T>(
    url: &str,
    within: Duration,
    answer: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    tokio::time::timeout(within, answer).await.unwrap_or_else(|_| Err(SessionError::Silent { url: url.to_owned(), within }))
}

fn understand(welcome: v1::Welcome) -> Result<Welcomed, SessionError> {
    let offer = Offer { take_over: welcome.take_over, start: welcome.start().into() };
    let grant = welcome.grant.ok_or_else(|| GrantError::missing("contents"))?;
    let granted = Granted::try_from(grant)?;
    if !granted.write {
        return Err(GrantError::missing("right to write").into());
    }
    // the coordinator's clock is as good as ours here: being off by minutes costs a renewal that comes too early or too late
    let granted_for = granted.expires.map(|expires| expires.since(SystemClock.now()));
    let terms = Terms { report_every: Duration::from_millis(welcome.report_every_ms.into()), granted_for };
    Ok(Welcomed { terms, granted, owner: OwnerId::try_from(&*welcome.owner)?, offer, session: welcome.session })
}
