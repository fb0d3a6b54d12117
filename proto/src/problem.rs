// SPDX-License-Identifier: Apache-2.0
//! What went wrong, so that programs can tell: the details that every refusal carries (`google.rpc.Status`), in both directions.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of all reasons.
pub const DOMAIN: &str = "holdfast.dev";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident;)*) => {
        /// Why something was refused, or failed. The texts are part of the interface; new ones may be added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As it is sent.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The status code that it goes with.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code),* }
            }
        }
    };
}

reasons! {
    /// A field of the request makes no sense; the violations name it.
    InvalidField = "INVALID_FIELD", InvalidArgument;
    /// There is no such thing; the resource names it.
    NotFound = "NOT_FOUND", NotFound;
    /// The lineage has no checkpoint that is meant.
    NoCheckpoint = "NO_CHECKPOINT", NotFound;
    /// The beginning of an id fits several.
    Ambiguous = "AMBIGUOUS", FailedPrecondition;
    /// Only fuzzy checkpoints would do, and they were not accepted.
    OnlyFuzzy = "ONLY_FUZZY", FailedPrecondition;
    /// The path is something else than the call is for: not a directory, not a regular file.
    WrongKind = "WRONG_KIND", FailedPrecondition;
    /// The offset lies behind the end.
    BeyondEnd = "BEYOND_END", OutOfRange;
    /// The snapshot's name is taken.
    NameTaken = "NAME_TAKEN", AlreadyExists;
    /// The request's snapshot was deleted since.
    Deleted = "DELETED", FailedPrecondition;
    /// The checkpoint is about to be collected.
    Leaving = "LEAVING", FailedPrecondition;
    /// No lineage was selected.
    NothingSelected = "NOTHING_SELECTED", FailedPrecondition;
    /// No agent of the lineage is connected.
    NotLive = "NOT_LIVE", FailedPrecondition;
    /// The agent could not make durable what is dirty, or not in time.
    FlushFailed = "FLUSH_FAILED", Unavailable;
    /// The chosen lineages could not be brought to one moment.
    BarrierFailed = "BARRIER_FAILED", Unavailable;
    /// Another instance has opened a session of the lineage.
    SessionReplaced = "SESSION_REPLACED", Aborted;
    /// The agent speaks a protocol that this coordinator does not.
    ProtocolUnsupported = "PROTOCOL_UNSUPPORTED", FailedPrecondition;
    /// The restore has ended already.
    RestoreEnded = "RESTORE_ENDED", FailedPrecondition;
    /// The token is missing or wrong.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    /// The caller is known, and may not do that there.
    Forbidden = "FORBIDDEN", PermissionDenied;
    /// Who calls can't be found out now: later.
    IdentityUnavailable = "IDENTITY_UNAVAILABLE", Unavailable;
    /// A pod's agent speaks of a lineage that was not granted to its pod, or not any more.
    NotYours = "NOT_YOURS", PermissionDenied;
    /// A decision was made: a new session follows it.
    Decided = "DECIDED", Unavailable;
    /// The grant is missing, unknown or expired: a new session, or a new restore, gives another one.
    GrantUnknown = "GRANT_UNKNOWN", Unauthenticated;
    /// The grant does not cover this object.
    GrantExceeded = "GRANT_EXCEEDED", PermissionDenied;
    /// An object of that name exists.
    ObjectExists = "OBJECT_EXISTS", AlreadyExists;
    /// Whether the object was created is not known: ask again with the same bytes.
    OutcomeUnknown = "OUTCOME_UNKNOWN", Aborted;
    /// As much is under way as may be: later.
    Busy = "BUSY", ResourceExhausted;
    /// The coordinator is ending: connect again.
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    /// The caller's deadline has passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded;
    /// The store can't be reached, or does not do what it is asked: later.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable;
    /// The store understood and refused: its rights, its bucket, its limits.
    StoreRefused = "STORE_REFUSED", FailedPrecondition;
    /// There is no repository.
    NoRepository = "NO_REPOSITORY", FailedPrecondition;
    /// An object of the repository is damaged.
    Damaged = "DAMAGED", DataLoss;
    /// An object that something refers to is missing.
    Missing = "MISSING", DataLoss;
    /// The store shows an older history than was seen.
    RolledBack = "ROLLED_BACK", DataLoss;
    /// An object was sealed under another key.
    WrongKey = "WRONG_KEY", FailedPrecondition;
    /// No key slot opens with the passphrase.
    WrongPassphrase = "WRONG_PASSPHRASE", FailedPrecondition;
    /// A newer program wrote it.
    Unsupported = "UNSUPPORTED", FailedPrecondition;
    /// Another holder has taken the lineage over.
    Fenced = "FENCED", Aborted;
    /// Another holder has the lineage.
    Held = "HELD", FailedPrecondition;
    /// The lineage belongs to another cluster or machine.
    ForeignOwner = "FOREIGN_OWNER", FailedPrecondition;
    /// Something that should not happen.
    Internal = "INTERNAL", Internal;
}

impl Reason {
    /// The reason with this text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub code: Code,
    /// For people: one sentence.
    pub message: String,
    /// For programs; `None` if it was not Holdfast that answered, or a later version of it.
    pub reason: Option<Reason>,
    /// Fields that make no sense, and why.
    pub fields: Vec<(String, String)>,
    /// What it is about: type and name.
    pub resource: Option<(String, String)>,
    /// When asking again may help.
    pub retry_after: Option<Duration>,
    /// What else there is to know, by name.
    pub details: HashMap<String, String>,
}

impl Problem {
    /// A problem with this reason.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            message: message.into(),
            reason: Some(reason),
            fields: Vec::new(),
            resource: None,
            retry_after: None,
            details: HashMap::new(),
        }
    }

    /// A field that makes no sense.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, why: impl Into<String>) -> Self {
        self.fields.push((field.into(), why.into()));
        self
    }

    /// What it is about.
    #[must_use]
    pub fn resource(mut self, kind: impl Into<String>, name: impl Into<String>) -> Self {
        self.resource = Some((kind.into(), name.into()));
        self
    }

    /// When asking again may help.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Reads it from an answer.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.and_then(|info| Reason::parse(&info.reason)),
            fields: violations.iter().map(|violation| (violation.field.clone(), violation.description.clone())).collect(),
            resource: details.resource_info().map(|resource| (resource.resource_type.clone(), resource.resource_name.clone())),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            details: info.map(|info| info.metadata.clone()).unwrap_or_default(),
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut details = ErrorDetails::new();
        if let Some(reason) = problem.reason {
            details.set_error_info(reason.as_str(), DOMAIN, problem.details);
        }
        for (field, why) in problem.fields {
            details.add_bad_request_violation(field, why);
        }
        if let Some((kind, name)) = problem.resource {
            details.set_resource_info(kind, name, "", "");
        }
        if problem.retry_after.is_some() {
            details.set_retry_info(problem.retry_after);
        }
        Self::with_error_details(problem.code, problem.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_survive_the_wire() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            let problem = Problem::new(*reason, "it did not work")
                .field("point.lineage", "is empty")
                .resource("lineage", "web-0")
                .retry_after(Duration::from_secs(2));
            assert_eq!(Problem::of(&Status::from(problem.clone())), problem);
        }
    }

    #[test]
    fn what_others_answered_has_no_reason() {
        let plain = Problem::of(&Status::unavailable("no route"));
        assert_eq!((plain.reason, plain.code, plain.message.as_str()), (None, Code::Unavailable, "no route"));
        let mut details = ErrorDetails::new();
        details.set_error_info("DAMAGED", "example.com", HashMap::new());
        let foreign = Status::with_error_details(Code::DataLoss, "x", details);
        assert_eq!(Problem::of(&foreign).reason, None);
    }
}
