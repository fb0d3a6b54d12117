// SPDX-License-Identifier: Apache-2.0
//! Buckets, and the operations that are not there.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ObjectLockMode, VersioningConfiguration};

use crate::kit::{BUCKET, Kit, client, head_of, refusal, send, status};

#[tokio::test]
async fn buckets_are_created_found_and_listed() {
    let kit = Kit::start().await;
    let create = |name: &str| kit.client.create_bucket().bucket(name).send();
    create("another").await.unwrap();
    assert_eq!(refusal(create("another").await), (409, "BucketAlreadyOwnedByYou".to_owned()));
    assert_eq!(status(&create("Not_A_Bucket").await), 400);
    assert_eq!(status(&kit.client.head_bucket().bucket("another").send().await), 200);
    assert_eq!(status(&kit.client.head_bucket().bucket("nothing").send().await), 404);
    let listed = kit.client.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed.buckets().iter().map(|bucket| bucket.name().unwrap()).collect();
    assert_eq!(names, ["another", BUCKET]);

    // a key in one is not a key in the other
    assert_eq!(kit.put("k", "x").await, 200);
    assert_eq!(status(&kit.client.head_object().bucket("another").key("k").send().await), 404);
    let kit = kit.restart().await;
    assert_eq!(kit.client.list_buckets().send().await.unwrap().buckets().len(), 2);
}

#[tokio::test]
async fn without_its_bucket_nothing_works() {
    let kit = Kit::start().await;
    let missing = (404, "NoSuchBucket".to_owned());
    let put = kit.client.put_object().bucket("nothing").key("k").body(ByteStream::from_static(b"x"));
    assert_eq!(refusal(put.send().await), missing);
    assert_eq!(refusal(kit.client.get_object().bucket("nothing").key("k").send().await), missing);
    assert_eq!(refusal(kit.client.delete_object().bucket("nothing").key("k").send().await), missing);
    assert_eq!(refusal(kit.client.list_objects_v2().bucket("nothing").send().await), missing);
}

#[tokio::test]
async fn a_hundred_buckets_are_enough() {
    let kit = Kit::start().await;
    for n in 1..100 {
        kit.client.create_bucket().bucket(format!("bucket-{n}")).send().await.unwrap();
    }
    let one_more = kit.client.create_bucket().bucket("one-more").send().await;
    assert_eq!(refusal(one_more), (400, "TooManyBuckets".to_owned()));
}

#[tokio::test]
async fn the_secret_must_be_right() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let other = client(&kit.server.endpoint(), "another secret");
    let wrong = (403, "SignatureDoesNotMatch".to_owned());
    assert_eq!(refusal(other.get_object().bucket(BUCKET).key("k").send().await), wrong);
    assert_eq!(refusal(other.list_objects_v2().bucket(BUCKET).send().await), wrong);
    // a client that sends a large body before it reads must get to see the answer
    let presigning = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let put = other.put_object().bucket(BUCKET).key("k").presigned(presigning).await.unwrap();
    let large = [head_of(&put, "content-length: 33554432\r\n").as_bytes(), &vec![b'x'; 32 << 20]].concat();
    assert_eq!(send(&kit.server, &large).await.unwrap().status, 403);
    assert_eq!(kit.get("k").await, "x");
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let absent = (501, "NotImplemented".to_owned());
    assert_eq!(refusal(kit.client.create_multipart_upload().bucket(BUCKET).key("k").send().await), absent);
    assert_eq!(refusal(kit.client.list_multipart_uploads().bucket(BUCKET).send().await), absent);
    assert_eq!(refusal(kit.client.copy_object().bucket(BUCKET).key("c").copy_source("bucket/k").send().await), absent);
    let versions = VersioningConfiguration::builder().build();
    let versioning = kit.client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versions);
    assert_eq!(refusal(versioning.send().await), absent);
    assert_eq!(refusal(kit.client.list_object_versions().bucket(BUCKET).send().await), absent);
    assert_eq!(refusal(kit.client.get_object_tagging().bucket(BUCKET).key("k").send().await), absent);
    assert_eq!(refusal(kit.client.get_object().bucket(BUCKET).key("k").version_id("v").send().await), absent);
    assert_eq!(refusal(kit.client.list_objects().bucket(BUCKET).send().await), absent);
    assert_eq!(refusal(kit.client.delete_bucket().bucket(BUCKET).send().await), absent);
    let locked = kit.client.put_object().bucket(BUCKET).key("k").object_lock_mode(ObjectLockMode::Compliance);
    assert_eq!(refusal(locked.send().await), absent);
    assert_eq!(kit.get("k").await, "x");
}
