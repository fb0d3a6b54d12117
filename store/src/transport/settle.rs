// SPDX-License-Identifier: Apache-2.0
//! Creations brought to a definite end.

use super::{Body, Created, Failure, Range, Transport, TransportError};
use crate::error::{Result, StoreError};
use crate::name::Name;
use holdfast_core::lineage::{PutOutcome, Seen, Settle, Step};
use std::time::Duration;
use tokio::time::Instant;

/// How a creation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The name holds our bytes.
    Won,
    /// The name holds others.
    Lost,
}

/// What the answer to one attempt means for the protocol.
#[must_use]
pub fn outcome(result: &std::result::Result<Created, TransportError>) -> PutOutcome {
    match result {
        Ok(Created::Yes) => PutOutcome::Created,
        Ok(Created::Exists) => PutOutcome::Exists,
        Err(error) => match error.failure {
            Failure::Unavailable => PutOutcome::Unknown,
            Failure::NotFound | Failure::BeyondEnd | Failure::Refused | Failure::Unusable => PutOutcome::NotApplied,
        },
    }
}

/// What lies under a name, compared with the body that was put there.
pub async fn look(transport: &dyn Transport, name: &Name, body: &Body) -> Seen {
    match transport.get(name, Range::All).await {
        Ok(found) if found == body.bytes => Seen::Mine,
        Ok(_) => Seen::Other,
        Err(error) if error.is_not_found() => Seen::Nothing,
        Err(_) => Seen::Unknown,
    }
}

/// Creates an object, trying the same bytes again until the outcome is definite or the patience ends.
///
/// Not cancel-safe: a dropped future leaves the outcome unknown.
///
/// # Errors
/// The last failure, if the store did not give a definite answer in time, or refused.
pub async fn create(transport: &dyn Transport, name: &Name, body: &Body, patience: Duration) -> Result<Settled> {
    let deadline = Instant::now() + patience;
    let mut settle = Settle::new(u64::from_le_bytes(crate::seal::random()?));
    let mut last = None;
    loop {
        match settle.step() {
            Step::Put => {
                let result = transport.create(name, body).await;
                settle.put(outcome(&result));
                if let Err(error) = result {
                    // a definite refusal won't change by asking again, and says nothing about earlier tries
                    if outcome(&Err(error.clone())) == PutOutcome::NotApplied && !settle.maybe_applied() {
                        return Err(error.into());
                    }
                    last = Some(error);
                }
            }
            Step::Look => settle.looked(look(transport, name, body).await),
            Step::Wait(pause) => {
                if Instant::now() + pause > deadline
                    && let Some(error) = last.take()
                {
                    return Err(error.into());
                }
                tokio::time::sleep(pause).await;
                settle.waited();
            }
            Step::Won => return Ok(Settled::Won),
            Step::Lost => return Ok(Settled::Lost),
        }
    }
}

/// Creates an object whose name is random, so that nobody else can have created it.
///
/// # Errors
/// As [`create`], and if the name is taken after all.
pub async fn create_unique(transport: &dyn Transport, name: &Name, body: &Body, patience: Duration) -> Result<()> {
    match create(transport, name, body, patience).await? {
        Settled::Won => Ok(()),
        Settled::Lost => Err(StoreError::damaged(name, "its name is random, and yet it exists with other bytes")),
    }
}
