// SPDX-License-Identifier: Apache-2.0
//! Presigned requests, sent by something that has no key.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};

use crate::kit::{BUCKET, Kit, Raw, client, head_of, send};

fn minute() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(60)).unwrap()
}

/// Signed two hours ago, valid for so long.
fn old(valid: Duration) -> PresigningConfig {
    // the server looks at the real clock
    #[expect(clippy::disallowed_methods, reason = "the signature is checked against the system's clock")]
    let signed = SystemTime::now() - Duration::from_secs(7200);
    PresigningConfig::builder().start_time(signed).expires_in(valid).build().unwrap()
}

async fn sent(kit: &Kit, request: &PresignedRequest, body: &str) -> Raw {
    let head = head_of(request, &format!("content-length: {}\r\n", body.len()));
    send(&kit.server, format!("{head}{body}").as_bytes()).await.unwrap()
}

fn code(answer: &Raw) -> String {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let (_, rest) = text.split_once("<Code>").unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_get_may_be_passed_on() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("a key/é", "0123456789").await, 200);
    let get = kit.client.get_object().bucket(BUCKET).key("a key/é").presigned(minute()).await.unwrap();
    let answer = sent(&kit, &get, "").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"0123456789"[..]));
    let part = send(&kit.server, head_of(&get, "range: bytes=2-4\r\n").as_bytes()).await.unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &b"234"[..]));
    let known = head_of(&get, &format!("if-none-match: {}\r\n", kit.etag("a key/é").await));
    let known = send(&kit.server, known.as_bytes()).await.unwrap();
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert!(known.head.to_ascii_lowercase().contains("\r\netag: "), "{}", known.head);
}

#[tokio::test]
async fn a_put_may_be_passed_on() {
    let kit = Kit::start().await;
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(minute()).await.unwrap();
    assert_eq!(sent(&kit, &put, "first").await.status, 200);
    assert_eq!(sent(&kit, &put, "second").await.status, 200);
    assert_eq!(kit.get("k").await, "second");
}

#[tokio::test]
async fn a_signed_condition_can_not_be_left_out() {
    let kit = Kit::start().await;
    let put = kit.client.put_object().bucket(BUCKET).key("k").if_none_match("*").presigned(minute()).await.unwrap();
    assert!(put.headers().any(|(name, value)| name == "if-none-match" && value == "*"), "{put:?}");
    let without = head_of(&put, "content-length: 1\r\n").replace("if-none-match: *\r\n", "");
    let refused = send(&kit.server, format!("{without}x").as_bytes()).await.unwrap();
    assert_eq!((refused.status, code(&refused)), (403, "SignatureDoesNotMatch".to_owned()));
    assert_eq!(kit.head("k").await, 404);
    assert_eq!(sent(&kit, &put, "first").await.status, 200);
    let second = sent(&kit, &put, "second").await;
    assert_eq!((second.status, code(&second)), (412, "PreconditionFailed".to_owned()));
    assert_eq!(kit.get("k").await, "first");
}

#[tokio::test]
async fn it_ends_when_it_says_and_means_what_it_says() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "x").await, 200);
    let get = || kit.client.get_object().bucket(BUCKET).key("k");
    let expired = sent(&kit, &get().presigned(old(Duration::from_secs(7100))).await.unwrap(), "").await;
    assert_eq!((expired.status, code(&expired)), (403, "AccessDenied".to_owned()));
    let valid = get().presigned(old(Duration::from_secs(9000))).await.unwrap();
    assert_eq!(sent(&kit, &valid, "").await.status, 200);

    let signed = get().presigned(minute()).await.unwrap();
    let head = head_of(&signed, "");
    for (from, to) in [("/bucket/k?", "/bucket/j?"), ("GET /", "PUT /"), ("Expires=60", "Expires=61")] {
        assert!(head.contains(from));
        let refused = send(&kit.server, head.replacen(from, to, 1).as_bytes()).await.unwrap();
        assert_eq!((refused.status, code(&refused)), (403, "SignatureDoesNotMatch".to_owned()), "{to}");
    }
    let other = client(&kit.server.endpoint(), "another secret");
    let forged = other.get_object().bucket(BUCKET).key("k").presigned(minute()).await.unwrap();
    assert_eq!(sent(&kit, &forged, "").await.status, 403);
    let anonymous = "GET /bucket/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(send(&kit.server, anonymous.as_bytes()).await.unwrap().status, 403);
}

#[tokio::test]
async fn a_condition_that_says_nothing_is_refused() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "before").await, 200);
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(minute()).await.unwrap();
    let delete = kit.client.delete_object().bucket(BUCKET).key("k").presigned(minute()).await.unwrap();
    for (request, header) in [(&put, "if-none-match"), (&put, "if-match"), (&delete, "if-none-match"), (&delete, "if-match")] {
        let head = head_of(request, &format!("content-length: 0\r\n{header}: \r\n"));
        let refused = send(&kit.server, head.as_bytes()).await.unwrap();
        assert_eq!((refused.status, code(&refused)), (400, "InvalidArgument".to_owned()), "{header}");
    }
    assert_eq!(kit.get("k").await, "before");
}
