// SPDX-License-Identifier: Apache-2.0
//! The process: looks whether it can work, waits until it leads, leads, and ends in good order.

use super::http::{self, Health, Phase};
use super::lead::{Seat, Timing, labels};
use super::metrics::Metrics;
use super::settings::Settings;
use super::term::{self, Term};
use super::{rights, signals};
use crate::clock::Clock;
use anyhow::{Context, bail};
use holdfast_core::id::OwnerId;
use holdfast_core::time::Monotonic;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::Api;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const LEASE: &str = "holdfast-coordinator";
/// Resource definitions that were applied together with this process may need a moment.
const DEFINED_WITHIN: Duration = Duration::from_secs(30);
/// What leads is waited for so long when the process was told to end.
const DRAIN: Duration = Duration::from_secs(15);

/// Runs until the process is told to end.
///
/// # Errors
/// If it can't begin, or what it leads with breaks; the message says what to do.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (health, metrics) = (Health::default(), Metrics::default());
    let mut beside = JoinSet::new();
    beside.spawn(signals::cancel(stop.clone()));
    let listener =
        TcpListener::bind(settings.http_listen).await.with_context(|| format!("listen on {}", settings.http_listen))?;
    let listening = CancellationToken::new();
    beside.spawn(http::serve(listener, health.clone(), metrics.clone(), listening.clone()));
    let client = Client::try_default()
        .await
        .context("find the API server: this program runs in a pod of the cluster, or with a kubeconfig")?;
    let worked = match stop.run_until_cancelled(prepare(&client, &settings)).await {
        Some(prepared) => Process { client, owner: prepared?, settings, health, metrics, clock: Clock::new() }.work(&stop).await,
        None => Ok(()),
    };
    stop.cancel();
    listening.cancel();
    while beside.join_next().await.is_some() {}
    worked
}

/// Looks whether everything is there that this process needs, and who the cluster is.
async fn prepare(client: &Client, settings: &Settings) -> anyhow::Result<OwnerId> {
    defined(client, DEFINED_WITHIN).await?;
    let missing = rights::missing(client, &settings.namespace).await.context("ask what this process may do")?;
    if !missing.is_empty() {
        bail!("the coordinator's service account lacks rights; add to its roles:\n  - {}", missing.join("\n  - "));
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system =
        namespaces.get("kube-system").await.context("read the identity of the cluster, the UID of namespace kube-system")?;
    let uid = system.metadata.uid.context("namespace kube-system has no UID")?;
    owner(&uid).with_context(|| format!("the UID of namespace kube-system, {uid:?}, is none"))
}

/// The cluster's identity as the owner of lineages.
fn owner(uid: &str) -> Option<OwnerId> {
    uid.replace('-', "").parse().ok()
}

/// Waits until our kinds are known, but no longer than this.
async fn defined(client: &Client, within: Duration) -> anyhow::Result<()> {
    let clock = Clock::new();
    loop {
        let missing = match client.list_api_group_resources(holdfast_api::crds::API_VERSION).await {
            Ok(found) => {
                let is_there = |kind: &&&str| found.resources.iter().any(|known| known.kind == ***kind);
                holdfast_api::crds::KINDS.iter().find(|kind| !is_there(kind)).copied()
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => holdfast_api::crds::KINDS.first().copied(),
            Err(error) => return Err(error).context("ask the API server which kinds it knows"),
        };
        let Some(missing) = missing else { return Ok(()) };
        if clock.monotonic() >= Monotonic(within) {
            bail!(
                "the API server does not know the kind {missing}: apply the resource definitions first (kubectl apply -k deploy/crds)"
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

struct Process {
    client: Client,
    owner: OwnerId,
    settings: Settings,
    health: Health,
    metrics: Metrics,
    clock: Clock,
}

/// How a term ended.
enum End {
    /// The process was told to.
    Stopped,
    /// Others may lead from then on.
    Lost(Monotonic),
    /// What it leads with has ended by itself.
    Broken(anyhow::Error),
}

impl Process {
    async fn work(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).context("the system has no random numbers")?;
        // an earlier process of the same pod must not be taken for this one
        let name = format!("{}_{}", self.settings.pod_name.as_deref().unwrap_or("coordinator"), hex::encode(random));
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let mut seat = Seat::new(leases, LEASE, name, Timing::of(self.settings.lease()), self.clock);
        loop {
            self.health.enter(Phase::StandingBy);
            if stop.run_until_cancelled(seat.win()).await.is_none() {
                break;
            }
            self.health.enter(Phase::TakingOver);
            self.metrics.leads(true);
            tracing::info!("this process leads");
            let ended = self.lead(&mut seat, stop).await;
            self.metrics.leads(false);
            match ended {
                End::Stopped => break,
                End::Lost(_) => tracing::warn!("this process leads no more"),
                End::Broken(error) => {
                    seat.release().await;
                    return Err(error);
                }
            }
        }
        self.health.enter(Phase::Ending);
        seat.release().await;
        Ok(())
    }

    /// Leads until the lease is lost or the process is told to end; what leads has ended when this returns.
    async fn lead(&self, seat: &mut Seat, stop: &CancellationToken) -> End {
        let term_stop = CancellationToken::new();
        let mut working = JoinSet::new();
        let term = Term {
            client: self.client.clone(),
            owner: self.owner,
            settings: self.settings.clone(),
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock,
        };
        working.spawn(term::run(term, term_stop.clone()));
        let end = tokio::select! {
            () = stop.cancelled() => End::Stopped,
            others_from = seat.keep() => End::Lost(others_from),
            done = working.join_next() => End::Broken(match done {
                Some(Ok(Err(error))) => error,
                Some(Err(error)) => anyhow::Error::new(error),
                Some(Ok(Ok(()))) | None => anyhow::anyhow!("the work of the leader has ended by itself"),
            }),
        };
        term_stop.cancel();
        match &end {
            End::Stopped => {
                self.health.enter(Phase::Ending);
                self.renounce().await;
                // the lease is kept meanwhile
                tokio::select! {
                    drained = tokio::time::timeout(DRAIN, drain(&mut working)) => if drained.is_err() {
                        tracing::warn!("some work was still under way when the process ended");
                    },
                    _ = seat.keep() => {}
                }
            }
            End::Lost(others_from) => {
                tokio::time::timeout_at(self.clock.instant(*others_from), drain(&mut working)).await.ok();
            }
            End::Broken(_) => {}
        }
        // what still runs is cut off
        working.shutdown().await;
        end
    }

    /// Gives the label back, so that nobody is sent here any more.
    async fn renounce(&self) {
        let Some(pod) = &self.settings.pod_name else { return };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let renounced = tokio::time::timeout(Duration::from_secs(2), labels::renounce(&pods, pod)).await;
        if !matches!(renounced, Ok(Ok(()))) {
            tracing::warn!("the leader's label could not be given back: the next leader takes it");
        }
    }
}

async fn drain<T: 'static>(working: &mut JoinSet<T>) {
    while working.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests;
