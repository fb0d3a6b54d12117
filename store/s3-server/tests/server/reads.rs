// SPDX-License-Identifier: Apache-2.0
//! GET and HEAD: ranges, conditions, checksums.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ChecksumMode;

use crate::kit::{BUCKET, Kit, refusal, status};

fn get(kit: &Kit, key: &str) -> GetObjectFluentBuilder {
    kit.client.get_object().bucket(BUCKET).key(key)
}

#[tokio::test]
async fn a_range_is_a_part() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "0123456789").await, 200);
    for (range, body, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=4-4", "4", "bytes 4-4/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
    ] {
        let answer = get(&kit, "k").range(range).checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!(answer.content_range(), Some(content_range), "{range}");
        assert_eq!(answer.content_length(), Some(body.len() as i64), "{range}");
        assert_eq!(answer.body.collect().await.unwrap().to_vec(), body.as_bytes(), "{range}");
    }
    for range in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
        let refused = get(&kit, "k").range(range).send().await;
        assert_eq!(refusal(refused), (416, "InvalidRange".to_owned()), "{range}");
    }
    assert_eq!(kit.put("empty", "").await, 200);
    assert_eq!(kit.get("empty").await, "");
    assert_eq!(status(&get(&kit, "empty").range("bytes=-1").send().await), 416);
}

#[tokio::test]
async fn ranges_of_a_large_object_are_its_bytes() {
    let kit = Kit::start().await;
    let body: String = (0..200_000).map(|n| format!("{n:08}")).collect();
    assert_eq!(kit.put("k", &body).await, 200);
    assert_eq!(kit.get("k").await, body);
    for (first, last) in [(0, 131_071), (131_070, 131_073), (1_000_001, 1_599_999)] {
        let answer = get(&kit, "k").range(format!("bytes={first}-{last}")).send().await.unwrap();
        assert_eq!(answer.body.collect().await.unwrap().to_vec(), &body.as_bytes()[first..=last]);
    }
}

#[tokio::test]
async fn conditions_are_kept() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let etag = kit.etag("k").await;
    let other = "\"00000000000000000000000000000000\"";
    assert_eq!(status(&get(&kit, "k").if_match(&etag).send().await), 200);
    assert_eq!(refusal(get(&kit, "k").if_match(other).send().await), (412, "PreconditionFailed".to_owned()));
    assert_eq!(status(&get(&kit, "k").if_none_match(other).send().await), 200);
    assert_eq!(status(&get(&kit, "k").if_none_match(&etag).send().await), 304);
    assert_eq!(status(&get(&kit, "k").if_match("*").send().await), 200);
    assert_eq!(status(&get(&kit, "k").if_none_match("*").send().await), 304);
    let head = || kit.client.head_object().bucket(BUCKET).key("k");
    assert_eq!(status(&head().if_match(other).send().await), 412);
    assert_eq!(status(&head().if_none_match(&etag).send().await), 304);
    assert_eq!(refusal(get(&kit, "nothing").send().await), (404, "NoSuchKey".to_owned()));
    assert_eq!(kit.head("nothing").await, 404);
    // the connection is as good as new after an answer without a body
    assert_eq!(kit.get("k").await, "x");
}

#[tokio::test]
async fn objects_are_as_old_as_the_clock_says() {
    let clock = || UNIX_EPOCH + Duration::from_millis(1_000_000_000_999);
    let kit = Kit::start_with(|config| config.clock = Some(Arc::new(clock))).await;
    assert_eq!(kit.put("k", "x").await, 200);
    let then = DateTime::from_secs(1_000_000_000);
    let head = kit.client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.last_modified(), Some(&then));
    let listed = kit.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(listed.contents()[0].last_modified(), Some(&then));
    assert_eq!(status(&get(&kit, "k").if_modified_since(then).send().await), 304);
    assert_eq!(status(&get(&kit, "k").if_unmodified_since(DateTime::from_secs(999_999_999)).send().await), 412);
}

#[tokio::test]
async fn a_whole_object_has_its_checksum() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let with = get(&kit, "k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert!(with.checksum_crc32().is_some(), "the one that the SDK gave");
    let part = get(&kit, "k").range("bytes=0-0").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert!(part.checksum_crc32().is_none());
    let head = kit.client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled);
    assert_eq!(head.send().await.unwrap().checksum_crc32(), with.checksum_crc32());
}
