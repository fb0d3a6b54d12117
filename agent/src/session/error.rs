// SPDX-License-Identifier: Apache-2.0
//! Why there is no session.

use crate::connection::TokenError;
use crate::grant::GrantError;
use holdfast_core::id::ParseIdError;
use std::time::Duration;
use tonic::{Code, Status as Answer};

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The coordinator refused, or can't be reached.
    #[error("coordinator {url}: {}", said(.answer))]
    Refused {
        /// Where it is.
        url: String,
        /// What it said.
        answer: Box<Answer>,
    },
    /// It did not answer in time.
    #[error("coordinator {url} did not answer within {within:?}")]
    Silent {
        /// Where it is.
        url: String,
        /// How long it had.
        within: Duration,
    },
    /// It ended the session, or said something that can't be understood.
    #[error("coordinator {url} {what}")]
    Confused {
        /// Where it is.
        url: String,
        /// What it did.
        what: &'static str,
    },
    /// There is no token to show.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its grant can't be used.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// It told no proper owner.
    #[error("the coordinator's welcome can't be used")]
    Owner(#[from] ParseIdError),
}

fn said(answer: &Answer) -> String {
    // what could not be sent at all says why at the end of its causes
    let cause = std::iter::successors(std::error::Error::source(answer), |error| error.source()).last();
    match (cause, answer.message()) {
        (Some(cause), _) => format!("can't be reached: {cause}"),
        (None, "") => format!("it answered {:?}", answer.code()),
        (None, message) => message.to_owned(),
    }
}

impl SessionError {
    /// Whether asking again won't help, as far as one can tell.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { answer, .. } => matches!(
                answer.code(),
                Code::Unauthenticated
                    | Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::FailedPrecondition
                    | Code::NotFound
                    | Code::Unimplemented
            ),
            Self::Grant(_) | Self::Owner(_) => true,
            Self::Silent { .. } | Self::Confused { .. } | Self::Token(_) => false,
        }
    }

    /// Whether no coordinator has answered at all, or only to say that it can't serve now.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Refused { answer, .. } => {
                let broken = std::error::Error::source(&**answer).is_some();
                broken || matches!(answer.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
            }
            Self::Silent { .. } | Self::Confused { .. } | Self::Token(_) => true,
            Self::Grant(_) | Self::Owner(_) => false,
        }
    }
}
