// SPDX-License-Identifier: Apache-2.0
//! The end: the last of the state is captured, and the lineage closed, as far as there is time.

use super::{Agent, Resting, finish};
use crate::clock::SystemClock;
use crate::status::{Phase, Status};
use crate::{AgentError, thread};
use holdfast_store::capture::Clock;
use std::time::Duration;

/// Kept of the time there is for closing the lineage.
const SEAL_RESERVE: Duration = Duration::from_secs(2);

impl Agent {
    /// Ends the capture under way early, for its session.
    async fn call_off(&mut self, deadline: tokio::time::Instant) {
        self.setting.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        if self.capturing.is_some()
            && let Ok(Ok((session, ..))) = tokio::time::timeout_at(deadline, finish(&mut self.capturing)).await
        {
            self.capturing = None;
            self.session = Some(session);
        }
    }

    /// The last capture: first what is known to have changed, then a scan for what was not heard, as far as there is time.
    pub(super) async fn end(mut self, within: Duration) -> Result<Status, AgentError> {
        let deadline = tokio::time::Instant::now() + within;
        // a lineage that is closed can be taken at once: that is worth more than what a last look would find
        let captured_by = deadline - (within / 3).min(SEAL_RESERVE);
        self.setting.governor.hurry();
        // nothing is left that could move
        self.resting = Resting::default();
        self.show(Phase::Ending);
        let last = async {
            while self.capturing.is_some() {
                let finished = finish(&mut self.capturing).await;
                self.captured(finished).await?;
            }
            if self.session.is_none() {
                self.claim_again().await?; // the store may come back in time
            }
            let lost = self.catch_up();
            for scan in [lost, true] {
                if !scan && self.dirty.is_empty() {
                    continue;
                }
                self.start(scan);
                let finished = finish(&mut self.capturing).await;
                self.captured(finished).await?;
            }
            Ok::<_, AgentError>(())
        };
        match tokio::time::timeout_at(captured_by, last).await {
            Ok(result) => result?,
            Err(_) => {
                tracing::warn!(lineage = %self.config.lineage, ?within, "there was no time to capture the last changes");
                self.call_off(deadline).await;
            }
        }
        if let Some(session) = self.session.take() {
            let now = SystemClock.now();
            let sealed = thread::run("seal", move || session.seal("the application has ended", now));
            match tokio::time::timeout_at(deadline, sealed).await {
                Ok(result) => result??,
                // what is left is left to whoever comes next
                Err(_) => tracing::warn!(lineage = %self.config.lineage, "there was no time to seal the lineage"),
            }
        }
        self.show(Phase::Ended);
        Ok(self.status.borrow().clone())
    }
}
