// SPDX-License-Identifier: Apache-2.0
//! Whose disk is this: what an agent refuses.

use crate::kit::{Lab, in_time};
use holdfast_agent::{AgentError, marker};
use holdfast_core::disk::{Marker, MarkerState, Refusal};
use holdfast_core::id::{LineageId, VolumeId};
use holdfast_store::disk::Dir;
use std::fs;

/// A state that was protected, with its marker changed.
async fn marked(change: impl FnOnce(Marker) -> Marker) -> (Lab, Refusal) {
    let lab = Lab::start().await;
    fs::create_dir_all(lab.path("state")).expect("a directory");
    fs::write(lab.path("state/file"), b"content").expect("a file");
    let agent = lab.agent().await;
    agent.flush().await;
    agent.end().await;
    let dir = Dir::open_root(&lab.path("state")).expect("a directory");
    let found = marker::read(&dir).expect("readable").expect("marked");
    marker::write(&dir, &change(found)).expect("written");
    let puts = lab.puts();
    let refused = lab.try_agent(lab.config()).await.map(|_| ()).expect_err("refused");
    assert_eq!(lab.puts(), puts, "nothing is claimed for a disk that a person must decide about");
    match refused {
        AgentError::Refused(refusal) => (lab, refusal),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_interrupted_restore_is_no_state() {
    let (lab, refusal) = marked(|marker| Marker { state: MarkerState::Restoring(2), ..marker }).await;
    assert!(matches!(refusal, Refusal::HalfRestored { sequence: 2, .. }), "{refusal}");
    // it is finished when that is asked for
    fs::write(lab.path("state/file"), b"half of the cont").expect("a file");
    let mut config = lab.config();
    config.choices.resume = true;
    let agent = lab.try_agent(config).await.expect("resumed");
    let restored = agent.restored.as_ref().expect("restored");
    assert_eq!(restored.root, restored.root_on_disk);
    assert_eq!(fs::read(lab.path("state/file")).expect("a file"), b"content");
    agent.end().await;
}

/// An unmounted volume leaves an empty directory behind, which is no empty state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_exchanged_is_not_captured_and_the_status_says_so() {
    let lab = Lab::start().await;
    let mut agent = lab.agent().await;
    fs::write(lab.path("state/file"), b"content").expect("a file");
    let last = agent.flush().await;
    fs::rename(lab.path("state"), lab.path("away")).expect("moved");
    fs::create_dir(lab.path("state")).expect("an empty one");
    let refused = in_time(agent.ask().await).await.expect("an answer").expect_err("not captured");
    assert!(refused.contains("another directory"), "{refused}");
    let status = agent.until(|status| status.trouble.is_some()).await;
    assert_eq!((status.trouble, status.checkpoint), (Some(refused), Some(last)));
    fs::remove_dir(lab.path("state")).expect("gone");
    fs::rename(lab.path("away"), lab.path("state")).expect("moved back");
    fs::write(lab.path("state/more"), b"content").expect("a file");
    let flushed = agent.flush().await;
    assert_eq!(lab.restored(flushed.sequence).await.1.len(), 2);
    agent.until(|status| status.trouble.is_none()).await;
    agent.end().await;
}

#[tokio::test]
async fn another_lineages_directory_stays_its_own() {
    let (_, refusal) = marked(|marker| Marker { lineage: LineageId::new([9; 16]), ..marker }).await;
    assert!(matches!(refusal, Refusal::OtherLineage { .. }), "{refusal}");
}

#[tokio::test]
async fn a_disk_that_the_store_has_left_behind_is_not_captured_over_it() {
    let (_, refusal) = marked(|marker| Marker { volume: VolumeId::new([9; 16]), ..marker }).await;
    assert!(matches!(refusal, Refusal::Diverged { .. }), "{refusal}");
}
