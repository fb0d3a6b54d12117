// SPDX-License-Identifier: Apache-2.0
//! What a restart costs.

use crate::common::noise;
use crate::kit::Lab;
use holdfast_agent::AgentConfig;
use holdfast_core::cadence::Paces;
use rustix::fs::inotify;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

/// Two packs' worth of files that don't compress, in directories: small ones, which nobody maps.
fn fill(state: &Path) {
    let mut seed = 1_u64;
    for directory in 0..8 {
        fs::create_dir_all(state.join(format!("d{directory}"))).expect("a directory");
        for file in 0..88 {
            fs::write(state.join(format!("d{directory}/f{file}")), noise(12 << 10, &mut seed)).expect("a file");
        }
    }
}

/// Hears of files that are opened or read beneath these directories.
struct Spy(rustix::fd::OwnedFd);

impl Spy {
    fn on(state: &Path) -> Self {
        let spy = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).expect("inotify");
        for directory in fs::read_dir(state).expect("a directory") {
            let path = directory.expect("an entry").path();
            inotify::add_watch(&spy, &path, inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS).expect("watched");
        }
        Self(spy)
    }

    fn opened(&self) -> Vec<String> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut opened = Vec::new();
        while let Ok(event) = reader.next() {
            let is_directory = event.events().contains(inotify::ReadFlags::ISDIR);
            opened.extend(event.file_name().filter(|_| !is_directory).map(|name| name.to_string_lossy().into_owned()));
        }
        opened
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_changed_is_neither_read_nor_stored_again() {
    let lab = Lab::start().await;
    fill(&lab.path("state"));
    let spy = Spy::on(&lab.path("state"));
    let agent = lab.agent().await;
    let first = agent.flush().await;
    agent.end().await;
    assert!(spy.opened().len() >= 128, "the spy hears: every file was read once");
    let (records, packs) = lab.puts();
    assert!(packs >= 1, "so much goes to packs");
    let agent = lab.agent().await;
    let again = agent.flush().await;
    agent.end().await;
    assert_eq!(again, first, "the state is the same, and so is its checkpoint");
    assert_eq!(spy.opened(), Vec::<String>::new());
    assert_eq!(lab.puts(), (records + 2, packs), "a claim and a seal, nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_scratch_space_costs_no_upload() {
    let lab = Lab::start().await;
    fill(&lab.path("state"));
    let agent = lab.agent().await;
    let first = agent.flush().await;
    agent.end().await;
    let (records, packs) = lab.puts();
    fs::remove_dir_all(lab.path("scratch")).expect("lost");
    // captured when it is asked to, and not at the same moment by itself as well, which would be another checkpoint
    let never = Duration::from_secs(3600);
    let paces = Paces { settle: never, quiet: never, limit: never, scan: never };
    let agent = lab.try_agent(AgentConfig { paces, ..lab.config() }).await.expect("an agent");
    assert_eq!(agent.flush().await, first);
    // in one step: an emptied file that is not written yet may be a checkpoint of its own
    fs::write(lab.path("changed"), b"changed").expect("a file");
    fs::rename(lab.path("changed"), lab.path("state/d0/f0")).expect("renamed");
    agent.flush().await;
    let status = agent.end().await;
    assert!(status.uploaded_bytes < 12 << 10, "{} bytes for one small file", status.uploaded_bytes);
    assert_eq!(lab.puts(), (records + 3, packs), "a claim, a checkpoint and a seal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_comes_back_before_anything_may_start() {
    let lab = Lab::start().await;
    fill(&lab.path("state"));
    let agent = lab.agent().await;
    agent.flush().await;
    agent.end().await;
    let was = crate::common::files(&lab.path("state"));
    fs::remove_dir_all(lab.path("state")).expect("lost");
    let (_, packs) = lab.puts();
    let agent = lab.agent().await;
    let restored = agent.restored.as_ref().expect("restored");
    assert_eq!(restored.root, restored.root_on_disk);
    assert!(crate::common::files(&lab.path("state")) == was, "every file is as it was");
    agent.flush().await;
    agent.end().await;
    assert_eq!(lab.puts().1, packs, "what was restored needs no upload");
}
