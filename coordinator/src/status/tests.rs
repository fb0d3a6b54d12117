// SPDX-License-Identifier: Apache-2.0
use super::*;
use tonic::Code;

fn transport(failure: Failure) -> TransportError {
    TransportError { operation: "get", object: "domains/x".to_owned(), message: "no".to_owned(), failure }
}

#[test]
fn each_error_has_its_answer() {
    let (object, lineage) = (|| "domains/x".to_owned(), || "web-0".to_owned());
    let table = [
        (transport(Failure::NotFound).into(), Reason::NotFound, Code::NotFound),
        (transport(Failure::BeyondEnd).into(), Reason::BeyondEnd, Code::OutOfRange),
        (transport(Failure::Unavailable).into(), Reason::StoreUnavailable, Code::Unavailable),
        (transport(Failure::Refused).into(), Reason::StoreRefused, Code::FailedPrecondition),
        (StoreError::Damaged { object: object(), what: "a bit".to_owned() }, Reason::Damaged, Code::DataLoss),
        (StoreError::Missing { object: object(), what: "chunks".to_owned() }, Reason::Missing, Code::DataLoss),
        (StoreError::WrongKey { object: object() }, Reason::WrongKey, Code::FailedPrecondition),
        (StoreError::WrongPassphrase { slots: 1 }, Reason::WrongPassphrase, Code::FailedPrecondition),
        (StoreError::Unsupported { object: object(), needs: "x".to_owned() }, Reason::Unsupported, Code::FailedPrecondition),
        (StoreError::NoRepository { location: "s3://x".to_owned() }, Reason::NoRepository, Code::FailedPrecondition),
        (StoreError::Fenced { lineage: lineage() }, Reason::Fenced, Code::Aborted),
        (StoreError::RolledBack { lineage: lineage(), found: 1, seen: 2 }, Reason::RolledBack, Code::DataLoss),
        (StoreError::Held { lineage: lineage(), holder: "x".to_owned() }, Reason::Held, Code::FailedPrecondition),
        (StoreError::Leaving { lineage: lineage(), sequence: 1, why: "goes" }, Reason::Leaving, Code::FailedPrecondition),
        (StoreError::NameTaken { name: "x".to_owned() }, Reason::NameTaken, Code::AlreadyExists),
        (StoreError::Withdrawn { id: "00".to_owned() }, Reason::Deleted, Code::FailedPrecondition),
        (StoreError::Cancelled, Reason::ShuttingDown, Code::Unavailable),
        (StoreError::Ended, Reason::Internal, Code::Internal),
    ];
    for (error, reason, code) in table {
        let status = of_store(&error);
        let problem = Problem::of(&status);
        assert_eq!((problem.reason, status.code()), (Some(reason), code), "{error}");
        assert_eq!(problem.message, error.to_string());
    }
    assert_eq!(of_creation(&transport(Failure::Unavailable)).code(), Code::Aborted);
    assert_eq!(of_creation(&transport(Failure::Refused)).code(), Code::FailedPrecondition);
}

#[test]
fn a_field_is_named_and_a_pause_is_suggested() {
    let problem = Problem::of(&invalid("lineage.domain", "is empty"));
    assert_eq!(problem.fields, [("lineage.domain".to_owned(), "is empty".to_owned())]);
    assert_eq!(Problem::of(&busy("restores")).retry_after, Some(STORE_PAUSE));
    let problem = Problem::of(&not_found("lineage", "web-0"));
    assert_eq!(problem.resource, Some(("lineage".to_owned(), "web-0".to_owned())));
}
