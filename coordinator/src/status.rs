// SPDX-License-Identifier: Apache-2.0
//! Refusals: the one place where errors become answers. Nothing here repeats a secret, a token or a file's content.

use holdfast_proto::problem::{Problem, Reason};
use holdfast_store::StoreError;
use holdfast_store::transport::{Failure, TransportError};
use std::time::Duration;
use tonic::Status;

/// A store that does not answer is asked again after this.
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// Another coordinator, or this one again, is there after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What an error of the repository is to a caller.
pub(crate) fn of_store(error: &StoreError) -> Status {
    let message = error.to_string();
    let problem = |reason| Problem::new(reason, message.clone());
    let answer = match error {
        StoreError::Transport(error) => return of_transport(error),
        StoreError::Damaged { object, .. } => problem(Reason::Damaged).resource("object", object),
        StoreError::Missing { object, .. } => problem(Reason::Missing).resource("object", object),
        StoreError::WrongKey { object } => problem(Reason::WrongKey).resource("object", object),
        StoreError::WrongPassphrase { .. } => problem(Reason::WrongPassphrase),
        StoreError::Unsupported { object, .. } => problem(Reason::Unsupported).resource("object", object),
        StoreError::NoRepository { .. } => problem(Reason::NoRepository),
        StoreError::Fenced { lineage } => problem(Reason::Fenced).resource("lineage", lineage),
        StoreError::RolledBack { lineage, .. } => problem(Reason::RolledBack).resource("lineage", lineage),
        StoreError::ForeignOwner { lineage, .. } => problem(Reason::ForeignOwner).resource("lineage", lineage),
        StoreError::Held { lineage, .. } => problem(Reason::Held).resource("lineage", lineage),
        StoreError::Leaving { lineage, .. } => problem(Reason::Leaving).resource("lineage", lineage),
        StoreError::NameTaken { name } => problem(Reason::NameTaken).resource("snapshot", name),
        StoreError::Withdrawn { id } => problem(Reason::Deleted).resource("snapshot", id),
        StoreError::Cancelled => problem(Reason::ShuttingDown).retry_after(RESTART_PAUSE),
        // what is left are this machine's own troubles
        _ => problem(Reason::Internal),
    };
    answer.into()
}

/// What a failure of the store is to a caller.
pub(crate) fn of_transport(error: &TransportError) -> Status {
    failed(error, error.to_string())
}

/// As [`of_transport`], to whoever named the object: what was asked for is not repeated, since it says that itself.
pub(crate) fn relayed(error: &TransportError) -> Status {
    failed(error, error.message.clone())
}

fn failed(error: &TransportError, message: String) -> Status {
    let reason = match error.failure {
        Failure::NotFound => Reason::NotFound,
        Failure::BeyondEnd => Reason::BeyondEnd,
        Failure::Unavailable => Reason::StoreUnavailable,
        Failure::Refused | Failure::Unusable => Reason::StoreRefused,
    };
    let problem = Problem::new(reason, message).resource("object", &error.object);
    if error.failure == Failure::Unavailable { problem.retry_after(STORE_PAUSE).into() } else { problem.into() }
}

/// As [`of_store`], for `map_err`.
pub(crate) fn store(error: StoreError) -> Status {
    of_store(&error)
}

/// As [`relayed`], of a creation whose outcome nobody knows, or that failed for certain.
pub(crate) fn of_creation(error: &TransportError) -> Status {
    match error.failure {
        Failure::Unavailable => {
            let problem = Problem::new(Reason::OutcomeUnknown, error.message.clone());
            problem.resource("object", &error.object).retry_after(Duration::from_millis(200)).into()
        }
        _ => relayed(error),
    }
}

/// A field makes no sense.
pub(crate) fn invalid(field: &str, why: impl Into<String>) -> Status {
    let why = why.into();
    Problem::new(Reason::InvalidField, format!("{field}: {why}")).field(field, why).into()
}

/// There is no such thing.
pub(crate) fn not_found(kind: &str, name: impl Into<String>) -> Status {
    let name = name.into();
    Problem::new(Reason::NotFound, format!("there is no {kind} {name:?}")).resource(kind, name).into()
}

/// Any other reason.
pub(crate) fn because(reason: Reason, message: impl Into<String>) -> Status {
    Problem::new(reason, message).into()
}

/// As [`because`], about something.
pub(crate) fn about(reason: Reason, message: impl Into<String>, kind: &str, name: impl Into<String>) -> Status {
    Problem::new(reason, message).resource(kind, name).into()
}

/// Too much is under way.
pub(crate) fn busy(what: &str) -> Status {
    Problem::new(Reason::Busy, format!("too many {what} at once")).retry_after(STORE_PAUSE).into()
}

/// The coordinator is ending.
pub(crate) fn shutting_down() -> Status {
    Problem::new(Reason::ShuttingDown, "the coordinator is shutting down: connect again").retry_after(RESTART_PAUSE).into()
}

/// The caller's time is up.
pub(crate) fn too_late() -> Status {
    because(Reason::DeadlineExceeded, "the request's deadline has passed")
}

/// A task that ended without a word: it panicked, or the process is ending.
pub(crate) fn lost() -> Status {
    because(Reason::Internal, "the work ended without a result")
}

#[cfg(test)]
mod tests;
