// SPDX-License-Identifier: Apache-2.0
//! What happens to a request around s3s: it is counted, it may go wrong, and what was left of it is read.

mod chunks;
mod spoiled;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use percent_encoding::percent_decode_str;
use s3s::service::S3Service;
use s3s::{HttpError, S3Error};
use tokio_util::sync::CancellationToken;

use crate::api::Context;
use crate::faults::{self, Counters, Fault, Faults};
use crate::refusal;
use spoiled::{Spoil, Spoiled};
pub(crate) use upload::{Upload, UploadError};

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("a fault wanted it")]
    Fault,
    #[error("the server is shutting down")]
    Stopping,
    #[error("s3s could not answer: {0:?}")]
    S3s(HttpError),
    #[error("the error could not be written")]
    Refusal(#[from] S3Error),
}

type Answer = Result<Response<s3s::Body>, Dropped>;

/// What stands between the connections and s3s.
pub(crate) struct Front {
    pub(crate) service: S3Service,
    pub(crate) faults: Option<Arc<dyn Faults>>,
    pub(crate) counters: Arc<Counters>,
    /// How long the next bytes of a body may take.
    pub(crate) stall: Duration,
    pub(crate) stop: CancellationToken,
}

impl Front {
    /// Answers a request, or has its connection closed.
    pub(crate) async fn serve(&self, request: Request<Incoming>) -> Answer {
        match self.decide(&request) {
            None => self.apply(request, Context::default()).await,
            Some(fault) => {
                tracing::debug!(method = %request.method(), path = request.uri().path(), ?fault, "made to fail");
                self.go_wrong(request, fault).await
            }
        }
    }

    fn decide(&self, request: &Request<Incoming>) -> Option<Fault> {
        let (bucket, key) = target(request.uri());
        let (method, query) = (request.method(), request.uri().query().unwrap_or_default());
        let mut seen = faults::Request { method, bucket: &bucket, key: &key, query, nth: 0 };
        seen.nth = if seen.is_list() { self.counters.list() } else { self.counters.object(method, &key) };
        self.faults.as_ref()?.decide(&seen)
    }

    async fn go_wrong(&self, request: Request<Incoming>, fault: Fault) -> Answer {
        let plain = Context::default();
        match fault {
            Fault::Delay(delay) => {
                tokio::select! {
                    () = tokio::time::sleep(delay) => self.apply(request, plain).await,
                    () = self.stop.cancelled() => Err(Dropped::Stopping),
                }
            }
            Fault::Answer(status) => {
                self.upload(request.into_body(), false).drain().await;
                refused(status)
            }
            Fault::ApplyThenDrop => {
                self.apply(request, plain).await?;
                Err(Dropped::Fault)
            }
            Fault::ApplyThenAnswer(status) => {
                self.apply(request, plain).await?;
                refused(status)
            }
            Fault::ApplyLater(gate) => {
                self.apply(request, Context { gate: Some(gate), ..plain }).await?;
                Err(Dropped::Fault)
            }
            Fault::TruncateBody { after } => self.spoil(request, Spoil::Truncate(after)).await,
            Fault::FlipByte { at } => self.spoil(request, Spoil::Flip(at)).await,
            Fault::BlackHole => {
                self.stop.cancelled().await;
                Err(Dropped::Stopping)
            }
            Fault::OmitKeys(omit) => self.apply(request, Context { omit, ..plain }).await,
            Fault::IgnoreCondition => self.apply(request, Context { unconditional: true, ..plain }).await,
        }
    }

    /// The usual way. A change that the request makes is made when this returns.
    async fn apply(&self, request: Request<Incoming>, mut context: Context) -> Answer {
        let chunked = request.headers().get("x-amz-content-sha256").is_some_and(|v| v.as_bytes().starts_with(b"STREAMING-"));
        let (mut parts, incoming) = request.into_parts();
        let upload = (!incoming.is_end_stream()).then(|| self.upload(incoming, chunked));
        let body = upload.clone().map_or_else(s3s::Body::empty, s3s::Body::http_body_unsync);
        context.upload.clone_from(&upload);
        parts.extensions.insert(context);
        let answer = Box::pin(self.service.call(Request::from_parts(parts, body))).await.map_err(Dropped::S3s)?;
        if let Some(upload) = upload {
            upload.drain().await;
        }
        Ok(answer)
    }

    async fn spoil(&self, request: Request<Incoming>, spoil: Spoil) -> Answer {
        let get = request.method() == Method::GET;
        let answer = self.apply(request, Context::default()).await?;
        let spoiled = get && answer.status().is_success();
        Ok(if spoiled { answer.map(|body| s3s::Body::http_body_unsync(Spoiled::new(body, spoil))) } else { answer })
    }

    fn upload(&self, incoming: Incoming, chunked: bool) -> Upload {
        Upload::new(incoming, chunked, self.stall)
    }
}

fn refused(status: StatusCode) -> Answer {
    Ok(refusal::of_status(status).to_http_response()?)
}

/// Bucket and key of a path; empty where there is none.
fn target(uri: &Uri) -> (String, String) {
    let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let decode = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    (decode(bucket), decode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (path, bucket, key) in [
            ("/", "", ""),
            ("/b", "b", ""),
            ("/b/", "b", ""),
            ("/b/k", "b", "k"),
            ("/b/k/../l//", "b", "k/../l//"),
            ("/b/k%2Fl%20%C3%A9?x=/y", "b", "k/l é"),
        ] {
            assert_eq!(target(&path.parse().unwrap()), (bucket.to_owned(), key.to_owned()), "{path}");
        }
    }
}
