// SPDX-License-Identifier: Apache-2.0
//! One coordinator, so many agents: what they cost when they have nothing to do, and a snapshot of all of them.

use crate::coordinator::Serving;
use crate::kit::{Kit, write};
use crate::member::{Heard, Member, Pace};
use crate::process::Watched;
use futures::{StreamExt, stream};
use holdfast_agent::Connection;
use holdfast_proto::v1::lineage_service_client::LineageServiceClient;
use holdfast_proto::v1::snapshot_service_client::SnapshotServiceClient;
use holdfast_proto::v1::{self, CreateSnapshotRequest, ListLineagesRequest, Snapshot};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Agents that start at once.
const STARTING: usize = 32;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// An agent's own work: about what `holdfast run` needs for a small state. The slowest decides, so they differ.
const PREPARE_MS: (u64, u64) = (5, 50);
const CUT_MS: (u64, u64) = (2, 20);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    agents: usize,
    /// From the first member's being asked to prepare until the last one goes on.
    barrier: Duration,
    /// The slowest member's own work of that.
    own: Duration,
    /// From the first member's being told to be cut until the last one goes on.
    cut: Duration,
    /// From the request until its answer: the snapshot is committed.
    committed: Duration,
    /// From the last member's checkpoint until then.
    after_seal: Duration,
    /// The coordinator's memory before there were agents, with all of them at rest, after the snapshot, and at most.
    memory: [u64; 4],
    /// Its processor time for each second in which they had nothing to do.
    idle: f64,
    /// Its processor time for the snapshot.
    cpu: Duration,
}

impl Measured {
    pub(crate) const HEAD: &str = "agents  barrier ms  slowest ms  beyond ms  cut ms  committed s  after seals s  cpu s  KiB/agent idle  after  \
                                   peak MiB  idle cpu %";
    pub(crate) const LEGEND: &str = "barrier: from the first prepare to the last thaw. slowest: what the slowest member needs for itself of that. \
                                     committed: from the request to its answer; after seals: the part of it after all members were durable. \
                                     KiB/agent: growth of the coordinator's RSS.";

    /// The barrier, without the slowest member's own work.
    fn beyond(&self) -> Duration {
        self.barrier.saturating_sub(self.own)
    }

    fn kibibytes_per_agent(&self, at: usize) -> f64 {
        let grown = self.memory[at].saturating_sub(self.memory[0]);
        float(grown) / 1024.0 / float(self.agents as u64)
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
const fn float(number: u64) -> f64 {
    number as f64
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_millis();
        write!(
            f,
            "{:6}  {:10}  {:10}  {:9}  {:6}  {:11.2}  {:13.2}  {:5.2}  {:14.1}  {:5.1}  {:8.1}  {:10.2}",
            self.agents,
            millis(self.barrier),
            millis(self.own),
            millis(self.beyond()),
            millis(self.cut),
            self.committed.as_secs_f64(),
            self.after_seal.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.kibibytes_per_agent(1),
            self.kibibytes_per_agent(2),
            float(self.memory[3]) / 1024.0 / 1024.0,
            self.idle * 100.0,
        )
    }
}

/// Measures it, and fails if the snapshot lacks a member.
pub(crate) fn measure(agents: usize, idle: Duration) -> Measured {
    let kit = Kit::new();
    let state = kit.path("state");
    std::fs::create_dir_all(&state).expect("a directory");
    write(&state.join("file"), b"the same for all\n");
    let serving = Serving::start(&kit);
    let token = std::fs::read_to_string(kit.path("token")).expect("a token");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(64).enable_all().build();
    let measured = runtime.expect("threads").block_on(run(&serving, token.trim(), &state, agents, idle));
    is_whole_in_the_repository(&kit, agents);
    measured
}

async fn run(serving: &Serving, token: &str, state: &Path, agents: usize, idle: Duration) -> Measured {
    let coordinator = Watched(serving.child.id());
    let connection = Connection::new(&serving.url, Some(token)).expect("an address");
    let start = |number: usize| Member::start(&serving.url, token, format!("agent-{number:05}"), state, pace(number));
    // what the first of all agents costs is not what one more does
    start(0).await.end().await;
    let before = coordinator.memory();
    let members: Vec<Member> = stream::iter(0..agents).map(start).buffer_unordered(STARTING).collect().await;
    all_protect(&connection, agents).await;
    let at_rest = coordinator.cpu();
    tokio::time::sleep(idle).await;
    let idle = (coordinator.cpu() - at_rest).as_secs_f64() / idle.as_secs_f64();
    let (resting, cpu, began) = (coordinator.memory(), coordinator.cpu(), Instant::now());
    let snapshot = snapshot(&connection).await;
    let (answered, cpu) = (Instant::now(), coordinator.cpu() - cpu);
    has_all(&snapshot, &members);
    let memory = [before, resting, coordinator.memory(), coordinator.peak()];
    let heard: Vec<Heard> = members.iter().map(Member::heard).collect();
    let (prepare, cut) = (first(&heard, |heard| heard.prepare), first(&heard, |heard| heard.cut));
    let (goes, sealed) = (last(&heard, |heard| heard.goes), last(&heard, |heard| heard.sealed.map(|(at, _)| at)));
    let slowest = |part: fn(&Pace) -> Duration| members.iter().map(|member| part(&member.pace)).max().unwrap_or_default();
    let measured = Measured {
        agents,
        barrier: goes - prepare,
        own: slowest(|pace| pace.prepare) + slowest(|pace| pace.cut),
        cut: goes - cut,
        committed: answered - began,
        after_seal: answered - sealed,
        memory,
        idle,
        cpu,
    };
    stream::iter(members).for_each_concurrent(STARTING, Member::end).await;
    measured
}

fn first(heard: &[Heard], when: impl Fn(&Heard) -> Option<Instant>) -> Instant {
    heard.iter().map(|heard| when(heard).expect("all were told")).min().expect("agents")
}

fn last(heard: &[Heard], when: impl Fn(&Heard) -> Option<Instant>) -> Instant {
    heard.iter().map(|heard| when(heard).expect("all were told")).max().expect("agents")
}

/// Different for each, and the same in each run.
fn pace(number: usize) -> Pace {
    let chance = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let between = |(least, most): (u64, u64), chance: u64| Duration::from_millis(least + chance % (most - least + 1));
    Pace { prepare: between(PREPARE_MS, chance), cut: between(CUT_MS, chance >> 8) }
}

/// Waits until the coordinator knows that so many agents protect their states.
async fn all_protect(connection: &Connection, agents: usize) {
    let began = Instant::now();
    loop {
        let mut client = LineageServiceClient::new(connection.channel()).max_decoding_message_size(64 << 20);
        let (mut protecting, mut token) = (0, String::new());
        loop {
            let request = ListLineagesRequest { page_token: token, page_size: 1000, ..ListLineagesRequest::default() };
            let page = client.list_lineages(connection.request(request)).await.expect("a page").into_inner();
            let live = |lineage: &&v1::Lineage| lineage.live.as_ref().is_some_and(|live| live.phase() == v1::Phase::Streaming);
            protecting += page.lineages.iter().filter(live).count();
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        if protecting >= agents {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "only {protecting} of {agents} protect their states");
    }
}

async fn snapshot(connection: &Connection) -> Snapshot {
    let mut request = connection.request(CreateSnapshotRequest { name: "all".to_owned(), ..CreateSnapshotRequest::default() });
    request.set_timeout(PATIENCE);
    let mut client = SnapshotServiceClient::new(connection.channel()).max_decoding_message_size(64 << 20);
    client.create_snapshot(request).await.expect("a snapshot").into_inner()
}

/// The snapshot has every agent's lineage, each with the checkpoint that its agent gave in the barrier.
fn has_all(snapshot: &Snapshot, members: &[Member]) {
    let given = members.iter().map(|member| (member.name.clone(), member.heard().sealed.map(|(_, sequence)| sequence)));
    let found = snapshot.members.iter().map(|member| {
        let checkpoint = member.checkpoint.as_ref().expect("a checkpoint");
        (checkpoint.lineage.clone().expect("a lineage").lineage, Some(checkpoint.sequence).filter(|_| member.flushed))
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), given.collect(), "each member's checkpoint is the one that its agent gave");
    assert_eq!(snapshot.members.len(), members.len());
}

/// It is there for whoever reads the repository without the coordinator, too.
fn is_whole_in_the_repository(kit: &Kit, agents: usize) {
    let shown = kit.json(&["snapshot", "show", "all"]).json();
    assert_eq!(shown["members"].as_array().map(Vec::len), Some(agents), "members in the repository");
}
