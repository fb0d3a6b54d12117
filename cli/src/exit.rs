// SPDX-License-Identifier: Apache-2.0
//! Exit codes: what a script can tell. `docs/cli.md` lists them.

use crate::connection::Remote;
use crate::output::{OutputError, note};
use crate::run::NotStarted;
use holdfast_agent::AgentError;
use holdfast_core::disk::Refusal;
use holdfast_proto::problem::Reason;
use holdfast_store::StoreError;
use holdfast_store::probe::ProbeError;
use holdfast_store::restore::RestoreError;
use std::process::ExitCode;

/// It failed.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// A person must decide: the disk, or the lineage, is not what was expected.
pub(crate) const DECIDE: u8 = 3;
/// The store did not do what it was asked, or there is no repository.
pub(crate) const STORE: u8 = 4;
/// The repository, or the coordinator, can't be opened: passphrase, token, version.
pub(crate) const LOCKED: u8 = 5;
/// Something in the repository is damaged or missing.
pub(crate) const DAMAGED: u8 = 6;
/// Another holder has taken the lineage over.
pub(crate) const FENCED: u8 = 7;
/// What was asked for does not exist.
pub(crate) const NOT_FOUND: u8 = 8;
/// Restored, but not everything as it was: the receipt lists what.
pub(crate) const DEVIATES: u8 = 9;

/// What `--help` says about them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done            3  a person must decide       6  damaged or missing data
  1  failed          4  the store failed           7  another holder took the lineage over
  2  wrong usage     5  wrong passphrase or token  8  no such lineage, checkpoint, snapshot, path
                                                   9  restored with deviations

Times are written as '10 minutes ago', 'yesterday 14:03', '14:03:07', '2026-11-20 09:00' or RFC 3339.";

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

    /// With another program's code, or one of these.
    pub(crate) const fn with(code: u8) -> Self {
        Self { code, message: None }
    }

    /// With what went wrong, in one line.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        if error.downcast_ref::<OutputError>().is_some_and(OutputError::is_closed) {
            return Self::ok();
        }
        let hint = match error.downcast_ref::<AgentError>() {
            Some(AgentError::Refused(refusal)) => hint(refusal),
            _ => "",
        };
        Self { code: code_of(error), message: Some(format!("{error:#}{hint}")) }
    }
}

/// What to do about a disk that was refused.
const fn hint(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::HalfRestored { .. } => ": finish it with --resume, or empty the directory",
        Refusal::OtherLineage { .. } => ": use that one's name, or another directory",
        Refusal::Unmarked { .. } => {
            ": keep the disk's with --adopt-disk, or start with an empty directory to restore the repository's"
        }
        Refusal::Diverged { .. } => {
            "; keep the disk's state with --adopt-disk, or empty the directory to restore the repository's"
        }
        Refusal::Mixed { .. } => "; if that is as it should be, use --adopt-disk",
        Refusal::OtherPaths { .. } => {
            "; name it as it was, with --state LABEL=DIR, or begin with what the disk holds with --adopt-disk"
        }
        Refusal::Overtaken { .. } => "",
    }
}

/// What was asked for makes no sense, or can't be done so; says what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Somebody has to decide; says between what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Undecided(pub(crate) String);

/// What was asked for does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotFound(pub(crate) String);

fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return USAGE;
    }
    if error.is::<Undecided>() {
        return DECIDE;
    }
    if error.is::<NotFound>() {
        return NOT_FOUND;
    }
    if let Some(not_started) = error.downcast_ref::<NotStarted>() {
        return not_started.code();
    }
    if error.is::<ProbeError>() {
        return STORE;
    }
    if let Some(remote) = error.downcast_ref::<Remote>() {
        return remote_code(remote);
    }
    let agent = error.downcast_ref::<AgentError>();
    let restore = error.downcast_ref::<RestoreError>().or(match agent {
        Some(AgentError::Restore(restore)) => Some(restore),
        _ => None,
    });
    let store = error.downcast_ref::<StoreError>().or(match (agent, restore) {
        (Some(AgentError::Store(store)), _) | (_, Some(RestoreError::Store(store))) => Some(store),
        _ => None,
    });
    match (store, restore, agent) {
        (Some(store), ..) => store_code(store),
        (_, Some(RestoreError::NoSuchPath(_)), _) => NOT_FOUND,
        (
            ..,
            Some(
                AgentError::Refused(_)
                | AgentError::Locked { .. }
                | AgentError::Replaced { .. }
                | AgentError::ScratchIsState { .. },
            ),
        ) => DECIDE,
        (.., Some(AgentError::NotProven { .. })) => DAMAGED,
        _ => FAILED,
    }
}

const fn store_code(error: &StoreError) -> u8 {
    match error {
        StoreError::Transport(_) | StoreError::NoRepository { .. } => STORE,
        StoreError::WrongPassphrase { .. } | StoreError::WrongKey { .. } | StoreError::Unsupported { .. } => LOCKED,
        StoreError::Damaged { .. } | StoreError::Missing { .. } | StoreError::RolledBack { .. } => DAMAGED,
        StoreError::Held { .. } | StoreError::ForeignOwner { .. } => DECIDE,
        StoreError::Fenced { .. } => FENCED,
        _ => FAILED,
    }
}

/// The code of what a coordinator answered.
const fn remote_code(remote: &Remote) -> u8 {
    use tonic::Code;
    match (remote.reason, remote.code) {
        (Some(Reason::WrongPassphrase | Reason::WrongKey | Reason::Unsupported), _) => LOCKED,
        (Some(Reason::StoreUnavailable | Reason::StoreRefused | Reason::NoRepository), _) => STORE,
        (Some(Reason::Fenced), _) => FENCED,
        (Some(Reason::NothingSelected), _) => NOT_FOUND,
        (Some(Reason::WrongKind | Reason::Ambiguous), _) => USAGE,
        (_, Code::NotFound) => NOT_FOUND,
        (_, Code::InvalidArgument | Code::OutOfRange) => USAGE,
        (_, Code::Unauthenticated | Code::PermissionDenied) => LOCKED,
        (_, Code::DataLoss) => DAMAGED,
        (_, Code::Unavailable) => STORE,
        (_, Code::FailedPrecondition) => DECIDE,
        _ => FAILED,
    }
}

/// Says what went wrong and gives the code.
pub(crate) fn finish(exit: Exit) -> ExitCode {
    if let Some(message) = exit.message {
        note(&message);
    }
    ExitCode::from(exit.code)
}
