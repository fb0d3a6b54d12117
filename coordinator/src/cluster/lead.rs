// SPDX-License-Identifier: Apache-2.0
//! The seat of the leader: a Lease, written only on condition that nobody else has written since it was read.

use crate::clock::Clock;
use election::{Election, View, Wish};
use holdfast_core::time::Monotonic;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use std::time::Duration;

mod election;
pub(crate) mod labels;
#[cfg(test)]
mod tests;

pub(crate) use election::Timing;

/// Who doesn't lead looks this often, so that a release is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a failure the leader asks again this soon.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// A place that one of several processes has at a time.
#[derive(Debug)]
pub(crate) struct Seat {
    leases: Api<Lease>,
    lease: String,
    name: String,
    timing: Timing,
    clock: Clock,
    election: Election,
}

impl Seat {
    /// A candidate for the lease. The name must be no other process's, not even an earlier one's.
    pub(crate) fn new(leases: Api<Lease>, lease: &str, name: String, timing: Timing, clock: Clock) -> Self {
        let election = Election::new(name.clone(), timing);
        Self { leases, lease: lease.to_owned(), name, timing, clock, election }
    }

    /// Waits until this process leads. Cancel-safe: a lease that was won unheard is recognised later.
    pub(crate) async fn win(&mut self) {
        loop {
            match self.turn(self.timing.renew_every).await {
                Ok(Wish::Take) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "the lease could not be looked at");
                    self.election.missed();
                }
            }
            tokio::time::sleep(jittered(LOOK_EVERY)).await;
        }
    }

    /// Renews until this process leads no more; returns from when on another may lead. Not polled, it leads no longer than it may.
    pub(crate) async fn keep(&mut self) -> Monotonic {
        let mut pause = self.timing.renew_every;
        loop {
            let (Some(until), Some(end)) = (self.election.leads_until(), self.election.others_from()) else {
                return self.clock.monotonic();
            };
            let now = self.clock.monotonic();
            if now >= until {
                tracing::warn!("the lease could not be renewed in time");
                self.election.resign();
                return end;
            }
            tokio::time::sleep_until(self.clock.instant(now.plus(pause).min(until))).await;
            let left = until.since(self.clock.monotonic());
            pause = match self.turn(left).await {
                Ok(Wish::Resign) => {
                    tracing::warn!("another process has taken the lease");
                    return self.clock.monotonic();
                }
                Ok(_) => self.timing.renew_every,
                Err(error) => {
                    tracing::warn!(%error, "the lease was not renewed");
                    RETRY_AFTER
                }
            };
        }
    }

    /// Gives the seat to whoever comes next. Everything that leads must have ended before.
    pub(crate) async fn release(&mut self) {
        if self.election.leads_until().is_none() {
            return;
        }
        self.election.resign();
        let released = tokio::time::timeout(self.timing.renew_every, async {
            let mut lease = self.leases.get(&self.lease).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.name) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.renew_time = None;
            spec.acquire_time = None;
            self.leases.replace(&self.lease, &PostParams::default(), &lease).await.map(|_| ())
        });
        match released.await {
            Ok(Ok(())) => tracing::info!("the lease is released"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not released: another waits until it runs out"),
            Err(_) => tracing::warn!("the lease was not released in time: another waits until it runs out"),
        }
    }

    /// Looks at the lease and does what is to be done with it.
    async fn turn(&mut self, within: Duration) -> Result<Wish, kube::Error> {
        let asked = self.clock.monotonic();
        let turn = async {
            let read = match self.leases.get_opt(&self.lease).await? {
                Some(lease) => lease,
                None => Lease { metadata: ObjectMeta { name: Some(self.lease.clone()), ..ObjectMeta::default() }, spec: None },
            };
            let wish = self.election.read(self.clock.monotonic(), &view(&read));
            if matches!(wish, Wish::Take | Wish::Renew) {
                let lease = self.signed(read, wish);
                match lease.metadata.resource_version {
                    Some(_) => self.leases.replace(&self.lease, &PostParams::default(), &lease).await?,
                    None => self.leases.create(&PostParams::default(), &lease).await?,
                };
                self.election.wrote(asked);
            }
            Ok(wish)
        };
        match tokio::time::timeout(within, turn).await {
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => Ok(Wish::Leave),
            Ok(done) => done,
            Err(_) => Err(kube::Error::Service("no answer in time".into())),
        }
    }

    /// The lease with this process's name and the present time, which is for people.
    fn signed(&self, mut lease: Lease, wish: Wish) -> Lease {
        let now = MicroTime(self.clock.now().to_jiff());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if wish == Wish::Take {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.name.clone());
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = Some(i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX).max(1));
        lease
    }
}

fn view(lease: &Lease) -> View {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    View {
        holder: spec.holder_identity,
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        duration: seconds.map(Duration::from_secs),
    }
}

/// Four fifths to six fifths of a pause, so that processes that were started together don't ask together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // without random numbers it is the pause itself
    getrandom::fill(&mut byte).ok();
    pause.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
}
