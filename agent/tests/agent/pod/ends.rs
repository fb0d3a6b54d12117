// SPDX-License-Identifier: Apache-2.0
//! The end of a pod: the notice, what is captured of the last moments, and the last word.

use crate::pod::kit::World;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_write_is_in_the_last_checkpoint_though_the_token_is_void() {
    let mut world = World::new().await;
    let mut pod = world.pod();
    // captures come late: what is durable in the end is so because of the notice and the end
    (pod.config.quiet_ms, pod.config.settle_ms, pod.config.limit_ms) = (3_600_000, 3_600_000, 3_600_000);
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    let started = world.heard(|heard| heard.report.sequence > 0).await;
    fs::write(world.file("a"), b"before the notice").expect("a file");
    pod.stopping().await;
    let heard = world.heard(|heard| heard.stopping.is_some() && heard.report.sequence > started.report.sequence).await;
    let grace = heard.stopping.expect("said").grace_ms;
    assert!((25_000..=30_000).contains(&grace), "{grace}");
    // tokens are not rotated any more, and void soon after
    world.shared.rules.send_modify(|rules| {
        rules.tokens.clear();
        rules.resume = [heard.session.clone()].into();
    });
    world.shared.heard.send_modify(|heard| heard.stopping = None);
    world.stop();
    world.restart().await;
    let again = world.heard(|heard| heard.stopping.is_some()).await;
    assert_eq!(again.hellos.last().expect("a hello").resume, heard.session);
    fs::write(world.file("b"), b"the last words").expect("a file");
    assert!(agent.term().await.success());
    assert_eq!(world.restored(0).await, world.state());
    let receipt = pod.receipt();
    assert!(receipt.sealed && receipt.checkpoint > heard.report.sequence && receipt.trouble.is_empty(), "{receipt:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_nobody_hears_holds_nothing_up() {
    let mut world = World::new().await;
    world.pod().stopping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_without_a_store_is_in_time_and_says_so() {
    let mut world = World::new().await;
    let mut pod = world.pod();
    pod.variables.push(("HOLDFAST_GRACE_SECONDS", "3".to_owned()));
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"one").expect("a file");
    world.caught_up().await;
    world.store.be_away(true);
    fs::write(world.file("a"), b"two").expect("a file");
    world.heard(|heard| heard.report.live.as_ref().is_some_and(|live| live.trouble.contains("away"))).await;
    let began = std::time::Instant::now();
    assert!(agent.term().await.success());
    assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
    let receipt = pod.receipt();
    assert!(receipt.checkpoint > 0 && !receipt.trouble.is_empty(), "{receipt:?}");
    // the next pod goes on from the volume
    world.store.be_away(false);
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    world.caught_up().await;
    assert_eq!(world.restored(0).await, [("a".to_owned(), b"two".to_vec())].into());
    assert!(agent.term().await.success());
}
