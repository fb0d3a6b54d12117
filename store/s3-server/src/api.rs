// SPDX-License-Identifier: Apache-2.0
//! What the operations of S3 mean. Those that are not here are answered with `NotImplemented` by s3s.

mod bucket;
mod checksum;
mod delete;
mod get;
mod list;
mod put;

use std::sync::Arc;

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use s3s::dto;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::faults::Gate;
use crate::front::Upload;
use crate::store::{Change, Condition, Late, Store, StoreError};

/// What the front tells about a request besides what is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// The connection's side of the body; `None` if there is none.
    pub(crate) upload: Option<Upload>,
    /// Holds the request's changes back: a fault.
    pub(crate) gate: Option<Gate>,
    /// Keys that a listing leaves out: a fault.
    pub(crate) omit: Vec<String>,
    /// Makes a PUT whatever its condition says: a fault.
    pub(crate) unconditional: bool,
}

fn context<T>(request: &S3Request<T>) -> Context {
    request.extensions.get::<Context>().cloned().unwrap_or_default()
}

/// The operations.
#[derive(Debug)]
pub(crate) struct Api {
    store: Arc<Store>,
    late: Late,
    /// Bytes of the largest object.
    limit: u64,
}

impl Api {
    pub(crate) fn new(store: Arc<Store>, late: Late, limit: u64) -> Self {
        Self { store, late, limit }
    }

    /// Makes changes, or has them held if the request met that fault.
    async fn change(&self, context: &Context, changes: Vec<Change>) -> S3Result<Vec<Result<(), StoreError>>> {
        match &context.gate {
            None => Ok(self.store.apply(changes).await),
            Some(gate) => {
                self.late.hold(gate.clone(), changes);
                Err(S3Error::with_message(S3ErrorCode::InternalError, "held by a fault; nobody reads this"))
            }
        }
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoBucket => S3ErrorCode::NoSuchBucket,
            StoreError::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            StoreError::TooManyBuckets => S3ErrorCode::TooManyBuckets,
            StoreError::NoKey => S3ErrorCode::NoSuchKey,
            StoreError::Precondition => S3ErrorCode::PreconditionFailed,
            StoreError::MetadataTooLarge => S3ErrorCode::MetadataTooLarge,
            StoreError::Damaged(_) | StoreError::Io { .. } | StoreError::Interrupted => S3ErrorCode::InternalError,
        };
        let message = error.to_string();
        let mut answer = Self::with_source(code, Box::new(error));
        answer.set_message(message);
        answer
    }
}

/// `If-None-Match` and `If-Match` of a change. S3 knows the first with `*` only.
///
/// `headers` are those of the request: s3s takes a condition without a value for none at all, and a change that was
/// meant to be conditional must never be made without its condition.
fn condition(
    headers: &HeaderMap,
    none_match: Option<&dto::ETagCondition>,
    matches: Option<&dto::ETagCondition>,
) -> S3Result<Condition> {
    match (none_match, matches) {
        (None, _) if headers.contains_key(IF_NONE_MATCH) => Err(S3Error::new(S3ErrorCode::InvalidArgument)),
        (_, None) if headers.contains_key(IF_MATCH) => Err(S3Error::new(S3ErrorCode::InvalidArgument)),
        (None, None) => Ok(Condition::None),
        (Some(dto::ETagCondition::Any), None) => Ok(Condition::Absent),
        (None, Some(dto::ETagCondition::Any)) => Ok(Condition::Present),
        (None, Some(dto::ETagCondition::ETag(dto::ETag::Strong(etag)))) => Ok(Condition::etag(etag)),
        // a weak tag matches nothing: RFC 9110, 13.1.1
        (None, Some(dto::ETagCondition::ETag(dto::ETag::Weak(_)))) => Ok(Condition::Etag(None)),
        (Some(_), _) => Err(not_implemented("If-None-Match other than * by itself")),
    }
}

/// What the request asks for would be ignored if it were not refused.
fn not_implemented(what: &'static str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NotImplemented, format!("not implemented: {what}"))
}

/// Refuses a request if one of the parameters that are not implemented was given.
fn refuse(given: &[(bool, &'static str)]) -> S3Result<()> {
    match given.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(not_implemented(what)),
        None => Ok(()),
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(&self, request: S3Request<dto::CreateBucketInput>) -> S3Result<S3Response<dto::CreateBucketOutput>> {
        bucket::create(self, request.input).await.map(S3Response::new)
    }

    async fn head_bucket(&self, request: S3Request<dto::HeadBucketInput>) -> S3Result<S3Response<dto::HeadBucketOutput>> {
        bucket::head(self, &request.input).map(S3Response::new)
    }

    async fn list_buckets(&self, request: S3Request<dto::ListBucketsInput>) -> S3Result<S3Response<dto::ListBucketsOutput>> {
        bucket::list(self, &request.input).map(S3Response::new)
    }

    async fn put_object(&self, request: S3Request<dto::PutObjectInput>) -> S3Result<S3Response<dto::PutObjectOutput>> {
        put::put(self, request).await.map(S3Response::new)
    }

    /// By default s3s makes a PUT of a browser's form, whose body it has read into memory.
    async fn post_object(&self, _: S3Request<dto::PostObjectInput>) -> S3Result<S3Response<dto::PostObjectOutput>> {
        Err(not_implemented("POST of an object"))
    }

    async fn get_object(&self, request: S3Request<dto::GetObjectInput>) -> S3Result<S3Response<dto::GetObjectOutput>> {
        get::get(self, &request.input).await.map(S3Response::new)
    }

    async fn head_object(&self, request: S3Request<dto::HeadObjectInput>) -> S3Result<S3Response<dto::HeadObjectOutput>> {
        get::head(self, &request.input).await.map(S3Response::new)
    }

    async fn delete_object(&self, request: S3Request<dto::DeleteObjectInput>) -> S3Result<S3Response<dto::DeleteObjectOutput>> {
        delete::one(self, request).await.map(S3Response::new)
    }

    async fn delete_objects(
        &self,
        request: S3Request<dto::DeleteObjectsInput>,
    ) -> S3Result<S3Response<dto::DeleteObjectsOutput>> {
        delete::many(self, request).await.map(S3Response::new)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<dto::ListObjectsV2Input>,
    ) -> S3Result<S3Response<dto::ListObjectsV2Output>> {
        list::page(self, request).map(S3Response::new)
    }
}
