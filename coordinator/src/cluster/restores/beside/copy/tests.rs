// SPDX-License-Identifier: Apache-2.0
use super::*;

fn manifest(kind: &str, name: &str, body: &Value) -> Manifest {
    let mut body = body.clone();
    if !body.is_null() {
        body["kind"] = json!(kind);
        body["metadata"]["name"] = json!(name);
        body["metadata"]["namespace"] = json!("shop");
    }
    Manifest {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        json: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
    }
}

fn digest(byte: &str) -> String {
    format!("sha256:{}", byte.repeat(32))
}

fn image(slot: u8, digest: &str) -> Image {
    Image {
        lineage: format!("statefulset/web/{slot}"),
        container: "web".to_owned(),
        image: "web:1".to_owned(),
        digest: format!("registry.example/web@{digest}"),
    }
}

/// A StatefulSet of three with a ConfigMap, a Secret and a claim of its own.
fn shop() -> Setting {
    let pod = json!({
        "serviceAccountName": "web",
        "containers": [{ "name": "web", "image": "web:1", "envFrom": [{ "configMapRef": { "name": "settings" } }, { "secretRef": { "name": "keys" } }] },
            { "name": "by-hand", "image": "own:1" }],
        "volumes": [{ "name": "shared", "persistentVolumeClaim": { "claimName": "books" } }, { "name": "maybe", "configMap": { "name": "gone", "optional": true } }],
    });
    let template = json!({ "metadata": { "labels": { "app": "web", "holdfast.dev/policy": "web" } }, "spec": pod });
    let claim = json!({ "metadata": { "name": "data" }, "spec": { "storageClassName": "fast", "volumeName": "pv-1" } });
    let stateful = json!({ "metadata": { "uid": "u", "labels": { "holdfast.dev/policy": "web" } }, "status": {}, "spec": { "replicas": 3, "serviceName": "web",
        "selector": { "matchLabels": { "app": "web" } }, "template": template, "volumeClaimTemplates": [claim] } });
    let manifests = vec![
        manifest("StatefulSet", "web", &stateful),
        manifest("ConfigMap", "settings", &json!({ "metadata": {}, "data": { "a": "b" } })),
        manifest("ConfigMap", "of-others", &json!({ "metadata": {} })),
        manifest("PersistentVolumeClaim", "books", &json!({ "metadata": {}, "spec": { "volumeName": "pv-2" } })),
        manifest("Secret", "keys", &Value::Null),
        manifest("StatePolicy", "web", &json!({ "metadata": {}, "spec": { "repositoryRef": { "name": "main" } } })),
    ];
    Setting { manifests, images: vec![image(0, &digest("ab")), image(1, &digest("ab"))] }
}

fn address(to: &str, prefix: &str) -> Address {
    Address { to: to.to_owned(), prefix: prefix.to_owned(), uid: "uid-1".to_owned() }
}

fn members(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn drawn(setting: &Setting, names: &[&str], address: &Address) -> Copy {
    copy(setting, &members(names), &[], address, &[])
}

fn made<'a>(copy: &'a Copy, kind: &str) -> Vec<&'a str> {
    copy.objects.iter().filter(|object| object.kind == kind).map(|object| object.name.as_str()).collect()
}

fn body<'a>(copy: &'a Copy, kind: &str) -> &'a Value {
    &copy.objects.iter().find(|object| object.kind == kind).expect("an object").body
}

const THREE: [&str; 3] = ["statefulset/web/0", "statefulset/web/1", "statefulset/web/2"];

#[test]
fn a_copy_has_names_of_its_own_and_what_it_names_has_them_too() {
    let copy = drawn(&shop(), &THREE, &address("bank", "copy-"));
    assert_eq!(copy.obstacles, []);
    assert_eq!(made(&copy, "StatefulSet"), ["copy-web"]);
    assert_eq!(
        (made(&copy, "ConfigMap"), made(&copy, "PersistentVolumeClaim")),
        (vec!["copy-settings"], vec!["copy-books"]),
        "of others, nothing"
    );
    let web = body(&copy, "StatefulSet");
    let pod = &web["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["containers"][0]["envFrom"][0]["configMapRef"]["name"], &pod["containers"][0]["envFrom"][1]["secretRef"]["name"]),
        (&json!("copy-settings"), &json!("keys")),
        "a Secret has the name that it has"
    );
    assert_eq!(
        (&pod["volumes"][0]["persistentVolumeClaim"]["claimName"], &pod["volumes"][1]["configMap"]["name"]),
        (&json!("copy-books"), &json!("gone"))
    );
    assert_eq!(
        (&web["spec"]["serviceName"], &web["spec"]["selector"]["matchLabels"]["app"]),
        (&json!("copy-web"), &json!("copy-web"))
    );
    assert_eq!(
        web["metadata"],
        json!({ "name": "copy-web", "namespace": "bank", "labels": { "holdfast.dev/policy": "web", "holdfast.dev/restore": "uid-1" } })
    );
    assert_eq!(
        (&web["status"], &web["spec"]["volumeClaimTemplates"][0]["spec"]),
        (&Value::Null, &json!({ "storageClassName": "fast" }))
    );
    let needs: Vec<String> = copy.needs.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    assert_eq!(needs, ["Secret keys", "ServiceAccount web"]);
    assert_eq!(copy.classes.iter().map(String::as_str).collect::<Vec<_>>(), ["", "fast"], "books names none");
    assert_eq!(
        copy.claims.iter().map(String::as_str).collect::<Vec<_>>(),
        ["data-copy-web-0", "data-copy-web-1", "data-copy-web-2"]
    );
    let names: Vec<(String, &str)> =
        copy.replicas.iter().map(|replica| (replica.name.object(), replica.origin.as_str())).collect();
    assert_eq!(names[2], ("statefulset-copy-web-2".to_owned(), "statefulset/web/2"));
    assert!(copy.policies["web"].as_ref().is_some_and(|policy| policy["spec"]["repositoryRef"]["name"] == "main"));
}

#[test]
fn images_are_those_that_ran() {
    let image_of =
        |copy: &Copy, index: usize| body(copy, "StatefulSet")["spec"]["template"]["spec"]["containers"][index]["image"].clone();
    let copy = drawn(&shop(), &THREE, &address("bank", ""));
    assert_eq!(image_of(&copy, 0), json!(format!("web@{}", digest("ab"))));
    assert_eq!(image_of(&copy, 1), json!("own:1"));
    assert!(copy.notes.iter().any(|note| note.contains("own:1: no digest")), "{:?}", copy.notes);
    let mut two = shop();
    two.images.push(image(2, &digest("cd")));
    let copy = drawn(&two, &THREE, &address("bank", ""));
    assert_eq!(image_of(&copy, 0), json!(format!("web@{}", digest("ab"))));
    assert!(copy.notes.iter().any(|note| note.contains("different images")), "{:?}", copy.notes);
}

#[test]
fn without_a_prefix_everything_is_called_as_it_was() {
    let copy = drawn(&shop(), &THREE, &address("bank", ""));
    let web = body(&copy, "StatefulSet");
    assert_eq!(
        (&web["metadata"]["name"], &web["spec"]["selector"]),
        (&json!("web"), &json!({ "matchLabels": { "app": "web" } }))
    );
    assert_eq!(made(&copy, "ConfigMap"), ["settings"]);
}

#[test]
fn each_replica_has_the_place_that_it_had() {
    let of =
        |copy: &Copy| copy.replicas.iter().map(|replica| format!("{}<{}", replica.name.slot, replica.origin)).collect::<Vec<_>>();
    let copy = drawn(&shop(), &["statefulset/web/2", "statefulset/web/0@abababab", "statefulset/web/7"], &address("bank", ""));
    assert_eq!(of(&copy), ["0<statefulset/web/0@abababab", "2<statefulset/web/2"], "ordinals stay");
    assert_eq!(copy.left.len(), 1, "{:?}", copy.left);
    assert!(copy.notes.iter().any(|note| note.starts_with("1 of the replicas")), "{:?}", copy.notes);
    let mut alike = shop();
    let mut deployment: Value = serde_json::from_slice(&alike.manifests[0].json).expect("a manifest");
    deployment["spec"]["replicas"] = json!(2);
    alike.manifests.push(manifest("Deployment", "api", &deployment));
    let copy = drawn(&alike, &["deployment/api/5", "deployment/api/1", "deployment/api/9"], &address("bank", ""));
    assert_eq!(of(&copy), ["0<deployment/api/1", "1<deployment/api/5"], "numbers begin with the lowest");
    assert_eq!(copy.left[0].0, "deployment/api/9");
    let copy = drawn(&alike, &["deployment/api/shared"], &address("bank", ""));
    assert_eq!(of(&copy), ["shared<deployment/api/shared"]);
}

#[test]
fn what_cannot_be_made_is_named() {
    let mut setting = shop();
    let daemon = json!({ "metadata": { "labels": { "holdfast.dev/policy": "log" } }, "spec": {} });
    setting.manifests.push(manifest("DaemonSet", "log", &daemon));
    setting.manifests.push(manifest("StatefulSet", "large", &Value::Null));
    let reasons = |names: &[&str], policies: &[&str], prefix: &str| {
        let copy = copy(&setting, &members(names), &members(policies), &address("bank", prefix), &[]);
        (copy.obstacles.iter().map(|why| why.reason).collect::<Vec<_>>(), copy.replicas.len())
    };
    assert_eq!(reasons(&["daemonset/log/node1", "statefulset/web/0"], &[], ""), (vec!["KindNotMade"], 1));
    assert_eq!(reasons(&["daemonset/log/node1", "statefulset/web/0"], &["web"], ""), (vec![], 1), "of another policy");
    assert_eq!(reasons(&["statefulset/large/0", "job/none/0"], &[], ""), (vec!["NotRecorded", "NotRecorded"], 0));
    assert_eq!(reasons(&["statefulset/web/0"], &[], &"x".repeat(50)), (vec!["Invalid"], 1));
}
