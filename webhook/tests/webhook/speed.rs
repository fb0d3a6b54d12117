// SPDX-License-Identifier: Apache-2.0
//! How long the API server waits: through HTTPS, at 200 requests a second.

use crate::served::{client, cluster, desk, pair, review, send, serve, write};
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const PER_SECOND: u32 = 200;
const REQUESTS: u32 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admission_takes_milliseconds() {
    let (caches, _feeds) = cluster();
    let (pair, directory) = (pair(), tempfile::tempdir().expect("a directory"));
    write(directory.path(), &pair);
    let (address, _server) = serve(desk(caches), directory.path()).await;
    let client = client(address, &pair.cert);
    // as pods are: some kilobytes, with what the API server remembers of who wrote which field
    let mut pod = crate::kit::plain_pod();
    pod["metadata"]["managedFields"] = json!([{"manager": "m", "fieldsV1": {"f:spec": "x".repeat(4096)}}]);
    let body = review(&pod, "shop");
    for _ in 0..20 {
        send(&client, Method::POST, "/mutate/pods", body.clone()).await.expect("answered");
    }
    let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        // counted from when it was due, so that a server that stalls can't hide it
        let due = ticks.tick().await.into_std();
        let (client, body) = (client.clone(), body.clone());
        requests.spawn(async move {
            let answer = send(&client, Method::POST, "/mutate/pods", body).await.expect("answered");
            assert!(answer.1.contains("\"patch\""), "{}", answer.1);
            Instant::now().saturating_duration_since(due)
        });
    }
    let mut took: Vec<Duration> = requests.join_all().await;
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!("{REQUESTS} admissions at {PER_SECOND} a second: median {:?}, p99 {:?}, longest {:?}", at(50), at(99), at(100));
    let bound = if cfg!(debug_assertions) { Duration::from_secs(10) } else { Duration::from_millis(10) };
    assert!(at(99) < bound, "p99 is {:?}", at(99));
}
