// SPDX-License-Identifier: Apache-2.0
//! A session whose lineage can't be granted yet: the agent is told why, at once and every half minute, and its stream stays open.

use super::{Events, Greeting, State, admit};
use crate::service::Api;
use crate::session::usher::{Usher, Word};
use crate::status;
use futures::StreamExt;
use holdfast_proto::v1::session_request::Event;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::{SessionRequest, Waiting as Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Whoever waits hears at least so often that it still does.
const SAY_EVERY: Duration = Duration::from_secs(25);

pub(super) struct Waiting {
    stop: CancellationToken,
    greeting: Greeting,
    events: Events,
    usher: Box<dyn Usher>,
    said: Option<Message>,
}

impl Waiting {
    pub(super) fn new(stop: CancellationToken, greeting: Greeting, events: Events, usher: Box<dyn Usher>) -> Self {
        Self { stop, greeting, events, usher, said: None }
    }

    /// What is said next, and where the session is then; `None`: the agent has gone.
    pub(super) async fn next(mut self) -> Result<Option<(Command, State)>, Status> {
        let again = Instant::now() + SAY_EVERY;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Err(status::shutting_down()),
                () = tokio::time::sleep_until(again), if self.said.is_some() => return Ok(self.say()),
                word = self.usher.next() => match word {
                    Word::Wait { reason, message } => {
                        self.said = Some(Message { reason: reason.to_owned(), message });
                        return Ok(self.say());
                    }
                    Word::End { status, .. } => return Err(status),
                    Word::Begin(assigned) => {
                        let Self { stop, greeting, events, usher, .. } = self;
                        let api = Api { shared: Arc::clone(&assigned.shared), stop };
                        let names = Some(assigned.names.clone());
                        let (welcome, open) = Box::pin(admit(api, greeting, names, events, Some((usher, *assigned)))).await?;
                        return Ok(Some((Command::Welcome(welcome), State::Open(Box::new(open)))));
                    }
                },
                event = self.events.next() => match event.transpose()? {
                    None => return Ok(None),
                    Some(SessionRequest { event }) => self.hear(event)?,
                },
            }
        }
    }

    fn say(self) -> Option<(Command, State)> {
        let message = self.said.clone()?;
        Some((Command::Waiting(message), State::Waiting(Box::new(self))))
    }

    fn hear(&mut self, event: Option<Event>) -> Result<(), Status> {
        match event {
            Some(Event::Hello(_)) => return Err(status::invalid("hello", "was said already")),
            Some(Event::Status(report)) => self.usher.heard(report.live.as_ref()),
            Some(Event::Stopping(stopping)) => self.usher.stopping(Duration::from_millis(stopping.grace_ms)),
            Some(Event::Flushed(_) | Event::Barrier(_)) | None => self.usher.heard(None),
        }
        Ok(())
    }
}
