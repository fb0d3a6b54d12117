// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::cluster::kube_kit::ApiServer;
use ::http::StatusCode;
use clap::Parser;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const NAMESPACE: &str = "holdfast-system";

#[test]
fn a_cluster_is_known_by_a_uid() {
    let id = owner("3f2504e0-4f89-41d3-9a0c-0305e82c3301").expect("an id");
    assert_eq!(id.to_string(), "3f2504e04f8941d39a0c0305e82c3301");
    assert_eq!(owner("none"), None);
}

/// A cluster with our kinds, where everything is allowed.
fn cluster() -> ApiServer {
    let server = ApiServer::default();
    server.put("namespaces", json!({ "metadata": { "name": "kube-system", "uid": "3f2504e0-4f89-41d3-9a0c-0305e82c3301" } }));
    for name in ["one", "two"] {
        server.put("pods", json!({ "metadata": { "name": name, "namespace": NAMESPACE } }));
    }
    let policy = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": { "name": "web", "namespace": "shop" }, "spec": { "paths": [] } });
    server.put("statepolicies", policy);
    server.on(|_, path, body| {
        let answer = |status: Value| json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": body["spec"], "status": status });
        path.ends_with("/selfsubjectaccessreviews").then(|| (StatusCode::CREATED, answer(json!({ "allowed": true }))))
    });
    server.on(|_, path, _| {
        let kind = |kind: &&str| json!({ "kind": kind, "name": format!("{}s", kind.to_lowercase()), "singularName": "", "namespaced": true, "verbs": [] });
        let kinds: Vec<Value> = holdfast_api::crds::KINDS.iter().map(kind).collect();
        let list = json!({ "kind": "APIResourceList", "groupVersion": "holdfast.dev/v1alpha1", "resources": kinds });
        (path == "/apis/holdfast.dev/v1alpha1").then_some((StatusCode::OK, list))
    });
    server
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

async fn start(server: &ApiServer, pod: &str) -> Running {
    // free a moment ago, and most likely still
    let address = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("an address");
    let listen = address.to_string();
    let arguments = ["holdfast-coordinator", "--pod-name", pod, "--listen", &listen, "--lease-seconds", "300"];
    let settings = Settings::try_parse_from(arguments).expect("settings");
    let client = server.client();
    let owner = prepare(&client, &settings).await.expect("everything is there");
    let process =
        Process { client, owner, settings, health: Health::default(), metrics: Metrics::default(), clock: Clock::new() };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let ending = stop.clone();
    tasks.spawn(async move { process.work(&ending).await });
    Running { address, stop, tasks }
}

impl Running {
    async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.expect("a task").expect("no panic").expect("in good order");
    }

    /// Asks as an agent would who trusts what its namespace's ConfigMap says.
    async fn ask(&self, server: &ApiServer) -> Result<(), String> {
        let map: ConfigMap =
            serde_json::from_value(server.get("configmaps", "shop", "holdfast-ca").ok_or("no ConfigMap")?).expect("a ConfigMap");
        let bundle = map.data.unwrap_or_default().remove("ca.crt").ok_or("no bundle")?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(bundle))
            .domain_name("holdfast-coordinator.holdfast-system.svc");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| error.to_string())?;
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

fn leader(server: &ApiServer) -> Vec<String> {
    let leads = |pod: &Value| {
        (pod["metadata"]["labels"]["holdfast.dev/leader"] == "true")
            .then(|| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    };
    server.list("pods").iter().filter_map(leads).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_one_serves_as_soon_as_the_leader_is_told_to_end() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let server = cluster();
    let first = start(&server, "one").await;
    server.until(|server| (leader(server) == ["one"]).then_some(())).await;
    server.until(|server| server.get("configmaps", "shop", "holdfast-ca")).await;
    first.ask(&server).await.expect("it serves");
    let second = start(&server, "two").await;
    assert!(second.ask(&server).await.is_err(), "who stands by does not serve");
    let told = Instant::now();
    first.end().await;
    server.until(|server| (leader(server) == ["two"]).then_some(())).await;
    assert!(told.elapsed() < Duration::from_secs(20), "its lease of five minutes was not waited for");
    second.ask(&server).await.expect("it serves, under the same authority");
    second.end().await;
    assert_eq!(leader(&server), [] as [String; 0]);
    let lease = server.get("leases", NAMESPACE, LEASE).expect("a lease");
    assert_eq!(lease["spec"].get("holderIdentity").filter(|holder| !holder.is_null()), None, "released");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let server = cluster();
    let settings = Settings::try_parse_from(["holdfast-coordinator"]).expect("settings");
    server.on(|_, path, _| {
        let list = json!({ "kind": "APIResourceList", "groupVersion": "holdfast.dev/v1alpha1", "resources": [] });
        (path == "/apis/holdfast.dev/v1alpha1").then_some((StatusCode::OK, list))
    });
    // the definitions are waited for; this test doesn't
    let waiting = defined(&server.client(), Duration::ZERO).await.expect_err("no kinds").to_string();
    assert!(waiting.contains("StatePolicy") && waiting.contains("kubectl apply"), "{waiting}");
    let server = cluster();
    server.on(|_, path, body| {
        let spec = &body["spec"];
        let allowed = spec["resourceAttributes"]["resource"] != "nodes";
        let answer = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": spec, "status": { "allowed": allowed } });
        path.ends_with("/selfsubjectaccessreviews").then_some((StatusCode::CREATED, answer))
    });
    let refused = prepare(&server.client(), &settings).await.expect_err("a rule is missing").to_string();
    assert!(refused.contains(r#"resources: ["nodes"], verbs: ["watch"]"#), "{refused}");
}
