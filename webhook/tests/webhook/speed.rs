// SPDX-License-Identifier: Apache-2.0
//! How long the API server waits: through HTTPS, at 200 requests a second.

use crate::served::{client, cluster, desk, pair, review, send, serve, write};
use holdfast_webhook::pod::{Decision, decide};
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const PER_SECOND: u32 = 200;
const REQUESTS: u32 = 1000;
/// Of which a build without optimisation takes more than any other.
const BOUND: Duration = Duration::from_millis(10);
const TRIES: u32 = 6;

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
    // a machine that was busy with others says nothing about us
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let [median, p99, longest] = burst(&client, &body).await;
        println!("{REQUESTS} admissions at {PER_SECOND} a second: median {median:?}, p99 {p99:?}, longest {longest:?}");
        best = best.min(p99);
        if best < BOUND {
            return;
        }
    }
    panic!("p99 is {best:?} at best, of {TRIES} times");
}

/// Sends all requests, and gives the median, the time within which 99 of 100 were answered, and the longest.
async fn burst(client: &kube::Client, body: &[u8]) -> [Duration; 3] {
    let mut ticks = interval(Duration::from_secs(1) / PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        // counted from when it was due, so that a server that stalls can't hide it
        let due = ticks.tick().await.into_std();
        let (client, body) = (client.clone(), body.to_owned());
        requests.spawn(async move {
            let answer = send(&client, Method::POST, "/mutate/pods", body).await.expect("answered");
            assert!(answer.1.contains("\"patch\""), "{}", answer.1);
            Instant::now().saturating_duration_since(due)
        });
    }
    let mut took: Vec<Duration> = requests.join_all().await;
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    [at(50), at(99), at(100)]
}

/// A pod with so many containers of each kind, and the shortest of a few decisions about it.
fn shortest_decision(containers: usize) -> Duration {
    let mut pod = crate::kit::plain_pod();
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let container = |n: usize| json!({"name": format!("c{n}"), "image": "i", "volumeMounts": mounts});
    pod["spec"]["containers"] = json!((0..containers).map(container).collect::<Vec<_>>());
    pod["spec"]["initContainers"] =
        json!((0..containers).map(|n| json!({"name": format!("i{n}"), "image": "i"})).collect::<Vec<_>>());
    let around = crate::kit::around(&crate::kit::plain_policy());
    let decisions = (0..5).map(|_| {
        let begin = Instant::now();
        let decision = decide(&pod, &around, &crate::kit::settings());
        assert!(matches!(decision, Decision::Patch(..)), "{decision:?}");
        begin.elapsed()
    });
    decisions.min().unwrap_or_default()
}

#[test]
fn a_list_costs_what_its_length_costs() {
    // long enough, both of them, that a busy machine interrupts one as often as the other
    let (short, long) = (shortest_decision(1000), shortest_decision(8000));
    println!("2,000 containers: {short:?}, 16,000 containers: {long:?}");
    assert!(long < short * 32, "eight times as many took {long:?} instead of {short:?}");
}
