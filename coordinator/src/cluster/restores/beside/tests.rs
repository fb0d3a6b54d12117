// SPDX-License-Identifier: Apache-2.0
use super::super::held::Held;
use super::super::run;
use crate::Coordinator;
use crate::cluster::kit::{World, names};
use crate::cluster::kube_kit::{ApiServer, Key, failure};
use crate::cluster::leading::kit::{self, coordinator, object};
use crate::cluster::pauses::Pauses;
use crate::cluster::restores::tests::captures_what_it_restored;
use crate::cluster::restores::{Context, history};
use crate::cluster::{Holds, Repositories, RepositoryKey, RepositoryState};
use crate::service::snapshot::Terms;
use holdfast_proto::v1::CreateSnapshotRequest;
use holdfast_store::log::Log;
use holdfast_store::snapshot::{Image, Manifest, Setting};
use holdfast_store::transport::Transport;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Two namespaces on one repository: `shop` with two replicas of `web` and a snapshot of them, and `bank`, which is empty.
struct Street {
    world: World,
    server: ApiServer,
    repositories: watch::Sender<Repositories>,
    /// The checkpoints of the snapshot.
    then: [u64; 2],
}

fn original(slot: u8) -> String {
    format!("statefulset/web/{slot}")
}

fn manifest(kind: &str, name: &str, body: &Value) -> Manifest {
    Manifest {
        api_version: body["apiVersion"].as_str().unwrap_or("v1").to_owned(),
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        json: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
    }
}

/// What the replicas ran as.
fn setting() -> Setting {
    let pod = json!({ "containers": [{ "name": "web", "image": "web:1", "envFrom": [{ "configMapRef": { "name": "settings" } }, { "secretRef": { "name": "keys" } }] }] });
    let template = json!({ "metadata": { "labels": { "app": "web", "holdfast.dev/policy": "web" } }, "spec": pod });
    let claim = json!({ "metadata": { "name": "data" }, "spec": { "storageClassName": "fast", "volumeName": "pv-1" } });
    let web = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "replicas": 2, "serviceName": "web", "selector": { "matchLabels": { "app": "web" } }, "template": template, "volumeClaimTemplates": [claim] } });
    let settings = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": "shop" }, "data": { "a": "b" } });
    let policy = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "repositoryRef": { "name": "default" }, "paths": [{ "label": "data", "path": "/state" }] } });
    let manifests = vec![
        manifest("StatefulSet", "web", &web),
        manifest("ConfigMap", "settings", &settings),
        manifest("Secret", "keys", &Value::Null),
        manifest("StatePolicy", "web", &policy),
    ];
    let digest = format!("web@sha256:{}", "ab".repeat(32));
    let image =
        |slot| Image { lineage: original(slot), container: "web".to_owned(), image: "web:1".to_owned(), digest: digest.clone() };
    Setting { manifests, images: vec![image(0), image(1)] }
}

impl Street {
    async fn new() -> Self {
        let world = World::new().await;
        let shop = coordinator(&world);
        let ready = |namespace: &str, coordinator: &Coordinator| {
            (RepositoryKey::new(namespace, "default"), RepositoryState::Ready(coordinator.clone()))
        };
        let table: Repositories = [ready("shop", &shop), ready("bank", &coordinator(&world))].into_iter().collect();
        let server = ApiServer::default();
        for namespace in ["shop", "bank"] {
            let mut repository = kit::repository();
            repository["metadata"]["namespace"] = json!(namespace);
            server.put("staterepositories", repository);
            server.put("namespaces", json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }));
        }
        server.put("storageclasses", json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": "fast" }, "provisioner": "x" }));
        server
            .put("secrets", json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys", "namespace": "bank" } }));
        let web = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "web", "namespace": "shop" }, "spec": {} });
        server.put("statefulsets", web);
        let then = history(&world, &shop, &server).await;
        Self { world, server, repositories: watch::Sender::new(table), then }
    }

    /// Answers what the coordinator asks of its rights.
    fn grant(&self, allows: impl Fn(&Value) -> bool + Send + 'static) {
        self.server.on(move |_, path, body| {
            let allowed = allows(&body["spec"]["resourceAttributes"]);
            let answer = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": body["spec"],
                "status": { "allowed": allowed } });
            path.ends_with("/selfsubjectaccessreviews").then_some((StatusCode::CREATED, answer))
        });
    }

    fn lead(&self) -> kit::Leader {
        let (mut leader, with) = kit::Leader::new(&self.server, &self.repositories);
        let context = Context {
            with,
            system: "holdfast-system".to_owned(),
            slots: watch::channel(Arc::default()).1,
            held: Held::new(watch::channel(Holds::default()).0),
            couriers: watch::Sender::default(),
            pauses: Pauses::default(),
        };
        leader.tasks.spawn(run(Arc::new(context), leader.stop.clone()));
        leader
    }

    fn apply(&self, name: &str, more: Value) {
        let mut spec = json!({ "source": { "snapshot": "then" }, "elsewhere": { "namespace": "bank", "namePrefix": "copy-" } });
        json_patch::merge(&mut spec, &more);
        self.server.put("staterestores", object("StateRestore", name, spec));
    }

    /// Waits until the condition says this, and returns the status.
    async fn until(&self, name: &str, is: &str, reason: &str) -> Value {
        let status = |server: &ApiServer| Some(server.get("staterestores", "shop", name)?["status"].clone());
        let waiting = self.server.until(|server| {
            let status = status(server)?;
            let said = &status["conditions"][0];
            (said["status"] == is && said["reason"] == reason).then_some(status)
        });
        let waited = tokio::time::timeout(Duration::from_secs(25), waiting).await;
        waited.unwrap_or_else(|_| panic!("it should be {reason} by now: {:?}", status(&self.server)))
    }

    fn log(&self, lineage: &str) -> Log {
        let transport: Arc<dyn Transport> = self.world.memory.clone();
        Log::new(transport, Arc::clone(&self.world.domain), self.world.domain.keys.identity.lineage_id(lineage))
    }

    async fn heads(&self) -> [u64; 2] {
        [self.log(&original(0)).head(0).await.expect("a head"), self.log(&original(1)).head(0).await.expect("a head")]
    }

    /// What a pod's agent does when its gate opens: it claims the lineage, restores, and captures what it has restored.
    async fn starts(&self, lineage: &str) {
        captures_what_it_restored(&self.world, lineage, 7).await;
    }

    /// How many objects of the copy's kinds are in `bank`.
    fn made(&self) -> Vec<String> {
        let kinds = ["statelineages", "configmaps", "statepolicies", "statefulsets"];
        let objects = kinds.iter().flat_map(|kind| self.server.list(kind));
        let of_bank = objects.filter(|object| object["metadata"]["namespace"] == "bank");
        of_bank.map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The StatefulSet can't be made while this holds.
    fn refuses(&self, refuses: &Arc<AtomicBool>) {
        let refuses = Arc::clone(refuses);
        self.server.on(move |method, path, _| {
            let asked = *method == Method::POST && path.ends_with("/statefulsets") && refuses.load(Ordering::SeqCst);
            asked.then(|| (StatusCode::FORBIDDEN, failure(StatusCode::FORBIDDEN, "Forbidden", "exceeded quota")))
        });
    }
}

/// Two states of each replica, and a snapshot of the first.
async fn history(world: &World, coordinator: &Coordinator, server: &ApiServer) -> [u64; 2] {
    let (mut writers, mut then) = (Vec::new(), [0; 2]);
    for slot in [0, 1] {
        let mut writer = world.writer(&original(slot)).await;
        writer.write("book", format!("then, of {slot}"));
        then[usize::from(slot)] = writer.checkpoint().await.sequence;
        writers.push(writer);
    }
    let request = CreateSnapshotRequest {
        name: "then".to_owned(),
        lineages: [0, 1].iter().map(|slot| names(&original(*slot))).collect(),
        request_id: "then".to_owned(),
        ..CreateSnapshotRequest::default()
    };
    let terms = Terms {
        within: Duration::from_secs(30),
        pause: Duration::from_secs(1),
        rename: false,
        setting: setting(),
        absent: Vec::new(),
    };
    let snapshot = coordinator.api().taken(request, terms).await.expect("a snapshot");
    let mut taken = object("StateSnapshot", "then", json!({ "policies": ["web"] }));
    taken["status"] = json!({ "snapshotId": snapshot.id, "repository": "shop/default" });
    server.put("statesnapshots", taken);
    for mut writer in writers {
        writer.write("book", "since then");
        writer.checkpoint().await;
    }
    then
}

const ALL: [&str; 5] = ["statefulset-copy-web-0", "statefulset-copy-web-1", "copy-settings", "web", "copy-web"];

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_and_the_original_goes_on() {
    let street = Street::new().await;
    street.grant(|_| true);
    let (heads, leader) = (street.heads().await, street.lead());
    street.apply("plan", json!({ "dryRun": true }));
    let planned = street.until("plan", "True", "Planned").await;
    assert!(planned["plan"].to_string().contains("statefulset-copy-web-1 begins with checkpoint"), "{planned}");
    assert_eq!((street.made(), planned["objects"].is_null()), (vec![], true));
    street.apply("copy", json!({}));
    let open = street.until("copy", "Unknown", "Starting").await;
    assert_eq!(street.made(), ALL);
    let web = street.server.get("statefulsets", "bank", "copy-web").expect("a workload");
    let image = web["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image");
    assert!(image.starts_with("web@sha256:abab") && web["spec"]["template"]["metadata"]["labels"]["app"] == "copy-web", "{web}");
    for slot in [0, 1] {
        let member = &open["members"][slot];
        assert_eq!(
            (member["origin"]["sequence"].as_u64(), member["sequence"].as_u64(), member["claim"].as_u64()),
            (Some(street.then[slot]), Some(2), Some(3))
        );
        let lineage = street.server.get("statelineages", "bank", ALL[slot]).expect("a lineage");
        assert_eq!(lineage["spec"]["lineage"], member["storedAs"]);
        // its agent may read what it refers to
        let bank = street.repositories.borrow().coordinator(&RepositoryKey::new("bank", "default")).expect("open").clone();
        let place = history::place(bank.shared(), "bank", member["storedAs"].as_str().expect("a name")).await.expect("a place");
        let ancestors = bank.shared().catalog.ancestors(&place).await.expect("its first record");
        assert_eq!(ancestors, [street.log(&original(u8::try_from(slot).expect("small"))).lineage()]);
        street.starts(member["storedAs"].as_str().expect("a name")).await;
    }
    let status = street.until("copy", "True", "Restored").await;
    for receipt in status["receipts"].as_array().expect("receipts") {
        assert_eq!(
            (&receipt["rootAsked"], &receipt["deviations"], receipt["proof"].as_u64()),
            (&receipt["rootFound"], &json!(0), Some(5))
        );
    }
    assert_eq!((street.heads().await, status["receiptCount"].as_u64()), (heads, Some(2)), "the original was not touched");
    // what the snapshot keeps, and what the copy began with
    assert_eq!(street.world.pins(&original(0)).await, 2);
    street.apply("undo", json!({ "source": { "snapshot": null, "undo": "copy" }, "elsewhere": null }));
    street.until("undo", "False", "NothingToUndo").await;
    street.apply("again", json!({}));
    let refused = street.until("again", "False", "NamesTaken").await;
    assert!(refused["plan"].to_string().contains("StatefulSet copy-web"), "{refused}");
    street.apply("moment", json!({ "source": { "snapshot": null, "time": "2026-01-01T00:00:00Z", "policies": ["web"] } }));
    street.until("moment", "False", "NotBeside").await;
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_and_nothing_is_made() {
    let street = Street::new().await;
    street.grant(|asked| asked["resource"] != "statefulsets");
    street.server.delete(&Key::new("secrets", "bank", "keys"));
    let leader = street.lead();
    street.apply("copy", json!({}));
    let refused = street.until("copy", "False", "RightsMissing").await;
    let said = refused["conditions"][0]["message"].as_str().expect("a message");
    assert!(said.contains(r#"resources: ["statefulsets"], verbs: ["create"]"#) && said.contains("Secret keys"), "{said}");
    street.apply("nowhere", json!({ "elsewhere": { "namespace": "moon" } }));
    let refused = street.until("nowhere", "False", "NotThere").await;
    let said = refused["conditions"][0]["message"].as_str().expect("a message");
    assert!(said.contains("no namespace moon") && said.contains("StateRepository moon/default"), "{said}");
    street.apply("same", json!({ "elsewhere": { "namespace": "shop", "namePrefix": "" } }));
    let refused = street.until("same", "False", "RightsMissing").await;
    assert!(refused["plan"].to_string().contains("names are taken: StatefulSet web;"), "{refused}");
    assert_eq!((street.made(), street.world.pins(&original(0)).await), (vec![], 1));
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_has_nothing_but_the_repository_restores_from_it() {
    let street = Street::new().await;
    street.grant(|_| true);
    street.server.delete(&Key::new("statesnapshots", "shop", "then"));
    street.server.delete(&Key::new("statefulsets", "shop", "web"));
    street
        .server
        .put("secrets", json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys", "namespace": "shop" } }));
    let (heads, leader) = (street.heads().await, street.lead());
    street.apply("back", json!({ "elsewhere": { "namespace": "shop", "namePrefix": "" } }));
    let open = street.until("back", "Unknown", "Starting").await;
    for slot in [0, 1] {
        let stored = open["members"][slot]["storedAs"].as_str().expect("a name");
        assert_ne!(stored, original(u8::try_from(slot).expect("small")), "the other cluster's history stays its own");
        street.starts(stored).await;
    }
    street.until("back", "True", "Restored").await;
    assert!(
        street
            .server
            .get("statefulsets", "shop", "web")
            .is_some_and(|web| web["spec"]["selector"]["matchLabels"]["app"] == "web")
    );
    assert_eq!(street.heads().await, heads);
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leader_goes_on_with_what_is_made() {
    let street = Street::new().await;
    street.grant(|_| true);
    let refuses = Arc::new(AtomicBool::new(true));
    street.refuses(&refuses);
    // what the first leader does is done, and half of it can't be written down
    let silent = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&silent);
    street.server.on(move |method, path, body| {
        let tells =
            *method == Method::PATCH && path.contains("/staterestores/") && body["status"]["members"][0]["claim"].is_number();
        (tells && asked.load(Ordering::SeqCst))
            .then(|| (StatusCode::INTERNAL_SERVER_ERROR, failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "no")))
    });
    let leader = street.lead();
    street.apply("copy", json!({}));
    let status = street.until("copy", "Unknown", "Making").await;
    let stored: Vec<String> =
        (0..2).map(|slot| status["members"][slot]["storedAs"].as_str().expect("a name").to_owned()).collect();
    while street.log(&stored[1]).head(0).await.expect("a head") < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(street.made(), [""; 0], "no object before its history stands written");
    leader.end().await;
    silent.store(false, Ordering::SeqCst);
    let leader = street.lead();
    let status = street.until("copy", "Unknown", "Forbidden").await;
    assert!(
        status["conditions"][0]["message"]
            .as_str()
            .is_some_and(|said| said.contains("StatefulSet copy-web could not be made: exceeded quota")),
        "{status}"
    );
    assert_eq!(
        (street.made(), status["objects"][4]["made"].as_bool()),
        (ALL[..4].iter().map(|name| (*name).to_owned()).collect(), Some(false))
    );
    leader.end().await;
    refuses.store(false, Ordering::SeqCst);
    let leader = street.lead();
    let status = street.until("copy", "Unknown", "Starting").await;
    assert_eq!(street.made(), ALL);
    for (slot, name) in stored.iter().enumerate() {
        assert_eq!(
            (street.log(name).head(0).await.expect("a head"), status["members"][slot]["claim"].as_u64()),
            (3, Some(3)),
            "begun once"
        );
    }
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_deleted_on_its_way_leaves_nothing() {
    let street = Street::new().await;
    street.grant(|_| true);
    street.refuses(&Arc::new(AtomicBool::new(true)));
    let (heads, leader) = (street.heads().await, street.lead());
    street.apply("copy", json!({}));
    street.until("copy", "Unknown", "Forbidden").await;
    assert_eq!(street.made().len(), 4);
    street.server.delete(&Key::new("staterestores", "shop", "copy"));
    street.server.until(|_| street.made().is_empty().then_some(())).await;
    assert_eq!(street.heads().await, heads);
    leader.end().await;
}
