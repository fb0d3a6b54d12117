// SPDX-License-Identifier: Apache-2.0
//! DeleteObject and DeleteObjects. What is gone already counts as deleted.

use std::sync::Arc;

use s3s::dto::{self, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::{Api, condition, context, refuse};
use crate::store::{Bucket, Change, Condition};

/// Keys that S3 takes in one DeleteObjects.
const KEYS: usize = 1000;

pub(super) async fn one(api: &Api, request: S3Request<DeleteObjectInput>) -> S3Result<DeleteObjectOutput> {
    let context = context(&request);
    let input = request.input;
    refuse(&[
        (input.version_id.is_some(), "versions"),
        (input.mfa.is_some() || input.bypass_governance_retention.is_some(), "object lock"),
        (input.if_match_last_modified_time.is_some() || input.if_match_size.is_some(), "conditions on time and size"),
    ])?;
    let condition = condition(&request.headers, None, input.if_match.as_ref())?;
    let bucket = api.store.bucket(&input.bucket)?;
    for result in api.change(&context, vec![Change::Delete { bucket, key: input.key, condition }]).await? {
        result?;
    }
    Ok(DeleteObjectOutput::default())
}

pub(super) async fn many(api: &Api, request: S3Request<DeleteObjectsInput>) -> S3Result<DeleteObjectsOutput> {
    let context = context(&request);
    let input = request.input;
    refuse(&[(input.mfa.is_some() || input.bypass_governance_retention.is_some(), "object lock")])?;
    if input.delete.objects.is_empty() || input.delete.objects.len() > KEYS {
        return Err(S3Error::new(S3ErrorCode::MalformedXML));
    }
    let bucket = api.store.bucket(&input.bucket)?;
    let keys: Vec<String> = input.delete.objects.iter().map(|object| object.key.clone()).collect();
    let changes = input.delete.objects.into_iter().map(|object| change(&bucket, object)).collect::<S3Result<_>>()?;
    let results = api.change(&context, changes).await?;

    let quiet = input.delete.quiet == Some(true);
    let mut output = DeleteObjectsOutput { deleted: Some(Vec::new()), errors: Some(Vec::new()), ..Default::default() };
    for (key, result) in keys.into_iter().zip(results) {
        match result {
            Ok(()) if quiet => {}
            Ok(()) => output.deleted.get_or_insert_default().push(dto::DeletedObject { key: Some(key), ..Default::default() }),
            Err(error) => output.errors.get_or_insert_default().push(describe(key, &error.into())),
        }
    }
    Ok(output)
}

fn change(bucket: &Arc<Bucket>, object: dto::ObjectIdentifier) -> S3Result<Change> {
    refuse(&[
        (object.version_id.is_some(), "versions"),
        (object.last_modified_time.is_some() || object.size.is_some(), "conditions on time and size"),
    ])?;
    let condition = match object.e_tag {
        None => Condition::None,
        Some(dto::ETag::Strong(etag)) => Condition::etag(&etag),
        Some(dto::ETag::Weak(_)) => Condition::Etag(None),
    };
    Ok(Change::Delete { bucket: Arc::clone(bucket), key: object.key, condition })
}

fn describe(key: String, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key),
        message: error.message().map(str::to_owned),
        version_id: None,
    }
}
