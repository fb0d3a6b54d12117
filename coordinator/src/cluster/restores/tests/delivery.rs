// SPDX-License-Identifier: Apache-2.0
//! Restores into claims, with pods that do as the test says.

use super::*;

/// A restore of the first replica's first state into the claim `inspect`.
fn into_claim(sequence: u64, more: Value) -> Value {
    let checkpoint = json!({ "lineage": "statefulset-web-0", "sequence": sequence });
    let mut spec = json!({ "source": { "checkpoint": checkpoint }, "elsewhere": { "claim": { "name": "inspect" } } });
    json_patch::merge(&mut spec, &more);
    spec
}

impl Shop {
    /// With what a restore into a claim needs: the claim, and the webhook that knows the agents' image.
    async fn with_claim() -> (Self, Vec<(u64, u64)>) {
        let shop = Self::new().await;
        let history = shop.history().await;
        let env = json!([{ "name": "HOLDFAST_AGENT_IMAGE", "value": "agent:1" }]);
        let template = json!({ "metadata": {}, "spec": { "containers": [{ "name": "webhook", "env": env }] } });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "holdfast-webhook", "namespace": "holdfast-system" },
            "spec": { "selector": {}, "template": template } });
        shop.server.put("deployments", deployment);
        shop.claim("inspect");
        (shop, history)
    }

    fn claim(&self, name: &str) {
        let spec = json!({ "accessModes": ["ReadWriteOnce"] });
        let object = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name, "namespace": "shop" }, "spec": spec });
        self.server.put("persistentvolumeclaims", object);
    }

    /// The pod that a restore has made, once that stands written.
    async fn courier(&self, restore: &str, attempt: u64) -> Value {
        self.server
            .until(|server| {
                let pod = &self.status(restore)["pod"];
                let name = pod["name"].as_str().filter(|_| pod["attempt"] == attempt)?;
                server.get("pods", "shop", name).filter(|found| found["metadata"]["uid"] == pod["uid"])
            })
            .await
    }

    /// A pod ends with this last word.
    fn ends_with(&self, pod: &Value, report: &Value) {
        let terminated = json!({ "terminated": { "exitCode": 0, "message": report.to_string() } });
        let status = json!({ "name": "holdfast-agent", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": terminated });
        let mut pod = pod.clone();
        pod["status"] = json!({ "phase": "Succeeded", "containerStatuses": [status] });
        self.server.put("pods", pod);
    }
}

fn uid_of(object: &Value) -> String {
    object["metadata"]["uid"].as_str().expect("a UID").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_writes_the_files_into_the_claim_and_nothing_else_happens() {
    let (shop, history) = Shop::with_claim().await;
    let (then, _) = history[0];
    let mut leader = shop.lead();
    shop.apply("plan", into_claim(then, json!({ "dryRun": true })));
    let planned = shop.until("plan", "True", "Planned").await;
    assert!(planned["plan"][1].as_str().expect("a sentence").contains("1 files and directories with 10 bytes"), "{planned}");
    assert_eq!((shop.server.list("pods").len(), &planned["pod"]), (2, &Value::Null), "a plan makes nothing");
    let pins = shop.world.pins(&lineage(0)).await;
    shop.apply("look", into_claim(then, json!({})));
    let pod = shop.courier("look", 0).await;
    let couriers = leader.couriers.wait_for(|couriers| couriers.contains_key(&uid_of(&pod))).await.expect("a leader").clone();
    let courier = &couriers[&uid_of(&pod)];
    assert_eq!((courier.namespace.as_str(), courier.lineages.len()), ("shop", 1), "it alone, and only that");
    assert_eq!(courier.lineages["statefulset-web-0"], lineage(0));
    assert_eq!(
        (leader.shut().len(), shop.world.pins(&lineage(0)).await),
        (0, pins + 1),
        "its checkpoint stays, and no gate is shut"
    );
    let spec = &pod["spec"];
    assert_eq!((&spec["containers"][0]["image"], &spec["restartPolicy"]), (&json!("agent:1"), &json!("OnFailure")));
    assert_eq!((&spec["securityContext"]["runAsNonRoot"], &spec["automountServiceAccountToken"]), (&json!(true), &json!(false)));
    assert_eq!(spec["volumes"][0]["persistentVolumeClaim"]["claimName"], "inspect");
    assert_eq!(
        pod["metadata"]["ownerReferences"][0]["uid"],
        uid_of(&shop.server.get("staterestores", "shop", "look").expect("there"))
    );
    let root = shop.status("look")["members"][0]["root"].clone();
    shop.ends_with(&pod, &json!({ "delivered": [{ "root": root, "deviations": 0, "bytes": 10, "tookMs": 7 }] }));
    let status = shop.until("look", "True", "Restored").await;
    let receipt = &status["receipts"][0];
    assert_eq!((&receipt["rootAsked"], &receipt["bytes"], &receipt["tookMs"]), (&receipt["rootFound"], &json!(10), &json!(7)));
    leader.couriers.wait_for(|couriers| couriers.is_empty()).await.expect("a leader");
    assert_eq!(shop.world.pins(&lineage(0)).await, pins, "and is let go");
    assert_eq!((shop.claims(0).await, shop.server.list("pods").len()), (0, 3), "web-0 and web-1 run on");
    shop.apply("undo", json!({ "source": { "undo": "look" } }));
    shop.until_said("undo", "False", "NothingToUndo", "into a claim").await;
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_claim_is_named() {
    let (shop, history) = Shop::with_claim().await;
    let (then, _) = history[0];
    shop.claim("busy");
    let volumes = json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "busy" } }]);
    shop.pod(1, json!({ "spec": { "volumes": volumes } }));
    let leader = shop.lead();
    let table = [
        ("missing", json!({ "elsewhere": { "claim": { "name": "nowhere" } } }), "Unknown", "ClaimNotFound", "nowhere"),
        ("used", json!({ "elsewhere": { "claim": { "name": "busy" } } }), "False", "ClaimInUse", "web-1"),
        ("far", json!({ "elsewhere": { "namespace": "bank" } }), "False", "NamespaceRefused", "bank"),
        ("path", json!({ "paths": ["data/book", "data/none"] }), "False", "PathNotFound", "\"data/none\""),
        ("label", json!({ "paths": ["/book"] }), "False", "PathNotFound", "\"/book\""),
        ("no-such", json!({ "source": { "checkpoint": { "sequence": 999 } } }), "False", "NothingStored", ""),
    ];
    for (name, more, is, reason, word) in table {
        shop.apply(name, into_claim(then, more));
        shop.until_said(name, is, reason, word).await;
    }
    shop.apply("one-file", into_claim(then, json!({ "paths": ["data/book"], "dryRun": true })));
    let planned = shop.until("one-file", "True", "Planned").await;
    assert!(planned["plan"][1].as_str().expect("a sentence").contains(": 1 files and directories with 10 bytes"), "{planned}");
    assert_eq!(shop.server.list("pods").len(), 2);
    // what only the pod sees
    shop.apply("full", into_claim(then, json!({})));
    let pod = shop.courier("full", 0).await;
    shop.ends_with(&pod, &json!({ "refused": { "reason": "ClaimNotEmpty", "message": "the volume is not empty" } }));
    shop.until("full", "False", "ClaimNotEmpty").await;
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_have_directories_and_paths_go_to_the_pod() {
    let (shop, _) = Shop::with_claim().await;
    // nobody runs, and nobody is to: what is stored can be looked at
    for slot in [0, 1] {
        shop.pod_ends(slot);
    }
    let leader = shop.lead();
    let source = json!({ "snapshot": "then", "policies": ["web"] });
    shop.apply("all", json!({ "source": source, "elsewhere": { "claim": { "name": "inspect" } }, "paths": ["data/book"] }));
    let pod = shop.courier("all", 0).await;
    let told = pod["spec"]["containers"][0]["env"][0]["value"].as_str().expect("a variable");
    let told: holdfast_core::delivery::Delivery = serde_json::from_str(told).expect("a delivery");
    let places: Vec<_> = told.parcels.iter().map(|parcel| (parcel.directory.as_str(), parcel.paths.as_slice())).collect();
    let paths = ["data/book".to_owned()];
    assert_eq!(places, [("statefulset-web-0", &paths[..]), ("statefulset-web-1", &paths[..])]);
    assert_eq!(
        (told.owners, &pod["spec"]["securityContext"]["runAsUser"]),
        (false, &json!(65532)),
        "nobody knows whose files these are"
    );
    let delivered = json!({ "deviations": 1, "bytes": 10, "tookMs": 7 });
    shop.ends_with(&pod, &json!({ "delivered": [delivered, delivered] }));
    let status = shop.until_said("all", "True", "Restored", "but for the owner, mode or times of 2 files").await;
    assert_eq!(
        (&status["receipts"][1]["directory"], &status["receipts"][1]["rootFound"]),
        (&json!("statefulset-web-1"), &json!(""))
    );
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_gone_is_replaced_and_may_read_no_more() {
    let (shop, history) = Shop::with_claim().await;
    let mut leader = shop.lead();
    shop.apply("look", into_claim(history[0].0, json!({})));
    let first = shop.courier("look", 0).await;
    shop.server.delete(&crate::cluster::kube_kit::Key::of("pods", &first));
    let second = shop.courier("look", 1).await;
    let only = |couriers: &Couriers, pod: &Value| couriers.keys().eq([&uid_of(pod)]);
    leader.couriers.wait_for(|couriers| only(couriers, &second)).await.expect("a leader");
    // another leader knows it from what stands written
    leader.end().await;
    let mut leader = shop.lead();
    leader.couriers.wait_for(|couriers| only(couriers, &second)).await.expect("a leader");
    // and when the restore goes, so does the pod, and its checkpoint is let go
    let object = shop.server.get("staterestores", "shop", "look").expect("there");
    shop.server.delete(&crate::cluster::kube_kit::Key::of("staterestores", &object));
    leader.couriers.wait_for(|couriers| couriers.is_empty()).await.expect("a leader");
    shop.server.until(|server| (server.list("pods").len() == 2).then_some(())).await;
    leader.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_somebody_else_made_for_it_is_not_its() {
    let (shop, history) = Shop::with_claim().await;
    shop.apply("look", into_claim(history[0].0, json!({})));
    let object = shop.server.get("staterestores", "shop", "look").expect("there");
    let uid = uid_of(&object);
    let owner = json!([{ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRestore", "name": "look", "uid": uid, "controller": true }]);
    let name = format!("holdfast-restore-{}-0", uid.get(..8).unwrap_or(&uid));
    let metadata =
        json!({ "name": name, "namespace": "shop", "ownerReferences": owner, "labels": { "holdfast.dev/restore": uid } });
    shop.server.put("pods", json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": { "containers": [] } }));
    let planted = uid_of(&shop.server.get("pods", "shop", &name).expect("there"));
    let mut leader = shop.lead();
    let pod = shop.courier("look", 1).await;
    assert_ne!(uid_of(&pod), planted);
    let couriers = leader.couriers.wait_for(|couriers| !couriers.is_empty()).await.expect("a leader").clone();
    assert!(couriers.keys().eq([&uid_of(&pod)]), "{couriers:?}");
    leader.end().await;
}
