// SPDX-License-Identifier: Apache-2.0
use super::super::copy::Replica;
use super::*;
use crate::cluster::name::LineageName;

fn address() -> Address {
    Address { to: "bank".to_owned(), prefix: "copy-".to_owned(), uid: "uid-1".to_owned() }
}

fn object(kind: &str, name: &str, body: Value) -> Object {
    Object { kind: kind.to_owned(), name: name.to_owned(), body }
}

fn copy_of(slots: &[&str]) -> Copy {
    let replica = |slot: &&str| Replica {
        name: LineageName { kind: "StatefulSet".to_owned(), name: "copy-web".to_owned(), slot: (*slot).to_owned() },
        policy: "web".to_owned(),
        origin: format!("statefulset/web/{slot}"),
    };
    Copy {
        objects: vec![object("StatefulSet", "copy-web", json!({})), object("ConfigMap", "copy-settings", json!({}))],
        needs: [("Secret", "keys".to_owned()), ("ServiceAccount", "web".to_owned())].into(),
        classes: [String::new(), "fast".to_owned()].into(),
        claims: ["data-copy-web-0".to_owned()].into(),
        services: [("copy-web".to_owned(), "copy-web".to_owned())].into(),
        pods: vec![("copy-web".to_owned(), [("app".to_owned(), "copy-web".to_owned())].into())],
        policies: [("web".to_owned(), Some(json!({ "kind": "StatePolicy", "metadata": {}, "spec": {} })))].into(),
        replicas: slots.iter().map(replica).collect(),
        ..Copy::default()
    }
}

fn origins(quality: Quality) -> BTreeMap<String, Origin> {
    let time = Timestamp::from("2026-03-01T14:03:07Z".parse::<jiff::Timestamp>().expect("a time"));
    let origin = Origin { sequence: 7, root: "aa".to_owned(), time, quality, bytes: 12 };
    ["0", "1", "2"].iter().map(|slot| (format!("statefulset/web/{slot}"), origin.clone())).collect()
}

fn scene() -> Scene {
    Scene {
        denied: Vec::new(),
        has_namespace: true,
        repository: RepositoryKey::new("bank", "default"),
        lodging: Lodging::Same,
        taken: BTreeMap::new(),
        missing: BTreeSet::new(),
        classes: Some(vec![("fast".to_owned(), true)]),
        services: BTreeMap::new(),
        policies: BTreeSet::new(),
    }
}

fn sketched(copy: &Copy, scene: &Scene) -> Sketch {
    sketch("a copy", copy, &origins(Quality::Clean), &address(), scene, &AcceptSpec::default())
}

#[test]
fn histories_come_before_what_needs_them_and_workloads_last() {
    let copy = copy_of(&["0", "1"]);
    let sketch = sketched(&copy, &scene());
    let made: Vec<String> = sketch.objects.iter().map(|object| format!("{} {}", object.kind, object.name)).collect();
    let expected = [
        "StateLineage statefulset-copy-web-0",
        "StateLineage statefulset-copy-web-1",
        "ConfigMap copy-settings",
        "StatePolicy web",
        "StatefulSet copy-web",
    ];
    assert_eq!((made, sketch.plan.obstacle), (expected.map(str::to_owned).to_vec(), None));
    let member = &sketch.plan.members[1];
    let lineage = &sketch.objects[1].body;
    assert_eq!(
        (lineage["spec"]["lineage"].as_str(), lineage["metadata"]["namespace"].as_str()),
        (Some(member.stored_as.as_str()), Some("bank"))
    );
    assert!(
        member.stored_as.starts_with("statefulset/copy-web/1@"),
        "no workload would have that name by itself: {}",
        member.stored_as
    );
    assert_eq!(member.origin, Some(OriginStatus { stored_as: "statefulset/web/1".to_owned(), sequence: 7 }));
    assert_eq!((member.sequence, member.claim), (0, None));
    let begins = "statefulset-copy-web-1 begins with checkpoint 7 of statefulset/web/1, of 2026-03-01 14:03:07 UTC (clean; 12 bytes of files)";
    assert!(sketch.plan.sentences.iter().any(|said| said == begins), "{:?}", sketch.plan.sentences);
    assert!(
        sketch.plan.sentences.iter().any(|said| said.starts_with("there is no Service copy-web")),
        "{:?}",
        sketch.plan.sentences
    );
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    let whole = || (scene(), copy_of(&["0"]));
    // what is changed, the reason, a word
    type Change = fn(&mut Scene, &mut Copy);
    let table: [(Change, &str, &str); 13] = [
        (|scene, _| scene.has_namespace = false, "NotThere", "no namespace bank"),
        (
            |scene, _| scene.denied = vec!["create statefulsets".to_owned()],
            "RightsMissing",
            "deploy/components/restore-beside; it lacks create statefulsets",
        ),
        (|scene, _| scene.lodging = Lodging::Missing, "OtherRepository", "no StateRepository bank/default"),
        (|scene, _| scene.lodging = Lodging::Other, "OtherRepository", "another one"),
        (|scene, _| scene.lodging = Lodging::OtherDomain("shop".to_owned()), "OtherRepository", "domain: shop"),
        (|scene, _| scene.missing = [("Secret", "keys".to_owned())].into(), "NotThere", "Secret keys"),
        (|scene, _| scene.classes = Some(vec![("slow".to_owned(), true)]), "NotThere", "StorageClass fast"),
        (|scene, _| scene.classes = Some(vec![("fast".to_owned(), false)]), "NotThere", "no default StorageClass"),
        (|_, copy| drop(copy.policies.insert("web".to_owned(), None)), "NotThere", "no StatePolicy web"),
        (
            |scene, _| scene.taken = [(("StatefulSet".to_owned(), "copy-web".to_owned()), Taken::Other)].into(),
            "NamesTaken",
            "StatefulSet copy-web",
        ),
        (
            |scene, _| scene.taken = [(("PersistentVolumeClaim".to_owned(), "data-copy-web-0".to_owned()), Taken::Other)].into(),
            "NamesTaken",
            "PersistentVolumeClaim data-copy-web-0",
        ),
        (|_, copy| copy.replicas.clear(), "NothingStored", "no replica"),
        (|_, copy| copy.obstacles.push(Hindrance::lasting("KindNotMade", "a DaemonSet")), "KindNotMade", "a DaemonSet"),
    ];
    for (change, reason, word) in table {
        let (mut scene, mut copy) = whole();
        change(&mut scene, &mut copy);
        let plan = sketch("a copy", &copy, &origins(Quality::Clean), &address(), &scene, &AcceptSpec::default()).plan;
        let why = plan.obstacle.expect(reason);
        assert_eq!(why.reason, reason, "{why:?}");
        assert!(why.message.contains(word) && plan.sentences.iter().any(|said| said.contains(word)), "{word}: {why:?}");
    }
    let (mut scene, copy) = whole();
    scene.has_namespace = false;
    scene.missing = [("Secret", "keys".to_owned()), ("ServiceAccount", "web".to_owned())].into();
    let why = sketched(&copy, &scene).plan.obstacle.expect("two things are missing");
    assert!(why.message.contains("no namespace bank") && why.message.contains("Secret keys, ServiceAccount web"), "{why:?}");
}

#[test]
fn what_is_there_already_is_used_if_it_says_the_same() {
    let copy = copy_of(&["0"]);
    let mut scene = scene();
    scene.taken.insert(("ConfigMap".to_owned(), "copy-settings".to_owned()), Taken::Same);
    scene.taken.insert(("StatefulSet".to_owned(), "copy-web".to_owned()), Taken::Ours);
    scene.policies.insert("web".to_owned());
    let sketch = sketched(&copy, &scene);
    let kinds: Vec<&str> = sketch.objects.iter().map(|object| object.kind.as_str()).collect();
    assert_eq!((kinds, sketch.plan.obstacle), (vec!["StateLineage", "StatefulSet"], None));
    assert!(
        sketch.plan.sentences.contains(&"ConfigMap copy-settings is there, and used as it is".to_owned()),
        "{:?}",
        sketch.plan.sentences
    );
    let config = |data: Value| json!({ "kind": "ConfigMap", "metadata": { "uid": "u" }, "data": data });
    assert!(is_same(&config(json!({ "a": "b" })), &config(json!({ "a": "b" }))));
    assert!(is_same(&json!({ "binaryData": null }), &json!({ "kind": "ConfigMap" })));
    assert!(!is_same(&config(json!({ "a": "b" })), &config(json!({ "a": "c" }))));
    assert!(!is_same(&json!({ "kind": "StatefulSet" }), &json!({ "kind": "StatefulSet" })), "only what holds nothing but data");
}

#[test]
fn fuzzy_states_are_agreed_to() {
    let (copy, accept) = (copy_of(&["0"]), AcceptSpec { fuzzy: true, ..AcceptSpec::default() });
    let with = |accept: &AcceptSpec| sketch("a copy", &copy, &origins(Quality::Fuzzy), &address(), &scene(), accept).plan;
    assert_eq!(with(&AcceptSpec::default()).obstacle.map(|why| why.reason), Some("OnlyFuzzy"));
    let agreed = with(&accept);
    assert!(agreed.obstacle.is_none() && agreed.sentences[1].starts_with("agreed to: something changed"), "{agreed:?}");
}

#[test]
fn services_that_select_its_pods_are_told() {
    let mut scene = scene();
    scene.services.insert("copy-web".to_owned(), [("app".to_owned(), "copy-web".to_owned())].into());
    scene.services.insert("web".to_owned(), [("app".to_owned(), "web".to_owned())].into());
    let said = sketched(&copy_of(&["0"]), &scene).plan.sentences;
    let of: Vec<&String> = said.iter().filter(|said| said.contains("Service")).collect();
    assert_eq!(of, ["Service copy-web selects the pods of copy-web"]);
}
