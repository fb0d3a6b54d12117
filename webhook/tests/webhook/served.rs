// SPDX-License-Identifier: Apache-2.0
//! The whole process, but for the API server: TLS, readiness, hot reload, limits, drain.

use holdfast_api::{StatePolicy, StateRepository};
use holdfast_webhook::caches::{self, Caches, Feeds};
use holdfast_webhook::desk::{Desk, Webhook};
use holdfast_webhook::metrics::Metrics;
use holdfast_webhook::server::{Health, admission, plain};
use http::{Method, Request, StatusCode};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// A review of a plain pod.
pub(crate) fn review(pod: &Value, namespace: &str) -> Vec<u8> {
    let request = json!({"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": namespace, "userInfo": {}, "object": pod,
        "oldObject": null, "dryRun": false});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

fn policy(namespace: &str, spec: &Value) -> DeserializeGuard<StatePolicy> {
    let object = json!({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy",
        "metadata": {"name": "web", "namespace": namespace}, "spec": spec});
    serde_json::from_value(object).expect("guarded")
}

/// A cluster with one policy in namespace `shop`, one that can't be read, and a repository.
pub(crate) fn cluster() -> (Caches, Feeds) {
    let (caches, mut feeds) = caches::new();
    let repository = json!({"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRepository",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"s3": {"bucket": "bucket", "endpoint": "http://minio:9000"}, "passphrase": {"name": "s", "key": "k"}}});
    let repository: DeserializeGuard<StateRepository> = serde_json::from_value(repository).expect("guarded");
    feeds.policies.apply_watcher_event(&Event::Apply(policy("shop", &crate::kit::plain_policy())));
    feeds.policies.apply_watcher_event(&Event::Apply(policy("broken", &json!({"paths": 7}))));
    feeds.policies.apply_watcher_event(&Event::Apply(policy("wrong", &json!({"paths": []}))));
    feeds.repositories.apply_watcher_event(&Event::Apply(repository));
    let namespace = json!({"metadata": {"name": "off", "annotations": {"holdfast.dev/inject": "disabled"}}});
    feeds.namespaces.apply_watcher_event(&Event::Apply(serde_json::from_value(namespace).expect("a namespace")));
    (caches, feeds)
}

pub(crate) fn desk(caches: Caches) -> Desk {
    Desk { settings: crate::kit::settings(), caches, metrics: Metrics::default() }
}

async fn decided(desk: &Desk, namespace: &str) -> Value {
    let answer = desk.answer(Webhook::Pods, &review(&crate::kit::plain_pod(), namespace)).await.expect("answered");
    serde_json::to_value(answer).expect("JSON")["response"].clone()
}

#[tokio::test]
async fn the_cache_is_what_decides() {
    let (caches, mut feeds) = cluster();
    let desk = desk(caches);
    let message =
        async |namespace: &str| decided(&desk, namespace).await["status"]["message"].as_str().unwrap_or_default().to_owned();
    let patched = decided(&desk, "shop").await;
    assert!(patched["allowed"] == true && patched["patch"].is_string() && patched.get("warnings").is_none(), "{patched}");
    assert!(message("elsewhere").await.contains("there is no StatePolicy web in namespace elsewhere"));
    assert!(message("broken").await.contains("StatePolicy web can't be used"), "one that can't be read hides no other");
    assert!(message("wrong").await.contains("StatePolicy web can't be used: spec.paths"));
    assert_eq!(decided(&desk, "off").await["auditAnnotations"]["decision"], "NamespaceDisabled");
    assert_eq!(decided(&desk, "holdfast-system").await["auditAnnotations"]["decision"], "SystemNamespace");
    // a dry run is answered like any other, and nothing is written anywhere
    let wet = String::from_utf8(review(&crate::kit::plain_pod(), "shop")).expect("text");
    let dry = wet.replace("\"dryRun\":false", "\"dryRun\":true");
    assert_ne!(dry, wet);
    let dry = desk.answer(Webhook::Pods, dry.as_bytes()).await.expect("answered");
    assert_eq!(serde_json::to_value(dry).expect("JSON")["response"], patched);
    feeds.policies.apply_watcher_event(&Event::Delete(policy("shop", &crate::kit::plain_policy())));
    assert!(message("shop").await.contains("there is no StatePolicy web in namespace shop"));
}

#[tokio::test]
async fn a_policy_on_its_way_is_waited_for() {
    let (caches, mut feeds) = cluster();
    let desk = desk(caches);
    let asked = decided(&desk, "late");
    let created = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        feeds.policies.apply_watcher_event(&Event::Apply(policy("late", &crate::kit::plain_policy())));
    };
    let (answer, ()) = tokio::join!(asked, created);
    assert_eq!(answer["allowed"], true, "{answer}");
}

#[tokio::test]
async fn only_what_is_meant_is_handled() {
    let (caches, _feeds) = cluster();
    let desk = desk(caches);
    let review: Value = serde_json::from_slice(&review(&crate::kit::plain_pod(), "shop")).expect("JSON");
    let changes = [
        ("operation", json!("UPDATE")),
        ("subResource", json!("binding")),
        ("kind", json!({"group": "other.example", "kind": "Pod"})),
    ];
    for (field, value) in changes {
        let mut changed = review.clone();
        changed["request"][field] = value;
        let answer = desk.answer(Webhook::Pods, changed.to_string().as_bytes()).await.expect("answered");
        let answer = serde_json::to_value(answer).expect("JSON");
        assert_eq!(answer["response"]["auditAnnotations"]["decision"], "NotHandled", "{field}");
        assert!(answer["response"].get("patch").is_none(), "{field}: {answer}");
    }
}

/// A client that trusts one certificate.
pub(crate) fn client(address: SocketAddr, certificate: &rcgen::Certificate) -> kube::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("https://localhost:{}", address.port()).parse().expect("a URL");
    let mut config = kube::Config::new(url);
    config.default_retry = false;
    config.root_cert = Some(vec![certificate.der().to_vec()]);
    kube::Client::try_from(config).expect("a client")
}

fn plain_client(address: SocketAddr) -> kube::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
    // that it is not ready is an answer, too
    config.default_retry = false;
    kube::Client::try_from(config).expect("a client")
}

/// The status and the text of an answer.
pub(crate) async fn send(client: &kube::Client, method: Method, path: &str, body: Vec<u8>) -> Option<(StatusCode, String)> {
    let request = Request::builder().method(method).uri(path).body(kube::client::Body::from(body)).expect("a request");
    let response = client.send(request).await.ok()?;
    let status = response.status();
    let body = response.into_body().collect_bytes().await.ok()?;
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

pub(crate) fn pair() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate")
}

pub(crate) fn write(directory: &std::path::Path, pair: &rcgen::CertifiedKey<rcgen::KeyPair>) {
    std::fs::write(directory.join("tls.crt"), pair.cert.pem()).expect("write");
    std::fs::write(directory.join("tls.key"), pair.signing_key.serialize_pem()).expect("write");
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Asks until the answer is as wanted.
async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.unwrap_or_else(|_| panic!("{what}: not within a minute"));
}

/// An API server that has nothing, and says so.
fn empty_cluster() -> kube::Client {
    let (service, mut handle) = tower_test::mock::pair::<Request<kube::client::Body>, http::Response<kube::client::Body>>();
    let answer = async move {
        let mut watches = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let path = request.uri().path().to_owned();
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true") || query.contains("watch=1"));
            if is_watch {
                // an answer that doesn't come
                watches.push(send);
                continue;
            }
            let kind = if path.ends_with("nodes") { "NodeList" } else { "List" };
            let list = json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": []});
            send.send_response(http::Response::new(kube::client::Body::from(list.to_string().into_bytes())));
        }
    };
    let thread = std::thread::Builder::new().name("cluster".to_owned());
    thread
        .spawn(move || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(answer))
        .expect("a thread");
    kube::Client::new(service, "default")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_from_start_to_end() {
    use clap::Parser as _;
    let directory = tempfile::tempdir().expect("a directory");
    let (listen, plain_listen) = (free_port(), free_port());
    let arguments = ["holdfast-webhook", "--agent-image", "agent:1", "--drain-seconds", "1", "--tls-interval-ms", "20"];
    let arguments = arguments.map(str::to_owned).into_iter().chain([
        format!("--listen={listen}"),
        format!("--plain-listen={plain_listen}"),
        format!("--tls-directory={}", directory.path().display()),
    ]);
    let options = holdfast_webhook::process::Options::try_parse_from(arguments).expect("options");
    let mut process = JoinSet::new();
    process.spawn(holdfast_webhook::process::serve(options, empty_cluster()));
    let health = plain_client(plain_listen);
    let ready = async |wanted: StatusCode, says: &str| {
        let answer = send(&health, Method::GET, "/readyz", Vec::new()).await;
        answer.is_some_and(|(status, text)| status == wanted && text.contains(says))
    };
    until("alive", async || send(&health, Method::GET, "/livez", Vec::new()).await.is_some_and(|(status, _)| status == 200))
        .await;
    until("not ready without a certificate", async || ready(StatusCode::SERVICE_UNAVAILABLE, "certificate").await).await;
    let (one, other) = (pair(), pair());
    write(directory.path(), &one);
    until("ready", async || ready(StatusCode::OK, "ready").await).await;
    let review = review(&crate::kit::plain_pod(), "shop");
    let asks = async |certificate: &rcgen::Certificate| {
        let client = client(listen, certificate);
        let answer = send(&client, Method::POST, "/mutate/pods", review.clone()).await;
        answer.is_some_and(|(status, text)| status == 200 && text.contains("there is no StatePolicy web"))
    };
    assert!(asks(&one.cert).await);
    assert!(!asks(&other.cert).await, "another certificate is not trusted");
    write(directory.path(), &other);
    until("the other certificate", async || asks(&other.cert).await).await;
    assert!(!asks(&one.cert).await);
    let metrics = send(&health, Method::GET, "/metrics", Vec::new()).await.expect("metrics").1;
    assert!(metrics.contains("holdfast_webhook_decisions_total{webhook=\"pods\",decision=\"PolicyMissing\"}"), "{metrics}");
    assert!(metrics.contains("holdfast_webhook_ready 1"), "{metrics}");
    process.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_requests_are_answered_as_such() {
    let (caches, _feeds) = cluster();
    let pair = pair();
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &pair);
    let (address, _server) = serve(desk(caches), directory.path()).await;
    let client = client(address, &pair.cert);
    let post = async |path: &str, body: Vec<u8>| send(&client, Method::POST, path, body).await.map(|(status, _)| status);
    assert_eq!(post("/mutate/pods", b"garbage".to_vec()).await, Some(StatusCode::BAD_REQUEST));
    assert_eq!(post("/mutate/pods", Vec::new()).await, Some(StatusCode::BAD_REQUEST));
    assert_eq!(post("/other", Vec::new()).await, Some(StatusCode::NOT_FOUND));
    assert_eq!(
        send(&client, Method::GET, "/mutate/pods", Vec::new()).await.map(|(status, _)| status),
        Some(StatusCode::METHOD_NOT_ALLOWED)
    );
    let endless = post("/mutate/pods", vec![b' '; 11 << 20]).await;
    assert!(endless.is_none_or(|status| status == StatusCode::PAYLOAD_TOO_LARGE), "{endless:?}");
    // a pod of three megabytes, most of it in a list of variables
    let mut large = crate::kit::plain_pod();
    let variables: Vec<Value> = (0..3000).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(1000)})).collect();
    large["spec"]["containers"][0]["env"] = json!(variables);
    let begin = std::time::Instant::now();
    let answer = send(&client, Method::POST, "/mutate/pods", review(&large, "shop")).await.expect("answered");
    assert!(answer.1.contains("\"patch\""), "{}", answer.1);
    println!("a pod of 3 MiB: {:?}", begin.elapsed());
}

/// Serves admission on a port of its own, for as long as the second lives.
pub(crate) async fn serve(desk: Desk, directory: &std::path::Path) -> (SocketAddr, JoinSet<()>) {
    let config = holdfast_webhook::tls::Certificate::new(directory).look().expect("loaded").expect("new");
    let handle = axum_server::Handle::new();
    let rustls = axum_server::tls_rustls::RustlsConfig::from_config(config);
    let server = axum_server::bind_rustls(SocketAddr::from(([127, 0, 0, 1], 0)), rustls).handle(handle.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { server.serve(admission(desk).into_make_service()).await.expect("served") });
    (handle.listening().await.expect("an address"), tasks)
}

#[test]
fn readiness_says_what_is_missing() {
    let (caches, _feeds) = cluster();
    let (desk, health) = (desk(caches), Health::default());
    assert!(health.missing(&desk).is_some_and(|missing| missing.contains("certificate")));
    health.has_certificate();
    assert!(
        health.missing(&desk).is_some_and(|missing| missing.contains("statepolicies")),
        "nothing was read from a cluster yet"
    );
    health.leave();
    assert!(health.missing(&desk).is_some_and(|missing| missing.contains("end")));
    let _ = plain(desk, health);
}
