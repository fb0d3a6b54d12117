// SPDX-License-Identifier: Apache-2.0
//! Holding requests back, and learning what became of them.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;

/// What became of a request that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The change was made.
    Applied,
    /// It was not, for the reason that this status stands for: 412 if its condition no longer held.
    Refused(StatusCode),
    /// The server was shut down before the gate opened, or held too many requests already.
    Abandoned,
}

#[derive(Debug)]
struct Shared {
    open: watch::Sender<bool>,
    outcomes: watch::Sender<Vec<Outcome>>,
    after: Option<Duration>,
}

/// Holds the requests that met [`Fault::ApplyLater`](crate::Fault::ApplyLater) until it opens.
///
/// Clones are the same gate. When the client sees its connection closed, the request is held already. An open gate
/// stays open, and holds nobody who comes later.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

impl Gate {
    /// A gate that opens by [`open`](Self::open) only.
    #[must_use]
    pub fn shut() -> Self {
        Self::new(None)
    }

    /// A gate that lets each request through so long after it came; all of them at once by [`open`](Self::open).
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self::new(Some(delay))
    }

    fn new(after: Option<Duration>) -> Self {
        Self { shared: Arc::new(Shared { open: watch::Sender::new(false), outcomes: watch::Sender::default(), after }) }
    }

    /// Lets through who is held, and whoever comes.
    pub fn open(&self) {
        self.shared.open.send_replace(true);
    }

    /// What became of the first `requests` that are through, in the order in which they ended. Waits for them.
    pub async fn outcomes(&self, requests: usize) -> Vec<Outcome> {
        let mut outcomes = self.shared.outcomes.subscribe();
        match outcomes.wait_for(|ended| ended.len() >= requests).await {
            Ok(ended) => ended.iter().copied().take(requests).collect(),
            // the sender lives in `self`
            Err(_) => Vec::new(),
        }
    }

    /// Waits until a request that comes now may go on.
    pub(crate) async fn passage(&self) {
        let mut open = self.shared.open.subscribe();
        let elapsed = async {
            match self.shared.after {
                Some(delay) => tokio::time::sleep(delay).await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = open.wait_for(|open| *open) => {}
            () = elapsed => {}
        }
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        self.shared.outcomes.send_modify(|outcomes| outcomes.push(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_opens_for_all_and_stays_open() {
        let gate = Gate::shut();
        let waiting = gate.clone();
        let held = async { waiting.passage().await };
        let opens = async { gate.open() };
        tokio::join!(held, opens);
        gate.passage().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_opens_it_by_itself() {
        let before = tokio::time::Instant::now();
        Gate::after(Duration::from_secs(60)).passage().await;
        assert_eq!(before.elapsed().as_secs(), 60);
    }

    #[tokio::test]
    async fn outcomes_are_waited_for() {
        let gate = Gate::shut();
        let report = async {
            gate.ended(Outcome::Applied);
            gate.ended(Outcome::Abandoned);
        };
        let (outcomes, ()) = tokio::join!(gate.outcomes(2), report);
        assert_eq!(outcomes, [Outcome::Applied, Outcome::Abandoned]);
    }
}
