// SPDX-License-Identifier: Apache-2.0
//! The agents' side: sessions.

use super::Api;
use crate::catalog;
use crate::grant::GrantId;
use crate::session::{Guest, Outcome, REPORT_EVERY, SILENCE_MAX, Seat, Wire};
use crate::status;
use crate::stream::Answers;
use futures::stream;
use holdfast_proto::AGENT_PROTOCOL;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::agent_service_server::AgentService;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{Flush, Hello, SessionRequest, SessionResponse, Welcome};
use std::sync::PoisonError;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

/// The oldest protocol that is served.
const PROTOCOL_MIN: u32 = 1;
/// From the connection to the first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longest text that an agent may say of itself.
const TEXT_MAX: usize = 1024;

#[tonic::async_trait]
impl AgentService for Api {
    type SessionStream = Answers<SessionResponse>;

    /// The answer begins at once and is driven by whoever reads it: nothing of a session outlives its connection.
    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let state = State::Greeting(Box::new((self.clone(), request.into_inner())));
        Ok(Response::new(Box::pin(stream::unfold(state, State::next))))
    }
}

/// Where a session is.
enum State {
    /// Nothing was heard yet.
    Greeting(Box<(Api, Streaming<SessionRequest>)>),
    /// The session is open.
    Open(Box<Open>),
    /// Nothing more will come.
    Ended,
}

struct Open {
    api: Api,
    events: Streaming<SessionRequest>,
    seat: Seat,
    grant: GrantId,
}

impl State {
    async fn next(self) -> Option<(Result<SessionResponse, Status>, Self)> {
        match self {
            Self::Ended => None,
            Self::Greeting(greeting) => Some(match welcome(greeting.0, greeting.1).await {
                Ok((welcome, open)) => (Ok(response(Command::Welcome(welcome))), Self::Open(Box::new(open))),
                Err(status) => (Err(status), Self::Ended),
            }),
            Self::Open(mut open) => match open.command().await {
                Ok(Some(command)) => Some((Ok(response(command)), Self::Open(open))),
                Ok(None) => None,
                Err(status) => Some((Err(status), Self::Ended)),
            },
        }
    }
}

const fn response(command: Command) -> SessionResponse {
    SessionResponse { command: Some(command) }
}

/// Reads the hello and opens the session.
async fn welcome(api: Api, mut events: Streaming<SessionRequest>) -> Result<(Welcome, Open), Status> {
    let first = tokio::select! {
        first = tokio::time::timeout(HELLO_WITHIN, events.message()) => first.map_err(|_| status::too_late())??,
        () = api.stop.cancelled() => return Err(status::shutting_down()),
    };
    let Some(SessionRequest { event: Some(Event::Hello(hello)) }) = first else {
        return Err(status::invalid("hello", "must be the first message"));
    };
    if !(PROTOCOL_MIN..=AGENT_PROTOCOL).contains(&hello.protocol) {
        let message = format!(
            "the agent speaks protocol {}, and this coordinator {PROTOCOL_MIN} to {AGENT_PROTOCOL}: use versions that are nearer",
            hello.protocol
        );
        return Err(status::because(Reason::ProtocolUnsupported, message));
    }
    let Hello { agent_version, lineage, holder, instance, .. } = hello;
    let instance = instance.as_ref().try_into().map_err(|_| status::invalid("hello.instance", "must have 16 bytes"))?;
    for (text, field) in [(&holder, "hello.holder"), (&agent_version, "hello.agent_version")] {
        if text.len() > TEXT_MAX {
            return Err(status::invalid(field, "is too long"));
        }
    }
    let place = api.shared.catalog.begin(lineage, "hello.lineage").await?;
    let names = place.names.clone();
    let guest = Guest { key: place.key(), names: names.clone(), instance, holder, version: agent_version };
    let (granted, grant) = api.shared.grant(&place, true).await?;
    let seat = api.shared.desk.open(guest).inspect_err(|_| revoke(&api, grant))?;
    tracing::info!(lineage = %catalog::text(&names), session = seat.session, "an agent has opened a session");
    let welcome = Welcome {
        session: format!("{:016x}", seat.session),
        grant: Some(granted),
        owner: bytes::Bytes::copy_from_slice(api.shared.owner.as_bytes()),
        report_every_ms: u32::try_from(REPORT_EVERY.as_millis()).unwrap_or(u32::MAX),
        ..Welcome::default()
    };
    Ok((welcome, Open { api, events, seat, grant }))
}

fn revoke(api: &Api, grant: GrantId) {
    api.shared.grants.lock().unwrap_or_else(PoisonError::into_inner).revoke(grant);
}

impl Open {
    /// The next command; `None`: the agent has gone in good order.
    async fn command(&mut self) -> Result<Option<Command>, Status> {
        let silence = tokio::time::sleep(SILENCE_MAX);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                () = self.api.stop.cancelled() => return Err(status::shutting_down()),
                () = &mut silence => return Err(status::because(Reason::DeadlineExceeded, "nothing was heard of the agent")),
                wire = self.seat.wires.recv() => return match wire {
                    Some(Wire::Flush { flush, within }) => {
                        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                        Ok(Some(Command::Flush(Flush { id: flush, within_ms })))
                    }
                    Some(Wire::Replaced(holder)) => {
                        let message = format!("another agent has opened a session of this lineage: {holder}");
                        Err(status::because(Reason::SessionReplaced, message))
                    }
                    None => Err(status::because(Reason::SessionReplaced, "another agent has opened a session of this lineage")),
                },
                event = self.events.message() => match event? {
                    None => return Ok(None),
                    Some(SessionRequest { event }) => {
                        silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_MAX);
                        self.hear(event)?;
                    }
                },
            }
        }
    }

    fn hear(&self, event: Option<Event>) -> Result<(), Status> {
        let shared = &self.api.shared;
        shared.grants.lock().unwrap_or_else(PoisonError::into_inner).renew(shared.clock.monotonic(), self.grant);
        match event {
            Some(Event::Hello(_)) => return Err(status::invalid("hello", "was said already")),
            Some(Event::Status(report)) => {
                let mut live = report.live.unwrap_or_default();
                live.trouble.truncate(live.trouble.floor_char_boundary(TEXT_MAX));
                live.agent_version.truncate(live.agent_version.floor_char_boundary(TEXT_MAX));
                self.seat.heard(live);
            }
            Some(Event::Flushed(done)) => {
                let outcome = match (done.error.as_str(), done.sequence) {
                    ("", 0) => Outcome::Failed("the agent named no checkpoint".to_owned()),
                    ("", sequence) => Outcome::Done(sequence),
                    (error, _) => Outcome::Failed(error.chars().take(TEXT_MAX).collect()),
                };
                self.seat.flushed(done.id, outcome);
            }
            // a grant lasts longer than any grace; the next is of a later version: not for us
            Some(Event::Stopping(_)) | None => {}
        }
        Ok(())
    }
}
