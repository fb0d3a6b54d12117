// SPDX-License-Identifier: Apache-2.0
//! The keeper: a process that needs nothing but its standard streams and a clock.

use super::{Held, Means};
use holdfast_core::barrier::Rest;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Ask {
    /// Bring the application to rest, for no longer than this.
    Rest { budget_ms: u64 },
    /// Let it go on.
    GoOn,
}

/// What the keeper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Said {
    /// It keeps watch.
    Ready,
    /// The application is at rest.
    Rested,
    /// It could not be brought to rest, and goes on.
    Failed(String),
    /// It goes on; perhaps without saying so.
    Goes(Option<String>),
}

/// Lines that were read and not heeded yet.
const QUEUE: usize = 4;
/// What the agent says is short.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Keeps watch until standard input ends. When it returns, the application goes on.
///
/// # Errors
/// If what the agent says makes no sense, or nobody hears what is said: the application goes on.
pub fn keep() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin());
    let means: Means = serde_json::from_str(&line(&mut input)?.unwrap_or_default())?;
    let (heard, asks) = sync_channel(QUEUE);
    // it ends with the process
    std::thread::Builder::new().name("asks".to_owned()).spawn(move || {
        while let Ok(Some(text)) = line(&mut input) {
            let Ok(ask) = serde_json::from_str::<Ask>(&text) else { return };
            if heard.send(ask).is_err() {
                return;
            }
        }
    })?;
    say(&Said::Ready)?;
    let mut keeper = Keeper { means, held: None };
    let kept = keeper.keep(&asks);
    keeper.go_on().map_err(io::Error::other)?;
    kept
}

struct Keeper {
    means: Means,
    held: Option<(Held, Instant)>,
}

impl Keeper {
    fn keep(&mut self, asks: &Receiver<Ask>) -> io::Result<()> {
        loop {
            let ask = match &self.held {
                None => asks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((_, deadline)) => asks.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match ask {
                Ok(Ask::Rest { budget_ms }) => {
                    self.go_on().map_err(io::Error::other)?;
                    let said = self.rest(Instant::now() + Duration::from_millis(budget_ms));
                    say(&said)?;
                }
                Ok(Ask::GoOn) => {
                    let said = Said::Goes(self.go_on().err());
                    say(&said)?;
                }
                // its time is over: nobody hears of it here, whoever asks will
                Err(RecvTimeoutError::Timeout) => self.go_on().map_err(io::Error::other)?,
                // the agent is gone
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn rest(&mut self, deadline: Instant) -> Said {
        match self.means.rest(deadline) {
            Ok((Rest::Crash, _)) => Said::Rested,
            Ok((_, held)) => {
                self.held = Some((held, deadline));
                Said::Rested
            }
            Err(error) => Said::Failed(error),
        }
    }

    fn go_on(&mut self) -> Result<(), String> {
        self.held.take().map_or(Ok(()), |(held, _)| self.means.go_on(&held))
    }
}

/// The next line; `None`: there is no more.
fn line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut text = String::new();
    let read = io::Read::take(input, LINE_BYTES_MAX).read_line(&mut text)?;
    Ok((read > 0).then_some(text))
}

fn say(said: &Said) -> io::Result<()> {
    let mut text = serde_json::to_vec(said)?;
    text.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&text)?;
    output.flush()
}
