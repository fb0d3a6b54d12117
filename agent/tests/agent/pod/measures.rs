// SPDX-License-Identifier: Apache-2.0
//! What the agent's process takes: memory at rest and at work, time, processor. Prints it; what is asserted is the limit that a pod has by default.
//! To be run by hand, with a static binary made for release in `HOLDFAST_AGENT_BINARY`.

use crate::pod::kit::World;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT_KIB: u64 = 64 << 10;

fn line(pid: u32, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a process");
    let line = text.lines().find(|line| line.starts_with(key)).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Processor time so far, in clock ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

fn noise(seed: &mut u64, bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&seed.to_le_bytes());
    }
    noise
}

/// Captures and restores what `fill` makes, and says what that took.
async fn measure(what: &str, fill: impl Fn(&Path)) {
    let mut world = World::new().await;
    fill(&world.path("state"));
    let pod = world.pod();
    let began = Instant::now();
    let agent = pod.agent();
    world.caught_up().await;
    let (took, pid) = (began.elapsed(), agent.pid());
    let peak = line(pid, "status", "VmHWM");
    let cpu = ticks(pid);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (rest, idle) = (line(pid, "status", "VmRSS"), ticks(pid) - cpu);
    println!(
        "{what}: captured in {took:?} ({cpu}0 ms of processor), peak {peak} KiB, at rest {rest} KiB, {idle}0 ms of processor in 10 s"
    );
    assert!(peak <= LIMIT_KIB);
    assert!(agent.term().await.success());
    fs::remove_dir_all(world.path("state")).expect("lost");
    fs::create_dir(world.path("state")).expect("a directory");
    let pod = world.pod();
    let began = Instant::now();
    let agent = pod.agent();
    assert!(pod.gate().ended().await.success());
    let (took, pid) = (began.elapsed(), agent.pid());
    let peak = line(pid, "status", "VmHWM");
    println!("{what}: restored in {took:?} ({}0 ms of processor), peak {peak} KiB", ticks(pid));
    assert!(peak <= LIMIT_KIB);
    assert!(agent.term().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn big_files() {
    measure("1 GiB in 16 files", |state| {
        let mut seed = 1;
        (0..16).for_each(|i| fs::write(state.join(format!("f{i}")), noise(&mut seed, 64 << 20)).expect("a file"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn small_files() {
    measure("200,000 files of 1 KiB", |state| {
        let mut seed = 1;
        for directory in 0..1000 {
            let directory = state.join(format!("d{directory}"));
            fs::create_dir(&directory).expect("a directory");
            (0..200).for_each(|i| fs::write(directory.join(format!("f{i}")), noise(&mut seed, 1024)).expect("a file"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn nothing() {
    measure("an empty directory", |_| {}).await;
}
