// SPDX-License-Identifier: Apache-2.0
//! Error documents by name and by status.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};

/// An error that s3s has no name for.
pub(crate) fn named(code: &'static str, status: StatusCode) -> S3Error {
    let code = S3ErrorCode::from_bytes(code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(code, "refused");
    error.set_status_code(status);
    error
}

/// The error that S3 answers with this status, for faults.
pub(crate) fn of_status(status: StatusCode) -> S3Error {
    let code = match status {
        StatusCode::BAD_REQUEST => "InvalidRequest",
        StatusCode::FORBIDDEN => "AccessDenied",
        StatusCode::NOT_FOUND => "NoSuchKey",
        StatusCode::CONFLICT => "ConditionalRequestConflict",
        StatusCode::PRECONDITION_FAILED => "PreconditionFailed",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "SlowDown",
        _ => "InternalError",
    };
    let mut error = named(code, status);
    error.set_message("made to fail");
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_kept() {
        for (status, code) in [
            (500, "InternalError"),
            (502, "InternalError"),
            (503, "SlowDown"),
            (409, "ConditionalRequestConflict"),
            (403, "AccessDenied"),
            (412, "PreconditionFailed"),
            (429, "TooManyRequests"),
        ] {
            let error = of_status(StatusCode::from_u16(status).unwrap());
            assert_eq!(error.status_code().unwrap().as_u16(), status);
            assert_eq!(error.code().as_str(), code);
        }
    }
}
