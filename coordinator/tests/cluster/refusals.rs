// SPDX-License-Identifier: Apache-2.0
//! What is refused: each row fails if its check is taken out.

use crate::lab::{Lab, PodAgent, WITHIN};
use bytes::Bytes;
use holdfast_coordinator::cluster::{Courier, Couriers, RepositoryKey};
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::file_service_client::FileServiceClient;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::object_service_client::ObjectServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::{self, CreateObjectRequest, GetLineageRequest, HeadObjectRequest, LineageRef, ListLineagesRequest};
use holdfast_proto::{GRANT_HEADER, REPOSITORY_HEADER};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

const CHANNEL: &str = "a session is refused";

async fn refused(lab: &Lab, token: Option<&str>, instance: u8, resume: &str) -> Option<Reason> {
    let mut agent = PodAgent::open(lab.served.channel.clone(), token, instance, resume).await;
    let status = agent.next().await.expect_err(CHANNEL);
    Problem::of(&status).reason
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_pod_that_is_protected_opens_a_session() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    lab.pod("shop", "bare", "b0", None, json!({"metadata": {"labels": {"holdfast.dev/policy": null}}}));
    lab.pod("shop", "stripped", "s0", None, json!({"metadata": {"annotations": {"holdfast.dev/injected": null}}}));
    let table = [
        (None, "no token"),
        (Some("nonsense"), "a void token"),
        (Some("user:anna"), "a token for the API server"),
        (Some("blind:shop/web-0/w0"), "an API server that knows no audiences"),
        (Some("account:shop/default"), "a token that is not bound to a pod"),
        (Some("pod:shop/web-0/w9"), "a token of an earlier pod of that name"),
        (Some("pod:other/web-0/w0"), "a pod of another namespace"),
        (Some("pod:shop/web-7/w7"), "a pod that is gone"),
        (Some("pod:shop/bare/b0"), "a pod without the label"),
        (Some("pod:shop/stripped/s0"), "a pod without our agent"),
    ];
    for (token, what) in table {
        assert_eq!(refused(&lab, token, 1, "").await, Some(Reason::Unauthenticated), "{what}");
    }
    // and the pod itself may not choose
    let lineage = Some(LineageRef { domain: "default".to_owned(), lineage: "statefulset/web/1".to_owned() });
    let hello = v1::Hello { protocol: 1, instance: vec![1; 16].into(), lineage, ..v1::Hello::default() };
    let mut agent = PodAgent::say_hello(lab.served.channel.clone(), Some("pod:shop/web-0/w0"), hello).await;
    assert_eq!(Problem::of(&agent.next().await.expect_err(CHANNEL)).reason, Some(Reason::NotYours));
    lab.join("shop", "web-0", "w0").await;
}

async fn head(channel: &Channel, grant: &Bytes, name: String) -> Result<(), Status> {
    let mut request = Request::new(HeadObjectRequest { name });
    request.metadata_mut().insert_bin(GRANT_HEADER, MetadataValue::from_bytes(grant));
    ObjectServiceClient::new(channel.clone()).head_object(request).await.map(drop)
}

async fn create(channel: &Channel, grant: &Bytes, name: String) -> Result<(), Status> {
    let sha256 = Bytes::copy_from_slice(&Sha256::digest(b"body"));
    let mut request = Request::new(CreateObjectRequest { name, body: Bytes::from_static(b"body"), sha256 });
    request.metadata_mut().insert_bin(GRANT_HEADER, MetadataValue::from_bytes(grant));
    ObjectServiceClient::new(channel.clone()).create_object(request).await.map(drop)
}

fn reason(answer: Result<(), Status>) -> Option<Reason> {
    Problem::of(&answer.expect_err("a refusal")).reason
}

/// A pack of the lineage that a grant is for.
fn object(agent: &PodAgent) -> String {
    let grant = agent.grant();
    let domain = hex::encode(&grant.keys.as_ref().expect("keys").domain);
    format!("domains/{domain}/lineages/{}/packs/00000000000000ff/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", grant.lineage_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_opens_one_pods_lineage_as_long_as_there_is_the_pod() {
    let lab = Lab::new().await;
    for (namespace, name, uid) in [("shop", "web-0", "w0"), ("shop", "web-1", "w1"), ("other", "web-0", "o0")] {
        lab.member(namespace, name, uid);
    }
    let channel = lab.served.channel.clone();
    let mine = lab.join("shop", "web-0", "w0").await;
    let (neighbour, stranger) = (lab.join("shop", "web-1", "w1").await, lab.join("other", "web-0", "o0").await);
    let token = mine.grant().token.clone();
    create(&channel, &token, object(&mine)).await.expect("its own");
    for (other, what) in [(&neighbour, "another pod's"), (&stranger, "another namespace's")] {
        assert_eq!(reason(head(&channel, &token, object(other)).await), Some(Reason::GrantExceeded), "read {what}");
        assert_eq!(reason(create(&channel, &token, object(other)).await), Some(Reason::GrantExceeded), "write {what}");
    }
    assert_eq!(reason(head(&channel, &Bytes::from_static(b"guessed"), object(&mine)).await), Some(Reason::GrantUnknown));
    // it goes on while its pod is being ended, also without its connection
    lab.ending("shop", "web-0");
    drop(mine);
    let name = object(&neighbour).replace(&neighbour.grant().lineage_id, &lineage_of(&lab, "statefulset/web/0"));
    head(&channel, &token, name.clone()).await.expect("its own");
    lab.gone("shop", "web-0");
    let void = async {
        while head(&channel, &token, name.clone()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, void).await.expect("it becomes void");
    assert_eq!(reason(create(&channel, &token, name).await), Some(Reason::GrantUnknown), "its pod is gone");
    assert_eq!(
        refused(&lab, Some("pod:shop/web-0/w0"), 2, "").await,
        Some(Reason::NotYours),
        "also while its token was found good a moment ago"
    );
}

fn lineage_of(lab: &Lab, name: &str) -> String {
    lab.world.domain.keys.identity.lineage_id(name).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_without_a_token_only_while_its_own_pod_is_being_ended() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    lab.member("shop", "web-1", "w1");
    let agent = lab.join("shop", "web-0", "w0").await;
    let (pass, token) = (agent.welcome.session.clone(), agent.grant().token.clone());
    agent.stopping(1000).await;
    drop(agent);
    let unauthenticated = Some(Reason::Unauthenticated);
    assert_eq!(refused(&lab, Some("void"), 1, &pass).await, unauthenticated, "the pod is not being ended");
    lab.ending("shop", "web-0");
    assert_eq!(refused(&lab, Some("void"), 2, &pass).await, unauthenticated, "another process");
    assert_eq!(refused(&lab, Some("void"), 1, "").await, unauthenticated, "no pass");
    let mut forged = hex::decode(&pass).expect("hexadecimal");
    let at = forged.windows(2).position(|pair| pair == b"w0").expect("the UID");
    forged[at + 1] = b'1';
    lab.ending("shop", "web-1");
    assert_eq!(refused(&lab, Some("void"), 1, &hex::encode(forged)).await, unauthenticated, "another pod's");
    let resumed = PodAgent::open(lab.served.channel.clone(), Some("void"), 1, &pass).await.welcomed().await;
    assert_eq!(resumed.lineage(), "default:statefulset/web/0");
    let resumed = PodAgent::open(lab.served.channel.clone(), None, 1, &resumed.welcome.session).await.welcomed().await;
    head(&lab.served.channel, &token, object(&resumed)).await.expect_err("no such object yet");
    assert_eq!(
        reason(head(&lab.served.channel, &token, object(&resumed)).await),
        Some(Reason::NotFound),
        "the old grant holds, too"
    );
    lab.gone("shop", "web-0");
    assert_eq!(refused(&lab, None, 1, &pass).await, unauthenticated, "the pod is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_refuses_new_sessions_and_keeps_those_there_are() {
    let lab = Lab::new().await;
    lab.member("shop", "web-0", "w0");
    lab.member("shop", "web-1", "w1");
    let agent = lab.join("shop", "web-0", "w0").await;
    lab.law.away.store(true, Ordering::Relaxed);
    let mut late = lab.hello("shop", "web-1", "w1").await;
    let problem = Problem::of(&late.next().await.expect_err(CHANNEL));
    assert_eq!((problem.reason, problem.retry_after.is_some()), (Some(Reason::IdentityUnavailable), true));
    create(&lab.served.channel, &agent.grant().token, object(&agent)).await.expect("what was granted holds");
    // its verdict is remembered
    lab.join("shop", "web-0", "w0").await;
    lab.law.away.store(false, Ordering::Relaxed);
    lab.join("shop", "web-1", "w1").await;
    let asked = lab.law.reviews.load(Ordering::Relaxed);
    for _ in 0..20 {
        lab.join("shop", "web-0", "w0").await;
    }
    assert_eq!(lab.law.reviews.load(Ordering::Relaxed), asked, "asked once for each token");
}

fn call<T>(message: T, token: Option<&str>, repository: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    }
    if let Some(repository) = repository {
        request.metadata_mut().insert(REPOSITORY_HEADER, repository.parse().expect("a header"));
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn people_may_what_rbac_lets_them_in_that_namespace() {
    let lab = Lab::new().await;
    let mut writer = lab.world.writer("statefulset/web/0").await;
    writer.write("file", "secret");
    writer.checkpoint().await;
    let channel = lab.served.channel.clone();
    let list = |token, repository, domain: &str| {
        let request = ListLineagesRequest { domain: domain.to_owned(), ..ListLineagesRequest::default() };
        let mut client = LineageServiceClient::new(channel.clone());
        async move { client.list_lineages(call(request, token, repository)).await.map(|answer| answer.into_inner().lineages.len()) }
    };
    let refused = |answer: Result<usize, Status>| Problem::of(&answer.expect_err("a refusal")).reason;
    let (anna, shop) = (Some("user:anna"), Some("shop/default"));
    assert_eq!(refused(list(None, shop, "").await), Some(Reason::Unauthenticated));
    assert_eq!(refused(list(Some("void"), shop, "").await), Some(Reason::Unauthenticated));
    assert_eq!(refused(list(anna, shop, "").await), Some(Reason::Forbidden));
    lab.allow("bert list statelineages shop");
    let bert = Some("user:bert");
    assert_eq!(list(bert, shop, "").await.expect("a list"), 1);
    assert_eq!(list(bert, Some("shop"), "").await.expect("a list"), 1, "the one called default");
    assert_eq!(refused(list(bert, Some("other/default"), "").await), Some(Reason::Forbidden), "another namespace");
    assert_eq!(refused(list(bert, None, "").await), Some(Reason::InvalidField), "which?");
    assert_eq!(refused(list(bert, Some("shop/none"), "").await), Some(Reason::NotFound));
    // each call has a right of its own
    let point = v1::PointRef {
        lineage: Some(LineageRef { domain: "default".to_owned(), lineage: "statefulset/web/0".to_owned() }),
        ..Default::default()
    };
    let files = v1::ListFilesRequest { point: Some(point.clone()), ..v1::ListFilesRequest::default() };
    let look = |token| {
        let (mut client, request) = (FileServiceClient::new(channel.clone()), call(files.clone(), token, shop));
        async move { client.list_files(request).await.map(drop) }
    };
    assert_eq!(Problem::of(&look(bert).await.expect_err("a refusal")).reason, Some(Reason::Forbidden));
    lab.allow("cara get statelineages/files shop");
    look(Some("user:cara")).await.expect("the labels");
    // a pod's own token opens no such door, unless its account has the right
    lab.member("shop", "web-0", "w0");
    assert_eq!(Problem::of(&look(Some("pod:shop/web-0/w0")).await.expect_err("a refusal")).reason, Some(Reason::Forbidden));
    // through one namespace's repository nobody gets at another's domain, although they share a bucket
    for right in ["list", "get"] {
        lab.allow(&format!("dora {right} statelineages other"));
    }
    let (dora, other) = (Some("user:dora"), Some("other/default"));
    assert_eq!(list(dora, other, "").await.expect("a list"), 0);
    assert_eq!(list(dora, other, "default").await.expect("a list"), 0);
    let get = GetLineageRequest { lineage: point.lineage.clone() };
    let found = LineageServiceClient::new(channel.clone()).get_lineage(call(get, dora, other)).await;
    assert_eq!(Problem::of(&found.expect_err("a refusal")).reason, Some(Reason::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_other_domains_are_not_spoken_of() {
    let lab = Lab::new().await;
    let mut writer = lab.world.writer("statefulset/web/0").await;
    writer.checkpoint().await;
    for right in [
        "create statesnapshots shop",
        "list statesnapshots shop",
        "list statesnapshots other",
        "get statesnapshots other",
        "delete statesnapshots other",
        "create statesnapshots other",
    ] {
        lab.allow(&format!("anna {right}"));
    }
    let anna = Some("user:anna");
    let mut client = SnapshotServiceClient::new(lab.served.channel.clone());
    let create = v1::CreateSnapshotRequest { name: "nightly".to_owned(), request_id: "r1".to_owned(), ..Default::default() };
    let taken = client.create_snapshot(call(create.clone(), anna, Some("shop"))).await.expect("a snapshot").into_inner();
    let listed = async |repository| {
        let mut client = SnapshotServiceClient::new(lab.served.channel.clone());
        let answer = client.list_snapshots(call(v1::ListSnapshotsRequest::default(), anna, Some(repository))).await;
        answer.expect("a list").into_inner().snapshots.len()
    };
    assert_eq!((listed("shop").await, listed("other").await), (1, 0));
    let get = v1::GetSnapshotRequest { snapshot: taken.id.clone() };
    let found = client.get_snapshot(call(get, anna, Some("other"))).await.map(drop);
    assert_eq!(reason(found), Some(Reason::NotFound));
    let delete = v1::DeleteSnapshotRequest { snapshot: taken.id.clone() };
    assert_eq!(reason(client.delete_snapshot(call(delete, anna, Some("other"))).await.map(drop)), Some(Reason::NotFound));
    // the same request id is another's request there
    assert_eq!(reason(client.create_snapshot(call(create, anna, Some("other"))).await.map(drop)), Some(Reason::NothingSelected));
    assert_eq!(listed("shop").await, 1);
}

async fn delivery(channel: &Channel, token: Option<&str>, lineage: &str) -> Result<v1::Grant, Option<Reason>> {
    let request = call(v1::GrantDeliveryRequest { lineage: lineage.to_owned() }, token, None);
    let answer = AgentServiceClient::new(channel.clone()).grant_delivery(request).await;
    answer.map(|answer| answer.into_inner().grant.expect("a grant")).map_err(|status| Problem::of(&status).reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pod_that_was_made_for_a_restore_reads_what_it_is_to_write() {
    let lab = Lab::new().await;
    for slot in [0, 1] {
        let mut writer = lab.world.writer(&format!("statefulset/web/{slot}")).await;
        writer.write("file", "secret");
        writer.checkpoint().await;
    }
    let bare = json!({"metadata": {"labels": {"holdfast.dev/policy": null, "holdfast.dev/restore": "r1"},
        "annotations": {"holdfast.dev/injected": null},
        "ownerReferences": [{"apiVersion": "holdfast.dev/v1alpha1", "kind": "StateRestore", "name": "look", "uid": "r1", "controller": true}]}});
    for (namespace, name, uid) in
        [("shop", "writer", "p1"), ("shop", "forged", "p2"), ("other", "writer", "p3"), ("other", "taken", "p1")]
    {
        lab.pod(namespace, name, uid, None, bare.clone());
    }
    lab.member("shop", "web-0", "w0");
    let lineages = BTreeMap::from([("statefulset-web-0".to_owned(), "statefulset/web/0".to_owned())]);
    let repository = RepositoryKey::new("shop", "default");
    let courier = Courier { namespace: "shop".to_owned(), name: "writer".to_owned(), repository, lineages };
    let channel = lab.served.channel.clone();
    let (own, mine) = (Some("pod:shop/writer/p1"), "statefulset-web-0");
    assert_eq!(delivery(&channel, own, mine).await.expect_err("not yet"), Some(Reason::NotYours), "before it stands written");
    lab.couriers.send_replace(Arc::new(BTreeMap::from([("p1".to_owned(), courier)])));
    let (unknown, not_yours) = (Some(Reason::Unauthenticated), Some(Reason::NotYours));
    let table = [
        (None, mine, unknown, "no token"),
        (Some("nonsense"), mine, unknown, "a void token"),
        (Some("user:anna"), mine, unknown, "a token for the API server"),
        (Some("account:shop/default"), mine, unknown, "a token that is not bound to a pod"),
        (Some("pod:shop/writer/p9"), mine, unknown, "an earlier pod of that name"),
        (Some("pod:shop/forged/p2"), mine, not_yours, "a pod that somebody else made with that owner"),
        (Some("pod:other/writer/p3"), mine, not_yours, "a pod of that name in another namespace"),
        (Some("pod:other/taken/p1"), mine, not_yours, "a pod of another namespace, whatever its UID"),
        (Some("pod:shop/web-0/w0"), mine, not_yours, "the pod whose state it is"),
        (own, "statefulset-web-1", not_yours, "another lineage"),
        (own, "", not_yours, "no lineage"),
    ];
    for (token, lineage, reason, what) in table {
        assert_eq!(delivery(&channel, token, lineage).await.err(), Some(reason), "{what}");
    }
    let grant = delivery(&channel, own, mine).await.expect("its own");
    let below = |lineage: &str| {
        let domain = hex::encode(&grant.keys.as_ref().expect("keys").domain);
        format!("domains/{domain}/lineages/{}/log/0000000000000001", lineage_of(&lab, lineage))
    };
    let (record, other) = (below("statefulset/web/0"), below("statefulset/web/1"));
    // that there is no such object is only told to who may read it
    assert_eq!(reason(head(&channel, &grant.token, record.clone()).await), Some(Reason::NotFound), "its own");
    assert!(!grant.write && create(&channel, &grant.token, record.clone()).await.is_err(), "it only reads");
    assert_eq!(reason(head(&channel, &grant.token, other).await), Some(Reason::GrantExceeded), "and nothing else");
    // it opens no session
    assert_eq!(refused(&lab, own, 1, "").await, unknown);
    lab.couriers.send_replace(Couriers::default());
    assert_eq!(delivery(&channel, own, mine).await.err(), Some(not_yours), "it has ended");
}
