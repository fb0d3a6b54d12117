// SPDX-License-Identifier: Apache-2.0
//! The program that is run: signals go to it, its exit code comes back.

use crate::allocator;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A program that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("can't run {program}: {source}")]
pub(crate) struct NotStarted {
    program: String,
    source: std::io::Error,
}

impl NotStarted {
    /// As shells have it.
    pub(crate) fn code(&self) -> u8 {
        if self.source.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    signals: Vec<(Signal, Stream)>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Its exit code, or 128 and the signal's number.
    pub(crate) code: u8,
}

/// Has this process killed when that one ends, which must be its parent.
///
/// # Errors
/// If the parent has ended already, or is another one.
pub(crate) fn die_with(parent: i32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("ask to die with the parent")?;
    let is_parent = rustix::process::getppid().is_some_and(|found| found.as_raw_nonzero().get() == parent);
    anyhow::ensure!(is_parent, "process {parent}, which this one should die with, is not its parent or has ended");
    Ok(())
}

/// Passed on. An interrupt from a terminal reaches the program by itself.
const PASSED: [(Signal, i32); 7] = [
    (Signal::TERM, 15),
    (Signal::INT, 2),
    (Signal::HUP, 1),
    (Signal::QUIT, 3),
    (Signal::USR1, 10),
    (Signal::USR2, 12),
    (Signal::WINCH, 28),
];

/// A signal so soon after the program's end is the one that ended it.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

impl Child {
    /// Starts a program with this one's standard streams. It inherits the lease, which says that it runs even when this process is killed.
    pub(crate) fn start(command: &[OsString], lease: OwnedFd) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("no program was given")?;
        let mut signals = Vec::new();
        for (passed, number) in PASSED {
            signals.push((passed, signal(SignalKind::from_raw(number)).context("listen to signals")?));
        }
        let mut command = tokio::process::Command::new(program);
        for variable in allocator::own_variables() {
            command.env_remove(variable);
        }
        let not_started = |source| NotStarted { program: program.to_string_lossy().into_owned(), source };
        let process = command.args(arguments).spawn().map_err(not_started)?;
        drop(lease); // no other process is to inherit it
        Ok(Self { process, signals })
    }

    /// Passes signals on until the program ends. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<Ended> {
        let from_terminal = std::io::stdin().is_terminal();
        loop {
            tokio::select! {
                status = self.process.wait() => {
                    let status = status.context("wait for the program")?;
                    let signalled = || status.signal().map_or(255, |signal| 128 + signal);
                    let code = status.code().unwrap_or_else(signalled);
                    return Ok(Ended { code: u8::try_from(code & 0xff).unwrap_or(255) });
                }
                passed = any(&mut self.signals) => {
                    let by_terminal = from_terminal && matches!(passed, Signal::INT | Signal::QUIT | Signal::WINCH);
                    let pid = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                    if let Some(pid) = pid.filter(|_| !by_terminal) {
                        let _ = kill_process(pid, passed); // it may have just ended
                    }
                }
            }
        }
    }
}

/// Somebody wants this process to end, once the program has ended. The signal that ended the program may have come to both, and a little later here.
pub(crate) async fn interrupted() -> anyhow::Result<()> {
    tokio::time::sleep(SAME_SIGNAL).await;
    let mut signals = Vec::new();
    for (passed, number) in PASSED.into_iter().filter(|(passed, _)| [Signal::TERM, Signal::INT, Signal::HUP].contains(passed)) {
        signals.push((passed, signal(SignalKind::from_raw(number)).context("listen to signals")?));
    }
    any(&mut signals).await;
    Ok(())
}

/// The next signal of any kind.
async fn any(signals: &mut [(Signal, Stream)]) -> Signal {
    std::future::poll_fn(|context| {
        for (passed, stream) in signals.iter_mut() {
            if stream.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*passed);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
