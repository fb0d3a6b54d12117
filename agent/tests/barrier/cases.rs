// SPDX-License-Identifier: Apache-2.0
//! Snapshots of what moves.

use crate::dice::rounds;
use crate::keepers::Application;
use crate::kit::in_time;
use crate::world::{Bank, By, World, process};
use holdfast_agent::quiesce::{Means, Quiescing, Whom};
use holdfast_core::checkpoint::Quality;
use holdfast_core::pod::PodHook;
use holdfast_core::policy::Call;
use holdfast_proto::problem::{Problem, Reason};
use holdfast_proto::v1::agent_service_client::AgentServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::watch_snapshots_response::Kind;
use holdfast_proto::v1::{
    self, Consistency, ListSnapshotsRequest, barrier_answer, barrier_order, session_request, session_response,
};
use std::collections::BTreeSet;
use std::io::BufRead;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Snapshots of a bank, at least.
const SNAPSHOTS: u64 = 3;
/// Snapshots of one that is not at rest: one of so many is wrong, or the audit is.
const CRASHES: usize = 30;

pub(crate) async fn the_books_of_a_frozen_bank_are_right() {
    audited(By::Freezing, Consistency::Frozen).await;
}

/// The agents bring their houses to rest all the time; snapshots go before that.
pub(crate) async fn the_books_of_a_bank_that_rests_all_the_time_are_right() {
    audited(By::FreezingAlways, Consistency::Frozen).await;
}

pub(crate) async fn a_rest_that_fails_costs_no_checkpoint() {
    let world = World::start().await;
    let base = world.lab.base.path();
    let call = Call::Socket { path: base.join("nobody").display().to_string(), send: "rest".to_owned(), expect: None };
    let before = PodHook { call, timeout_ms: 1000 };
    let means = Means::Hooks { before, after: None, whom: Whom::OtherContainers };
    let quiescing = Quiescing { every_checkpoint: true, ..crate::world::quiescing(means) };
    let agent = crate::world::Agent::start(&world.url, "deaf", base, quiescing).await;
    let mut last = 0;
    for number in 0..3 {
        std::fs::write(base.join("deaf/file"), format!("{number}")).expect("a file");
        let checkpoint = agent.flush().await;
        assert!(checkpoint.sequence > last, "it is durable all the same");
        assert_eq!(checkpoint.quality, Quality::Fuzzy, "nobody knows whether it was at rest");
        last = checkpoint.sequence;
    }
    agent.end().await;
}

pub(crate) async fn the_books_of_a_bank_that_is_asked_are_right() {
    audited(By::Asking, Consistency::Hooks).await;
}

async fn audited(by: By, reached: Consistency) {
    let bank = Bank::open(by).await;
    let mut watching = SnapshotServiceClient::new(bank.world.channel.clone());
    let (mut skews, mut pauses) = (Vec::new(), Vec::new());
    let mut told = watching.watch_snapshots(v1::WatchSnapshotsRequest {}).await.expect("a watch").into_inner();
    let (mut last, all) = (0, rounds(SNAPSHOTS));
    for number in 0..all {
        let snapshot = bank.world.snapshot(&format!("{number}"), false).await.expect("a snapshot");
        assert_eq!(snapshot.consistency(), reached);
        assert!(snapshot.skew_ns > 0 && snapshot.bytes > 0, "{snapshot:?}");
        assert!(snapshot.members.iter().all(|member| member.flushed && member.pause_ns.is_some_and(|pause| pause > 0)));
        let (wrong, moved) = bank.audited(&snapshot).await;
        assert_eq!(wrong, None, "snapshot {number}");
        assert!(moved > last, "the bank went on: {moved} after {last}");
        last = moved;
        skews.push(snapshot.skew_ns / 1000);
        pauses.extend(snapshot.members.iter().map(|member| member.pause_ns.unwrap_or_default() / 1000));
    }
    println!(
        "    {reached:?}: {all} of {all} right, {last} moved; skew {} us, pause {} us (median, most)",
        spread(skews),
        spread(pauses)
    );
    let mut phases = BTreeSet::new();
    let first = async {
        loop {
            let event = told.message().await.expect("an event").expect("an event");
            match event.kind() {
                Kind::Progress => drop(phases.insert(event.progress.expect("progress").phase)),
                Kind::Created => return event.snapshot.expect("a snapshot").consistency(),
                _ => {}
            }
        }
    };
    assert_eq!(in_time(first).await, reached);
    assert!(!phases.is_empty(), "it was told how far it is");
    bank.close().await;
}

fn spread(mut figures: Vec<u64>) -> String {
    figures.sort_unstable();
    format!("{}, {}", figures[figures.len() / 2], figures[figures.len() - 1])
}

pub(crate) async fn a_bank_that_is_not_at_rest_is_caught() {
    let bank = Bank::open(By::Nothing).await;
    for number in 0..CRASHES {
        let snapshot = bank.world.snapshot(&format!("{number}"), true).await.expect("a snapshot");
        assert_eq!(snapshot.consistency(), Consistency::Crash);
        if let (Some(wrong), _) = bank.audited(&snapshot).await {
            println!("    caught in snapshot {number}: {wrong}");
            return bank.close().await;
        }
    }
    panic!("{CRASHES} snapshots without a violation: the audit finds nothing");
}

/// A member that prepares and never comes to rest.
async fn stubborn(world: &World, lineage: &str) -> (mpsc::Sender<v1::SessionRequest>, tonic::Streaming<v1::SessionResponse>) {
    let (say, said) = mpsc::channel(16);
    let hello = v1::Hello {
        protocol: holdfast_proto::AGENT_PROTOCOL,
        lineage: Some(v1::LineageRef { domain: "default".to_owned(), lineage: lineage.to_owned() }),
        holder: "a test".to_owned(),
        instance: vec![7; 16].into(),
        barriers: true,
        ..v1::Hello::default()
    };
    let send = async |event| say.send(v1::SessionRequest { event: Some(event) }).await.expect("open");
    send(session_request::Event::Hello(hello)).await;
    let mut client = AgentServiceClient::new(world.channel.clone());
    let mut hear = client.session(ReceiverStream::new(said)).await.expect("a session").into_inner();
    hear.message().await.expect("an answer").expect("a welcome");
    let live = v1::Live { phase: v1::Phase::Streaming.into(), ..v1::Live::default() };
    send(session_request::Event::Status(v1::StatusReport { live: Some(live), ..v1::StatusReport::default() })).await;
    (say, hear)
}

pub(crate) async fn a_killed_agent_thaws_and_there_is_no_snapshot() {
    let world = World::start().await;
    let application = Application::start();
    let (root, base) = (application.root().to_string(), world.lab.base.path().display().to_string());
    let (mut agent, mut lines) = process(&["--agent", &world.url, "held", &base, &root]);
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line.trim(), "protects");
    // the other lineage must exist before it can be chosen
    let other = world.lab.base.path().join("other");
    let first = crate::world::Agent::start(&world.url, "stubborn", &other, Quiescing::nothing()).await;
    world.protected(2).await;
    drop(first);
    let (say, mut hear) = stubborn(&world, "stubborn").await;
    world.protected(2).await;
    let held = async move {
        // it prepares, and is then asked to come to rest as all are
        loop {
            let Some(session_response::Command::Barrier(order)) = hear.message().await.expect("open").expect("open").command
            else {
                continue;
            };
            match order.order.expect("an order") {
                barrier_order::Order::Prepare(_) => {
                    let answer = Some(barrier_answer::Answer::Prepared(v1::BarrierPrepared {}));
                    let event = session_request::Event::Barrier(v1::BarrierAnswer { barrier: order.barrier, answer });
                    say.send(v1::SessionRequest { event: Some(event) }).await.expect("open");
                }
                barrier_order::Order::Freeze(_) => break,
                other => panic!("{other:?}"),
            }
        }
        tokio::task::spawn_blocking(move || {
            application.until(true);
            agent.kill().expect("killed");
            agent.wait().expect("gone");
            let thawed = application.until(false);
            println!("    thawed {} us after the agent's end", thawed.as_micros());
        })
        .await
        .expect("it went on");
    };
    let (refused, ()) = tokio::join!(world.snapshot("half", true), held);
    let problem = Problem::of(&refused.expect_err("there is none"));
    assert_eq!(problem.reason, Some(Reason::BarrierFailed), "{problem:?}");
    let mut client = SnapshotServiceClient::new(world.channel.clone());
    let listed = client.list_snapshots(ListSnapshotsRequest::default()).await.expect("a list").into_inner().snapshots;
    assert!(listed.is_empty(), "a half snapshot is none: {listed:?}");
}
