// SPDX-License-Identifier: Apache-2.0
//! What a start waits for, and what it says meanwhile.

use crate::pod::kit::{World, is_there};
use holdfast_core::pod::{PodDivergence, PodPath, PodRestore};
use holdfast_proto::v1;
use std::fs;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_starts_on_its_state_and_not_before() {
    let mut world = World::new().await;
    let pod = world.pod();
    let (mut gate, agent) = (pod.gate(), pod.agent());
    assert!(gate.ended().await.success());
    fs::write(world.file("progress"), b"41").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
    let receipt = pod.receipt();
    assert!(receipt.sealed && receipt.clean && receipt.checkpoint > 0 && receipt.lineage == "statefulset/web/0", "{receipt:?}");
    // another pod on another node, with nothing but a grant
    fs::remove_file(world.file("progress")).expect("lost");
    rustix::fs::removexattr(world.path("state"), "user.holdfast.marker").expect("another volume");
    let hello = world.shared.heard.borrow().hellos.last().cloned().expect("a hello");
    assert_eq!((hello.lineage, hello.holder.as_str()), (None, "pod web-0 on one"));
    let pod = world.pod();
    let mut gate = pod.gate();
    assert!(gate.is_running());
    let agent = pod.agent();
    assert!(gate.ended().await.success());
    assert_eq!(fs::read(world.file("progress")).expect("restored before the gate opened"), b"41");
    assert!(agent.term().await.success());
    assert_eq!(pod.receipt().restored, receipt.checkpoint);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_says_why_it_is_shut_and_outlives_the_agent() {
    let mut world = World::new().await;
    world.shared.rules.send_modify(|rules| rules.wait = Some("SlotHeld"));
    let pod = world.pod();
    let mut gate = pod.gate();
    let agent = pod.agent();
    pod.gate_says("SlotHeld: the test says so").await;
    agent.kill().await;
    assert!(gate.is_running());
    let agent = pod.agent();
    world.shared.rules.send_modify(|rules| rules.wait = Some("RestoreInProgress"));
    pod.gate_says("RestoreInProgress").await;
    assert!(gate.is_running());
    world.shared.rules.send_modify(|rules| rules.wait = None);
    assert!(gate.ended().await.success());
    let log = pod.logs("the gate is open").await;
    assert_eq!(log.matches("RestoreInProgress").count(), 1, "once per change: {log}");
    // a gate that comes late has nothing to wait for
    assert!(pod.gate().ended().await.success());
    agent.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_told_to_end_lets_nobody_pass() {
    let mut world = World::new().await;
    world.shared.rules.send_modify(|rules| rules.wait = Some("SlotHeld"));
    let pod = world.pod();
    let (gate, agent) = (pod.gate(), pod.agent());
    pod.gate_says("SlotHeld").await;
    assert!(!gate.term().await.success());
    assert!(agent.term().await.success(), "an agent that still waits ends at once, and in good order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_makes_no_sense_is_refused_in_one_sentence() {
    let mut world = World::new().await;
    let mut pod = world.pod();
    pod.config.version = 7;
    assert!(!pod.agent().ended().await.success());
    let said = pod.logs("HOLDFAST_POD_CONFIG").await;
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// A volume that another history has left behind.
async fn diverged(world: &mut World) {
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"old").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
    // a copy of this volume goes on elsewhere
    let state = world.path("state");
    fs::rename(&state, world.path("left")).expect("moved");
    fs::create_dir(&state).expect("a directory");
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"new").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
    fs::remove_dir_all(&state).expect("gone");
    fs::rename(world.path("left"), &state).expect("moved back");
    fs::write(world.file("b"), b"only here").expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_was_left_behind_waits_for_a_decision() {
    let mut world = World::new().await;
    diverged(&mut world).await;
    let pod = world.pod();
    let (mut gate, agent) = (pod.gate(), pod.agent());
    let said = pod.gate_says("Diverged").await;
    assert!(said.contains("restore.onDivergence"), "{said}");
    assert!(
        world.heard(|heard| heard.report.live.as_ref().is_some_and(|live| live.trouble.starts_with("Diverged: "))).await.reports
            > 0
    );
    assert!(gate.is_running());
    world.shared.rules.send_modify(|rules| rules.start = v1::Start::AdoptDisk);
    assert!(gate.ended().await.success());
    assert_eq!(fs::read(world.file("a")).expect("a file"), b"old");
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_store_wins_nothing_of_the_disk_is_lost() {
    let mut world = World::new().await;
    diverged(&mut world).await;
    let mut pod = world.pod();
    pod.config.on_divergence = PodDivergence::PreferStore;
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    assert_eq!(world.state(), [("a".to_owned(), b"new".to_vec())].into());
    assert!(agent.term().await.success());
    let pins: Vec<String> = world.store.names().into_iter().filter(|name| name.contains("/pins/")).collect();
    let kinds: Vec<bool> = pins.iter().map(|name| name.ends_with("-withdrawn")).collect();
    assert_eq!(kinds, [false, true], "what was gone back to was held until the claim held it: {pins:?}");
    let log = pod.logs("was captured as a branch").await;
    let branch = log.split("branch=Some(").nth(1).and_then(|rest| rest.split(')').next()).expect("its number");
    let found = world.restored(branch.parse().expect("a number")).await;
    assert_eq!(found, [("a".to_owned(), b"old".to_vec()), ("b".to_owned(), b"only here".to_vec())].into());
    assert_eq!(world.restored(0).await, [("a".to_owned(), b"new".to_vec())].into(), "and the newest is the store's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_restores_always_does_so_once_a_pod() {
    let mut world = World::new().await;
    let pod = world.pod();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"kept").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
    fs::write(world.file("a"), b"changed while nobody looked").expect("a file");
    let mut pod = world.pod();
    pod.config.restore = PodRestore::Always;
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    assert_eq!(fs::read(world.file("a")).expect("a file"), b"kept");
    fs::write(world.file("a"), b"changed by the application").expect("a file");
    agent.kill().await;
    let agent = pod.agent();
    world.caught_up().await;
    assert_eq!(fs::read(world.file("a")).expect("a file"), b"changed by the application");
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_read_is_captured_and_never_written() {
    let mut world = World::new().await;
    let given = world.path("given");
    fs::create_dir(&given).expect("a directory");
    fs::write(given.join("settings"), b"one").expect("a file");
    let with_given = |world: &mut World, given: &std::path::Path| {
        let mut pod = world.pod();
        let path = given.display().to_string();
        pod.config.paths.push(PodPath {
            label: "given".to_owned(),
            path,
            include: Vec::new(),
            exclude: Vec::new(),
            read_only: true,
        });
        pod
    };
    let pod = with_given(&mut world, &given);
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    fs::write(world.file("a"), b"state").expect("a file");
    world.caught_up().await;
    assert!(agent.term().await.success());
    assert!(rustix::fs::getxattr(&given, "user.holdfast.marker", &mut [0_u8; 512][..]).is_err(), "it is not marked");
    fs::remove_dir_all(world.path("state")).expect("lost");
    fs::write(given.join("settings"), b"two").expect("a file");
    let pod = with_given(&mut world, &given);
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    assert_eq!(fs::read(world.file("a")).expect("restored"), b"state");
    assert_eq!(fs::read(given.join("settings")).expect("left alone"), b"two");
    assert!(agent.term().await.success());
    assert!(is_there(&given));
}
