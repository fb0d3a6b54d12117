// SPDX-License-Identifier: Apache-2.0
//! Restores: pinned and granted while they run, let go when they end.

use crate::kit::{Served, World, newest, reason};
use holdfast_proto::GRANT_HEADER;
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::object_service_client::ObjectServiceClient;
use holdfast_proto::v1::restore_service_client::RestoreServiceClient;
use holdfast_proto::v1::{
    CreateRestoreRequest, GetRestoreRequest, HeadObjectRequest, ListRestoresRequest, Receipt, ReportRestoreRequest, Restore,
    RestorePhase, RestoreProgress,
};
use holdfast_store::name::Name;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

fn client(served: &Served) -> RestoreServiceClient<Channel> {
    RestoreServiceClient::new(served.channel.clone())
}

async fn pinned(world: &World, count: usize) {
    let wait = async {
        while world.pins("web-0").await != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the pins come to that");
}

fn create() -> CreateRestoreRequest {
    CreateRestoreRequest { point: newest("web-0"), target: "/srv".to_owned(), paths: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_holds_its_checkpoint_until_it_ends() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    let done = writer.checkpoint().await;
    let served = world.serve().await;
    let created = client(&served).create_restore(create()).await.expect("a restore").into_inner();
    let (restore, grant) = (created.restore.expect("a restore"), created.grant.expect("a grant"));
    assert_eq!((restore.phase(), grant.write), (RestorePhase::Running, false));
    pinned(&world, 1).await;
    let name = Name::record(world.domain.keys.id, world.domain.keys.identity.lineage_id("web-0"), done.sequence);
    let head = async || {
        let mut request = tonic::Request::new(HeadObjectRequest { name: name.to_string() });
        request.metadata_mut().insert_bin(GRANT_HEADER, MetadataValue::from_bytes(&grant.token));
        ObjectServiceClient::new(served.channel.clone()).head_object(request).await
    };
    head().await.expect("it may read");
    let watched = GetRestoreRequest { id: restore.id.clone() };
    let mut watch = client(&served).watch_restore(watched.clone()).await.expect("a watch").into_inner();
    assert_eq!(watch.message().await.expect("now").expect("now").phase(), RestorePhase::Running);
    let report = |progress: u64, receipt: Option<Receipt>, error: &str| ReportRestoreRequest {
        id: restore.id.clone(),
        progress: Some(RestoreProgress { bytes_done: progress, ..RestoreProgress::default() }),
        receipt,
        error: error.to_owned(),
    };
    client(&served).report_restore(report(7, None, "")).await.expect("a report");
    let seen: Restore = watch.message().await.expect("a change").expect("a change");
    assert_eq!(seen.progress.expect("progress").bytes_done, 7);
    let proof = Receipt { root_asked: done.root.to_string(), root_found: done.root.to_string(), ..Receipt::default() };
    client(&served).report_restore(report(9, Some(proof.clone()), "")).await.expect("the last report");
    assert_eq!(watch.message().await.expect("a change").expect("a change").phase(), RestorePhase::Succeeded);
    assert!(watch.message().await.expect("the end").is_none());
    client(&served).report_restore(report(9, Some(proof), "")).await.expect("repeated");
    assert_eq!(reason(client(&served).report_restore(report(9, None, "but")).await), Reason::RestoreEnded);
    pinned(&world, 0).await;
    let revoked = async {
        while head().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), revoked).await.expect("it is revoked");
    assert_eq!(reason(head().await), Reason::GrantUnknown);
    let found = client(&served).get_restore(watched).await.expect("it is remembered").into_inner();
    assert_eq!((found.phase(), found.target.as_str()), (RestorePhase::Succeeded, "/srv"));
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_are_listed_and_end_with_the_coordinator() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    writer.checkpoint().await;
    let served = world.serve().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client(&served).create_restore(create()).await.expect("a restore").into_inner().restore.expect("a restore").id);
    }
    let mut request = ListRestoresRequest { page_size: 2, ..ListRestoresRequest::default() };
    let mut found = Vec::new();
    loop {
        let page = client(&served).list_restores(request.clone()).await.expect("a page").into_inner();
        found.extend(page.restores.into_iter().map(|restore| restore.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    ids.reverse();
    assert_eq!(found, ids);
    assert_eq!(reason(client(&served).get_restore(GetRestoreRequest { id: "x".to_owned() }).await), Reason::NotFound);
    let missing = CreateRestoreRequest { point: newest("web-9"), ..create() };
    assert_eq!(reason(client(&served).create_restore(missing).await), Reason::NotFound);
    assert_eq!(reason(client(&served).create_restore(CreateRestoreRequest::default()).await), Reason::InvalidField);
    assert_eq!(world.pins("web-0").await, 5);
    served.coordinator.end().await;
    assert_eq!(world.pins("web-0").await, 0);
}
