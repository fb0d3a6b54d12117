// SPDX-License-Identifier: Apache-2.0
//! How long changes wait to be durable, as the agents report it: samples, and what becomes of them.

use holdfast_agent::Connection;
use holdfast_proto::v1;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::Status;

const EVERY: Duration = Duration::from_millis(500);
/// For an hour of --keep with 16 workers.
const SAMPLES_MAX: usize = 1 << 18;

/// Takes samples until it is dropped.
pub(super) struct Meter {
    samples: Arc<Mutex<Vec<u64>>>,
    _task: JoinSet<()>,
}

/// All lineages of the demo.
pub(super) async fn lineages(connection: &Connection) -> Result<Vec<v1::Lineage>, Status> {
    let mut client = LineageServiceClient::new(connection.channel());
    let request = v1::ListLineagesRequest { domain: super::story::DOMAIN.to_owned(), ..v1::ListLineagesRequest::default() };
    Ok(client.list_lineages(connection.request(request)).await?.into_inner().lineages)
}

impl Meter {
    pub(super) fn start(connection: Connection) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        task.spawn(sample(connection, Arc::clone(&samples)));
        Self { samples, _task: task }
    }

    /// Median and maximum.
    pub(super) fn read(&self) -> (Duration, Duration) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        summary(&mut samples)
    }
}

fn summary(samples: &mut [u64]) -> (Duration, Duration) {
    samples.sort_unstable();
    let at = |index: usize| Duration::from_millis(samples.get(index).copied().unwrap_or(0));
    (at(samples.len() / 2), at(samples.len().saturating_sub(1)))
}

async fn sample(connection: Connection, samples: Arc<Mutex<Vec<u64>>>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Ok(lineages) = lineages(&connection).await else { continue };
        let live = lineages.iter().filter_map(|lineage| lineage.live.as_ref());
        let streaming = live.filter(|live| live.phase() == v1::Phase::Streaming).map(|live| live.lag_ms);
        let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() < SAMPLES_MAX {
            samples.extend(streaming);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_maximum() {
        let millis = Duration::from_millis;
        assert_eq!(summary(&mut []), (millis(0), millis(0)));
        assert_eq!(summary(&mut [7]), (millis(7), millis(7)));
        assert_eq!(summary(&mut [900, 100, 300]), (millis(300), millis(900)));
    }
}
