// SPDX-License-Identifier: Apache-2.0
//! Exit codes: what a script can tell.

use holdfast_agent::AgentError;
use holdfast_store::StoreError;
use std::process::ExitCode;

/// It failed.
pub(crate) const FAILED: u8 = 1;
/// A person must decide: the disk, or the lineage, is not what was expected.
pub(crate) const DECIDE: u8 = 3;
/// The store did not do what it was asked.
pub(crate) const STORE: u8 = 4;
/// The repository can't be opened: passphrase, version.
pub(crate) const LOCKED: u8 = 5;
/// Something in the repository is damaged or missing.
pub(crate) const DAMAGED: u8 = 6;
/// Another holder has taken the lineage over.
pub(crate) const FENCED: u8 = 7;

/// How the program ends.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: u8,
    message: Option<String>,
}

impl Exit {
    /// As it should.
    pub(crate) const fn ok() -> Self {
        Self { code: 0, message: None }
    }

    /// With another program's code.
    pub(crate) const fn with(code: u8) -> Self {
        Self { code, message: None }
    }

    /// With what went wrong, in one line.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        Self { code: code_of(error), message: Some(format!("{error:#}")) }
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    let agent = error.downcast_ref::<AgentError>();
    let store = error.downcast_ref::<StoreError>().or(match agent {
        Some(AgentError::Store(store)) => Some(store),
        _ => None,
    });
    match (store, agent) {
        (Some(store), _) => store_code(store),
        (None, Some(AgentError::Refused(_) | AgentError::Locked { .. } | AgentError::Replaced { .. })) => DECIDE,
        (None, Some(AgentError::NotProven { .. })) => DAMAGED,
        _ => FAILED,
    }
}

fn store_code(error: &StoreError) -> u8 {
    match error {
        StoreError::Transport(_) | StoreError::NoRepository { .. } => STORE,
        StoreError::WrongPassphrase { .. } | StoreError::WrongKey { .. } | StoreError::Unsupported { .. } => LOCKED,
        StoreError::Damaged { .. } | StoreError::Missing { .. } | StoreError::RolledBack { .. } => DAMAGED,
        StoreError::Held { .. } | StoreError::ForeignOwner { .. } => DECIDE,
        StoreError::Fenced { .. } => FENCED,
        _ => FAILED,
    }
}

/// Says what went wrong and gives the code.
#[allow(clippy::print_stderr, reason = "the program's last word to whoever ran it")]
pub(crate) fn finish(exit: Exit) -> ExitCode {
    if let Some(message) = exit.message {
        eprintln!("holdfast: {message}");
    }
    ExitCode::from(exit.code)
}
