// SPDX-License-Identifier: Apache-2.0
//! One connection of a session, from hello to its end.

use super::machine::Terms;
use super::{SessionError, Who};
use crate::clock::SystemClock;
use crate::connection::Connection;
use crate::grant::{GrantError, Granted};
use holdfast_core::id::OwnerId;
use holdfast_proto::AGENT_PROTOCOL;
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::{self, SessionRequest, SessionResponse, session_request, session_response};
use holdfast_store::capture::Clock;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// From the first packet to the welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(15);
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
}

impl Link {
    /// Connects, says hello and waits for the welcome.
    pub(super) async fn open(connection: Connection, who: Who, instance: [u8; 16]) -> Result<(Self, Welcomed), SessionError> {
        let url = connection.url().to_owned();
        let opened = tokio::time::timeout(WELCOME_WITHIN, Self::greet(connection, who, instance)).await;
        opened.unwrap_or(Err(SessionError::Silent { url, within: WELCOME_WITHIN }))
    }

    async fn greet(connection: Connection, who: Who, instance: [u8; 16]) -> Result<(Self, Welcomed), SessionError> {
        let (out, requests) = mpsc::channel(QUEUE);
        let hello = v1::Hello {
            protocol: AGENT_PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            lineage: Some(v1::LineageRef { domain: who.domain, lineage: who.lineage }),
            holder: who.holder,
            instance: instance.to_vec().into(),
            resume: String::new(),
        };
        let url = connection.url().to_owned();
        // the queue is new: there is room
        let _ = out.try_send(SessionRequest { event: Some(session_request::Event::Hello(hello)) });
        let mut client = AgentServiceClient::new(connection.channel());
        let refused = |answer: Status| SessionError::Refused { url: connection.url().to_owned(), answer: Box::new(answer) };
        let request = connection.request(ReceiverStream::new(requests));
        let mut answers = client.session(request).await.map_err(refused)?.into_inner();
        let first = answers.message().await.map_err(refused)?.and_then(|response| response.command);
        let Some(session_response::Command::Welcome(welcome)) = first else {
            return Err(SessionError::Confused { url, what: "did not begin with a welcome" });
        };
        let welcomed = understand(welcome)?;
        tracing::debug!(%url, "welcomed");
        Ok((Self { url, out, answers, stuck: false.into() }, welcomed))
    }

    /// The next command. Cancel-safe.
    pub(super) async fn hear(&mut self) -> Result<session_response::Command, SessionError> {
        use std::sync::atomic::Ordering::Relaxed;
        loop {
            if self.stuck.load(Relaxed) {
                return Err(SessionError::Confused { url: self.url.clone(), what: "takes no messages any more" });
            }
            let refused = |answer: Status| SessionError::Refused { url: self.url.clone(), answer: Box::new(answer) };
            match self.answers.message().await.map_err(refused)? {
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

fn understand(welcome: v1::Welcome) -> Result<Welcomed, SessionError> {
    let grant = welcome.grant.ok_or_else(|| GrantError::missing("contents"))?;
    let granted = Granted::try_from(grant)?;
    if !granted.write {
        return Err(GrantError::missing("right to write").into());
    }
    // the coordinator's clock is as good as ours here: being off by minutes costs a renewal that comes too early or too late
    let granted_for = granted.expires.map(|expires| expires.since(SystemClock.now()));
    let terms = Terms { report_every: Duration::from_millis(welcome.report_every_ms.into()), granted_for };
    Ok(Welcomed { terms, granted, owner: OwnerId::try_from(&*welcome.owner)? })
}
