// SPDX-License-Identifier: Apache-2.0
//! A worker's HTTP interface.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use crate::report::{Known, Report, Stop};

use super::shared::Shared;

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    master: bool,
}

type Refusal = (StatusCode, &'static str);

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/progress", get(progress))
        .route("/healthz", get(|| async { "ok" }))
        .route("/known", post(known))
        .route("/stop", post(stop))
        .with_state(shared)
}

async fn progress(State(shared): State<Arc<Shared>>, Query(asked): Query<Asked>) -> Json<Report> {
    Json(if asked.master { shared.report_to_master() } else { shared.report() })
}

async fn known(State(shared): State<Arc<Shared>>, Json(known): Json<Known>) -> Result<Json<Report>, Refusal> {
    if shared.tell_known(&known) {
        Ok(Json(shared.report()))
    } else {
        Err((StatusCode::UNPROCESSABLE_ENTITY, "there are blocks in it that don't exist"))
    }
}

async fn stop(State(shared): State<Arc<Shared>>, Json(stop): Json<Stop>) -> Result<Json<Report>, Refusal> {
    if shared.tell_solution(stop.solution) {
        Ok(Json(shared.report()))
    } else {
        Err((StatusCode::UNPROCESSABLE_ENTITY, "this is no solution"))
    }
}
