// SPDX-License-Identifier: Apache-2.0
//! PutObject: receive, check, seal, commit. Until the commit nothing is visible; whatever fails before leaves nothing.

use std::sync::Arc;

use http::StatusCode;
use s3s::dto::{self, PutObjectInput, PutObjectOutput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::checksum::{self, Promised};
use super::{Api, Context, condition, context, refuse};
use crate::front::{Upload, UploadError};
use crate::refusal;
use crate::store::{Bucket, Change, Condition, Headers, Meta, ReceiveError, Received, StoreError};

/// Bytes of user metadata, names and values, that S3 takes.
const USER_METADATA: usize = 2048;

pub(super) async fn put(api: &Api, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
    let context = context(&request);
    let promised = Promised::read(&request.headers)?;
    let signed_digest = request.headers.get("x-amz-content-sha256").is_some_and(|value| value.len() == 64);
    let (mut input, trailers) = (request.input, request.trailing_headers);
    refuse_unknown(&input)?;
    let mut condition = condition(&request.headers, input.if_none_match.as_ref(), input.if_match.as_ref())?;
    if context.unconditional {
        condition = Condition::None;
    }
    let bucket = api.store.bucket(&input.bucket)?;
    let length = length(&input, api.limit)?;
    let body = input.body.take().ok_or_else(|| S3Error::new(S3ErrorCode::IncompleteBody))?;

    let received = api.store.receive(body, length, promised.digests()).await;
    let received = received.map_err(|error| refused_body(error, &context, signed_digest))?;
    let mut promised = promised;
    promised.add_trailers(&trailers.and_then(|trailers| trailers.take()).unwrap_or_default())?;
    promised.check(received.md5, &received.checksums)?;

    let (staged, output) = seal(api, bucket, input, received, promised.kept()).await?;
    let changes = vec![Change::Put { staged: Box::new(staged), condition }];
    for result in api.change(&context, changes).await? {
        result?;
    }
    Ok(output)
}

/// Makes the received body an object-to-be, and the answer it will get.
async fn seal(
    api: &Api,
    bucket: Arc<Bucket>,
    input: PutObjectInput,
    received: Received,
    checksum: Option<(String, String)>,
) -> S3Result<(crate::store::Staged, PutObjectOutput)> {
    let meta = meta(input, &received, checksum)?;
    let given = meta.checksum.clone().map(|(header, value)| checksum::single(&header, value)).unwrap_or_default();
    let output = PutObjectOutput {
        e_tag: Some(dto::ETag::Strong(meta.etag())),
        checksum_type: meta.checksum.as_ref().map(|_| dto::ChecksumType::from_static(dto::ChecksumType::FULL_OBJECT)),
        checksum_crc32: given.checksum_crc32,
        checksum_crc32c: given.checksum_crc32c,
        checksum_crc64nvme: given.checksum_crc64nvme,
        checksum_sha1: given.checksum_sha1,
        checksum_sha256: given.checksum_sha256,
        ..PutObjectOutput::default()
    };
    Ok((api.store.seal(received, bucket, meta).await?, output))
}

fn meta(input: PutObjectInput, received: &Received, checksum: Option<(String, String)>) -> S3Result<Meta> {
    let user = input.metadata.unwrap_or_default();
    if user.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > USER_METADATA {
        return Err(StoreError::MetadataTooLarge.into());
    }
    Ok(Meta {
        key: input.key,
        size: received.size,
        md5: received.md5,
        sha256: received.checksums.checksum_sha256.clone().unwrap_or_default(),
        checksum,
        modified: received.modified,
        headers: Headers {
            content_type: input.content_type,
            content_encoding: input.content_encoding.and_then(|encoding| without_chunked(&encoding)),
            content_language: input.content_language,
            content_disposition: input.content_disposition,
            cache_control: input.cache_control,
        },
        user: user.into_iter().collect(),
    })
}

/// `aws-chunked` is how the body travelled, not what it is.
fn without_chunked(encoding: &str) -> Option<String> {
    let kept: Vec<&str> = encoding.split(',').map(str::trim).filter(|name| *name != "aws-chunked").collect();
    let kept = kept.join(",");
    (!kept.is_empty()).then_some(kept)
}

fn length(input: &PutObjectInput, limit: u64) -> S3Result<u64> {
    let length = input.content_length.ok_or_else(|| S3Error::new(S3ErrorCode::MissingContentLength))?;
    let length = u64::try_from(length).map_err(|_| S3Error::new(S3ErrorCode::InvalidArgument))?;
    if length > limit { Err(S3Error::new(S3ErrorCode::EntityTooLarge)) } else { Ok(length) }
}

fn refuse_unknown(input: &PutObjectInput) -> S3Result<()> {
    let grants = [&input.grant_full_control, &input.grant_read, &input.grant_read_acp, &input.grant_write_acp];
    let storage_class = input.storage_class.as_ref().is_some_and(|class| class.as_str() != dto::StorageClass::STANDARD);
    refuse(&[
        (input.acl.is_some() || grants.iter().any(|grant| grant.is_some()), "an ACL"),
        (input.expires.is_some(), "Expires"),
        (input.object_lock_legal_hold_status.is_some() || input.object_lock_mode.is_some(), "object lock"),
        (input.object_lock_retain_until_date.is_some(), "object lock"),
        (input.server_side_encryption.is_some() || input.ssekms_key_id.is_some(), "encryption"),
        (input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some(), "encryption"),
        (storage_class, "storage classes"),
        (input.tagging.is_some(), "tags"),
        (input.website_redirect_location.is_some(), "redirects"),
        (input.write_offset_bytes.is_some(), "appending"),
    ])
}

/// What to answer when the body didn't arrive as it should.
fn refused_body(error: ReceiveError, context: &Context, signed_digest: bool) -> S3Error {
    let mut answer = match &error {
        ReceiveError::Store(_) => S3Error::new(S3ErrorCode::InternalError),
        ReceiveError::Length => S3Error::new(S3ErrorCode::IncompleteBody),
        ReceiveError::Body(_) => match context.upload.as_ref().and_then(Upload::failure) {
            Some(UploadError::Stalled) => S3Error::new(S3ErrorCode::RequestTimeout),
            Some(UploadError::ChunkTooLarge) => refusal::named("InvalidChunkSizeError", StatusCode::BAD_REQUEST),
            Some(UploadError::Broken) => S3Error::new(S3ErrorCode::IncompleteBody),
            // the connection is fine: s3s found that the body is not what was signed
            None if signed_digest => refusal::named("XAmzContentSHA256Mismatch", StatusCode::BAD_REQUEST),
            None => S3Error::new(S3ErrorCode::IncompleteBody),
        },
    };
    answer.set_message(error.to_string());
    answer.set_source(Box::new(error));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_of_the_way_is_not_kept() {
        assert_eq!(without_chunked("aws-chunked"), None);
        assert_eq!(without_chunked("aws-chunked,gzip").as_deref(), Some("gzip"));
        assert_eq!(without_chunked("gzip").as_deref(), Some("gzip"));
    }
}
