// SPDX-License-Identifier: Apache-2.0
//! Stores that are gone, and holders that are replaced.

use crate::common::noise;
use crate::kit::{Agent, Lab, in_time};
use holdfast_agent::clock::SystemClock;
use holdfast_agent::{AgentError, Phase};
use holdfast_s3_server::Fault;
use holdfast_store::StoreError;
use holdfast_store::write::Takeover;
use http::{Method, StatusCode};
use std::fs;
use std::time::Duration;

/// From now on the store answers nothing else.
fn refuse(lab: &Lab, with: StatusCode) {
    for method in [Method::PUT, Method::GET, Method::HEAD] {
        lab.script.always(method, "", Fault::Answer(with));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_costs_only_lag() {
    let lab = Lab::start().await;
    let mut agent = lab.agent().await;
    fs::write(lab.path("state/file"), b"first").expect("a file");
    let first = agent.flush().await;
    refuse(&lab, StatusCode::SERVICE_UNAVAILABLE);
    fs::write(lab.path("state/file"), b"second").expect("a file");
    let lagging = agent.until(|status| status.trouble.is_some() && status.oldest.is_some()).await;
    let lagged = lagging.lag(SystemClock.monotonic()).expect("a lag");
    assert_eq!(lagging.phase, Phase::Protecting);
    assert_eq!(lagging.checkpoint.expect("the last one").sequence, first.sequence);
    let asked = agent.ask().await;
    fs::write(lab.path("state/more"), b"third").expect("a file");
    lab.script.clear();
    let flushed = in_time(asked).await.expect("an answer").expect("durable");
    assert!(flushed.sequence > first.sequence);
    let last = agent.flush().await;
    let well = agent.until(|status| status.trouble.is_none() && status.oldest.is_none()).await;
    assert!(well.lag_lately(SystemClock.monotonic()) >= lagged, "the lag is remembered when all is durable again");
    let (_, files) = lab.restored(last.sequence).await;
    assert_eq!(files["file"], b"second");
    assert_eq!(files["more"], b"third");
    assert!(lab.script.fired() > 0);
    agent.end().await;
}

/// Takes as long as a request may go unanswered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_never_answered_is_put_again() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    agent.flush().await;
    lab.script.nth(Method::PUT, &lab.records(), 1, Fault::BlackHole);
    fs::write(lab.path("state/file"), b"content").expect("a file");
    let flushed = agent.flush().await;
    assert_eq!(lab.script.fired(), 1);
    assert_eq!(lab.restored(flushed.sequence).await.1["file"], b"content");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_fences_nobody() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    agent.flush().await;
    lab.script.nth(Method::PUT, &lab.records(), 1, Fault::ApplyThenDrop);
    lab.script.nth(Method::PUT, &lab.records(), 3, Fault::ApplyThenAnswer(StatusCode::INTERNAL_SERVER_ERROR));
    let mut last = 0;
    for round in 0..4 {
        fs::write(lab.path("state/file"), format!("round {round}")).expect("a file");
        let flushed = agent.flush().await;
        assert_eq!(flushed.sequence, last.max(flushed.sequence - 1) + 1, "no gaps");
        last = flushed.sequence;
    }
    assert_eq!(lab.script.fired(), 2);
    assert_eq!(lab.restored(last).await.1["file"], b"round 3");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_was_replaced_stops_and_says_so() {
    let lab = Lab::start().await;
    let mut old = lab.agent().await;
    fs::write(lab.path("state/file"), b"old").expect("a file");
    old.flush().await;
    // the replacement, on another machine: another disk, another scratch space
    let mut config = crate::kit::config(&lab.path("elsewhere"), &lab.path("other scratch"));
    let held = lab.try_agent(config.clone()).await.map(|_| ()).expect_err("held");
    assert!(matches!(held, AgentError::Store(StoreError::Held { .. })), "{held}");
    config.takeover = Takeover::SameOwner;
    let new = lab.try_agent(config).await.expect("taken over");
    assert_eq!(fs::read(lab.path("elsewhere/file")).expect("restored"), b"old");
    fs::write(lab.path("state/file"), b"too late").expect("a file");
    let fenced = old.ended().await.expect_err("fenced");
    assert!(matches!(fenced, AgentError::Store(StoreError::Fenced { .. })), "{fenced}");
    assert_eq!(old.status.borrow().phase, Phase::Fenced);
    let last = new.flush().await;
    assert_eq!(lab.restored(last.sequence).await.1["file"], b"old", "the replaced writer's change is in no history");
    new.end().await;
}

/// What a refused request ends is a session, not the protection; and the disk is no older for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lineage_that_was_claimed_again_finds_its_disk_as_new_as_it_is() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    fs::write(lab.path("state/file"), b"first").expect("a file");
    agent.flush().await;
    lab.script.nth(Method::PUT, &lab.packs(), 1, Fault::Answer(StatusCode::FORBIDDEN));
    let second = noise(3 << 20, &mut 1);
    fs::write(lab.path("state/file"), &second).expect("a file");
    // who asks is told of the failure, or waits until it is over
    let _ = in_time(agent.ask().await).await.expect("an answer");
    let flushed = agent.flush().await;
    assert!(lab.restored(flushed.sequence).await.1["file"] == second);
    let claims = lab.log().read_body(flushed.sequence).await.expect("a record").generation;
    assert_eq!(claims, 2, "it was claimed again");
    agent.end().await;
    let again = lab.agent().await;
    assert!(again.restored.is_none(), "nothing was missing");
    again.end().await;
}

/// An agent with changes to store, whose store refuses everything.
async fn refused(lab: &Lab, changes: &[u8]) -> Agent {
    let mut agent = lab.agent().await;
    fs::write(lab.path("state/file"), b"first").expect("a file");
    agent.flush().await;
    refuse(lab, StatusCode::FORBIDDEN);
    fs::write(lab.path("state/file"), changes).expect("a file");
    agent.until(|status| status.trouble.is_some()).await;
    agent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_can_not_claim_again_can_be_ended() {
    let lab = Lab::start().await;
    let agent = refused(&lab, &noise(3 << 20, &mut 1)).await;
    let status = agent.end_within(Duration::from_millis(100)).await;
    assert!(status.trouble.is_some_and(|trouble| trouble.contains("403")), "it says what it could not do");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_comes_back_before_the_end_gets_the_last_changes() {
    let lab = Lab::start().await;
    let second = noise(3 << 20, &mut 1);
    let agent = refused(&lab, &second).await;
    let (mut status, script) = (agent.status.clone(), std::sync::Arc::clone(&lab.script));
    let (ended, ()) = tokio::join!(agent.end(), async move {
        in_time(status.wait_for(|status| status.phase == Phase::Ending)).await.expect("running");
        script.clear();
    });
    assert_eq!(ended.phase, Phase::Ended);
    assert!(lab.restored(0).await.1["file"] == second);
}
