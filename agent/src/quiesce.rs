// SPDX-License-Identifier: Apache-2.0
//! Bringing the application to rest, and back, whatever happens to the agent meanwhile.
//!
//! A tiny process beside the agent, the *keeper*, does it: it stops the processes, or asks the application, and holds the deadline. It goes
//! on by itself when its time is over or the agent is gone, which it learns from the end of its standard input; should the keeper be gone, the
//! agent does it. So the application stays at rest only if both are killed at once, and then until the agent starts again.
//!
//! ```text
//! agent                         keeper
//!   rester   ── rest, go on ──▶   keeper   holds the deadline
//!            ◀── came of it ───     freeze   processes are stopped
//!                                   hooks    the application is asked
//! ```

mod freeze;
mod hooks;
mod keeper;
mod processes;
mod rester;

pub use keeper::keep;
pub(crate) use rester::{Came, Rester};

use holdfast_core::barrier::Rest;
use holdfast_core::pod::{PodHook, PodMeans};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How an application is brought to rest.
#[derive(Debug, Clone)]
pub struct Quiescing {
    /// By which means.
    pub means: Means,
    /// It goes on after this long, whatever is heard.
    pub budget: Duration,
    /// At every checkpoint, not for snapshots only.
    pub every_checkpoint: bool,
    /// The program that keeps watch, and its arguments: it calls [`keep`].
    pub keeper: (PathBuf, Vec<OsString>),
}

impl Quiescing {
    /// Longest rest of whoever is not told otherwise.
    pub const BUDGET: Duration = Duration::from_secs(5);

    /// The application is not brought to rest.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { means: Means::Nothing, budget: Self::BUDGET, every_checkpoint: false, keeper: (PathBuf::new(), Vec::new()) }
    }

    /// Lets processes go on that an agent before this one may have left stopped: the first thing that an agent does. Blocks for a moment.
    pub(crate) fn go_on_first(&self) {
        let Means::Freeze(whom) = self.means else { return };
        if let Err(error) = freeze::thaw_all(whom) {
            tracing::warn!(%error, "what an agent before this one may have stopped can't be told to go on");
        }
    }
}

/// By which means an application is brought to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Means {
    /// It is not.
    Nothing,
    /// It is asked.
    Hooks {
        /// To come to rest.
        before: PodHook,
        /// To go on; `None`: it goes on by itself.
        after: Option<PodHook>,
        /// Where the processes are that are signalled.
        whom: Whom,
    },
    /// Its processes are stopped.
    Freeze(Whom),
}

/// Which processes are the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Whom {
    /// All of the other containers of this pod, which share a process namespace with this one.
    OtherContainers,
    /// All that this process has started, and those have; but not the keeper.
    StartedBy(i32),
}

impl Means {
    /// What a pod's policy says.
    #[must_use]
    pub fn of_pod(means: PodMeans) -> Self {
        let whom = Whom::OtherContainers;
        match means {
            PodMeans::Freeze => Self::Freeze(whom),
            PodMeans::Hooks { before, after } => Self::Hooks { before, after, whom },
        }
    }
}

/// What a rest is ended by.
#[derive(Debug, Default)]
struct Held {
    frozen: freeze::Frozen,
}

impl Means {
    /// Brings the application to rest, before the deadline; if that fails, it goes on. Blocks.
    fn rest(&self, deadline: Instant) -> Result<(Rest, Held), String> {
        match self {
            Self::Nothing => Ok((Rest::Crash, Held::default())),
            Self::Freeze(whom) => {
                let frozen = freeze::freeze(*whom, deadline).map_err(|error| error.to_string())?;
                Ok((Rest::Frozen, Held { frozen }))
            }
            Self::Hooks { before, whom, .. } => match hooks::call(before, *whom, Some(deadline)) {
                Ok(()) => Ok((Rest::Hooks, Held::default())),
                Err(error) => {
                    // it may be at rest though it did not say so
                    let _ = self.go_on(&Held::default());
                    Err(error)
                }
            },
        }
    }

    /// Lets the application go on. Blocks.
    fn go_on(&self, held: &Held) -> Result<(), String> {
        match self {
            Self::Nothing | Self::Hooks { after: None, .. } => Ok(()),
            Self::Freeze(_) => {
                held.frozen.thaw();
                Ok(())
            }
            Self::Hooks { after: Some(after), whom, .. } => {
                (1..TRIES).fold(hooks::call(after, *whom, None), |said, _| said.or_else(|_| hooks::call(after, *whom, None)))
            }
        }
    }

    /// Lets the application go on of whose rest nothing is known: it may have been left so by an agent before this one. Blocks.
    fn go_on_anyway(&self) -> Result<(), String> {
        match self {
            Self::Freeze(whom) => freeze::thaw_all(*whom).map_err(|error| error.to_string()),
            Self::Hooks { after: Some(after), whom, .. } => hooks::call(after, *whom, None),
            Self::Nothing | Self::Hooks { after: None, .. } => Ok(()),
        }
    }
}

/// An application that does not answer is told so often to go on.
const TRIES: u32 = 3;
