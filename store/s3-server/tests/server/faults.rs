// SPDX-License-Identifier: Apache-2.0
//! Every fault does what it says, to the requests it is meant for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::{ChecksumMode, Delete, ObjectIdentifier};
use holdfast_s3_server::{Fault, Faults, Gate, Outcome, Request};
use http::{Method, StatusCode};

use crate::kit::{BUCKET, Kit, head_of, refusal, send, status, until};

#[tokio::test]
async fn an_answer_instead_of_the_change() {
    let kit = Kit::start().await;
    for (status, code) in [
        (500, "InternalError"),
        (503, "SlowDown"),
        (409, "ConditionalRequestConflict"),
        (403, "AccessDenied"),
        (412, "PreconditionFailed"),
        (429, "TooManyRequests"),
    ] {
        kit.script.nth(Method::PUT, "k", 1, Fault::Answer(StatusCode::from_u16(status).unwrap()));
        let put = kit.client.put_object().bucket(BUCKET).key("k").body(b"x".to_vec().into());
        assert_eq!(refusal(put.send().await), (status, code.to_owned()));
        assert_eq!(kit.head("k").await, 404);
        kit.script.clear();
    }
    assert_eq!(kit.put("k", "x").await, 200);
    kit.script.nth(Method::HEAD, "", 1, Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(kit.head("k").await, 503);
    assert_eq!(kit.head("k").await, 200);
    assert_eq!(kit.script.fired(), 7);

    // a client that sends a large body before it reads must get to see the answer
    kit.script.nth(Method::PUT, "k", 1, Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    let put = kit.client.put_object().bucket(BUCKET).key("k").presigned(presigning()).await.unwrap();
    let large = [head_of(&put, "content-length: 33554432\r\n").as_bytes(), &vec![b'x'; 32 << 20]].concat();
    assert_eq!(send(&kit.server, &large).await.unwrap().status, 503);
}

#[tokio::test]
async fn the_change_without_the_answer() {
    let kit = Kit::start().await;
    kit.script.nth(Method::PUT, "log/", 2, Fault::ApplyThenDrop);
    assert_eq!(kit.create("log/1", "one").await, 200);
    assert_eq!(kit.create("log/2", "two").await, 0);
    assert_eq!(kit.create("log/3", "three").await, 200);
    assert_eq!(kit.get("log/2").await, "two");
    assert_eq!(kit.create("log/2", "two again").await, 412, "the client can find out");
    kit.script.nth(Method::DELETE, "log/2", 1, Fault::ApplyThenDrop);
    assert_eq!(status(&kit.client.delete_object().bucket(BUCKET).key("log/2").send().await), 0);
    assert_eq!(kit.head("log/2").await, 404);
}

#[tokio::test]
async fn the_change_with_a_wrong_answer() {
    let kit = Kit::start().await;
    kit.script.nth(Method::PUT, "k", 1, Fault::ApplyThenAnswer(StatusCode::INTERNAL_SERVER_ERROR));
    let put = kit.client.put_object().bucket(BUCKET).key("k").body(b"x".to_vec().into()).send().await;
    assert_eq!(refusal(put), (500, "InternalError".to_owned()));
    assert_eq!(kit.get("k").await, "x");
}

#[tokio::test]
async fn the_change_when_its_time_has_come() {
    let kit = Kit::start().await;
    let gate = Gate::shut();
    kit.script.nth(Method::PUT, "k", 1, Fault::ApplyLater(gate.clone()));
    assert_eq!(kit.create("k", "late").await, 0);
    assert_eq!(kit.head("k").await, 404);
    gate.open();
    assert_eq!(gate.outcomes(1).await, [Outcome::Applied]);
    assert_eq!(kit.get("k").await, "late");

    let delayed = Gate::after(Duration::from_millis(50));
    kit.script.nth(Method::DELETE, "k", 1, Fault::ApplyLater(delayed.clone()));
    let before = Instant::now();
    assert_eq!(status(&kit.client.delete_object().bucket(BUCKET).key("k").send().await), 0);
    assert_eq!(delayed.outcomes(1).await, [Outcome::Applied]);
    assert!(before.elapsed() >= Duration::from_millis(50));
    assert_eq!(kit.head("k").await, 404);
}

#[tokio::test]
async fn a_late_change_is_judged_when_it_is_made() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("cas", "one").await, 200);
    let etag = kit.etag("cas").await;
    let gate = Gate::shut();
    kit.script.range(Method::PUT, "", 1..=2, Fault::ApplyLater(gate.clone()));
    assert_eq!(kit.create("new", "late").await, 0);
    let replace = kit.client.put_object().bucket(BUCKET).key("cas").if_match(&etag).body(b"late".to_vec().into());
    assert_eq!(status(&replace.send().await), 0);
    // somebody else is faster
    assert_eq!(kit.create("new", "fast").await, 200);
    assert_eq!(kit.put("cas", "fast").await, 200);
    gate.open();
    assert_eq!(gate.outcomes(2).await, [Outcome::Refused(StatusCode::PRECONDITION_FAILED); 2]);
    assert_eq!((kit.get("new").await, kit.get("cas").await), ("fast".to_owned(), "fast".to_owned()));
    assert_eq!(kit.files().1.len(), 0);
}

#[tokio::test]
async fn a_late_change_is_not_made_by_a_server_that_ended() {
    let kit = Kit::start_with(|config| config.limits.held = 1).await;
    let gate = Gate::shut();
    kit.script.always(Method::PUT, "", Fault::ApplyLater(gate.clone()));
    assert_eq!(kit.put("held", "x").await, 0);
    assert_eq!(kit.put("one too many", "x").await, 0);
    assert_eq!(gate.outcomes(1).await, [Outcome::Abandoned]);
    let kit = kit.restart().await;
    assert_eq!(gate.outcomes(2).await, [Outcome::Abandoned; 2]);
    assert_eq!(kit.files(), (vec![], vec![]));
}

#[tokio::test]
async fn a_late_change_was_checked_before() {
    let kit = Kit::start().await;
    let gate = Gate::shut();
    kit.script.nth(Method::PUT, "k", 1, Fault::ApplyLater(gate.clone()));
    let wrong = kit.client.put_object().bucket(BUCKET).key("k").checksum_crc32("AAAAAA==").body(b"x".to_vec().into());
    assert_eq!(status(&wrong.send().await), 0);
    assert_eq!(kit.files(), (vec![], vec![]), "it isn't even held");
}

/// What a [`Script`](holdfast_s3_server::Script) can't say: every DeleteObjects is late.
struct LateDeletions(Gate);

impl Faults for LateDeletions {
    fn decide(&self, request: &Request<'_>) -> Option<Fault> {
        let many = request.method == Method::POST && request.key.is_empty() && request.query.starts_with("delete");
        many.then(|| Fault::ApplyLater(self.0.clone()))
    }
}

#[tokio::test]
async fn many_deletions_may_be_late_too() {
    let gate = Gate::shut();
    let faults = Arc::new(LateDeletions(gate.clone()));
    let kit = Kit::start_with(|config| config.faults = Some(faults)).await;
    assert_eq!(kit.put("a", "x").await, 200);
    assert_eq!(kit.put("b", "x").await, 200);
    let identifier = |key| ObjectIdentifier::builder().key(key).build().unwrap();
    let delete = Delete::builder().objects(identifier("a")).objects(identifier("b")).build().unwrap();
    assert_eq!(status(&kit.client.delete_objects().bucket(BUCKET).delete(delete).send().await), 0);
    assert_eq!(kit.keys().await, ["a", "b"]);
    gate.open();
    assert_eq!(gate.outcomes(1).await, [Outcome::Applied]);
    assert_eq!(kit.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_request_that_takes_its_time() {
    let kit = Kit::start().await;
    kit.script.nth(Method::PUT, "k", 1, Fault::Delay(Duration::from_millis(80)));
    let before = Instant::now();
    assert_eq!(kit.put("k", "x").await, 200);
    assert!(before.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_body_that_breaks_off() {
    let kit = Kit::start().await;
    let body = "0123456789".repeat(100_000);
    assert_eq!(kit.put("k", &body).await, 200);
    for after in [0_usize, 1, 70_000, 999_999] {
        kit.script.nth(Method::GET, "k", 1, Fault::TruncateBody { after: after as u64 });
        let get = kit.client.get_object().bucket(BUCKET).key("k").presigned(presigning()).await.unwrap();
        let answer = send(&kit.server, head_of(&get, "").as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-length: 1000000"), "{}", answer.head);
        assert!(answer.body.len() <= after && body.as_bytes().starts_with(&answer.body), "{after}: {}", answer.body.len());

        kit.script.nth(Method::GET, "k", 1, Fault::TruncateBody { after: after as u64 });
        if let Ok(answer) = kit.client.get_object().bucket(BUCKET).key("k").send().await {
            assert!(answer.body.collect().await.is_err(), "{after}");
        }
    }
    assert_eq!(kit.get("k").await, body);
}

fn presigning() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(60)).unwrap()
}

#[tokio::test]
async fn a_body_that_is_wrong() {
    let kit = Kit::start().await;
    assert_eq!(kit.put("k", "0123456789").await, 200);
    kit.script.range(Method::GET, "k", 1..=2, Fault::FlipByte { at: 4 });
    let get = kit.client.get_object().bucket(BUCKET).key("k").presigned(presigning()).await.unwrap();
    let answer = send(&kit.server, head_of(&get, "").as_bytes()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"0123556789"[..]));
    let checked = kit.client.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await;
    assert!(checked.unwrap().body.collect().await.is_err(), "the SDK sees it by the checksum");
    assert_eq!(kit.get("k").await, "0123456789");
}

#[tokio::test]
async fn a_request_that_is_never_answered() {
    let kit = Kit::start().await;
    kit.script.nth(Method::PUT, "k", 1, Fault::BlackHole);
    let put = kit.client.put_object().bucket(BUCKET).key("k").body(b"x".to_vec().into()).send();
    let script = kit.script.clone();
    let (server, directory) = (kit.server, kit.directory);
    let ending = async {
        until(|| script.fired() == 1).await;
        server.shutdown().await;
    };
    let (put, ()) = tokio::join!(put, ending);
    assert_eq!(status(&put), 0);
    assert_eq!(crate::kit::files(directory.path()), (vec![], vec![]));
}

#[tokio::test]
async fn a_listing_that_is_stale() {
    let kit = Kit::start().await;
    for key in ["a/1", "a/2", "b/1"] {
        assert_eq!(kit.put(key, "x").await, 200);
    }
    kit.script.lists(1..=1, Fault::OmitKeys(vec!["a/2".into(), "b/".into()]));
    assert_eq!(kit.keys().await, ["a/1"]);
    assert_eq!(kit.get("a/2").await, "x");
    assert_eq!(kit.keys().await, ["a/1", "a/2", "b/1"]);
}

#[tokio::test]
async fn a_store_that_knows_no_conditions() {
    let kit = Kit::start().await;
    kit.script.always(Method::PUT, "fenced/", Fault::IgnoreCondition);
    assert_eq!((kit.create("fenced/k", "one").await, kit.create("fenced/k", "two").await), (200, 200));
    assert_eq!(kit.get("fenced/k").await, "two");
    assert_eq!((kit.create("other/k", "one").await, kit.create("other/k", "two").await), (200, 412));
}

#[tokio::test]
async fn requests_are_counted() {
    let kit = Kit::start().await;
    for n in 0..3 {
        assert_eq!(kit.put(&format!("a/{n}"), "x").await, 200);
    }
    assert_eq!(kit.create("a/0", "x").await, 412);
    assert_eq!(kit.get("a/0").await, "x");
    assert_eq!(kit.head("é +").await, 404);
    assert_eq!(kit.keys().await.len(), 3);
    let counters = kit.server.counters();
    assert_eq!((counters.count(&Method::PUT, "a/0"), counters.count(&Method::PUT, "a/1")), (2, 1));
    assert_eq!((counters.count_prefix(&Method::PUT, "a/"), counters.count_prefix(&Method::PUT, "")), (4, 4));
    assert_eq!((counters.count(&Method::GET, "a/0"), counters.count(&Method::HEAD, "é +")), (1, 1));
    assert_eq!((counters.lists(), counters.total()), (1, 7));
    counters.reset();
    assert_eq!(counters.total(), 0);
}
