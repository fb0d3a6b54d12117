// SPDX-License-Identifier: Apache-2.0
//! What the agent is asked, heeded at once or gathered while something else is waited for.

use super::{Agent, Command, Cut, Waiting};
use crate::clock::SystemClock;
use std::time::Duration;
use tokio::sync::mpsc;

/// Whoever drops the commands' other end is not there to wait any longer than this.
const ABANDONED: Duration = Duration::from_secs(30);

/// What was asked and is to be taken up.
#[derive(Default)]
pub(super) struct Asked {
    waiting: Vec<Waiting>,
    cut: Option<Cut>,
    hold: Option<Duration>,
}

impl Asked {
    /// Gathers a command; `None`: there will be none any more. Returns within what time the agent is to end, if it is.
    pub(super) fn heed(&mut self, command: Option<Command>) -> Option<Duration> {
        match command {
            Some(Command::Flush(answer)) => {
                // those who have gone need no room
                self.waiting.retain(|waiting| !waiting.is_closed());
                self.waiting.push(answer);
            }
            Some(Command::Hold(time)) => self.hold = Some(time),
            Some(Command::Cut(cut)) => self.cut = Some(cut),
            Some(Command::End(within)) => return Some(within),
            None => return Some(ABANDONED),
        }
        None
    }

    /// Gathers commands until the agent is to end.
    pub(super) async fn until_end(&mut self, commands: &mut mpsc::Receiver<Command>) -> Duration {
        loop {
            if let Some(within) = self.heed(commands.recv().await) {
                return within;
            }
        }
    }
}

impl Agent {
    pub(super) fn take_up(&mut self, asked: Asked) {
        self.waiting.retain(|waiting| !waiting.is_closed());
        self.waiting.extend(asked.waiting);
        if let Some(cut) = asked.cut {
            self.cut(cut);
        }
        self.hold = asked.hold.map(|time| SystemClock.monotonic().plus(time)).or(self.hold);
    }
}
