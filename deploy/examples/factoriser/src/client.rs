// SPDX-License-Identifier: Apache-2.0
//! A small HTTP client for JSON: the master's questions to its workers, and anyone's to both.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a question may take. Those asked are near, and their answers are at hand.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest answer read. A worker's is some kilobytes at most.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Not an `http://` address.
    #[error("{0:?} is not an address")]
    Address(String),
    /// Nobody answers.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// It takes too long.
    #[error("no answer within {PATIENCE:?}")]
    Late,
    /// The answer is a refusal.
    #[error("refused with {0}: {1}")]
    Refused(StatusCode, String),
    /// The answer isn't what was asked for.
    #[error("unintelligible answer: {0}")]
    Unintelligible(String),
}

/// An HTTP client. Each question gets a connection, and so a name lookup, of its own: a worker that was moved is found.
#[derive(Debug, Clone)]
pub struct Client(HyperClient<HttpConnector, Full<Bytes>>);

impl Client {
    /// A client.
    #[must_use]
    pub fn new() -> Self {
        Self(HyperClient::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }

    /// Gets JSON.
    pub async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        let answer = self.ask(Method::GET, url, Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(|error| ClientError::Unintelligible(error.to_string()))
    }

    /// Posts JSON; the answer is of no interest as long as it is no refusal.
    pub async fn post<T: Serialize + Sync>(&self, url: &str, body: &T) -> Result<(), ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Unintelligible(error.to_string()))?;
        self.ask(Method::POST, url, body.into()).await.map(drop)
    }

    async fn ask(&self, method: Method, url: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::Address(url.to_owned()))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| ClientError::Address(url.to_owned()))?;
        tokio::time::timeout(PATIENCE, self.answer(request)).await.map_err(|_| ClientError::Late)?
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ClientError> {
        let response = self.0.request(request).await.map_err(|error| ClientError::Unreachable(causes(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| ClientError::Unreachable(error.to_string()))?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(ClientError::Refused(status, String::from_utf8_lossy(&body).into_owned()))
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// The last of an error's causes, which says what happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
