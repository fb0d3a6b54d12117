// SPDX-License-Identifier: Apache-2.0
//! The agent's side of the keeper.

use super::keeper::{Ask, Said};
use super::{Means, Quiescing, TRIES};
use crate::thread;
use holdfast_core::barrier::{BarrierId, Rest};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// From its start to its first word.
const START_WITHIN: Duration = Duration::from_secs(5);
/// Beyond what it may take for its work.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What came of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// The application is at rest in this way; `None`: that is not certain.
    Rested(BarrierId, Option<Rest>),
    /// It goes on.
    Goes,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Arm,
    Rest(BarrierId, Duration),
    GoOn,
}

type Doing = Pin<Box<dyn Future<Output = (Option<Keeper>, Option<Came>)> + Send>>;

/// Brings the application to rest, and back: one thing after the other. Dropped, it leaves the rest to the keeper, which lets it go on.
pub(crate) struct Rester {
    quiescing: Arc<Quiescing>,
    deeds: VecDeque<Deed>,
    doing: Option<Doing>,
    keeper: Option<Keeper>,
}

impl Rester {
    pub(crate) fn new(quiescing: Quiescing) -> Self {
        Self { quiescing: Arc::new(quiescing), deeds: VecDeque::new(), doing: None, keeper: None }
    }

    /// The application will be brought to rest soon.
    pub(crate) fn arm(&mut self) {
        self.deeds.push_back(Deed::Arm);
    }

    /// Brings the application to rest. [`Came::Rested`] follows.
    pub(crate) fn rest(&mut self, id: BarrierId, budget: Duration) {
        self.deeds.push_back(Deed::Rest(id, budget));
    }

    /// Lets it go on. [`Came::Goes`] follows.
    pub(crate) fn go_on(&mut self) {
        self.deeds.push_back(Deed::GoOn);
    }

    /// What came of the next thing that was asked. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Came {
        loop {
            let Some(doing) = &mut self.doing else {
                let Some(deed) = self.deeds.pop_front() else { return std::future::pending().await };
                let (quiescing, keeper) = (Arc::clone(&self.quiescing), self.keeper.take());
                self.doing = Some(Box::pin(async move { perform(&quiescing, keeper, deed).await }));
                continue;
            };
            let (keeper, came) = doing.await;
            (self.keeper, self.doing) = (keeper, None);
            if let Some(came) = came {
                return came;
            }
        }
    }
}

async fn perform(quiescing: &Arc<Quiescing>, keeper: Option<Keeper>, deed: Deed) -> (Option<Keeper>, Option<Came>) {
    if quiescing.means == Means::Nothing {
        return (
            None,
            match deed {
                Deed::Arm => None,
                Deed::Rest(id, _) => Some(Came::Rested(id, Some(Rest::Crash))),
                Deed::GoOn => Some(Came::Goes),
            },
        );
    }
    match deed {
        Deed::Arm => (armed(quiescing, keeper).await, None),
        Deed::Rest(id, budget) => {
            let rested = match armed(quiescing, keeper).await {
                Some(keeper) => keeper.rest(budget).await,
                None => Err(None),
            };
            match rested {
                Ok(keeper) => (Some(keeper), Some(Came::Rested(id, Some(rest_of(&quiescing.means))))),
                Err(keeper) => {
                    if keeper.is_none() {
                        go_on_anyway(quiescing).await;
                    }
                    (keeper, Some(Came::Rested(id, None)))
                }
            }
        }
        Deed::GoOn => {
            let goes = match keeper {
                Some(keeper) => keeper.go_on(&quiescing.means).await,
                None => false,
            };
            if !goes {
                go_on_anyway(quiescing).await;
            }
            (None, Some(Came::Goes))
        }
    }
}

const fn rest_of(means: &Means) -> Rest {
    match means {
        Means::Nothing => Rest::Crash,
        Means::Hooks { .. } => Rest::Hooks,
        Means::Freeze(_) => Rest::Frozen,
    }
}

/// A keeper that is there. Without one, nothing is brought to rest.
async fn armed(quiescing: &Quiescing, keeper: Option<Keeper>) -> Option<Keeper> {
    if keeper.is_some() {
        return keeper;
    }
    let started = tokio::time::timeout(START_WITHIN, Keeper::start(quiescing)).await;
    let started = started.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    started.inspect_err(|error| tracing::error!(%error, "who watches over a rest can't be started: there will be none")).ok()
}

/// Nobody else does.
async fn go_on_anyway(quiescing: &Arc<Quiescing>) {
    let means = quiescing.means.clone();
    match thread::run("go-on", move || means.go_on_anyway()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error, "the application can't be told to go on; it may not have been at rest"),
        Err(error) => tracing::error!(%error, "the application can't be told to go on"),
    }
}

/// The process that holds the deadline, as the agent sees it.
struct Keeper {
    child: Child,
    asks: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Keeper {
    async fn start(quiescing: &Quiescing) -> io::Result<Self> {
        let (program, arguments) = &quiescing.keeper;
        let mut command = std::process::Command::new(program);
        // in a group of its own, so that it doesn't end with the agent's
        command.args(arguments).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Command::from(command).spawn()?;
        let none = || io::Error::other("it has no standard streams");
        let (asks, says) = (child.stdin.take().ok_or_else(none)?, child.stdout.take().ok_or_else(none)?);
        let mut keeper = Self { child, asks, says: BufReader::new(says).lines() };
        keeper.tell(&quiescing.means).await?;
        match keeper.hear().await? {
            Said::Ready => Ok(keeper),
            _ => Err(io::Error::other("it says what makes no sense")),
        }
    }

    async fn tell(&mut self, what: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.asks.write_all(&line).await
    }

    async fn hear(&mut self) -> io::Result<Said> {
        let line = self.says.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn asked(&mut self, ask: Ask, within: Duration) -> io::Result<Said> {
        let answer = async {
            self.tell(&ask).await?;
            self.hear().await
        };
        tokio::time::timeout(within, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Brings the application to rest. Without success the keeper comes back, or it is gone, and the application may be at rest.
    async fn rest(mut self, budget: Duration) -> Result<Self, Option<Self>> {
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        match self.asked(Ask::Rest { budget_ms }, budget + ANSWER_WITHIN).await {
            Ok(Said::Rested) => Ok(self),
            Ok(Said::Failed(error)) => {
                tracing::warn!(error, "the application could not be brought to rest");
                Err(Some(self))
            }
            answer => {
                tracing::error!(?answer, "who watches over the rest does not answer");
                self.kill().await;
                Err(None)
            }
        }
    }

    /// Lets it go on, and ends the keeper. Whether that is certain.
    async fn go_on(mut self, means: &Means) -> bool {
        let timeout = match means {
            Means::Hooks { after: Some(after), .. } => Duration::from_millis(after.timeout_ms),
            _ => Duration::ZERO,
        };
        match self.asked(Ask::GoOn, timeout.saturating_mul(TRIES) + ANSWER_WITHIN).await {
            Ok(Said::Goes(error)) => {
                if let Some(error) = error {
                    tracing::error!(error, "the application was told to go on, and did not say that it does");
                }
                drop(self.asks);
                // it has nothing left to do
                let ended = tokio::time::timeout(ANSWER_WITHIN, self.child.wait()).await;
                if ended.is_err() {
                    let _ = self.child.start_kill(); // it has just ended
                }
                true
            }
            answer => {
                tracing::error!(?answer, "who watches over the rest does not answer");
                self.kill().await;
                false
            }
        }
    }

    async fn kill(mut self) {
        let _ = self.child.kill().await; // it may have ended by itself
    }
}
