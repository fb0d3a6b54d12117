// SPDX-License-Identifier: Apache-2.0
//! Probes: what is answered, and that nothing else is touched by it.

use crate::kit::apply;
use crate::served::{client, cluster, desk, pair, send, serve, write};
use holdfast_api::labels::{PROBE, PROBED};
use holdfast_webhook::desk::{Desk, Webhook};
use http::{Method, StatusCode};
use serde_json::{Value, json};

fn review(object: &Value) -> Value {
    let request = json!({"uid": "u", "kind": {"group": "", "version": "v1", "kind": "ConfigMap"}, "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "configmaps"}, "namespace": "holdfast-system", "userInfo": {},
        "object": object, "oldObject": null, "dryRun": true});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn probe() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "holdfast-probe-1", "namespace": "holdfast-system",
        "labels": {PROBE: "a-word"}}})
}

async fn answer(desk: &Desk, review: &Value) -> Value {
    let answer = desk.answer(Webhook::Probe, review.to_string().as_bytes()).await.expect("answered");
    serde_json::to_value(answer).expect("JSON")["response"].clone()
}

/// What the API server makes of an answer.
fn patched(object: &Value, response: &Value) -> Value {
    use base64::Engine as _;
    let Some(patch) = response["patch"].as_str() else { return object.clone() };
    let patch = base64::engine::general_purpose::STANDARD.decode(patch).expect("base64");
    apply(object, &serde_json::from_slice::<Vec<_>>(&patch).expect("a patch"))
}

#[tokio::test]
async fn the_word_comes_back() {
    let (caches, _feeds) = cluster();
    let desk = desk(caches);
    let response = answer(&desk, &review(&probe())).await;
    assert!(response["allowed"] == true && response.get("warnings").is_none(), "{response}");
    let mut wanted = probe();
    wanted["metadata"]["annotations"] = json!({PROBED: "a-word"});
    assert_eq!(patched(&probe(), &response), wanted);
    assert_eq!(answer(&desk, &review(&wanted)).await["auditAnnotations"]["decision"], "Unchanged", "asked once more");
    let mut old = wanted.clone();
    old["metadata"]["annotations"] = json!({PROBED: "another", "other": "stays"});
    let changed = patched(&old, &answer(&desk, &review(&old)).await);
    assert_eq!(changed["metadata"]["annotations"], json!({PROBED: "a-word", "other": "stays"}));
}

#[tokio::test]
async fn nothing_else_is_touched() {
    let (caches, _feeds) = cluster();
    let desk = desk(caches);
    let changes = [
        ("/request/operation", json!("UPDATE")),
        ("/request/namespace", json!("shop")),
        ("/request/kind/kind", json!("Secret")),
        ("/request/kind/group", json!("other.example")),
        ("/request/object/metadata/labels", json!({"other": "label"})),
        ("/request/object", json!(null)),
    ];
    for (place, value) in changes {
        let mut changed = review(&probe());
        *changed.pointer_mut(place).expect("a place") = value;
        let response = answer(&desk, &changed).await;
        assert_eq!(response["auditAnnotations"]["decision"], "NotHandled", "{place}");
        assert!(response["allowed"] == true && response.get("patch").is_none(), "{place}: {response}");
    }
    // pods and workloads have paths of their own
    for webhook in [Webhook::Pods, Webhook::Workloads] {
        let answer = desk.answer(webhook, review(&probe()).to_string().as_bytes()).await.expect("answered");
        let answer = serde_json::to_value(answer).expect("JSON");
        assert_eq!(answer["response"]["auditAnnotations"]["decision"], "NotHandled", "{webhook:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_served_where_the_configuration_says() {
    let (caches, _feeds) = cluster();
    let (pair, directory) = (pair(), tempfile::tempdir().expect("a directory"));
    write(directory.path(), &pair);
    let (address, _server) = serve(desk(caches), directory.path()).await;
    let body = review(&probe()).to_string().into_bytes();
    let (status, text) = send(&client(address, &pair.cert), Method::POST, "/mutate/probe", body).await.expect("an answer");
    assert_eq!(status, StatusCode::OK);
    let answered: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(patched(&probe(), &answered["response"])["metadata"]["annotations"][PROBED], "a-word");
}
