// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::events::Queue;
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::metrics::Metrics;
use crate::cluster::watched::follow;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn pod(name: &str, owner: &Value, containers: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop", "labels": { "holdfast.dev/policy": "web" }, "ownerReferences": [owner] },
        "spec": { "containers": [], "initContainers": containers }, "status": { "phase": "Running" } })
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true })
}

fn heard(queue: &mut Queue) -> Vec<(String, String, &'static str)> {
    std::iter::from_fn(|| queue.try_recv().ok())
        .map(|news| (news.about.kind.unwrap_or_default(), news.about.name.unwrap_or_default(), news.reason))
        .collect()
}

#[tokio::test]
async fn pods_without_agents_are_told_of_with_what_made_them() {
    let server = ApiServer::default();
    let set = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "web-7f", "namespace": "shop", "ownerReferences": [owner("Deployment", "web", "u1")] } });
    server.put("replicasets", set);
    let agent = json!([{ "name": "holdfast-agent", "restartPolicy": "Always" }, { "name": "holdfast-gate" }]);
    server.put("pods", pod("web-7f-a", &owner("ReplicaSet", "web-7f", "u2"), json!([])));
    server.put("pods", pod("web-7f-b", &owner("ReplicaSet", "web-7f", "u2"), json!([])));
    server.put("pods", pod("web-7f-c", &owner("ReplicaSet", "web-7f", "u2"), agent));
    server.put("pods", pod("db-0", &owner("StatefulSet", "db", "u3"), json!([])));
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let store = follow(&mut tasks, &stop, &Metrics::default(), &server.client(), Default::default(), &[]);
    store.wait_until_ready().await.expect("a listing");
    let (events, mut queue) = Events::new(Metrics::default());
    let found = pods(&server.client(), &store, &events).await.expect("a look");
    assert_eq!(found[&("shop".to_owned(), "web".to_owned())].len(), 3);
    let mut told = heard(&mut queue);
    told.sort();
    let expected = [("Deployment", "web"), ("Pod", "db-0"), ("Pod", "web-7f-a"), ("Pod", "web-7f-b"), ("StatefulSet", "db")];
    assert_eq!(told, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned(), "Unprotected")));
    stop.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn a_label_that_did_not_reach_the_pods_is_told_of() {
    let server = ApiServer::default();
    let labelled =
        |policy: Option<&str>| policy.map_or_else(|| json!({}), |policy| json!({ "labels": { "holdfast.dev/policy": policy } }));
    let put = |plural: &str, kind: &str, name: &str, template: Value, carries: bool| {
        let mut meta = labelled(carries.then_some("web"));
        meta["name"] = json!(name);
        meta["namespace"] = json!("shop");
        let version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        server.put(
            plural,
            json!({ "apiVersion": version, "kind": kind, "metadata": meta,
            "spec": { "selector": {}, "template": { "metadata": template, "spec": { "containers": [] } } } }),
        );
    };
    put("deployments", "Deployment", "right", labelled(Some("web")), true);
    put("deployments", "Deployment", "bare", labelled(None), true);
    put("deployments", "Deployment", "other", labelled(Some("blog")), true);
    put("deployments", "Deployment", "unlabelled", labelled(None), false);
    put("jobs", "Job", "immutable", labelled(None), true);
    let (events, mut queue) = Events::new(Metrics::default());
    let found = workloads(&server.client(), &events).await.expect("a look");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["Deployment shop/bare", "Deployment shop/other", "Job shop/immutable"]);
    let told: Vec<_> = heard(&mut queue).into_iter().map(|(kind, name, reason)| format!("{kind} {name} {reason}")).collect();
    assert_eq!(told, ["Deployment bare LabelNotCarried", "Deployment other LabelNotCarried", "Job immutable LabelNotCarried"]);
}
