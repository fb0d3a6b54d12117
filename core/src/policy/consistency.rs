// SPDX-License-Identifier: Apache-2.0
//! How an application is brought to rest, so that what is captured is one moment of it.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the application is brought to rest for a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// By which means.
    pub quiesce: Quiesce,
    /// For which captures.
    pub when: When,
    /// It goes on after this long, whatever the capture has come to.
    pub pause_budget: Duration,
}

/// By which means the application is brought to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quiesce {
    /// It is not: a capture is clean if nothing happened to change.
    Nothing,
    /// It is asked.
    Hooks(Hooks),
    /// Its processes are stopped.
    Freeze,
}

/// For which captures the application is brought to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// For snapshots.
    Snapshots,
    /// For every checkpoint.
    EveryCheckpoint,
}

/// What the application is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// To come to rest.
    pub before: Hook,
    /// To go on; `None`: it goes on by itself.
    pub after: Option<Hook>,
}

/// One request to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// How it is asked.
    pub call: Call,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// How an application is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Call {
    /// By `POST http://127.0.0.1:<port><path>`; any 2xx is a yes.
    Http {
        /// Where it listens.
        port: u16,
        /// With a leading slash.
        path: String,
    },
    /// By a line on a unix socket.
    Socket {
        /// Where the socket is: absolute.
        path: String,
        /// What is sent, with a line feed added.
        send: String,
        /// What the answer must begin with; `None`: any answer is a yes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect: Option<String>,
    },
    /// By a signal; there is no answer, so the timeout is waited out.
    Signal {
        /// Which.
        signal: Signal,
        /// To every process with this name.
        process: String,
    },
}

/// The signals an application may give a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl Signal {
    /// As `kill -l` calls it, with the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
        }
    }
}

impl Consistency {
    /// The hooks, if that is the means.
    #[must_use]
    pub const fn hooks(&self) -> Option<&Hooks> {
        match &self.quiesce {
            Quiesce::Hooks(hooks) => Some(hooks),
            Quiesce::Nothing | Quiesce::Freeze => None,
        }
    }
}
