// SPDX-License-Identifier: Apache-2.0
//! The collector that a coordinator's owner runs beside it.

use crate::kit::{OWNER, World};
use holdfast_coordinator::{Collector, CollectorConfig};
use holdfast_core::policy::Retention;
use holdfast_store::collect::{Options, Reason};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

fn config(world: &World, every: Duration) -> CollectorConfig {
    CollectorConfig {
        repository: world.repository.clone(),
        owner: OWNER,
        holder: "a test".to_owned(),
        policies: Arc::new(|domain, lineage| {
            (domain == "default" && lineage == "web").then(|| Retention { keep_all: Duration::ZERO, tiers: Vec::new() })
        }),
        every,
        packs_every: every,
        options: Options { margin: Duration::ZERO, ..Options::default() },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_collects_at_its_pace_until_it_is_told_to_stop() {
    let world = World::new().await;
    for name in ["web", "db"] {
        let mut writer = world.writer(name).await;
        for round in 0..5 {
            writer.write("file", format!("state {round}"));
            writer.checkpoint().await;
        }
    }
    let records = |lineage: &str| {
        let id = world.domain.keys.identity.lineage_id(lineage).to_string();
        world.memory.objects().keys().filter(|name| name.as_str().contains(&format!("{id}/log/"))).count()
    };
    assert_eq!((records("web"), records("db")), (6, 6));
    let collectors: Vec<_> =
        (0..2).map(|_| Collector::new(config(&world, Duration::from_millis(20))).expect("random numbers")).collect();
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    for collector in collectors.clone() {
        let stop = stop.clone();
        running.spawn(async move { collector.run(stop).await });
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let gone = |reason| {
        collectors.iter().filter_map(|one| one.collected().gone.get(&reason).copied()).map(|one| one.objects).sum::<u64>()
    };
    while gone(Reason::Thinned) + gone(Reason::Stray) < 4 {
        assert!(Instant::now() < deadline, "{:?}", collectors.iter().map(Collector::collected).collect::<Vec<_>>());
        sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    timeout(Duration::from_secs(10), async { while running.join_next().await.is_some() {} }).await.expect("it ends");
    // the claim that is the newest, and the newest checkpoint
    assert_eq!((records("web"), records("db")), (2, 6), "only what has a policy is thinned");
}

#[tokio::test]
async fn a_store_that_fails_is_counted_and_nothing_else() {
    let world = World::new().await;
    let mut writer = world.writer("web").await;
    writer.write("file", "state");
    writer.checkpoint().await;
    let collector = Collector::new(config(&world, Duration::from_secs(60))).expect("random numbers");
    world.memory.set_failing(true);
    collector.round(true).await.expect_err("nothing answers");
    world.memory.set_failing(false);
    let report = collector.round(true).await.expect("a round");
    assert!(report.problems.is_empty());
    let collected = collector.collected();
    assert_eq!((collected.failures, collected.rounds), (1, 1));
    assert!(collected.last.is_some());
}
