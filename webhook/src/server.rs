// SPDX-License-Identifier: Apache-2.0
//! What is served: admission over HTTPS, health and metrics in the clear on a port of its own.

use crate::desk::{Desk, DeskError, Webhook};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tower::limit::GlobalConcurrencyLimitLayer;

/// The largest request: an object and what it was before, each as large as the API server takes them, and more.
const BODY_BYTES_MAX: usize = 10 << 20;

/// So many are answered at once; more wait. Times the largest request, it bounds the memory.
const AT_ONCE: usize = 32;

/// A request that takes longer is given up: the API server waits no longer either.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether requests are welcome.
#[derive(Debug, Clone, Default)]
pub struct Health {
    certificate: Arc<AtomicBool>,
    leaving: Arc<AtomicBool>,
}

impl Health {
    /// The certificate is loaded.
    pub fn has_certificate(&self) {
        self.certificate.store(true, Ordering::Release);
    }

    /// The process is about to end.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// What is missing for requests to be welcome, if anything is.
    #[must_use]
    pub fn missing(&self, desk: &Desk) -> Option<&'static str> {
        let missing = if self.leaving.load(Ordering::Acquire) {
            Some("the process is about to end")
        } else if !self.certificate.load(Ordering::Acquire) {
            Some("there is no certificate yet: the coordinator writes the Secret holdfast-webhook-tls")
        } else if !desk.caches.are_synced() {
            Some("the cluster is not known yet: statepolicies, staterepositories, namespaces and nodes must be readable")
        } else {
            None
        };
        desk.metrics.set_ready(missing.is_none());
        missing
    }
}

/// Admission.
pub fn admission(desk: Desk) -> Router {
    Router::new()
        .route("/mutate/pods", post(|State(desk): State<Desk>, body: Bytes| answer(desk, Webhook::Pods, body)))
        .route("/mutate/workloads", post(|State(desk): State<Desk>, body: Bytes| answer(desk, Webhook::Workloads, body)))
        .route("/mutate/probe", post(|State(desk): State<Desk>, body: Bytes| answer(desk, Webhook::Probe, body)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(in_time))
        .layer(GlobalConcurrencyLimitLayer::new(AT_ONCE))
        .with_state(desk)
}

async fn answer(desk: Desk, webhook: Webhook, body: Bytes) -> Response {
    match desk.answer(webhook, &body).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error @ DeskError::Review(_)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(error @ DeskError::Panicked) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Gives up on who sends slowly.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Health and metrics.
pub fn plain(desk: Desk, health: Health) -> Router {
    let registry = Arc::new(desk.metrics.registry());
    let ready = move || async move {
        match health.missing(&desk) {
            None => (StatusCode::OK, "ready"),
            Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
        }
    };
    let metrics = move || async move {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => {
                ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    Router::new().route("/livez", get(|| async { "alive" })).route("/readyz", get(ready)).route("/metrics", get(metrics))
}
