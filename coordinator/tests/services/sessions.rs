// SPDX-License-Identifier: Apache-2.0
//! Sessions, what is known of a lineage by them, and flushes.

use crate::kit::{Agent, OWNER, World, names, reason};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::{FlushLineageRequest, GetLineageRequest, Lineage, ListLineagesRequest};
use std::time::Duration;
use tonic::transport::Channel;

async fn lineage(channel: &Channel, name: &str) -> Lineage {
    let request = GetLineageRequest { lineage: Some(names(name)) };
    LineageServiceClient::new(channel.clone()).get_lineage(request).await.expect("a lineage").into_inner()
}

/// Asks again until the answer satisfies: what was sent takes its time to arrive.
pub(crate) async fn eventually(channel: &Channel, name: &str, satisfied: impl Fn(&Lineage) -> bool) -> Lineage {
    let asking = async {
        loop {
            let found = lineage(channel, name).await;
            if satisfied(&found) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("it comes to that")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_welcomed_heard_and_missed() {
    let world = World::new().await;
    let served = world.serve().await;
    let agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let grant = agent.welcome.grant.clone().expect("a grant");
    assert_eq!(agent.welcome.owner.as_ref(), OWNER.as_bytes());
    assert!(grant.write && grant.token.len() == 32 && agent.welcome.report_every_ms > 0);
    assert_eq!(grant.lineage_id, world.domain.keys.identity.lineage_id("web-0").to_string());
    agent.report(250).await;
    let found = eventually(&served.channel, "web-0", |lineage| lineage.live.as_ref().is_some_and(|live| live.lag_ms > 0)).await;
    assert!(found.live.as_ref().is_some_and(|live| live.lag_ms >= 250) && found.head == 0, "{found:?}");
    assert_eq!(found.holder, "agent 1");
    // the agent says nothing: its lag grows
    eventually(&served.channel, "web-0", |lineage| lineage.live.as_ref().is_some_and(|live| live.lag_ms > 300)).await;
    let listed = LineageServiceClient::new(served.channel.clone()).list_lineages(ListLineagesRequest::default()).await;
    assert_eq!(listed.expect("a list").into_inner().lineages.len(), 1, "live lineages are listed before they have a history");
    drop(agent);
    let request = || GetLineageRequest { lineage: Some(names("web-0")) };
    let gone = async {
        while LineageServiceClient::new(served.channel.clone()).get_lineage(request()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_agent_replaces_an_older_one() {
    let world = World::new().await;
    let served = world.serve().await;
    let old = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let new = Agent::open(served.channel.clone(), "web-0", 2).await.expect("a session");
    assert_eq!(reason::<()>(Err(old.end().await)), Reason::SessionReplaced);
    let back = Agent::open(served.channel.clone(), "web-0", 1).await.map(|_| ());
    assert_eq!(reason(back), Reason::SessionReplaced, "as long as the newer one is there");
    drop(new);
    let back = async {
        while Agent::open(served.channel.clone(), "web-0", 1).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("it may come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_by_the_name_of_the_field() {
    let world = World::new().await;
    let served = world.serve().await;
    let long = "x".repeat(254);
    for name in ["", "a\nb", &long] {
        let status = Agent::open(served.channel.clone(), name, 1).await.err().expect("refused");
        let problem = holdfast_proto::problem::Problem::of(&status);
        assert_eq!(problem.fields.first().map(|(field, _)| field.as_str()), Some("hello.lineage.lineage"), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_goes_to_the_agent_and_its_checkpoint_comes_back() {
    let world = World::new().await;
    let mut writer = world.writer("web-0").await;
    let done = writer.checkpoint().await;
    let served = world.serve().await;
    let flush = |timeout: Duration| {
        let mut request = tonic::Request::new(FlushLineageRequest { lineage: Some(names("web-0")) });
        request.set_timeout(timeout);
        let mut client = LineageServiceClient::new(served.channel.clone());
        async move { client.flush_lineage(request).await }
    };
    assert_eq!(reason(flush(Duration::from_secs(20)).await), Reason::NotLive);
    let mut agent = Agent::open(served.channel.clone(), "web-0", 1).await.expect("a session");
    let answer = async {
        let asked = agent.flush().await;
        assert!(
            (10_000..20_000).contains(&asked.within_ms),
            "the caller's time, less what the answer takes: {}",
            asked.within_ms
        );
        agent.flushed(asked.id, done.sequence, "").await;
        agent
    };
    let (flushed, mut agent) = tokio::join!(flush(Duration::from_secs(20)), answer);
    assert_eq!(flushed.expect("a checkpoint").into_inner().root, done.root.to_string());
    let refuse = async {
        let asked = agent.flush().await;
        agent.flushed(asked.id, 0, "the store refuses").await;
        agent
    };
    let (refused, mut agent) = tokio::join!(flush(Duration::from_secs(20)), refuse);
    let status = refused.expect_err("refused");
    assert!(status.message().contains("the store refuses"), "{status:?}");
    // nobody answers: the caller is told within its time
    let late = flush(Duration::from_millis(600)).await;
    assert_eq!(reason(late), Reason::FlushFailed);
    agent.flush().await;
    // the agent goes away while somebody waits
    let leave = async {
        agent.flush().await;
        drop(agent);
    };
    assert_eq!(reason(tokio::join!(flush(Duration::from_secs(20)), leave).0), Reason::NotLive);
}
