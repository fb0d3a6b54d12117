// SPDX-License-Identifier: Apache-2.0
//! The process: its options, its parts, and how it ends without leaving anybody unanswered.

use crate::around::Settings;
use crate::caches;
use crate::desk::Desk;
use crate::metrics::Metrics;
use crate::server::{Health, admission, plain};
use crate::tls::Certificate;
use anyhow::{Context, anyhow};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// The admission webhook of Holdfast.
#[derive(Parser, Debug, Clone)]
#[command(name = "holdfast-webhook", version)]
pub struct Options {
    /// The agent's image, as kubelets are to pull it
    #[arg(long, env = "HOLDFAST_AGENT_IMAGE")]
    pub agent_image: String,
    /// Where agents find the coordinator
    #[arg(long, env = "HOLDFAST_COORDINATOR", default_value = "https://holdfast-coordinator.holdfast-system.svc:7420")]
    pub coordinator: String,
    /// The namespace that Holdfast itself runs in: nothing is added to its pods
    #[arg(long, env = "HOLDFAST_NAMESPACE", default_value = "holdfast-system")]
    pub namespace: String,
    /// Where the API server is answered, over HTTPS
    #[arg(long, env = "HOLDFAST_LISTEN", default_value = "0.0.0.0:10250")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "HOLDFAST_PLAIN_LISTEN", default_value = "0.0.0.0:8080")]
    pub plain_listen: SocketAddr,
    /// The directory with tls.crt and tls.key; they are loaded again when they change
    #[arg(long, env = "HOLDFAST_TLS_DIRECTORY", default_value = "/var/run/holdfast/tls")]
    pub tls_directory: PathBuf,
    /// How often the certificate is looked at, in milliseconds
    #[arg(long, default_value_t = 5000, hide = true)]
    pub tls_interval_ms: u64,
    /// How long requests are still welcome after SIGTERM, in seconds: until the Service knows
    #[arg(long, env = "HOLDFAST_DRAIN_SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,
}

/// How long the last requests may take to be answered.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Serves until the process is told to end.
///
/// # Errors
/// If it can't begin, or a part of it ends that should not.
pub async fn run(options: Options) -> anyhow::Result<()> {
    // also for clients that don't name theirs; it is ours or the same already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = kube::Client::try_default().await.context("can't find the API server")?;
    serve(options, client).await
}

/// Serves with a client of the API server.
///
/// # Errors
/// If it can't begin, or a part of it ends that should not.
pub async fn serve(options: Options, client: kube::Client) -> anyhow::Result<()> {
    let settings = Settings {
        agent_image: options.agent_image.clone(),
        coordinator: options.coordinator.clone(),
        own_namespace: options.namespace.clone(),
    };
    let (caches, feeds) = caches::new();
    let desk = Desk { settings, caches, metrics: Metrics::default() };
    let health = Health::default();
    let mut ended = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let (tls_handle, plain_handle) = (Handle::new(), Handle::new());
    let mut parts: JoinSet<anyhow::Result<()>> = JoinSet::new();
    parts.spawn(async move {
        Box::pin(feeds.run(client)).await;
        Err(anyhow!("the watches have ended"))
    });
    let plain_server = axum_server::bind(options.plain_listen).handle(plain_handle.clone());
    let plain_routes = plain(desk.clone(), health.clone());
    parts.spawn(async move { plain_server.serve(plain_routes.into_make_service()).await.context("health and metrics") });
    parts.spawn(answer_the_api_server(options.clone(), desk, health.clone(), tls_handle.clone()));
    let failure = tokio::select! {
        _ = ended.recv() => None,
        _ = interrupted.recv() => None,
        part = parts.join_next() => Some(part),
    };
    match failure {
        None => drain(&options, &health, &tls_handle, &plain_handle).await,
        Some(part) => part.ok_or_else(|| anyhow!("nothing runs"))??.context("a part has ended")?,
    }
    parts.shutdown().await;
    Ok(())
}

/// Stops being asked, then answers what was asked.
async fn drain(options: &Options, health: &Health, tls: &Handle<SocketAddr>, plain: &Handle<SocketAddr>) {
    tracing::info!(seconds = options.drain_seconds, "ending");
    health.leave();
    // the API server goes on asking until the Service's endpoints are without us
    sleep(Duration::from_secs(options.drain_seconds)).await;
    tls.graceful_shutdown(Some(LAST_REQUESTS));
    let drained = async {
        while tls.connection_count() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_REQUESTS, drained).await;
    plain.shutdown();
}

/// Serves admission as soon as there is a certificate, and with another when it changes.
async fn answer_the_api_server(options: Options, desk: Desk, health: Health, handle: Handle<SocketAddr>) -> anyhow::Result<()> {
    let mut certificate = Certificate::new(&options.tls_directory);
    let mut ticks = interval(Duration::from_millis(options.tls_interval_ms.max(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let config = loop {
        ticks.tick().await;
        match certificate.look() {
            Ok(Some(config)) => break RustlsConfig::from_config(config),
            Ok(None) => {}
            Err(error) => tracing::info!(error = %anyhow!(error), "waiting for a certificate"),
        }
    };
    let metrics = desk.metrics.clone();
    metrics.certificate_loaded();
    health.has_certificate();
    let server = axum_server::bind_rustls(options.listen, config.clone()).handle(handle);
    let serving = server.serve(admission(desk).into_make_service());
    let reloading = async {
        loop {
            ticks.tick().await;
            match certificate.look() {
                Ok(Some(another)) => {
                    config.reload_from_config(another);
                    metrics.certificate_loaded();
                    tracing::info!("loaded another certificate");
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error = %anyhow!(error), "staying with the certificate that is loaded"),
            }
        }
    };
    tokio::select! {
        served = serving => served.context("admission"),
        never = reloading => never,
    }
}
