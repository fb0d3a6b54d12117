// SPDX-License-Identifier: Apache-2.0
//! DELETE, of one and of many.

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::kit::{BUCKET, Kit, refusal, status};

fn identifiers(keys: impl IntoIterator<Item = String>) -> Vec<ObjectIdentifier> {
    keys.into_iter().map(|key| ObjectIdentifier::builder().key(key).build().unwrap()).collect()
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_may_be_deleted_again() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let delete = || kit.client.delete_object().bucket(BUCKET).key("k");
    for _ in 0..2 {
        assert_eq!(status(&delete().send().await), 200);
        assert_eq!(kit.head("k").await, 404);
        assert_eq!(kit.keys().await, [""; 0]);
    }
    assert_eq!(kit.files(), (vec![], vec![]));
    assert_eq!(kit.create("k", "again").await, 200);
}

#[tokio::test]
async fn a_condition_protects_from_deletion() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let delete = |etag: &str| kit.client.delete_object().bucket(BUCKET).key("k").if_match(etag).send();
    let stale = delete("\"00000000000000000000000000000000\"").await;
    assert_eq!(refusal(stale), (412, "PreconditionFailed".to_owned()));
    assert_eq!(kit.get("k").await, "x");
    let etag = kit.etag("k").await;
    assert_eq!(status(&delete(&etag).await), 200);
    assert_eq!(status(&delete(&etag).await), 412);
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let kit = Kit::start_with(|config| config.durable = true).await;
    for n in 0..50 {
        assert_eq!(kit.put(&format!("k/{n:03}"), "x").await, 200);
    }
    let keys = (10..1010).map(|n| format!("k/{n:03}"));
    let delete = Delete::builder().set_objects(Some(identifiers(keys))).build().unwrap();
    let answer = kit.client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert_eq!((answer.deleted().len(), answer.errors().len()), (1000, 0), "also those that never were");
    assert_eq!(answer.deleted()[7].key(), Some("k/017"));
    assert_eq!(kit.keys().await.len(), 10);

    let quiet = Delete::builder().quiet(true).set_objects(Some(identifiers(["k/000".to_owned()]))).build().unwrap();
    let answer = kit.client.delete_objects().bucket(BUCKET).delete(quiet).send().await.unwrap();
    assert_eq!((answer.deleted().len(), answer.errors().len()), (0, 0));
    assert_eq!(kit.keys().await.len(), 9);

    let too_many = Delete::builder().set_objects(Some(identifiers((0..1001).map(|n| n.to_string())))).build().unwrap();
    let refused = kit.client.delete_objects().bucket(BUCKET).delete(too_many).send().await;
    assert_eq!(refusal(refused), (400, "MalformedXML".to_owned()));
}

#[tokio::test]
async fn of_many_each_is_judged_by_itself() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("a", "a").await, 200);
    assert_eq!(kit.put("b", "b").await, 200);
    let stale = ObjectIdentifier::builder().key("a").e_tag("\"00000000000000000000000000000000\"").build().unwrap();
    let fresh = ObjectIdentifier::builder().key("b").e_tag(kit.etag("b").await).build().unwrap();
    let delete = Delete::builder().objects(stale).objects(fresh).build().unwrap();
    let answer = kit.client.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert_eq!(answer.deleted()[0].key(), Some("b"));
    assert_eq!((answer.errors()[0].key(), answer.errors()[0].code()), (Some("a"), Some("PreconditionFailed")));
    assert_eq!(kit.keys().await, ["a"]);
}
