// SPDX-License-Identifier: Apache-2.0
//! The demo's processes. Each has a process group and a log of its own, and none outlives the demo.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A running process, and what it has started.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
}

/// Has this process killed when its parent ends.
pub(super) fn die_with_parent() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("ask to die with the parent")?;
    // it may have ended before, and then nobody will send the signal: whoever adopts orphans is another program
    let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
    let parent = rustix::process::getppid().and_then(|parent| program(&parent.as_raw_nonzero().to_string()));
    anyhow::ensure!(parent.is_some() && parent == program("self"), "whoever started this process has ended");
    Ok(())
}

impl Process {
    /// Runs this very program with other arguments. Nothing of the user's configuration reaches it.
    pub(super) fn start(name: &str, arguments: Vec<OsString>, logs: &Path, verbose: u8) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if text.starts_with("HOLDFAST_") || text.starts_with("FACTORISER_") {
                command.env_remove(&variable);
            }
        }
        command.args((0..verbose).map(|_| "-v")).args(arguments);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).process_group(0).kill_on_drop(true);
        if verbose == 0 {
            command.stderr(file);
        }
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = group.with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name: name.to_owned(), child, group, log })
    }

    /// Kills it and everything it has started, as a lost node would. When this returns, they are gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        kill_process_group(self.group, Signal::KILL).with_context(|| format!("kill {}", self.name))?;
        self.child.wait().await.with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to end, and kills it if it takes too long.
    pub(super) async fn stop(&mut self, within: Duration) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let _ = kill_process(self.group, Signal::TERM); // it may be ending already
        if tokio::time::timeout(within, self.child.wait()).await.is_err() {
            tracing::warn!(process = %self.name, "did not end in time; killing it");
            let _ = self.kill().await;
        }
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| format!("{} ended ({status})", self.name))
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> Vec<String> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<_> = text.lines().rev().take(5).map(|line| format!("{}: {line}", self.name)).collect();
        lines.reverse();
        lines
    }
}

/// A port of this machine that is free now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
