// SPDX-License-Identifier: Apache-2.0
//! For the kubelet and Prometheus: whether this process lives, whether it could serve, and what it measures.

use super::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It looks whether it can work at all.
    Starting = 0,
    /// It could take over at any moment.
    StandingBy = 1,
    /// It has won, and doesn't serve yet.
    TakingOver = 2,
    /// It serves.
    Leading = 3,
    /// It was told to end.
    Ending = 4,
}

/// The phase, as everybody sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<AtomicU8>);

impl Health {
    /// A new phase has begun. Ending is the last.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now != Phase::Ending as u8).then_some(phase as u8)).ok();
    }

    fn ready(&self) -> Result<&'static str, &'static str> {
        const NOW: [Phase; 5] = [Phase::Starting, Phase::StandingBy, Phase::TakingOver, Phase::Leading, Phase::Ending];
        match NOW.get(usize::from(self.0.load(Ordering::SeqCst))).copied().unwrap_or(Phase::Starting) {
            Phase::Starting => Err("starting\n"),
            Phase::StandingBy => Ok("standing by\n"),
            Phase::TakingOver => Ok("taking over\n"),
            Phase::Leading => Ok("leading\n"),
            Phase::Ending => Err("ending\n"),
        }
    }
}

/// Serves until `stop`.
///
/// # Errors
/// If the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(text).with_state(metrics));
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    match health.ready() {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_is_never_ready_again() {
        let health = Health::default();
        assert!(health.ready().is_err());
        for phase in [Phase::StandingBy, Phase::TakingOver, Phase::Leading] {
            health.enter(phase);
            assert!(health.ready().is_ok(), "{phase:?}");
        }
        health.enter(Phase::Ending);
        health.enter(Phase::StandingBy);
        assert!(health.ready().is_err());
    }
}
