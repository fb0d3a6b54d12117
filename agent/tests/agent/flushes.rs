// SPDX-License-Identifier: Apache-2.0
//! What a flush promises: the checkpoint that it names holds everything that was dirty when it was asked for.

use crate::kit::{Lab, in_time, until};
use holdfast_s3_server::Fault;
use http::Method;
use std::fs;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_is_under_way_does_not_count() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    agent.flush().await;
    let (records, _) = lab.puts();
    lab.script.nth(Method::PUT, &lab.records(), 1, Fault::Delay(Duration::from_millis(500)));
    fs::write(lab.path("state/first"), b"1").expect("a file");
    // its capture has read the disk and is being committed
    until(|| lab.puts().0 > records).await;
    fs::write(lab.path("state/second"), b"2").expect("a file");
    let asked = agent.ask().await;
    let flushed = in_time(asked).await.expect("an answer").expect("durable");
    let (_, files) = lab.restored(flushed.sequence).await;
    assert!(files.contains_key("second"), "checkpoint {} holds {:?}", flushed.sequence, files.keys());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_without_changes_names_the_newest_checkpoint() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    fs::write(lab.path("state/file"), b"content").expect("a file");
    let first = agent.flush().await;
    assert_eq!(agent.flush().await, first);
    agent.end().await;
    let agent = lab.agent().await;
    assert_eq!(agent.flush().await, first, "also after a restart");
    assert_eq!(agent.status.borrow().checkpoint, Some(first));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_noise_is_flushed_all_the_same() {
    let lab = Lab::start().await;
    let mut config = lab.config();
    config.watches_max = 1;
    fs::create_dir_all(lab.path("state/deaf")).expect("a directory");
    let agent = lab.try_agent(config).await.expect("an agent");
    agent.flush().await;
    fs::write(lab.path("state/deaf/file"), b"content").expect("a file");
    let flushed = agent.flush().await;
    assert_eq!(lab.restored(flushed.sequence).await.1["deaf/file"], b"content");
    agent.end().await;
}
