// SPDX-License-Identifier: Apache-2.0
//! TLS whose certificate changes while it is served.

use crate::kube_kit::ApiServer;
use holdfast_coordinator::CoordinatorError;
use holdfast_coordinator::cluster::{Cluster, ClusterConfig};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[derive(Debug)]
struct Changing(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Changing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

/// A certificate that signs itself, and as whoever trusts it reads it.
fn certificate() -> (Arc<CertifiedKey>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certified = CertifiedKey::new(vec![CertificateDer::from(made.cert.der().to_vec())], any_supported_type(&key).unwrap());
    (Arc::new(certified), made.cert.pem())
}

async fn check(port: u16, trusted: &str) -> Result<(), String> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted)).domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop).map_err(|status| status.to_string())
}

fn cluster() -> Cluster {
    let (repositories, holds, rests) = (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
    let client = ApiServer::default().client();
    Cluster::new(ClusterConfig {
        client,
        repositories: repositories.subscribe(),
        holds: holds.subscribe(),
        rests: rests.subscribe(),
        couriers: watch::Sender::default().subscribe(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_counts_from_the_next_connection_on() {
    let ((first, trusted), (second, later)) = (certificate(), certificate());
    let resolver = Arc::new(Changing(Mutex::new(first)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let (certificates, cluster): (Arc<dyn ResolvesServerCert>, _) = (resolver.clone(), cluster());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { cluster.serve(listener, Some(certificates), async { drop(stopped.await) }).await.unwrap() });
    check(port, &trusted).await.expect("the first");
    check(port, &later).await.expect_err("not yet");
    *resolver.0.lock().unwrap() = second;
    check(port, &later).await.expect("the second");
    check(port, &trusted).await.expect_err("not any more");
    // what isn't TLS holds nobody up
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
    HealthClient::new(plain).check(HealthCheckRequest::default()).await.expect_err("plain text");
    check(port, &later).await.expect("still there");
    stop.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_certificates_only_this_machine_is_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = cluster().serve(listener, None, std::future::pending()).await;
    assert!(matches!(refused, Err(CoordinatorError::Unguarded { .. })), "{refused:?}");
}
