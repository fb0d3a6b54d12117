// SPDX-License-Identifier: Apache-2.0
//! The agent is killed, at any moment, and started again in the same pod: the application notices nothing, and nothing is lost.

use crate::pod::kit::{World, in_time};
use std::fs;
use std::io::Write;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_while_the_application_writes() {
    let mut world = World::new().await;
    let pod = world.pod();
    let mut agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    let mut written = Vec::new();
    let mut file = fs::File::create(world.file("journal")).expect("a file");
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for round in 0..12_u64 {
        // each round is cut at another moment of its life: before, in and after a session, a claim, a capture
        for line in 0..=round * 17 % 97 {
            tick.tick().await;
            let text = format!("{round} {line}\n");
            file.write_all(text.as_bytes()).expect("written");
            written.extend_from_slice(text.as_bytes());
            fs::write(world.file(&format!("f{line}")), &text).expect("a file");
        }
        agent.kill().await;
        assert_eq!(fs::read(world.file("journal")).expect("a file"), written, "nobody but the application writes");
        agent = pod.agent();
    }
    let state = world.state();
    world.caught_up().await;
    assert_eq!(world.state(), state);
    assert!(agent.term().await.success());
    assert_eq!(world.restored(0).await, state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_beside_a_running_application_restores_nothing() {
    let mut world = World::new().await;
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("cache"), b"to be thrown away").expect("a file");
    world.caught_up().await;
    agent.kill().await;
    // it empties its own directory, as applications do; a new pod would have it restored
    fs::remove_file(world.file("cache")).expect("removed");
    world.shared.rules.send_modify(|rules| rules.wait = Some("SlotHeld"));
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success(), "the gate opens at once, whatever the coordinator says");
    world.shared.rules.send_modify(|rules| rules.wait = None);
    world.caught_up().await;
    assert_eq!(world.state(), [].into());
    assert!(agent.term().await.success());
    assert_eq!(world.restored(0).await, [].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_another_image_goes_on_beside_the_application() {
    let mut world = World::new().await;
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("kept"), b"one").expect("a file");
    fs::write(world.file("gone"), b"one").expect("a file");
    world.caught_up().await;
    // a node restarts its container: the notice, and the signal
    pod.stopping().await;
    assert!(agent.term().await.success());
    assert!(pod.receipt().sealed);
    fs::write(world.file("kept"), b"two, while there is no agent").expect("a file");
    fs::remove_file(world.file("gone")).expect("removed");
    let state = world.state();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    world.caught_up().await;
    assert_eq!(world.state(), state, "nobody but the application writes");
    assert!(agent.term().await.success());
    assert_eq!(world.restored(0).await, state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_was_cut_short_is_done_again() {
    let mut world = World::new().await;
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    for i in 0..400_u32 {
        fs::write(world.file(&format!("f{i}")), i.to_le_bytes().repeat(3000)).expect("a file");
    }
    let state = world.state();
    world.caught_up().await;
    assert!(agent.term().await.success());
    fs::remove_dir_all(world.path("state")).expect("lost");
    fs::create_dir(world.path("state")).expect("a directory");
    let pod = world.pod();
    let mut gate = pod.gate();
    for _ in 0..5 {
        let agent = pod.agent();
        // killed as soon as something is there
        let some = crate::pod::kit::until_some(async || {
            let names = fs::read_dir(world.path("state")).expect("a directory").count();
            (names > 0 || !gate.is_running()).then_some(names)
        });
        in_time(some).await;
        agent.kill().await;
    }
    let agent = pod.agent();
    assert!(gate.ended().await.success());
    assert!(world.state() == state, "every file is as it was");
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_replaced_captures_nothing_more_and_its_application_runs_on() {
    let mut world = World::new().await;
    let old = world.pod();
    let mut first = old.agent();
    assert!(old.gate().ended().await.success());
    fs::write(world.file("a"), b"one").expect("a file");
    world.caught_up().await;
    // the node is lost to the cluster, not to itself: another pod is granted the lineage, on another volume
    let state = world.path("state");
    let elsewhere = world.path("elsewhere");
    let mut new = world.pod();
    new.config.paths[0].path = elsewhere.display().to_string();
    let second = new.agent();
    assert!(new.gate().ended().await.success());
    assert_eq!(fs::read(elsewhere.join("a")).expect("restored"), b"one");
    fs::write(state.join("a"), b"late").expect("a file");
    old.logs("NOT PROTECTED").await;
    fs::write(elsewhere.join("a"), b"two").expect("a file");
    assert!(first.is_running());
    assert!(second.term().await.success());
    assert_eq!(world.restored(0).await, [("a".to_owned(), b"two".to_vec())].into());
    assert_eq!(fs::read(state.join("a")).expect("a file"), b"late", "nobody touches what its application has written");
    assert!(first.term().await.success());
}
