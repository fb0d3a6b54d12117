// SPDX-License-Identifier: Apache-2.0
//! Changes that are made after their connection is gone.

use std::sync::Arc;

use http::StatusCode;
use s3s::S3Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Change, Store, StoreError};
use crate::faults::{Gate, Outcome};

/// Holds changes until their gate opens. Its tasks are the store's: [`Store::close`] waits for them.
#[derive(Debug)]
pub(crate) struct Late {
    store: Arc<Store>,
    stop: CancellationToken,
    places: Arc<Semaphore>,
}

impl Late {
    pub(crate) fn new(store: Arc<Store>, stop: CancellationToken, places: usize) -> Self {
        Self { store, stop, places: Arc::new(Semaphore::new(places)) }
    }

    /// Makes these changes when the gate opens, and tells the gate what became of them. Doesn't wait.
    pub(crate) fn hold(&self, gate: Gate, changes: Vec<Change>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("too many requests are held: one was abandoned");
            gate.ended(Outcome::Abandoned);
            return;
        };
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        self.store.tasks.spawn(async move {
            let _place = place;
            let outcome = tokio::select! {
                () = gate.passage() => outcome(store.apply(changes).await),
                () = stop.cancelled() => Outcome::Abandoned,
            };
            gate.ended(outcome);
        });
    }
}

fn outcome(results: Vec<Result<(), StoreError>>) -> Outcome {
    match results.into_iter().find_map(Result::err) {
        None => Outcome::Applied,
        Some(error) => Outcome::Refused(S3Error::from(error).status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}
