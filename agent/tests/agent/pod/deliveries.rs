// SPDX-License-Identifier: Apache-2.0
//! States that are written into volumes, and nothing else.

use crate::common::files;
use crate::pod::kit::World;
use holdfast_agent::delivery::{DeliveryError, Settings, write};
use holdfast_agent::marker;
use holdfast_core::delivery::{Delivery, Parcel, Reason, Report};
use holdfast_core::disk::MarkerState;
use holdfast_store::disk::Dir;
use std::fs;
use std::path::PathBuf;

/// What a pod is told that writes a checkpoint into a volume.
fn settings(world: &World, volume: &str, sequence: u64, directory: &str, paths: &[&str]) -> Settings {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let parcel = Parcel { lineage: "statefulset-web-0".to_owned(), sequence, directory: directory.to_owned(), paths };
    let directory = world.path(volume);
    fs::create_dir_all(&directory).expect("a directory");
    Settings {
        delivery: Delivery { version: Delivery::VERSION, restore: "r1".to_owned(), owners: true, parcels: vec![parcel] },
        directory,
        coordinator: format!("https://localhost:{}", world.address.port()),
        authorities: world.path("ca.crt"),
        token: world.path("token"),
        termination_log: world.path("last-word"),
    }
}

/// A world whose state was captured; the number of the checkpoint.
async fn captured() -> (World, u64) {
    let mut world = World::new().await;
    fs::create_dir_all(world.file("etc")).expect("a directory");
    for (name, body) in [("etc/app.conf", "a = 1"), ("etc/more.conf", "b = 2"), ("progress", "41")] {
        fs::write(world.file(name), body).expect("a file");
    }
    let pod = world.pod();
    let (mut gate, agent) = (pod.gate(), pod.agent());
    assert!(gate.ended().await.success());
    world.caught_up().await;
    assert!(agent.term().await.success());
    let sequence = pod.receipt().checkpoint;
    (world, sequence)
}

fn reason(refused: Result<(), DeliveryError>) -> Option<Reason> {
    match refused {
        Err(DeliveryError::Refused(refused)) => Some(refused.reason),
        _ => None,
    }
}

fn names(directory: PathBuf) -> Vec<String> {
    files(&directory).into_keys().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_gets_the_state_and_proves_it() {
    let (world, sequence) = captured().await;
    let (settings, mut report) = (settings(&world, "volume", sequence, "", &[]), Report::default());
    write(&settings, &mut report).await.expect("written");
    assert_eq!(files(&world.path("volume")), world.state());
    let delivered = &report.delivered[0];
    assert!(delivered.root.len() == 64 && delivered.deviations == 0 && delivered.bytes == 12, "{report:?}");
    let dir = Dir::open_root(&world.path("volume")).expect("a directory");
    assert_eq!(marker::read(&dir).expect("readable"), None, "nothing of ours stays but the files");
    let mut other = settings.clone();
    other.delivery.restore = "r2".to_owned();
    assert_eq!(reason(write(&other, &mut Report::default()).await), Some(Reason::ClaimNotEmpty), "it is full now");
    // the pod's last word may be lost: the next one says the same, and writes nothing
    let mut again = Report::default();
    write(&settings, &mut again).await.expect("it is there");
    assert_eq!((&again.delivered[0].root, again.delivered[0].bytes), (&delivered.root, delivered.bytes));
    fs::write(world.path("volume/progress"), b"in use").expect("a file");
    assert_eq!(reason(write(&settings, &mut Report::default()).await), Some(Reason::NotAsItWas));
    assert_eq!(fs::read(world.path("volume/progress")).expect("a file"), b"in use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chosen_files_come_alone() {
    let (world, sequence) = captured().await;
    let mut report = Report::default();
    let one = settings(&world, "one", sequence, "", &["data/etc/app.conf"]);
    write(&one, &mut report).await.expect("written");
    assert_eq!(names(world.path("one")), ["etc/app.conf"]);
    assert_eq!((report.delivered[0].root.as_str(), report.delivered[0].deviations), ("", 0), "compared");
    let below = settings(&world, "below", sequence, "statefulset-web-0", &["data/etc"]);
    write(&below, &mut Report::default()).await.expect("written");
    assert_eq!(names(world.path("below")), ["statefulset-web-0/etc/app.conf", "statefulset-web-0/etc/more.conf"]);
    for path in ["data/none", "logs/app.conf", "data/../etc"] {
        let settings = settings(&world, "none", sequence, "", &[path]);
        assert_eq!(reason(write(&settings, &mut Report::default()).await), Some(Reason::PathNotFound), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_pod_has_begun_the_next_goes_on_with_and_nobody_elses_files_are_touched() {
    let (world, sequence) = captured().await;
    let settings = settings(&world, "volume", sequence, "", &[]);
    // a pod that ends before it may read: the volume says whose it is
    let token = fs::read_to_string(world.path("token")).expect("a token");
    world.shared.rules.send_modify(|rules| rules.tokens.clear());
    let dir = Dir::open_root(&world.path("volume")).expect("a directory");
    let begun = async {
        while marker::read(&dir).ok().flatten().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let mut report = Report::default();
    tokio::select! {
        ended = write(&settings, &mut report) => panic!("it can't have read: {ended:?}"),
        () = begun => {}
    }
    let state = marker::read(&dir).expect("readable").expect("a marker").state;
    assert!(matches!(state, MarkerState::Restoring(_)), "no agent takes it for whole");
    // and it has left half a file, and one that is too many
    fs::write(world.path("volume/progress"), b"4").expect("a file");
    fs::write(world.path("volume/left"), b"over").expect("a file");
    let mut other = settings.clone();
    other.delivery.restore = "r2".to_owned();
    assert_eq!(reason(write(&other, &mut Report::default()).await), Some(Reason::ClaimNotEmpty), "another restore's");
    world.shared.rules.send_modify(|rules| rules.tokens = [token].into());
    write(&settings, &mut Report::default()).await.expect("written");
    assert_eq!(files(&world.path("volume")), world.state());
}
