// SPDX-License-Identifier: Apache-2.0
//! Files that the agent may not read.

use crate::kit::Lab;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

/// The superuser may read whatever the mode says: this thread, and those that it starts, are as any other user then.
fn heed_modes() {
    let may_ignore = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let mut sets = capabilities(None).expect("what it may");
    sets.effective.remove(may_ignore);
    set_capabilities(None, sets).expect("it may do less");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn what_may_not_be_read_is_told_until_it_may() {
    let test = || {
        heed_modes();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(told_until_it_may());
    };
    thread::spawn(test).join().expect("it holds");
}

async fn told_until_it_may() {
    let lab = Lab::start().await;
    fs::create_dir_all(lab.path("state/private")).expect("a directory");
    let (key, other) = (lab.path("state/private/key"), lab.path("state/other"));
    fs::write(&key, b"first").expect("a file");
    let mut agent = lab.agent().await;
    agent.flush().await;
    let well = agent.until(|status| status.checkpoint.is_some()).await;
    assert_eq!(well.problems, None);

    let mut open = fs::File::options().write(true).open(&key).expect("a file");
    mode(&key, 0o000);
    open.write_all(b"second").expect("bytes");
    let told = agent.until(|status| status.problems.is_some()).await.problems.expect("told");
    assert_eq!((told.count, &told.path), (1, &key));
    assert!(told.what.contains("Permission denied"), "{told:?}");
    // a capture of something else does not forget it, and its checkpoint counts it
    fs::write(&other, b"other").expect("a file");
    let still = agent.until(|status| status.totals.files == 2 && status.oldest.is_none()).await;
    assert_eq!((still.problems.as_ref(), still.totals.problems), (Some(&told), 1));
    let (_, files) = lab.restored(0).await;
    assert_eq!(
        (&files["private/key"][..], &files["other"][..]),
        (&b"first"[..], &b"other"[..]),
        "what was captured of it before stays"
    );

    mode(&key, 0o600);
    agent.until(|status| status.problems.is_none()).await;
    let last = agent.flush().await;
    assert_eq!(lab.restored(last.sequence).await.1["private/key"], b"second");

    // a directory, of which nothing was captured yet
    let closed = lab.path("state/closed");
    fs::create_dir(&closed).expect("a directory");
    fs::write(closed.join("inner"), b"inner").expect("a file");
    mode(&closed, 0o000);
    let told = agent.until(|status| status.problems.is_some()).await.problems.expect("told");
    assert_eq!((told.count, &told.path), (1, &closed));
    mode(&closed, 0o700);
    agent.until(|status| status.problems.is_none()).await;
    let last = agent.flush().await;
    assert_eq!(lab.restored(last.sequence).await.1["closed/inner"], b"inner");
    agent.end().await;
}
