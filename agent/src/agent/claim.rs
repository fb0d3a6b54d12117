// SPDX-License-Identifier: Apache-2.0
//! Claiming the lineage again, after a session has ended.

use super::Agent;
use crate::clock::SystemClock;
use crate::status::Phase;
use crate::{AgentError, marker};
use holdfast_core::disk::{Marker, MarkerState};
use holdfast_store::StoreError;
use holdfast_store::capture::Clock;
use holdfast_store::write::{Opening, Session};
use std::time::Duration;

/// Between tries.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

impl Agent {
    /// Claims the lineage again after a session has ended; only another holder ends this one for good.
    pub(super) async fn reopen(&mut self, error: StoreError) -> Result<(), AgentError> {
        self.session = None;
        self.judge(&error)?;
        self.claim_again().await
    }

    /// Whether there is any point in claiming the lineage again.
    fn judge(&mut self, error: &StoreError) -> Result<(), AgentError> {
        if matches!(error, StoreError::Fenced { .. } | StoreError::Held { .. } | StoreError::ForeignOwner { .. }) {
            self.show(Phase::Fenced);
            return Err(StoreError::Fenced { lineage: self.config.lineage.clone() }.into());
        }
        tracing::error!(lineage = %self.config.lineage, %error, "the session has ended; claiming the lineage again");
        self.fault = Some(error.to_string());
        let phase = self.status.borrow().phase;
        self.show(phase);
        Ok(())
    }

    pub(super) async fn claim_again(&mut self) -> Result<(), AgentError> {
        loop {
            tokio::time::sleep(REOPEN_PAUSE).await;
            let watermark = self.scratch.recall().map(|memory| memory.watermark);
            let opening = Opening { watermark, now: SystemClock.now(), ..self.opening.clone() };
            match Session::open(opening).await {
                // its checkpoints would make the disk look older than they are, if that still named the generation before
                Ok(session) => match self.mark(session.generation()) {
                    Ok(()) => {
                        self.store_trouble = session.trouble();
                        self.session = Some(Box::new(session));
                        return Ok(());
                    }
                    Err(failed) => {
                        tracing::error!(lineage = %self.config.lineage, error = %failed, "could not mark the state paths");
                    }
                },
                Err(again) => self.judge(&again)?,
            }
        }
    }

    /// Names the generation on the state paths.
    fn mark(&self, generation: u64) -> Result<(), AgentError> {
        let lineage = self.opening.reader.domain().keys.identity.lineage_id(&self.opening.name);
        let holder = self.config.holder_key;
        let marker = Marker { lineage, generation, volume: self.setting.volume, state: MarkerState::Ready, holder };
        for root in self.setting.roots.iter().filter(|root| !root.path.read_only) {
            let failed = |source| AgentError::StatePath { path: root.path.path.clone(), source };
            marker::write(&root.dir, &marker).map_err(failed)?;
        }
        Ok(())
    }
}
