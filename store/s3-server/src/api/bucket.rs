// SPDX-License-Identifier: Apache-2.0
//! CreateBucket, HeadBucket, ListBuckets.

use s3s::S3Result;
use s3s::dto;

use super::{Api, refuse};

pub(super) async fn create(api: &Api, input: dto::CreateBucketInput) -> S3Result<dto::CreateBucketOutput> {
    refuse(&[
        (input.acl.is_some(), "an ACL"),
        (input.grant_full_control.is_some() || input.grant_read.is_some() || input.grant_write.is_some(), "a grant"),
        (input.grant_read_acp.is_some() || input.grant_write_acp.is_some(), "a grant"),
        (input.object_lock_enabled_for_bucket == Some(true), "object lock"),
    ])?;
    let location = format!("/{}", input.bucket);
    api.store.create_bucket(input.bucket).await?;
    Ok(dto::CreateBucketOutput { location: Some(location) })
}

pub(super) fn head(api: &Api, input: &dto::HeadBucketInput) -> S3Result<dto::HeadBucketOutput> {
    api.store.bucket(&input.bucket)?;
    Ok(dto::HeadBucketOutput::default())
}

/// All on one page: there are not more than fit.
pub(super) fn list(api: &Api, input: &dto::ListBucketsInput) -> S3Result<dto::ListBucketsOutput> {
    refuse(&[
        (input.max_buckets.is_some() || input.continuation_token.is_some(), "pages of buckets"),
        (input.bucket_region.is_some(), "regions"),
    ])?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let buckets = api.store.buckets();
    let shown = buckets.iter().filter(|bucket| bucket.name.starts_with(prefix)).map(|bucket| dto::Bucket {
        name: Some(bucket.name.clone()),
        creation_date: Some(bucket.created.into()),
        ..dto::Bucket::default()
    });
    Ok(dto::ListBucketsOutput { buckets: Some(shown.collect()), prefix: input.prefix.clone(), ..Default::default() })
}
