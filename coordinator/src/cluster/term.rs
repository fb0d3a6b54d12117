// SPDX-License-Identifier: Apache-2.0
//! What the leader does while it leads: watches, certificates, controllers, and the front that agents come to.

use super::collecting::{self, Collecting};
use super::events::{self, Events};
use super::http::{Health, Phase};
use super::lead::labels;
use super::leading::{Leading, Objects};
use super::metrics::Metrics;
use super::pki::places::{CONFIGURATION, InCluster};
use super::pki::{AUTHORITY, Names, Now, Pki, Shown};
use super::repositories::{self, open};
use super::restores::{self, held::Held};
use super::settings::Settings;
use super::snapshots::Resting;
use super::upgrade::{self, Upgrade};
use super::watched::{Bell, follow};
use super::{Cluster, ClusterConfig, Couriers, Holds, Repositories, Rests, gates, probe, snapshots, sweep, verify};
use crate::clock::Clock;
use anyhow::Context;
use holdfast_core::id::OwnerId;
use holdfast_store::collect::Options;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Client;
use kube::api::Api;
use kube::runtime::events::Reporter;
use kube::runtime::watcher;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Certificates are looked after this often, beside whatever a watch tells.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(10);
/// Between two looks, however much changes.
const CERTIFICATES_PAUSE: Duration = Duration::from_millis(300);
/// The label of the leader is looked after this often.
const LABEL_EVERY: Duration = Duration::from_secs(10);

/// What a term begins with.
pub(crate) struct Term {
    pub(crate) client: Client,
    pub(crate) owner: OwnerId,
    pub(crate) settings: Settings,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

/// Bells of those who wait for changes.
#[derive(Default)]
struct Bells {
    certificates: Bell,
    repositories: Bell,
    sweep: Bell,
}

/// Leads until `stop`. Everything has ended when it returns.
///
/// # Errors
/// If something that must go on has ended.
pub(crate) async fn run(term: Term, stop: CancellationToken) -> anyhow::Result<()> {
    let mut watches = JoinSet::new();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let bells = Bells::default();
    let stores = term.watch(&mut watches, &stop, &bells);
    let shown: Arc<Shown> = Arc::default();
    let signed = term.certificates(&mut watches, &mut tasks, &stop, &bells, &stores, &shown);
    let (events, queue) = Events::new(term.metrics.clone());
    let reporter = Reporter { controller: "holdfast-coordinator".to_owned(), instance: term.settings.pod_name.clone() };
    spawn(&mut tasks, events::tell(term.client.clone(), reporter, term.clock, queue, stop.clone()));
    let table = term.repositories(&mut tasks, &stop, &bells);
    let leading = Leading {
        client: term.client.clone(),
        clock: term.clock,
        metrics: term.metrics.clone(),
        events: events.clone(),
        repositories: table.clone(),
        objects: stores.clone(),
    };
    term.collect(leading.clone(), &mut tasks, &stop);
    let (held, holds) = watch::channel(Holds::default());
    let known = holds.clone();
    let (resting, rests) = watch::channel(Rests::default());
    let (sent, couriers) = watch::channel(Couriers::default());
    term.upgrade(leading.clone(), &holds, &mut tasks, &stop);
    let cluster = Cluster::new(ClusterConfig { client: term.client.clone(), repositories: table, holds, rests, couriers });
    let (found, findings) = watch::channel(verify::Findings::default());
    let verifying = verify::run(leading.clone(), Duration::from_secs(term.settings.verify_seconds), found, stop.clone());
    watches.spawn(verifying);
    let webhook = term.probe(leading.clone(), &mut tasks, &stop);
    let sweeping = sweep::run(leading.clone(), cluster.slots(), findings, webhook, bells.sweep.clone());
    let restoring = restores::Context {
        with: leading.clone(),
        system: term.settings.namespace.clone(),
        slots: cluster.slots(),
        held: Held::new(held),
        couriers: sent,
        pauses: Default::default(),
    };
    let snapshots = snapshots::Context {
        with: leading,
        system: term.settings.namespace.clone(),
        pauses: Default::default(),
        resting: Resting::new(resting),
    };
    control(sweeping, snapshots, restoring, &mut tasks, &stop);
    let waiting = gates::tell(cluster.slots(), stores.pods.clone(), events);
    let ending = stop.clone();
    watches.spawn(async move {
        ending.run_until_cancelled(waiting).await;
    });
    tasks.spawn(front(term, cluster, shown, (signed, known), stop.clone()));
    let ended = tasks.join_next().await;
    let broken = !stop.is_cancelled();
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    while watches.join_next().await.is_some() {}
    match ended {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error.into()),
        _ if broken => Err(anyhow::anyhow!("a part of the leader has ended by itself")),
        _ => Ok(()),
    }
}

impl Term {
    fn watch(&self, watches: &mut JoinSet<()>, stop: &CancellationToken, bells: &Bells) -> Objects {
        let all = watcher::Config::default;
        let labelled = all().labels(holdfast_api::labels::POLICY);
        let (client, metrics) = (&self.client, &self.metrics);
        let to_policies = [bells.certificates.clone(), bells.sweep.clone()];
        let to_repositories = [bells.repositories.clone(), bells.sweep.clone()];
        let to_sweep = [bells.sweep.clone()];
        Objects {
            policies: follow(watches, stop, metrics, client, all(), &to_policies),
            repositories: follow(watches, stop, metrics, client, all(), &to_repositories),
            lineages: follow(watches, stop, metrics, client, all(), &to_sweep),
            pods: follow(watches, stop, metrics, client, labelled, &to_sweep),
            first: Arc::default(),
        }
    }

    /// Keeps the certificates; what is returned turns true when there is one to serve with.
    fn certificates(
        &self,
        watches: &mut JoinSet<()>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        stop: &CancellationToken,
        bells: &Bells,
        stores: &Objects,
        shown: &Arc<Shown>,
    ) -> watch::Receiver<bool> {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (client, metrics, bell) = (&self.client, &self.metrics, bells.certificates.clone());
        let to_us = [bell.clone()];
        let places = InCluster {
            client: client.clone(),
            policies: stores.policies.clone(),
            configmaps: follow(watches, stop, metrics, client, named(AUTHORITY), &to_us),
            webhooks: follow(watches, stop, metrics, client, named(CONFIGURATION), &to_us),
        };
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.settings.namespace);
        let mut pki = Pki::new(secrets, places, Names::of(&self.settings.namespace), self.settings.lives(), Arc::clone(shown));
        let (sender, signed) = watch::channel(false);
        let (clock, metrics, shown) = (self.clock, metrics.clone(), Arc::clone(shown));
        let keeping = async move {
            loop {
                let turned = pki.turn(Now { day: clock.now(), steady: clock.monotonic() }).await;
                metrics.certificates(if turned.is_ok() { "done" } else { "failed" });
                if let Err(error) = turned {
                    tracing::warn!(%error, "certificates");
                }
                sender.send_if_modified(|signed| !std::mem::replace(signed, shown.is_there()) && shown.is_there());
                tokio::time::sleep(CERTIFICATES_PAUSE).await;
                bell.heard(CERTIFICATES_EVERY).await;
            }
        };
        until_stopped(tasks, stop, keeping);
        signed
    }

    fn repositories(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        stop: &CancellationToken,
        bells: &Bells,
    ) -> watch::Receiver<Repositories> {
        let (table, repositories) = watch::channel(Repositories::default());
        let context = Arc::new(repositories::Context {
            client: self.client.clone(),
            clock: self.clock,
            owner: self.owner,
            metrics: self.metrics.clone(),
            connect: open::by_s3(),
            own_identity: self.settings.own_identity,
            table,
            known: Default::default(),
        });
        spawn(tasks, repositories::run(context, bells.repositories.clone(), stop.clone()));
        repositories
    }
}

/// What looks at everything again and again, what takes snapshots, and what brings back.
fn control(
    sweeping: impl Future<Output = ()> + Send + 'static,
    snapshots: snapshots::Context,
    restoring: restores::Context,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) {
    spawn(tasks, snapshots::run(Arc::new(snapshots), stop.clone()));
    spawn(tasks, restores::run(Arc::new(restoring), stop.clone()));
    until_stopped(tasks, stop, sweeping);
}

/// A part of the leader that knows when to stop. When one ends before it was told to, all do.
fn spawn(tasks: &mut JoinSet<anyhow::Result<()>>, part: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        part.await;
        Ok(())
    });
}

/// One that goes on until it is dropped.
fn until_stopped(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
    part: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    spawn(tasks, async move {
        stop.run_until_cancelled(part).await;
    });
}

impl Term {
    /// What deletes what the policies no longer want.
    fn collect(&self, with: Leading, tasks: &mut JoinSet<anyhow::Result<()>>, stop: &CancellationToken) {
        let Some(every) = self.settings.collecting() else { return };
        let holder = format!("coordinator {}", self.settings.pod_name.as_deref().unwrap_or_default());
        let collecting = Collecting { with, owner: self.owner, holder, every, options: Options::default() };
        until_stopped(tasks, stop, collecting::run(collecting));
    }

    /// What tries whether the API server reaches the webhook; what is returned says why it doesn't.
    fn probe(
        &self,
        with: Leading,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        stop: &CancellationToken,
    ) -> watch::Receiver<probe::Trouble> {
        let (told, trouble) = watch::channel(probe::Trouble::default());
        if let Some(every) = self.settings.probing() {
            until_stopped(tasks, stop, probe::run(with, self.settings.namespace.clone(), every, told));
        }
        trouble
    }

    /// What brings the agents of running pods to the image of new ones.
    fn upgrade(
        &self,
        with: Leading,
        holds: &watch::Receiver<Holds>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        stop: &CancellationToken,
    ) {
        let at_once = usize::from(self.settings.upgrade_at_once);
        if at_once == 0 {
            return;
        }
        let upgrade = Upgrade { with, system: self.settings.namespace.clone(), at_once, holds: holds.clone() };
        until_stopped(tasks, stop, upgrade::run(upgrade));
    }
}

/// Serves agents and people, and takes the label so that they come here.
async fn front(
    term: Term,
    cluster: Cluster,
    shown: Arc<Shown>,
    (mut signed, mut known): (watch::Receiver<bool>, watch::Receiver<Holds>),
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if !matches!(stop.run_until_cancelled(signed.wait_for(|signed| *signed)).await, Some(Ok(_))) {
        return Ok(());
    }
    // until it is known which gates the leader before has shut, none may open
    if !matches!(stop.run_until_cancelled(known.changed()).await, Some(Ok(()))) {
        return Ok(());
    }
    let listen = term.settings.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let ending = stop.clone();
    let serving = cluster.serve(listener, Some(shown), async move { ending.cancelled().await });
    term.health.enter(Phase::Leading);
    let labelling = stop.run_until_cancelled(term.label());
    let (served, _) = futures::future::join(Box::pin(serving), labelling).await;
    served.context("serve")
}

impl Term {
    async fn label(&self) {
        let Some(pod) = &self.settings.pod_name else { return };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        loop {
            if let Err(error) = labels::claim(&pods, pod).await {
                tracing::warn!(%error, "the leader's label could not be moved here");
            }
            tokio::time::sleep(LABEL_EVERY).await;
        }
    }
}
