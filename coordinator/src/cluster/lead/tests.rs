// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::kube_kit::{ApiServer, failure};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn seat(server: &ApiServer, name: &str, millis: u64) -> Seat {
    let timing = Timing::of(Duration::from_millis(millis));
    Seat::new(Api::namespaced(server.client(), "holdfast-system"), "holdfast-coordinator", name.to_owned(), timing, Clock::new())
}

fn holder(server: &ApiServer) -> Value {
    server
        .get("leases", "holdfast-system", "holdfast-coordinator")
        .map(|lease| lease["spec"]["holderIdentity"].clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn one_of_two_wins_and_the_other_follows_a_release() {
    let server = ApiServer::default();
    let (mut first, mut second) = (seat(&server, "one", 60_000), seat(&server, "two", 60_000));
    first.win().await;
    assert_eq!(holder(&server), "one");
    let begun = std::time::Instant::now();
    {
        let winning = second.win();
        tokio::pin!(winning);
        assert!(futures::poll!(&mut winning).is_pending());
        first.release().await;
        winning.await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the lease to run out, though it was released");
    assert_eq!(holder(&server), "two");
    first.release().await;
    assert_eq!(holder(&server), "two", "what is another's is not released");
}

#[tokio::test]
async fn who_is_cut_off_ends_before_the_lease_does() {
    let server = ApiServer::default();
    let mut seat = seat(&server, "one", 600);
    seat.win().await;
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&cut);
    server.on(move |_, _, _| {
        let answer = failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "cut off");
        is_cut.load(Ordering::SeqCst).then_some((StatusCode::SERVICE_UNAVAILABLE, answer))
    });
    cut.store(true, Ordering::SeqCst);
    let clock = seat.clock;
    let others_from = seat.keep().await;
    assert!(clock.monotonic() < others_from, "it must end while nobody else can lead");
    assert_eq!(seat.election.leads_until(), None);
}

#[tokio::test]
async fn who_is_renewing_goes_on_and_who_is_robbed_stops() {
    let server = ApiServer::default();
    let mut seat = seat(&server, "one", 300);
    seat.win().await;
    let first = server.get("leases", "holdfast-system", "holdfast-coordinator").expect("a lease");
    {
        let keeping = seat.keep();
        tokio::pin!(keeping);
        let renewed = server.until(|server| {
            let now = server.get("leases", "holdfast-system", "holdfast-coordinator")?;
            let version =
                |lease: &Value| lease["metadata"]["resourceVersion"].as_str().map(|text| text.parse::<u64>().expect("a number"));
            (version(&now) > version(&first).map(|first| first + 3)).then_some(())
        });
        tokio::select! {
            _ = &mut keeping => panic!("it lost what nobody took"),
            () = renewed => {}
        }
        let mut robbed = server.get("leases", "holdfast-system", "holdfast-coordinator").expect("a lease");
        robbed["spec"]["holderIdentity"] = json!("two");
        server.put("leases", robbed);
        keeping.await;
    }
    assert_eq!(holder(&server), "two");
}

#[tokio::test]
async fn the_label_moves_and_is_written_once() {
    let server = ApiServer::default();
    for name in ["one", "two", "three"] {
        server.put(
            "pods",
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "holdfast-system" } }),
        );
    }
    let pods: Api<Pod> = Api::namespaced(server.client(), "holdfast-system");
    let leaders = || -> Vec<String> {
        let labelled = |pod: &Value| {
            (pod["metadata"]["labels"][holdfast_api::labels::LEADER] == "true")
                .then(|| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        };
        server.list("pods").iter().filter_map(labelled).collect()
    };
    labels::claim(&pods, "one").await.expect("labelled");
    assert_eq!(leaders(), ["one"]);
    labels::claim(&pods, "two").await.expect("labelled");
    assert_eq!(leaders(), ["two"]);
    server.forget_requests();
    labels::claim(&pods, "two").await.expect("labelled");
    assert_eq!(server.writes(), [], "nothing to write");
    labels::renounce(&pods, "two").await.expect("taken away");
    assert_eq!(leaders(), [] as [String; 0]);
    labels::renounce(&pods, "gone").await.expect("a pod that has gone bears no label");
}
