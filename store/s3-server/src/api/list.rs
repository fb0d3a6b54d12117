// SPDX-License-Identifier: Apache-2.0
//! ListObjectsV2.

use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{self, ListObjectsV2Input, ListObjectsV2Output};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};

use super::{Api, context, refuse};
use crate::store::{Begin, Entry, Query};

/// Keys and common prefixes on a page.
const PAGE: i32 = 1000;
/// What `encoding-type=url` leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');

pub(super) fn page(api: &Api, request: S3Request<ListObjectsV2Input>) -> S3Result<ListObjectsV2Output> {
    let context = context(&request);
    let input = request.input;
    refuse(&[(input.optional_object_attributes.is_some(), "attributes of listed objects")])?;
    let encode = encoding(input.encoding_type.as_ref())?;
    let bucket = api.store.bucket(&input.bucket)?;
    let limit = input.max_keys.unwrap_or(PAGE);
    if limit < 0 {
        return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, "max-keys is negative"));
    }
    let limit = limit.min(PAGE);
    let found = bucket.page(&Query {
        prefix: input.prefix.as_deref().unwrap_or_default(),
        delimiter: input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
        from: begin(&input)?,
        limit: usize::try_from(limit).unwrap_or(0),
        omit: &context.omit,
    });
    let count = i32::try_from(found.objects.len() + found.prefixes.len()).unwrap_or(i32::MAX);
    let object = |(key, entry): (String, Entry)| object(encode(key), entry);
    let prefix = |prefix| dto::CommonPrefix { prefix: Some(encode(prefix)) };
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encode(input.prefix.unwrap_or_default())),
        max_keys: Some(limit),
        key_count: Some(count),
        continuation_token: input.continuation_token,
        is_truncated: Some(found.next.is_some()),
        next_continuation_token: found.next.as_ref().map(token),
        contents: Some(found.objects.into_iter().map(object).collect()),
        common_prefixes: Some(found.prefixes.into_iter().map(prefix).collect()),
        delimiter: input.delimiter.map(encode),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(encode),
        request_charged: None,
    })
}

fn object(key: String, entry: Entry) -> dto::Object {
    dto::Object {
        e_tag: Some(dto::ETag::Strong(hex::encode(entry.md5))),
        key: Some(key),
        last_modified: Some((UNIX_EPOCH + Duration::from_secs(entry.modified)).into()),
        size: i64::try_from(entry.size).ok(),
        storage_class: Some(dto::ObjectStorageClass::from_static(dto::ObjectStorageClass::STANDARD)),
        ..dto::Object::default()
    }
}

/// How texts go into the answer: XML can't say every character that a key may have.
fn encoding(wanted: Option<&dto::EncodingType>) -> S3Result<fn(String) -> String> {
    match wanted.map(dto::EncodingType::as_str) {
        None => Ok(|text| text),
        Some(dto::EncodingType::URL) => Ok(|text| utf8_percent_encode(&text, ENCODED).to_string()),
        Some(_) => Err(S3Error::with_message(S3ErrorCode::InvalidArgument, "encoding-type is not url")),
    }
}

fn begin(input: &ListObjectsV2Input) -> S3Result<Begin> {
    let invalid = || S3Error::with_message(S3ErrorCode::InvalidArgument, "the continuation token is not one of ours");
    match (input.continuation_token.as_deref(), &input.start_after) {
        (Some(token), _) => parse(token).ok_or_else(invalid),
        (None, Some(key)) if !key.is_empty() => Ok(Begin::AfterKey(key.clone())),
        _ => Ok(Begin::Start),
    }
}

fn token(begin: &Begin) -> String {
    match begin {
        Begin::Start => "s".to_owned(),
        Begin::AfterKey(key) => format!("k{}", hex::encode(key)),
        Begin::AfterPrefix(prefix) => format!("p{}", hex::encode(prefix)),
    }
}

fn parse(token: &str) -> Option<Begin> {
    let text = |digits| String::from_utf8(hex::decode(digits).ok()?).ok();
    match token.split_at_checked(1)? {
        ("s", "") => Some(Begin::Start),
        ("k", digits) => text(digits).map(Begin::AfterKey),
        ("p", digits) => text(digits).map(Begin::AfterPrefix),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for begin in [Begin::Start, Begin::AfterKey("a/é".into()), Begin::AfterPrefix(String::new())] {
            assert_eq!(parse(&token(&begin)), Some(begin));
        }
        for other in ["", "k", "é", "kzz", "kff", "x00"] {
            assert!(!matches!(parse(other), Some(Begin::AfterPrefix(_))), "{other}");
        }
        assert_eq!(parse("kff"), None, "not UTF-8");
    }

    #[test]
    fn keys_are_encoded_on_demand() {
        let url = dto::EncodingType::from_static(dto::EncodingType::URL);
        assert_eq!(encoding(Some(&url)).unwrap()("a/b c\n+é".into()), "a/b%20c%0A%2B%C3%A9");
        assert_eq!(encoding(None).unwrap()("a b".into()), "a b");
        assert!(encoding(Some(&dto::EncodingType::from_static("base64"))).is_err());
    }
}
