// SPDX-License-Identifier: Apache-2.0
//! Against an API server: what it is asked for, and what is told of its answers.

use super::*;
use crate::cluster::kube_kit::{ApiServer, failure};
use crate::cluster::leading::Objects;
use crate::cluster::leading::kit::still;
use crate::cluster::{Repositories, events};
use http::StatusCode;
use kube::runtime::reflector::store;
use serde_json::{Value, json};
use std::sync::Mutex;

const SYSTEM: &str = "holdfast-system";

/// What the webhook, or what is in its way, does with a probe; `Null`: nobody is asked.
#[derive(Clone, Default)]
struct Webhook(Arc<Mutex<Option<(StatusCode, Value)>>>);

/// The webhook's mark stands for any annotation that a test wants to come back.
const ANSWERS: &str = "as the webhook does";

impl Webhook {
    fn answers(&self) {
        *self.0.lock().expect("a lock") = Some((StatusCode::CREATED, json!(ANSWERS)));
    }

    fn is_away(&self, words: &str) {
        let message = format!("Internal error occurred: failed calling webhook \"probe.holdfast.dev\": {words}");
        *self.0.lock().expect("a lock") =
            Some((StatusCode::INTERNAL_SERVER_ERROR, failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", &message)));
    }

    fn serve(&self, server: &ApiServer) {
        let known = self.clone();
        server.on(move |method, path, body| {
            if method != http::Method::POST || path != "/api/v1/namespaces/holdfast-system/configmaps" {
                return None;
            }
            let (status, mut answer) = known.0.lock().expect("a lock").clone()?;
            if answer == ANSWERS {
                answer = body.clone();
                answer["metadata"]["annotations"] = json!({ labels::PROBED: body["metadata"]["labels"][labels::PROBE] });
            }
            Some((status, answer))
        });
    }
}

/// A cluster with a webhook, and who probes it.
fn scene() -> (ApiServer, Webhook, Probe, events::Queue, watch::Receiver<Trouble>) {
    let (server, webhook) = (ApiServer::default(), Webhook::default());
    webhook.serve(&server);
    server.put(
        "deployments",
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": WEBHOOK, "namespace": SYSTEM, "uid": "the-webhook" },
            "spec": { "selector": {}, "template": {} } }),
    );
    configured(&server, &["pods.holdfast.dev", ENTRY]);
    let objects =
        Objects { pods: store().0, policies: store().0, lineages: store().0, repositories: store().0, first: Arc::default() };
    let (with, queue) = still(&server, watch::channel(Repositories::default()).1, objects);
    let (told, trouble) = watch::channel(None);
    (server, webhook, Probe { with, namespace: SYSTEM.to_owned(), told }, queue, trouble)
}

fn configured(server: &ApiServer, entries: &[&str]) {
    let entries: Vec<Value> = entries
        .iter()
        .map(|name| json!({ "name": name, "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"] }))
        .collect();
    server.put(
        "mutatingwebhookconfigurations",
        json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": CONFIGURATION }, "webhooks": entries }),
    );
}

/// The lines of the metrics that are about the webhook, without the time that it took.
fn measured(probe: &Probe) -> Vec<String> {
    let text = probe.with.metrics.text();
    let lines = text.lines().filter(|line| line.starts_with("holdfast_coordinator_webhook"));
    lines
        .map(|line| if line.contains("_seconds") { line.rsplit_once(' ').expect("a value").0 } else { line }.to_owned())
        .collect()
}

const TIME: &str = "holdfast_coordinator_webhook_probe_seconds{}";

#[tokio::test]
async fn a_probe_is_marked_and_never_stored() {
    let (server, webhook, probe, ..) = scene();
    // nobody is asked: what the API server would store otherwise must not be there
    assert_eq!(probe.attempt().await, Finding::Unknown(Gap::NotAsked));
    webhook.answers();
    assert_eq!(probe.attempt().await, Finding::Reached);
    let asked = server.writes();
    let words: Vec<&str> =
        asked.iter().map(|asked| asked.body["metadata"]["labels"][labels::PROBE].as_str().expect("a word")).collect();
    assert!(words.len() == 2 && words[0] != words[1] && words[0].len() == 32, "{words:?}");
    for asked in &asked {
        assert_eq!(asked.path, "/api/v1/namespaces/holdfast-system/configmaps");
        assert!(asked.query.split('&').any(|pair| pair == "dryRun=All"), "{}", asked.query);
        assert!(asked.body.get("data").is_none(), "{}", asked.body);
    }
    assert_eq!(server.list("configmaps"), Vec::<Value>::new());
}

#[tokio::test]
async fn an_outage_and_its_end_are_told() {
    let (server, webhook, probe, mut queue, trouble) = scene();
    let mut course = Course::default();
    webhook.answers();
    probe.turn(&mut course).await;
    assert_eq!(measured(&probe), ["holdfast_coordinator_webhook_reachable{} 1", TIME]);
    webhook.is_away("failed to call webhook: dial tcp 10.0.0.1:443: connect: no route to host");
    for _ in 0..4 {
        assert!(course.trouble().is_some() || queue.try_recv().is_err(), "told too early");
        probe.turn(&mut course).await;
    }
    assert_eq!(measured(&probe), ["holdfast_coordinator_webhook_reachable{} 0", TIME]);
    assert!(trouble.borrow().as_deref().is_some_and(|words| words.ends_with("no route to host")), "{trouble:?}");
    let (first, again) = (queue.try_recv().expect("told"), queue.try_recv().expect("told again"));
    assert_eq!(first, again, "what goes on is the same news, which is told seldom");
    assert!(first.is_warning && first.reason == "WebhookUnreachable", "{first:?}");
    assert_eq!((first.about.kind.as_deref(), first.about.uid.as_deref()), (Some("Deployment"), Some("the-webhook")));
    assert!(first.note.contains("are refused since 20") && first.note.ends_with("no route to host"), "{}", first.note);
    // without its Deployment it is told all the same
    server.delete(&crate::cluster::kube_kit::Key::new("deployments", SYSTEM, WEBHOOK));
    webhook.answers();
    probe.turn(&mut course).await;
    let last = queue.try_recv().expect("told");
    assert!(!last.is_warning && last.reason == "WebhookReachable" && last.note.contains("again, after"), "{last:?}");
    assert_eq!((last.about.name.as_deref(), last.about.uid.as_deref()), (Some(WEBHOOK), None));
    assert_eq!((measured(&probe)[0].as_str(), trouble.borrow().clone()), ("holdfast_coordinator_webhook_reachable{} 1", None));
    probe.with.metrics.leads(false);
    assert_eq!(measured(&probe), Vec::<String>::new(), "who doesn't lead doesn't know");
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_is_claimed() {
    let (server, webhook, probe, mut queue, trouble) = scene();
    webhook.answers();
    let mut course = Course::default();
    probe.turn(&mut course).await;
    *webhook.0.lock().expect("a lock") = None;
    configured(&server, &["pods.holdfast.dev"]);
    assert_eq!(probe.attempt().await, Finding::Unknown(Gap::NoEntry));
    probe.turn(&mut course).await;
    assert_eq!(measured(&probe), Vec::<String>::new());
    let forbidden = failure(StatusCode::FORBIDDEN, "Forbidden", "configmaps is forbidden: it may not");
    *webhook.0.lock().expect("a lock") = Some((StatusCode::FORBIDDEN, forbidden));
    assert!(matches!(probe.attempt().await, Finding::Unknown(Gap::Refused(words)) if words.contains("it may not")));
    probe.turn(&mut course).await;
    assert_eq!((measured(&probe), trouble.borrow().clone()), (Vec::<String>::new(), None));
    assert!(queue.try_recv().is_err(), "nothing happened to the webhook, as far as is known");
}

#[test]
fn the_manifest_has_the_entry_that_probes_are_meant_for() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/webhook/mutating.yaml"));
    let configuration: Value = serde_saphyr::from_str(&manifest.expect("the manifest")).expect("YAML");
    assert_eq!(configuration["metadata"]["name"], CONFIGURATION);
    let entries = configuration["webhooks"].as_array().expect("entries");
    let entry = entries.iter().find(|entry| entry["name"] == ENTRY).expect("the entry");
    assert_eq!(entry["objectSelector"]["matchExpressions"], json!([{ "key": labels::PROBE, "operator": "Exists" }]));
    let patience = entry["timeoutSeconds"].as_u64().map(Duration::from_secs).expect("a timeout");
    assert!(patience < PATIENCE, "the API server would be given up before it gives the webhook up");
}
