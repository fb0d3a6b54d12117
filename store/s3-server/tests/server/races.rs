// SPDX-License-Identifier: Apache-2.0
//! Writers at once on one key: what the fence of a lineage rests on.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use s3s::crypto::{Checksum, Md5};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::kit::{BUCKET, Kit, status};

const ROUNDS: usize = 40;
const WRITERS: usize = 16;

/// Starts all writers at once; the statuses in the order of the writers.
async fn race(kit: &Kit, key: &str, if_match: Option<&str>) -> Vec<u16> {
    let barrier = Arc::new(Barrier::new(WRITERS));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let request = kit.client.put_object().bucket(BUCKET).key(key).body(body(key, writer));
        let request = match if_match {
            Some(etag) => request.if_match(etag),
            None => request.if_none_match("*"),
        };
        let barrier = Arc::clone(&barrier);
        writers.spawn(async move {
            barrier.wait().await;
            (writer, status(&request.send().await))
        });
    }
    let mut statuses = writers.join_all().await;
    statuses.sort_unstable();
    statuses.into_iter().map(|(_, status)| status).collect()
}

fn body(key: &str, writer: usize) -> ByteStream {
    text(key, writer).into_bytes().into()
}

fn text(key: &str, writer: usize) -> String {
    format!("{key} by {writer}\n").repeat(100)
}

async fn assert_one_winner(kit: &Kit, key: &str, name: &str, statuses: &[u16]) {
    let winners: Vec<usize> = (0..WRITERS).filter(|writer| statuses[*writer] == 200).collect();
    assert_eq!(winners.len(), 1, "{name}: {statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), WRITERS - 1, "{name}: {statuses:?}");
    assert_eq!(kit.get(key).await, text(key, winners[0]), "{name}");
}

async fn creations(durable: bool) {
    let kit = Kit::start_with(|config| config.durable = durable).await;
    for round in 0..ROUNDS {
        let key = format!("create/{round}");
        let statuses = race(&kit, &key, None).await;
        assert_one_winner(&kit, &key, &key, &statuses).await;
    }
    let (objects, uploads) = kit.files();
    assert_eq!((objects.len(), uploads.len()), (ROUNDS, 0));
    kit.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_that_create_one_wins() {
    creations(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_that_create_durably_one_wins() {
    creations(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_that_replace_the_same_state_one_wins() {
    let kit = Kit::start_with(|config| config.durable = true).await;
    assert_eq!(kit.put("cas", "start").await, 200);
    let mut before = kit.etag("cas").await;
    for round in 0..ROUNDS {
        // every round has other bodies, or the ETag of a round could be the one before
        assert_eq!(status(&kit.client.delete_object().bucket(BUCKET).key("cas").if_match(&before).send().await), 200);
        assert_eq!(kit.put("cas", &format!("start of {round}")).await, 200);
        let etag = kit.etag("cas").await;
        let statuses = race(&kit, "cas", Some(&etag)).await;
        assert_one_winner(&kit, "cas", &format!("round {round}"), &statuses).await;
        before = kit.etag("cas").await;
        assert_ne!(before, etag);
    }
    kit.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_one_whole_state_or_another() {
    let kit = Kit::start().await;
    let bodies: Vec<String> = (0..4).map(|n| n.to_string().repeat(300_000 + n)).collect();
    assert_eq!(kit.put("k", &bodies[0]).await, 200);
    let reading = async {
        for _ in 0..60 {
            let body = kit.get("k").await;
            assert!(bodies.contains(&body), "a mixture of {} bytes", body.len());
            assert_eq!(kit.keys().await, ["k"]);
        }
    };
    let writing = async {
        for body in bodies.iter().cycle().take(60) {
            assert_eq!(kit.put("k", body).await, 200);
        }
    };
    tokio::join!(reading, writing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_seen_once_is_seen_from_then_on() {
    const STATES: usize = 300;
    // durable, so that there is time between the rename and the index
    let kit = Kit::start_with(|config| config.durable = true).await;
    let etag = |n: usize| format!("\"{}\"", hex::encode(Md5::checksum(n.to_string().as_bytes())));
    let states: HashMap<String, usize> = (0..STATES).map(|n| (etag(n), n)).collect();
    assert_eq!(kit.put("k", "0").await, 200);
    let writing = async {
        for n in 1..STATES {
            assert_eq!(kit.put("k", &n.to_string()).await, 200);
        }
    };
    let reading = async {
        let mut seen = 0;
        while seen + 1 < STATES {
            let got: usize = kit.get("k").await.parse().unwrap();
            let page = kit.client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
            let listed = states[page.contents()[0].e_tag().unwrap()];
            let head = states[&kit.etag("k").await];
            assert!(seen <= got && got <= listed && listed <= head, "{seen}, {got}, {listed}, {head}");
            seen = head;
        }
    };
    tokio::join!(writing, reading);
}
