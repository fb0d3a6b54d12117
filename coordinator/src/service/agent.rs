// SPDX-License-Identifier: Apache-2.0
//! The agents' side: sessions.

use super::Api;
use crate::catalog;
use crate::grant::GrantId;
use crate::session::usher::{Assignment, Usher, Word, outlives};
use crate::session::{Guest, Instance, Outcome, REPORT_EVERY, SILENCE_MAX, Seat, Wire};
use crate::status;
use crate::stream::Answers;
use futures::{Stream, StreamExt, stream};
use holdfast_proto::AGENT_PROTOCOL;
use holdfast_proto::barrier;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::agent_service_server::AgentService;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{
    Flush, GrantDeliveryRequest, GrantDeliveryResponse, Hello, LineageRef, SessionRequest, SessionResponse, StatusReport, Welcome,
};
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use waiting::Waiting;

mod waiting;

/// The oldest protocol that is served.
const PROTOCOL_MIN: u32 = 1;
/// From the connection to the first message.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Longest text that an agent may say of itself.
const TEXT_MAX: usize = 1024;

/// What an agent says.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<SessionRequest, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Api {
    type SessionStream = Answers<SessionResponse>;

    /// The answer begins at once and is driven by whoever reads it: nothing of a session outlives its connection.
    async fn session(&self, request: Request<Streaming<SessionRequest>>) -> Result<Response<Self::SessionStream>, Status> {
        let state = State::Greeting(Box::new((self.clone(), request.into_inner().boxed())));
        Ok(Response::new(Box::pin(stream::unfold(state, State::next))))
    }

    async fn grant_delivery(&self, _: Request<GrantDeliveryRequest>) -> Result<Response<GrantDeliveryResponse>, Status> {
        Err(Status::unimplemented("only the coordinator of a cluster has pods write states into volumes"))
    }
}

/// The session of an agent that has said hello, and that somebody else assigns its lineage to.
#[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "only clusters have ushers"))]
pub(crate) fn attend(stop: CancellationToken, hello: &Hello, events: Events, usher: Box<dyn Usher>) -> Answers<SessionResponse> {
    let state = match Greeting::of(hello) {
        Ok(greeting) => State::Waiting(Box::new(Waiting::new(stop, greeting, events, usher))),
        Err(status) => State::Refused(Box::new(status)),
    };
    Box::pin(stream::unfold(state, State::next))
}

/// Where a session is.
enum State {
    /// Nothing was heard yet.
    Greeting(Box<(Api, Events)>),
    /// The lineage can't be granted yet.
    Waiting(Box<Waiting>),
    /// The session is open.
    Open(Box<Open>),
    /// There will be none.
    Refused(Box<Status>),
    /// Nothing more will come.
    Ended,
}

struct Open {
    api: Api,
    events: Events,
    seat: Seat,
    grant: GrantId,
    usher: Option<(Box<dyn Usher>, Assignment)>,
}

impl State {
    async fn next(self) -> Option<(Result<SessionResponse, Status>, Self)> {
        match self {
            Self::Ended => None,
            Self::Refused(status) => Some((Err(*status), Self::Ended)),
            Self::Greeting(greeting) => Some(match welcome(greeting.0, greeting.1).await {
                Ok((welcome, open)) => (Ok(response(Command::Welcome(welcome))), Self::Open(Box::new(open))),
                Err(status) => (Err(status), Self::Ended),
            }),
            Self::Waiting(waiting) => match waiting.next().await {
                Ok(Some((command, state))) => Some((Ok(response(command)), state)),
                Ok(None) => None,
                Err(status) => Some((Err(status), Self::Ended)),
            },
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

/// What an agent says of itself, checked.
#[derive(Debug, Clone)]
struct Greeting {
    instance: Instance,
    holder: String,
    version: String,
    barriers: bool,
}

impl Greeting {
    fn of(hello: &Hello) -> Result<Self, Status> {
        if !(PROTOCOL_MIN..=AGENT_PROTOCOL).contains(&hello.protocol) {
            let message = format!(
                "the agent speaks protocol {}, and this coordinator {PROTOCOL_MIN} to {AGENT_PROTOCOL}: use versions that are nearer",
                hello.protocol
            );
            return Err(status::because(Reason::ProtocolUnsupported, message));
        }
        let instance = hello.instance.as_ref().try_into().map_err(|_| status::invalid("hello.instance", "must have 16 bytes"))?;
        for (text, field) in [(&hello.holder, "hello.holder"), (&hello.agent_version, "hello.agent_version")] {
            if text.len() > TEXT_MAX {
                return Err(status::invalid(field, "is too long"));
            }
        }
        Ok(Self { instance, holder: hello.holder.clone(), version: hello.agent_version.clone(), barriers: hello.barriers })
    }
}

/// Waits for the first message.
pub(crate) async fn hello(events: &mut Events) -> Result<Hello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, events.next()).await.map_err(|_| status::too_late())?;
    match first.transpose()? {
        Some(SessionRequest { event: Some(Event::Hello(hello)) }) => Ok(hello),
        _ => Err(status::invalid("hello", "must be the first message")),
    }
}

/// Reads the hello and opens the session.
async fn welcome(api: Api, mut events: Events) -> Result<(Welcome, Open), Status> {
    let hello = tokio::select! {
        hello = hello(&mut events) => hello?,
        () = api.stop.cancelled() => return Err(status::shutting_down()),
    };
    let greeting = Greeting::of(&hello)?;
    admit(api, greeting, hello.lineage, events, None).await
}

/// Grants the lineage and takes the agent among the live.
async fn admit(
    api: Api,
    greeting: Greeting,
    lineage: Option<LineageRef>,
    events: Events,
    usher: Option<(Box<dyn Usher>, Assignment)>,
) -> Result<(Welcome, Open), Status> {
    let place = api.shared.catalog.begin(lineage, "hello.lineage").await?;
    let names = place.names.clone();
    let assigned = usher.as_ref().map(|(_, assigned)| assigned);
    let Greeting { instance, holder, version, barriers } = greeting;
    let holder = assigned.map_or(holder, |assigned| assigned.holder.clone());
    let guest = Guest { key: place.key(), names: names.clone(), instance, holder, version, barriers };
    let (granted, grant) = api.shared.grant(&place, true, assigned.map(|assigned| assigned.bearer.clone())).await?;
    let seat = api.shared.desk.open(guest).inspect_err(|_| revoke(&api, grant))?;
    tracing::info!(lineage = %catalog::text(&names), session = seat.session, "an agent has opened a session");
    let welcome = Welcome {
        session: assigned.map_or_else(|| format!("{:016x}", seat.session), |assigned| assigned.session.clone()),
        grant: Some(granted),
        owner: bytes::Bytes::copy_from_slice(api.shared.owner.as_bytes()),
        report_every_ms: u32::try_from(REPORT_EVERY.as_millis()).unwrap_or(u32::MAX),
        take_over: assigned.is_some_and(|assigned| assigned.take_over),
        start: assigned.map_or(0, |assigned| assigned.start.into()),
    };
    Ok((welcome, Open { api, events, seat, grant, usher }))
}

fn revoke(api: &Api, grant: GrantId) {
    api.shared.grants.lock().unwrap_or_else(PoisonError::into_inner).revoke(grant);
}

/// What the usher says next; without one nothing ever.
async fn word(usher: &mut Option<(Box<dyn Usher>, Assignment)>) -> Word {
    match usher {
        Some((usher, _)) => usher.next().await,
        None => std::future::pending().await,
    }
}

impl Open {
    /// The next command; `None`: the agent has gone in good order.
    async fn command(&mut self) -> Result<Option<Command>, Status> {
        let silence = tokio::time::sleep(SILENCE_MAX);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                () = self.api.stop.cancelled() => return Err(status::shutting_down()),
                () = self.api.shared.stop.cancelled() => return Err(status::shutting_down()),
                () = &mut silence => return Err(status::because(Reason::DeadlineExceeded, "nothing was heard of the agent")),
                word = word(&mut self.usher) => self.take(word)?,
                wire = self.seat.wires.recv() => return match wire {
                    Some(Wire::Flush { flush, within }) => {
                        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
                        Ok(Some(Command::Flush(Flush { id: flush, within_ms })))
                    }
                    Some(Wire::Barrier(id, order)) => Ok(Some(Command::Barrier(barrier::order(id, order)))),
                    Some(Wire::Replaced(holder)) => {
                        let message = format!("another agent has opened a session of this lineage: {holder}");
                        Err(status::because(Reason::SessionReplaced, message))
                    }
                    None => Err(status::because(Reason::SessionReplaced, "another agent has opened a session of this lineage")),
                },
                event = self.events.next() => match event.transpose()? {
                    None => return Ok(None),
                    Some(SessionRequest { event }) => {
                        silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_MAX);
                        self.hear(event)?;
                    }
                },
            }
        }
    }

    /// An open session is only ended; what it has been granted stays as it was.
    fn take(&self, word: Word) -> Result<(), Status> {
        let Word::End { status, revoke } = word else { return Ok(()) };
        if let Some((_, assigned)) = self.usher.as_ref().filter(|_| revoke) {
            self.api.shared.revoke_all(&assigned.bearer);
        }
        Err(status)
    }

    fn hear(&mut self, event: Option<Event>) -> Result<(), Status> {
        let shared = &self.api.shared;
        let now = shared.clock.monotonic();
        shared.grants.lock().unwrap_or_else(PoisonError::into_inner).renew(now, self.grant);
        if let Some((usher, _)) = &mut self.usher {
            usher.heard(match &event {
                Some(Event::Status(report)) => report.live.as_ref(),
                _ => None,
            });
        }
        match event {
            Some(Event::Hello(_)) => return Err(status::invalid("hello", "was said already")),
            Some(Event::Status(report)) => {
                let mut live = report.live.clone().unwrap_or_default();
                self.seat.stored(StatusReport { live: None, ..report });
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
            Some(Event::Barrier(answer)) => match barrier::answer_of(answer) {
                Ok((id, answer)) => self.seat.answered(id, answer),
                // of a later version: whoever waits for it gives up in time
                Err(error) => tracing::warn!(%error, "an answer in a barrier is not understood"),
            },
            Some(Event::Stopping(stopping)) => {
                let grace = Duration::from_millis(stopping.grace_ms);
                let until = outlives(now, grace);
                let mut grants = shared.grants.lock().unwrap_or_else(PoisonError::into_inner);
                grants.extend_one(self.grant, until);
                if let Some((usher, assigned)) = &mut self.usher {
                    grants.extend(&assigned.bearer, until);
                    usher.stopping(grace);
                }
            }
            // of a later version: not for us
            None => {}
        }
        Ok(())
    }
}
