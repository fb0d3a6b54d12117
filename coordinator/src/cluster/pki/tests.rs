// SPDX-License-Identifier: Apache-2.0
use super::rotation::BACKDATED;
use super::*;
use crate::cluster::kube_kit::ApiServer;
use crate::cluster::watched::{Bell, follow};
use holdfast_core::time::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "holdfast-system";
const HOUR: Duration = Duration::from_secs(3600);

/// A place that remembers when it was written.
#[derive(Debug, Default, Clone)]
struct Memory(Arc<Mutex<Vec<String>>>);

impl Places for Memory {
    async fn publish(&self, bundle: &str) -> Result<bool, kube::Error> {
        let mut known = self.0.lock().expect("nobody panics");
        let everywhere = known.last().is_some_and(|last| last == bundle);
        known.push(bundle.to_owned());
        Ok(everywhere)
    }
}

fn now(hours: f64) -> Now {
    let since = HOUR.mul_f64(hours);
    Now { day: Timestamp::from_nanos(1_800_000_000_000_000_000).plus(since), steady: Monotonic(since) }
}

fn pki<P: Places>(server: &ApiServer, places: P, lives: Lives) -> Pki<P> {
    Pki::new(Api::namespaced(server.client(), NAMESPACE), places, Names::of(NAMESPACE), lives, Arc::default())
}

#[derive(Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(self.0.nanos()).ok()?)))
    }
}

/// Connects as an agent or the API server would who trusts this bundle.
async fn shake(tls: Arc<rustls::ServerConfig>, bundle: &str, name: &'static str, day: Timestamp) -> Result<(), String> {
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(der.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(At(day)));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = tokio::io::duplex(1 << 14);
    let connecting =
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect(ServerName::try_from(name).expect("a name"), near);
    let accepting = tokio_rustls::TlsAcceptor::from(tls).accept(far);
    let (connected, _accepted) = tokio::join!(connecting, accepting);
    connected.map(|_| ()).map_err(|error| error.to_string())
}

fn secret_texts(server: &ApiServer, name: &str) -> Option<(String, String)> {
    let secret: Secret = serde_json::from_value(server.get("secrets", NAMESPACE, name)?).expect("a secret");
    let data = texts(&secret);
    Some((data.get("tls.crt")?.clone(), data.get("tls.key")?.clone()))
}

/// The certificate of a webhook's pod whose mounted Secret was this.
fn mounted((certificate, key): &(String, String)) -> Arc<rustls::ServerConfig> {
    let shown = Arc::new(Shown::default());
    shown.show(Pair::read(certificate, key, "mounted").expect("a pair").served().expect("a key"));
    shown.tls().expect("a configuration")
}

fn authorities(server: &ApiServer) -> String {
    let secret: Secret =
        serde_json::from_value(server.get("secrets", NAMESPACE, AUTHORITY).expect("a secret")).expect("a secret");
    texts(&secret).remove("ca.crt").expect("an authority")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_authorities_later_nobody_was_turned_away() {
    let lives = Lives { authority: HOUR * 36, leaf: HOUR * 6, spread: HOUR };
    let (server, places) = (ApiServer::default(), Memory::default());
    let mut pki = pki(&server, places.clone(), lives);
    let tls = pki.shown.tls().expect("a configuration");
    let mut bundles: Vec<String> = Vec::new();
    let mut leaves: Vec<(String, String)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut half_hours = 0;
    while seen.len() <= 20 {
        let now = now(f64::from(half_hours) / 2.0);
        // a pod's files are up to an hour old, less a little
        let old = |all: usize| all.checked_sub(2);
        let clients = async {
            for bundle in [bundles.last(), old(bundles.len()).and_then(|index| bundles.get(index))].into_iter().flatten() {
                shake(Arc::clone(&tls), bundle, "holdfast-coordinator.holdfast-system.svc", now.day).await?;
            }
            if let Some((leaf, bundle)) = old(leaves.len()).and_then(|index| leaves.get(index)).zip(bundles.last()) {
                shake(mounted(leaf), bundle, "holdfast-webhook.holdfast-system.svc", now.day).await?;
            }
            Ok::<_, String>(())
        };
        let (turned, connected) = tokio::join!(pki.turn(now), clients);
        turned.expect("a turn");
        assert_eq!(connected, Ok(()), "after {half_hours} half hours, {} authorities", seen.len());
        bundles.push(places.0.lock().expect("nobody panics").last().expect("a bundle").clone());
        leaves.push(secret_texts(&server, WEBHOOK_TLS).expect("the webhook's"));
        seen.insert(authorities(&server));
        assert!(Certificate::bundle(bundles.last().expect("a bundle")).len() <= 3, "old ones must be forgotten");
        half_hours += 1;
    }
    assert!(half_hours > 20 * 48, "they are used for two thirds of their lives: {half_hours}");
}

#[tokio::test]
async fn without_the_pause_somebody_would_be_turned_away() {
    // the same as above in short, with a keeper that does not wait: what the test above would notice
    let lives = Lives { authority: HOUR * 36, leaf: HOUR * 6, spread: Duration::ZERO };
    let (server, places) = (ApiServer::default(), Memory::default());
    let mut pki = pki(&server, places.clone(), lives);
    pki.turn(now(0.0)).await.expect("a turn");
    let before = places.0.lock().expect("nobody panics").last().expect("a bundle").clone();
    pki.turn(now(25.0)).await.expect("a turn");
    let tls = pki.shown.tls().expect("a configuration");
    let refused = shake(tls, &before, "holdfast-coordinator.holdfast-system.svc", now(25.0).day).await;
    assert!(refused.is_err_and(|error| error.contains("UnknownIssuer")), "who knows only the old one does not trust the new one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_begin_at_once_one_authority_remains() {
    for _ in 0..10 {
        let server = ApiServer::default();
        let (mut one, mut two) =
            (pki(&server, Memory::default(), Lives::default()), pki(&server, Memory::default(), Lives::default()));
        let (first, second) = tokio::join!(one.turn(now(0.0)), two.turn(now(0.0)));
        first.and(second).expect("both have turned");
        let created: Vec<_> = server.writes().into_iter().filter(|asked| asked.path.ends_with("/secrets")).collect();
        assert!(created.len() >= 2, "an authority and the webhook's certificate");
        let bundle = authorities(&server);
        for pki in [&one, &two] {
            let leaf = pki.serving.as_ref().expect("a certificate");
            assert!(Certificate::read(&bundle, "the one").expect("a certificate").signed(leaf), "both serve under the same");
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumped_is_noticed_at_the_next_turn() {
    let server = ApiServer::default();
    let mut pki = pki(&server, Memory::default(), Lives::default());
    pki.turn(now(0.0)).await.expect("a turn");
    let (authority, serving) = (authorities(&server), pki.serving.clone());
    for hours in [30.0 * 24.0, 0.0] {
        pki.turn(now(hours)).await.expect("a turn");
        assert_ne!(pki.serving, serving);
        let life = pki.serving.as_ref().expect("a certificate").life;
        assert!(life.holds(now(hours).day) && life.from <= now(hours).day.minus(BACKDATED));
    }
    assert_eq!(authorities(&server), authority, "the authority lives on");
    server.forget_requests();
    pki.turn(now(1.0)).await.expect("a turn");
    assert_eq!(server.writes(), [], "nothing is due");
}

#[tokio::test]
async fn what_is_damaged_is_made_anew_and_the_rest_still_trusted() {
    let server = ApiServer::default();
    let mut pki = pki(&server, Memory::default(), Lives::default());
    pki.turn(now(0.0)).await.expect("a turn");
    let (before, old) = (server.get("secrets", NAMESPACE, AUTHORITY).expect("a secret"), authorities(&server));
    let mut damaged = before.clone();
    damaged["data"]["ca.key"] = json!("bm90IGEga2V5");
    server.put("secrets", damaged);
    server.put(
        "secrets",
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": WEBHOOK_TLS, "namespace": NAMESPACE } }),
    );
    pki.turn(now(1.0)).await.expect("a turn");
    assert_ne!(authorities(&server), old);
    let tls = pki.shown.tls().expect("a configuration");
    let bundle = pki.published.as_ref().expect("published").0.clone();
    assert!(bundle.contains(&old), "what it had signed is still shown somewhere");
    shake(tls, &bundle, "localhost", now(1.0).day).await.expect("it serves");
    shake(
        mounted(&secret_texts(&server, WEBHOOK_TLS).expect("the webhook's")),
        &bundle,
        "holdfast-webhook.holdfast-system.svc",
        now(1.0).day,
    )
    .await
    .expect("so does the webhook");
}

fn configuration(server: &ApiServer) -> Value {
    server.get("mutatingwebhookconfigurations", "", "holdfast").expect("a configuration")
}

#[tokio::test]
async fn every_place_has_the_bundle_and_what_is_wiped_is_put_back() {
    let server = ApiServer::default();
    let entry = |name: &str| json!({ "name": name, "clientConfig": { "service": { "name": "holdfast-webhook", "namespace": NAMESPACE } }, "sideEffects": "None", "admissionReviewVersions": ["v1"] });
    let plain = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "holdfast" }, "webhooks": [entry("pods.holdfast.dev"), entry("workloads.holdfast.dev")] });
    server.put("mutatingwebhookconfigurations", plain.clone());
    for namespace in ["shop", "blog"] {
        server.put("statepolicies", json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": { "name": "web", "namespace": namespace }, "spec": { "paths": [] } }));
    }
    let (stop, mut tasks, bell) = (CancellationToken::new(), JoinSet::new(), Bell::default());
    let places = in_cluster(&server, &mut tasks, &stop, &bell).await;
    assert!(!places.publish("one").await.expect("published"), "it was nowhere");
    let everywhere = |server: &ApiServer, bundle: &str| {
        let maps = ["shop", "blog"].into_iter().filter_map(|namespace| server.get("configmaps", namespace, AUTHORITY));
        let maps = maps.filter(|map| map["data"]["ca.crt"] == bundle).count();
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(bundle);
        let entries = configuration(server)["webhooks"]
            .as_array()
            .expect("entries")
            .iter()
            .filter(|entry| entry["clientConfig"]["caBundle"] == encoded)
            .count();
        (maps == 2 && entries == 2).then_some(())
    };
    everywhere(&server, "one").expect("in both namespaces and both entries");
    assert_eq!(
        configuration(&server)["webhooks"][0]["clientConfig"]["service"]["name"],
        "holdfast-webhook",
        "nothing else was touched"
    );
    until_settled(&places, &bell, "one").await;
    server.forget_requests();
    assert!(places.publish("one").await.expect("published"));
    assert_eq!(server.writes(), [], "nothing to write");
    // somebody applies the manifest again
    server.put("mutatingwebhookconfigurations", plain);
    server.delete(&crate::cluster::kube_kit::Key::new("configmaps", "shop", AUTHORITY));
    until_settled(&places, &bell, "one").await;
    everywhere(&server, "one").expect("put back");
    stop.cancel();
    tasks.join_all().await;
}

/// Publishes whenever the bell rings, until it was everywhere and nothing more is heard for it.
async fn until_settled(places: &places::InCluster, bell: &Bell, bundle: &str) {
    let settled = async {
        loop {
            bell.heard(Duration::from_millis(300)).await;
            if places.publish(bundle).await.expect("published") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.expect("settled");
}

async fn in_cluster(server: &ApiServer, tasks: &mut JoinSet<()>, stop: &CancellationToken, bell: &Bell) -> places::InCluster {
    let metrics = crate::cluster::metrics::Metrics::default();
    let (client, bells) = (server.client(), [bell.clone()]);
    let places = places::InCluster {
        policies: follow(tasks, stop, &metrics, &client, Default::default(), &bells),
        configmaps: follow(tasks, stop, &metrics, &client, Default::default(), &bells),
        webhooks: follow(tasks, stop, &metrics, &client, Default::default(), &bells),
        client,
    };
    places.policies.wait_until_ready().await.expect("a listing");
    places.configmaps.wait_until_ready().await.expect("a listing");
    places.webhooks.wait_until_ready().await.expect("a listing");
    places
}
