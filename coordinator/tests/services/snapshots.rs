// SPDX-License-Identifier: Apache-2.0
//! Snapshots: all or nothing, once, and seen by those who watch.

use crate::kit::{Agent, World, Writer, names, reason};
use holdfast_core::barrier::{Answer, BarrierId, Order, Rest};
use holdfast_core::checkpoint::Quality;
use holdfast_proto::barrier;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::session_request::Event as Said;
use holdfast_proto::v1::session_response::Command;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::watch_snapshots_response::Kind;
use holdfast_proto::v1::{
    Consistency, CreateSnapshotRequest, DeleteSnapshotRequest, GetLineageRequest, GetSnapshotRequest, ListSnapshotsRequest,
    Phase, Snapshot, WatchSnapshotsRequest, WatchSnapshotsResponse,
};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

fn client(channel: &Channel) -> SnapshotServiceClient<Channel> {
    SnapshotServiceClient::new(channel.clone())
}

async fn create(channel: &Channel, request: CreateSnapshotRequest) -> Result<Snapshot, Status> {
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_secs(30));
    Ok(client(channel).create_snapshot(request).await?.into_inner())
}

fn named(name: &str) -> CreateSnapshotRequest {
    CreateSnapshotRequest { name: name.to_owned(), ..CreateSnapshotRequest::default() }
}

async fn delete(channel: &Channel, snapshot: &str) -> Result<(), Status> {
    client(channel).delete_snapshot(DeleteSnapshotRequest { snapshot: snapshot.to_owned() }).await.map(|_| ())
}

async fn count(channel: &Channel) -> usize {
    client(channel).list_snapshots(ListSnapshotsRequest::default()).await.expect("a list").into_inner().snapshots.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_lineages_are_flushed_and_others_give_their_newest() {
    let world = World::new().await;
    let (mut live, mut asleep) = (world.writer("web-0").await, world.writer("web-1").await);
    live.checkpoint().await;
    let newest = asleep.checkpoint().await;
    let served = world.serve().await;
    let mut agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let flush = async {
        let asked = agent.flush().await;
        let done = live.checkpoint().await;
        agent.flushed(asked.id, done.sequence, "").await;
        done
    };
    let (made, done) = tokio::join!(create(&served.channel, named("first")), flush);
    let made = made.expect("a snapshot");
    let member = |index: usize| {
        let member: &holdfast_proto::v1::SnapshotMember = &made.members[index];
        (member.checkpoint.as_ref().expect("a checkpoint").sequence, member.flushed)
    };
    assert_eq!((member(0), member(1)), ((done.sequence, true), (newest.sequence, false)));
    assert!(made.skew_ns > 0);
    let found = client(&served.channel).get_snapshot(GetSnapshotRequest { snapshot: made.id[..6].to_owned() }).await;
    let found = found.expect("by the beginning of its id").into_inner();
    assert_eq!((&found.name, found.skew_ns, found.members.len()), (&made.name, made.skew_ns, 2));
    assert!(found.members[0].checkpoint.as_ref().expect("a checkpoint").totals.is_some());
    assert_eq!(world.pins("web-0").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_not_be_a_member_fails_the_whole() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    writer.checkpoint().await;
    let mut fuzzy = world.writer("web-1").await;
    fuzzy.checkpoint_as(Quality::Fuzzy).await;
    world.writer("web-2").await;
    let served = world.serve().await;
    let of = |lineages: &[&str]| CreateSnapshotRequest {
        lineages: lineages.iter().map(|lineage| names(lineage)).collect(),
        ..CreateSnapshotRequest::default()
    };
    let unknown = create(&served.channel, of(&["web-0", "web-9"])).await.expect_err("unknown");
    let problem = Problem::of(&unknown);
    assert_eq!(problem.reason, Some(Reason::NotFound));
    assert_eq!(problem.resource, Some(("lineage".to_owned(), "default/web-9".to_owned())));
    assert_eq!(reason(create(&served.channel, of(&["web-0", "web-1"])).await), Reason::OnlyFuzzy);
    assert_eq!(reason(create(&served.channel, of(&["web-0", "web-2"])).await), Reason::NoCheckpoint);
    let mut agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let refuse = async {
        let asked = agent.flush().await;
        agent.flushed(asked.id, 0, "the disk is gone").await;
    };
    let (refused, ()) = tokio::join!(create(&served.channel, of(&["web-0"])), refuse);
    assert_eq!(reason(refused), Reason::FlushFailed);
    assert_eq!((count(&served.channel).await, world.pins("web-0").await, world.pins("web-1").await), (0, 0, 0));
    drop(agent);
    let empty = CreateSnapshotRequest { domain: "nothing".to_owned(), ..CreateSnapshotRequest::default() };
    assert_eq!(reason(create(&served.channel, empty).await), Reason::NothingSelected);
}

/// The next order of a barrier that an agent hears.
async fn order(agent: &mut Agent) -> (BarrierId, Order) {
    loop {
        let said = agent.commands.message().await.expect("a session").expect("a command").command;
        if let Some(Command::Barrier(order)) = said {
            return barrier::order_of(order).expect("an order");
        }
    }
}

/// Waits until an agent has said that its application is at work.
async fn until_at_work(channel: &Channel, lineage: &str) {
    let asking = async {
        loop {
            let request = GetLineageRequest { lineage: Some(names(lineage)) };
            let found = LineageServiceClient::new(channel.clone()).get_lineage(request).await.expect("a lineage").into_inner();
            if found.live.is_some_and(|live| live.phase() == Phase::Streaming) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("it comes to that");
}

/// Follows the orders of one barrier after its preparation.
async fn go_through(agent: &mut Agent, writer: &mut Writer, id: BarrierId) {
    loop {
        let answers = match order(agent).await {
            (_, Order::Freeze { .. }) => vec![Answer::Frozen(Rest::Frozen)],
            (_, Order::Cut) => vec![Answer::Cut],
            (_, Order::Thaw) => {
                let sequence = writer.checkpoint().await.sequence;
                vec![Answer::Thawed(Duration::from_millis(1)), Answer::Sealed(sequence)]
            }
            (_, Order::Prepare) => continue,
        };
        let is_last = answers.len() > 1;
        for answer in answers {
            agent.say(Said::Barrier(barrier::answer(id, answer))).await;
        }
        if is_last {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_into_the_middle_of_a_barrier_is_in_the_next() {
    let world = World::new().await;
    let (mut first, mut second) = (world.writer("web-0").await, world.writer("web-1").await);
    first.checkpoint().await;
    second.checkpoint().await;
    let served = world.serve().await;
    let open = |lineage: &'static str, instance: u8| Agent::open_as(served.channel.clone(), lineage, instance, true);
    let mut one = open("web-0", 1).await.expect("a session");
    one.report(0).await;
    until_at_work(&served.channel, "web-0").await;
    let orders = async {
        let (broken, prepare) = order(&mut one).await;
        assert_eq!(prepare, Order::Prepare);
        // its application begins: what it says from now on may be in the other's state, and its own state is an older one
        let mut two = open("web-1", 2).await.expect("a session");
        two.report(0).await;
        assert_eq!(order(&mut one).await, (broken, Order::Thaw), "it is given up");
        until_at_work(&served.channel, "web-1").await;
        one.say(Said::Barrier(barrier::answer(broken, Answer::Thawed(Duration::ZERO)))).await;
        let (again, prepare) = order(&mut one).await;
        assert!(again > broken && prepare == Order::Prepare, "{again} {prepare:?}");
        assert_eq!(order(&mut two).await, (again, Order::Prepare), "it is a member of the next one");
        for agent in [&one, &two] {
            agent.say(Said::Barrier(barrier::answer(again, Answer::Prepared))).await;
        }
        tokio::join!(go_through(&mut one, &mut first, again), go_through(&mut two, &mut second, again));
        // what it has said is heard for as long as it is there
        two
    };
    let both = futures::future::join(create(&served.channel, named("both")), orders);
    let (made, _two) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it comes to an end");
    let made = made.expect("a snapshot");
    assert_eq!(made.consistency(), Consistency::Frozen);
    assert!(made.members.len() == 2 && made.members.iter().all(|member| member.pause_ns.is_some()), "{made:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_be_repeated_and_a_name_is_taken_once() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    writer.checkpoint().await;
    let served = world.serve().await;
    let request = CreateSnapshotRequest { request_id: "nightly".to_owned(), ..named("n") };
    let made = create(&served.channel, request.clone()).await.expect("a snapshot");
    writer.checkpoint().await;
    let again = create(&served.channel, request.clone()).await.expect("the same");
    assert_eq!((&again.id, &again.members[0].checkpoint), (&made.id, &made.members[0].checkpoint));
    let (one, two) = tokio::join!(
        create(&served.channel, CreateSnapshotRequest { request_id: "x".to_owned(), ..named("x") }),
        create(&served.channel, CreateSnapshotRequest { request_id: "x".to_owned(), ..named("x") })
    );
    assert_eq!(one.expect("one").id, two.expect("the same").id);
    assert_eq!(reason(create(&served.channel, named("n")).await), Reason::NameTaken);
    let unnamed = create(&served.channel, named("")).await.expect("a snapshot");
    assert!(unnamed.name.starts_with("20"), "named after its time: {}", unnamed.name);
    delete(&served.channel, "n").await.expect("deleted");
    assert_eq!(reason(create(&served.channel, request).await), Reason::Deleted);
    assert_eq!(reason(delete(&served.channel, "n").await), Reason::NotFound);
    delete(&served.channel, &made.id).await.expect("a full id may be deleted again");
    assert_eq!(count(&served.channel).await, 2);
    assert_eq!(world.pins("web-0").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_newest_first_and_by_label() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    writer.checkpoint().await;
    let served = world.serve().await;
    for number in 0..5 {
        let labels = [("parity".to_owned(), (number % 2).to_string())].into();
        create(&served.channel, CreateSnapshotRequest { labels, ..named(&format!("s{number}")) }).await.expect("a snapshot");
    }
    let all = async |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let mut request = ListSnapshotsRequest { page_size: 2, labels, ..ListSnapshotsRequest::default() };
        let mut found = Vec::new();
        loop {
            let page = client(&served.channel).list_snapshots(request.clone()).await.expect("a page").into_inner();
            found.extend(page.snapshots.into_iter().map(|snapshot| snapshot.name));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return found;
            }
        }
    };
    assert_eq!(all(&[]).await, ["s4", "s3", "s2", "s1", "s0"]);
    assert_eq!(all(&[("parity", "0")]).await, ["s4", "s2", "s0"]);
    assert!(all(&[("parity", "2")]).await.is_empty());
}

async fn next(watch: &mut Streaming<WatchSnapshotsResponse>) -> (Kind, String) {
    let told = tokio::time::timeout(Duration::from_secs(20), watch.message()).await.expect("in time");
    let told = told.expect("a message").expect("a message");
    (told.kind(), told.snapshot.map(|snapshot| snapshot.name).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_watch_see_what_this_and_other_coordinators_do() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    writer.checkpoint().await;
    let (served, other) = (world.serve().await, world.serve().await);
    create(&served.channel, named("first")).await.expect("a snapshot");
    let mut watch = client(&served.channel).watch_snapshots(WatchSnapshotsRequest {}).await.expect("a watch").into_inner();
    assert_eq!(next(&mut watch).await, (Kind::Exists, "first".to_owned()));
    assert_eq!(next(&mut watch).await, (Kind::Synced, String::new()));
    create(&served.channel, named("second")).await.expect("a snapshot");
    assert_eq!(next(&mut watch).await, (Kind::Created, "second".to_owned()));
    create(&other.channel, named("third")).await.expect("a snapshot");
    assert_eq!(next(&mut watch).await, (Kind::Created, "third".to_owned()));
    delete(&other.channel, "first").await.expect("deleted");
    assert_eq!(next(&mut watch).await, (Kind::Deleted, "first".to_owned()));
}
