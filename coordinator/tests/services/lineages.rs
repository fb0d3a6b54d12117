// SPDX-License-Identifier: Apache-2.0
//! What is protected, and which points of its history exist.

use crate::kit::{Served, World, names, newest, reason};
use holdfast_core::checkpoint::Quality;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::point_ref::Point;
use holdfast_proto::v1::{
    Checkpoint, GetCheckpointRequest, GetLineageRequest, ListCheckpointsRequest, ListLineagesRequest, PointRef,
};
use tonic::Status;
use tonic::transport::Channel;

fn client(served: &Served) -> LineageServiceClient<Channel> {
    LineageServiceClient::new(served.channel.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn lineages_are_listed_by_page_and_by_domain() {
    let world = World::new().await;
    for name in ["web-0", "web-1", "web-2", "db"] {
        let mut writer = world.writer(name).await;
        writer.checkpoint().await;
    }
    world.repository.domain("empty").await.expect("keys");
    let served = world.serve().await;
    let all = async |domain: &str, page_size: u32| {
        let mut request = ListLineagesRequest { domain: domain.to_owned(), page_size, page_token: String::new() };
        let mut found = Vec::new();
        loop {
            let page = client(&served).list_lineages(request.clone()).await.expect("a page").into_inner();
            found.extend(page.lineages);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return found;
            }
        }
    };
    for page_size in [0, 1, 2, 3, 4, 5] {
        for domain in ["", "default"] {
            let mut found: Vec<_> =
                all(domain, page_size).await.into_iter().map(|lineage| lineage.r#ref.expect("names").lineage).collect();
            found.sort();
            assert_eq!(found, ["db", "web-0", "web-1", "web-2"], "{domain:?} {page_size}");
        }
        assert!(all("empty", page_size).await.is_empty() && all("unknown", page_size).await.is_empty());
    }
    let found =
        client(&served).get_lineage(GetLineageRequest { lineage: Some(names("db")) }).await.expect("a lineage").into_inner();
    assert_eq!((found.head, found.generation, found.sealed, found.holder.as_str()), (2, 1, false, "a test"));
    assert_eq!(found.newest.expect("a checkpoint").sequence, 2);
    assert!(found.live.is_none());
    for name in ["other", "web"] {
        let missing = client(&served).get_lineage(GetLineageRequest { lineage: Some(names(name)) }).await;
        assert_eq!(reason(missing), Reason::NotFound);
    }
}

async fn point(served: &Served, point: Option<Point>, accept_fuzzy: bool) -> Result<Checkpoint, Status> {
    let point = Some(PointRef { point, accept_fuzzy, ..newest("web-0").expect("a point") });
    Ok(client(served).get_checkpoint(GetCheckpointRequest { point }).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_found_by_time_number_and_newness() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    let mut done = Vec::new();
    for (content, quality) in
        [("one", Quality::Clean), ("two", Quality::Fuzzy), ("three", Quality::Clean), ("four", Quality::Fuzzy)]
    {
        writer.write("file", content);
        done.push(writer.checkpoint_as(quality).await);
    }
    let served = world.serve().await;
    let at = |index: usize| {
        let nanos = done[index].interval.last_close.nanos();
        Some(Point::At(prost_types::Timestamp {
            seconds: nanos.div_euclid(1_000_000_000),
            nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("nanoseconds"),
        }))
    };
    let table = [
        (None, false, 2),
        (Some(Point::Newest(true)), true, 3),
        (at(3), true, 3),
        (at(3), false, 2),
        (at(1), true, 1),
        (at(1), false, 0),
        (Some(Point::Checkpoint(done[1].sequence)), false, 1),
    ];
    for (asked, accept_fuzzy, index) in table {
        let text = format!("{asked:?} {accept_fuzzy}");
        let found = point(&served, asked, accept_fuzzy).await.expect("a checkpoint");
        assert_eq!(found.sequence, done[index].sequence, "{text}");
        assert_eq!(found.root, done[index].root.to_string());
        assert!(found.totals.is_some());
    }
    let before = Some(Point::At(prost_types::Timestamp { seconds: 1, nanos: 0 }));
    assert_eq!(reason(point(&served, before, true).await), Reason::NoCheckpoint);
    for number in [0, 1, 99, u64::MAX] {
        assert_eq!(reason(point(&served, Some(Point::Checkpoint(number)), true).await), Reason::NoCheckpoint, "{number}");
    }
    let nonsense = Some(Point::At(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }));
    let problem = Problem::of(&point(&served, nonsense, true).await.expect_err("nonsense"));
    assert_eq!(problem.fields.first().map(|(field, _)| field.as_str()), Some("point.at"));
    assert_eq!(reason(point(&served, Some(Point::Snapshot("x".to_owned())), true).await), Reason::NotFound);
    assert_eq!(reason(client(&served).get_checkpoint(GetCheckpointRequest::default()).await), Reason::InvalidField);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_listed_newest_first_by_span_and_page() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    let mut done = Vec::new();
    for number in 0..7 {
        writer.write("file", number.to_string());
        done.push(writer.checkpoint().await);
    }
    let served = world.serve().await;
    let time = |index: usize| {
        let nanos = done[index].interval.last_close.nanos();
        let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        Some(prost_types::Timestamp { seconds, nanos: i32::try_from(nanos).expect("nanoseconds") })
    };
    let all = async |span: (Option<usize>, Option<usize>), page_size: u32, full: bool| {
        let mut request = ListCheckpointsRequest {
            lineage: Some(names("web-0")),
            not_before: span.0.and_then(time),
            not_after: span.1.and_then(time),
            page_size,
            page_token: String::new(),
            full,
        };
        let mut found: Vec<Checkpoint> = Vec::new();
        loop {
            let page = client(&served).list_checkpoints(request.clone()).await.expect("a page").into_inner();
            found.extend(page.checkpoints);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return found;
            }
        }
    };
    let mut expected: Vec<u64> = done.iter().map(|done| done.sequence).collect();
    expected.reverse();
    for page_size in [0, 1, 2, 7, 8] {
        for full in [false, true] {
            let found = all((None, None), page_size, full).await;
            assert_eq!(found.iter().map(|found| found.sequence).collect::<Vec<_>>(), expected, "{page_size}");
            assert!(found.iter().all(|found| found.totals.is_some() == full && found.last_close.is_some()));
        }
        let some = all((Some(2), Some(4)), page_size, false).await;
        assert_eq!(some.iter().map(|found| found.sequence).collect::<Vec<_>>(), expected[2..5], "{page_size}");
    }
    let backwards = ListCheckpointsRequest {
        lineage: Some(names("web-0")),
        not_before: time(3),
        not_after: time(2),
        ..ListCheckpointsRequest::default()
    };
    assert_eq!(reason(client(&served).list_checkpoints(backwards).await), Reason::InvalidField);
}
