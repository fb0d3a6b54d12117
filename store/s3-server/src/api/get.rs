// SPDX-License-Identifier: Apache-2.0
//! GetObject and HeadObject.

mod body;
mod conditions;

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use s3s::dto::{self, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::{Api, checksum, refuse};
use crate::store::Meta;
use body::ObjectBody;
use conditions::Conditions;

pub(super) async fn get(api: &Api, input: &GetObjectInput) -> S3Result<GetObjectOutput> {
    refuse(&[
        (input.part_number.is_some(), "parts"),
        (input.version_id.is_some(), "versions"),
        (input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some(), "encryption"),
    ])?;
    let bucket = api.store.bucket(&input.bucket)?;
    let (file, meta) = api.store.open_object(&bucket, &input.key).await?;
    let conditions = Conditions {
        matches: input.if_match.as_ref(),
        none_match: input.if_none_match.as_ref(),
        modified_since: input.if_modified_since.as_ref(),
        unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&etag(&meta), &modified(&meta))?;
    let range = input.range.map(|range| resolve(range, meta.size)).transpose()?;
    let body = body(file, range.clone().unwrap_or(0..meta.size))?;
    let output = describe(meta, range, input.checksum_mode.is_some());
    Ok(GetObjectOutput { body: Some(dto::StreamingBlob::new(body)), ..output })
}

pub(super) async fn head(api: &Api, input: &HeadObjectInput) -> S3Result<HeadObjectOutput> {
    refuse(&[
        (input.part_number.is_some(), "parts"),
        (input.version_id.is_some(), "versions"),
        (input.range.is_some(), "HEAD of a range"),
        (input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some(), "encryption"),
    ])?;
    let bucket = api.store.bucket(&input.bucket)?;
    let (_, meta) = api.store.open_object(&bucket, &input.key).await?;
    let conditions = Conditions {
        matches: input.if_match.as_ref(),
        none_match: input.if_none_match.as_ref(),
        modified_since: input.if_modified_since.as_ref(),
        unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(&etag(&meta), &modified(&meta))?;
    Ok(without_body(describe(meta, None, input.checksum_mode.is_some())))
}

/// The bytes of an object that a range means. RFC 9110, 14.1.2; unlike s3s's own, nothing of nothing is not a range.
fn resolve(range: dto::Range, size: u64) -> S3Result<Range<u64>> {
    let bytes = match range {
        dto::Range::Int { first, last } => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
        dto::Range::Suffix { length } => size.saturating_sub(length)..size,
    };
    if bytes.is_empty() { Err(S3Error::new(S3ErrorCode::InvalidRange)) } else { Ok(bytes) }
}

fn body(mut file: File, bytes: Range<u64>) -> S3Result<ObjectBody> {
    file.seek(SeekFrom::Start(bytes.start)).map_err(S3Error::internal_error)?;
    Ok(ObjectBody::new(tokio::fs::File::from_std(file), bytes.end - bytes.start))
}

fn etag(meta: &Meta) -> dto::ETag {
    dto::ETag::Strong(meta.etag())
}

fn modified(meta: &Meta) -> dto::Timestamp {
    (UNIX_EPOCH + Duration::from_secs(meta.modified)).into()
}

/// Everything but the body. A checksum is of the whole object, so it is not sent with a part of it.
fn describe(meta: Meta, range: Option<Range<u64>>, checksums: bool) -> GetObjectOutput {
    let sums = if checksums && range.is_none() {
        let own = || ("x-amz-checksum-sha256".to_owned(), meta.sha256.clone());
        let (header, value) = meta.checksum.clone().unwrap_or_else(own);
        checksum::single(&header, value)
    } else {
        dto::Checksum::default()
    };
    let full = dto::ChecksumType::from_static(dto::ChecksumType::FULL_OBJECT);
    let length = range.as_ref().map_or(meta.size, |range| range.end - range.start);
    GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(length).ok(),
        content_range: range.map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size)),
        e_tag: Some(etag(&meta)),
        last_modified: Some(modified(&meta)),
        checksum_type: (checksums && length == meta.size).then_some(full),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        content_type: meta.headers.content_type,
        content_encoding: meta.headers.content_encoding,
        content_language: meta.headers.content_language,
        content_disposition: meta.headers.content_disposition,
        cache_control: meta.headers.cache_control,
        metadata: (!meta.user.is_empty()).then(|| meta.user.into_iter().collect()),
        ..GetObjectOutput::default()
    }
}

fn without_body(output: GetObjectOutput) -> HeadObjectOutput {
    HeadObjectOutput {
        accept_ranges: output.accept_ranges,
        content_length: output.content_length,
        e_tag: output.e_tag,
        last_modified: output.last_modified,
        checksum_type: output.checksum_type,
        checksum_crc32: output.checksum_crc32,
        checksum_crc32c: output.checksum_crc32c,
        checksum_crc64nvme: output.checksum_crc64nvme,
        checksum_sha1: output.checksum_sha1,
        checksum_sha256: output.checksum_sha256,
        content_type: output.content_type,
        content_encoding: output.content_encoding,
        content_language: output.content_language,
        content_disposition: output.content_disposition,
        cache_control: output.cache_control,
        metadata: output.metadata,
        ..HeadObjectOutput::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_rfc_9110_says() {
        let int = |first, last| dto::Range::Int { first, last };
        let suffix = |length| dto::Range::Suffix { length };
        for (range, size, expected) in [
            (int(0, Some(4)), 10, Some(0..5)),
            (int(0, Some(0)), 10, Some(0..1)),
            (int(9, Some(100)), 10, Some(9..10)),
            (int(9, Some(u64::MAX)), 10, Some(9..10)),
            (int(4, None), 10, Some(4..10)),
            (int(10, None), 10, None),
            (int(10, Some(12)), 10, None),
            (suffix(3), 10, Some(7..10)),
            (suffix(30), 10, Some(0..10)),
            (suffix(0), 10, None),
            (suffix(1), 0, None),
            (int(0, None), 0, None),
        ] {
            assert_eq!(resolve(range, size).ok(), expected, "{range:?} of {size}");
        }
    }
}
