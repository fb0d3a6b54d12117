// SPDX-License-Identifier: Apache-2.0
//! What is away comes back, or is replaced: no agent is restarted for it, and the lag recovers.

use crate::pod::front::Authority;
use crate::pod::kit::World;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_away_and_nothing_is_lost() {
    let mut world = World::new().await;
    let pod = world.pod();
    let mut agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"one").expect("a file");
    world.caught_up().await;
    world.store.be_away(true);
    fs::write(world.file("a"), b"two").expect("a file");
    let trouble = |report: &holdfast_proto::v1::StatusReport| {
        report.live.as_ref().is_some_and(|live| live.lag_ms > 1500 && live.trouble.contains("the store is away"))
    };
    world.heard(|heard| trouble(&heard.report)).await;
    fs::write(world.file("b"), b"three").expect("a file");
    world.store.be_away(false);
    world.caught_up().await;
    assert!(agent.is_running());
    assert_eq!(world.restored(0).await, world.state());
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_is_replaced_while_agents_stream() {
    let mut world = World::new().await;
    let pod = world.pod();
    let mut agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    for round in 0..3 {
        fs::write(world.file("a"), format!("{round}")).expect("a file");
        world.stop();
        fs::write(world.file(&format!("b{round}")), vec![7; 300_000]).expect("a file");
        world.restart().await;
        world.caught_up().await;
        assert_eq!(world.restored(0).await, world.state());
    }
    assert!(agent.is_running());
    let heard = world.shared.heard.borrow().clone();
    assert!(heard.hellos.len() >= 4 && heard.hellos.windows(2).all(|pair| pair[0].instance == pair[1].instance));
    assert!(heard.hellos.iter().skip(1).all(|hello| !hello.resume.is_empty()), "it says what it goes on with");
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_under_a_live_channel() {
    let mut world = World::new().await;
    let pod = world.pod();
    let mut agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    world.heard(|heard| heard.report.sequence > 0).await;
    world.token("second");
    fs::write(world.file("a"), b"one").expect("a file");
    world.caught_up().await;
    world.stop();
    world.restart().await;
    let heard = world.heard(|heard| heard.bearers.len() > 1).await;
    assert_eq!(heard.bearers, ["first", "second"], "the file is read again for each session");
    world.caught_up().await;
    // a void one is said to be, and no reason to give up
    world.shared.rules.send_modify(|rules| rules.tokens = ["third".to_owned()].into());
    world.stop();
    world.restart().await;
    pod.logs("CoordinatorRefused").await;
    assert!(agent.is_running());
    world.token("third");
    world.heard(|heard| heard.bearers.last().is_some_and(|bearer| bearer == "third")).await;
    fs::write(world.file("a"), b"two").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_are_rotated_and_nobody_else_is_believed() {
    let mut world = World::new().await;
    let pem = fs::read_to_string(world.path("ca.crt")).expect("a file");
    fs::remove_file(world.path("ca.crt")).expect("not there yet");
    let pod = world.pod();
    let (mut gate, mut agent) = (pod.gate(), pod.agent());
    assert!(pod.gate_says("CoordinatorUnreachable").await.contains("not there yet"));
    assert!(gate.is_running());
    fs::write(world.path("ca.crt"), &pem).expect("a file");
    assert!(gate.ended().await.success());
    fs::write(world.file("a"), b"one").expect("a file");
    world.caught_up().await;
    // somebody else in its place is told nothing
    let second = Authority::new("second");
    world.shared.show(&second);
    let hellos = world.shared.heard.borrow().hellos.len();
    world.stop();
    world.restart().await;
    pod.logs("CoordinatorUnreachable").await;
    assert_eq!(world.shared.heard.borrow().hellos.len(), hellos);
    // the bundle holds both while they overlap
    fs::write(world.path("ca.crt"), format!("{}{pem}", second.pem)).expect("a file");
    fs::write(world.file("a"), b"two").expect("a file");
    world.caught_up().await;
    assert!(agent.is_running());
    assert!(agent.term().await.success());
    assert_eq!(world.restored(0).await, world.state());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_volume_may_start_without_a_coordinator() {
    let mut world = World::new().await;
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"one").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
    world.stop();
    let mut pod = world.pod();
    pod.config.start_alone = true;
    pod.variables.push(("HOLDFAST_ALONE_AFTER_SECONDS", "2".to_owned()));
    let mut agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"two").expect("a file");
    world.restart().await;
    world.caught_up().await;
    assert_eq!(world.restored(0).await, world.state());
    assert!(agent.is_running());
    assert!(agent.term().await.success());
    // an empty one may not: its state is in the store
    fs::remove_dir_all(world.path("state")).expect("lost");
    world.stop();
    let mut pod = world.pod();
    pod.config.start_alone = true;
    pod.variables.push(("HOLDFAST_ALONE_AFTER_SECONDS", "1".to_owned()));
    pod.variables.push(("HOLDFAST_LOG", "debug".to_owned()));
    let (mut gate, agent) = (pod.gate(), pod.agent());
    pod.logs("does not say that it holds the state").await;
    assert!(gate.is_running());
    world.restart().await;
    assert!(gate.ended().await.success());
    assert_eq!(world.state(), [("a".to_owned(), b"two".to_vec())].into());
    assert!(agent.term().await.success());
}
