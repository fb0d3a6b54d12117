// SPDX-License-Identifier: Apache-2.0
//! `holdfast run`: any program on any machine, protected.

use crate::exit::Exit;
use crate::human::took;
use crate::output::note;
use anyhow::Context;
use clap::Args;
use holdfast_agent::{Command, Prepared, Status, prepare, rests_alone};
use holdfast_core::checkpoint::Quality;
use holdfast_store::restore::Progress;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

mod child;
mod place;
mod receipt;
mod settings;

pub(crate) use child::NotStarted;
pub(crate) use receipt::Receipt;
pub(crate) use settings::{holder, owner};

/// Whoever waits longer for the last capture is told what for.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// Run a program and protect its state while it runs.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A directory that is state; give it as LABEL=DIR to name it
    #[arg(long = "state", value_name = "DIR", required = true)]
    states: Vec<String>,
    /// The name of this state's history [default: made of the first directory's path]
    #[arg(long, env = "HOLDFAST_LINEAGE", value_name = "NAME")]
    lineage: Option<String>,
    /// What shares keys
    #[arg(long, env = "HOLDFAST_DOMAIN", value_name = "NAME", default_value = "default")]
    domain: String,
    /// What of the directories is state: globs [default: everything]
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// What is not
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// An automatic restore may take a checkpoint during whose capture something changed: its files may be of different moments
    #[arg(long)]
    accept_fuzzy: bool,
    /// Take the lineage over from a holder that didn't close it, or from another machine
    #[arg(long)]
    take_over: bool,
    /// Keep what the disk holds, whatever the repository says
    #[arg(long)]
    adopt_disk: bool,
    /// Finish a restore that was interrupted
    #[arg(long)]
    resume: bool,
    /// Start on an empty directory even if the repository holds a state
    #[arg(long)]
    no_restore: bool,
    /// Restore set-id bits, file capabilities and devices, too
    #[arg(long)]
    special: bool,
    /// Scratch space; losing it costs time only [default: the user's cache directory]
    #[arg(long, env = "HOLDFAST_SCRATCH", value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Who owns lineages that are begun here; the same on machines that may replace each other [default: this machine]
    #[arg(long, env = "HOLDFAST_OWNER", value_name = "NAME")]
    owner: Option<String>,
    /// Don't clone large files to find what changed in them (XFS and btrfs): read them instead
    #[arg(long)]
    no_reflink: bool,
    /// While changes go on, capture at least so often, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS")]
    every: Option<f64>,
    /// Stop the program and all that it starts for the moment of a snapshot, so that many programs are captured at one moment
    #[arg(long)]
    freeze: bool,
    /// Stop it at every checkpoint, too: each is then one moment, as a loss of power would leave it
    #[arg(long, requires = "freeze")]
    every_checkpoint: bool,
    /// It goes on after so long, whatever has been captured
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, requires = "freeze")]
    pause_budget: f64,
    /// Write what was restored, and the proof of it, to this file as JSON
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The process to die with
    #[arg(long, value_name = "PID", hide = true)]
    die_with: Option<i32>,
    /// Seconds for the last capture after the program has ended [default: 60; 3600 while there is no whole checkpoint yet]
    #[arg(long, value_name = "SECONDS")]
    end_within: Option<u64>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    // the last, since its headings are those of whatever follows
    #[command(flatten)]
    place: place::PlaceArgs,
}

/// Runs it.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<Exit> {
    if let Some(parent) = args.die_with {
        child::die_with(parent)?;
    }
    let mut config = settings::config(&args)?;
    let quiescing = settings::quiescing(&args)?;
    let place = args.place.open(&args.domain, &mut config).await?;
    let (status, seen) = watch::channel(Status::default());
    let last = seen.clone();
    let (commands, asked) = mpsc::channel(4);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let mut sessions = JoinSet::new();
    let rests = match place.session {
        Some(session) => {
            let (session, rests) = session.quiescing(quiescing);
            let serving = session.serve(seen, commands.clone(), stopped);
            sessions.spawn(async move { drop(serving.await) });
            rests
        }
        None => rests_alone(quiescing, stopped).map(|(rests, serving)| {
            sessions.spawn(serving);
            rests
        }),
    };
    let prepared = prepare(config, place.transport, place.domain, status, Arc::new(Progress::default())).await;
    let ended = match prepared {
        Ok(prepared) => Box::pin(supervise(args, prepared.resting(rests), commands, asked, last)).await,
        Err(error) => Err(error.into()),
    };
    drop(stop);
    while sessions.join_next().await.is_some() {}
    ended
}

/// The program and its agent, side by side, until the program ends.
async fn supervise(
    args: RunArgs,
    prepared: Prepared,
    commands: mpsc::Sender<Command>,
    asked: mpsc::Receiver<Command>,
    status: watch::Receiver<Status>,
) -> anyhow::Result<Exit> {
    if let Some(restored) = &prepared.restored {
        note(&receipt::line(restored));
        for deviation in &restored.deviations {
            tracing::warn!(path = %holdfast_store::disk::display(&deviation.path), what = %deviation.what, "not restored as it was");
        }
        if let Some(path) = &args.receipt {
            receipt::write(path, restored).with_context(|| format!("write the receipt to {}", path.display()))?;
        }
    }
    let mut child = child::Child::start(&args.command, prepared.agent.lease().context("keep the lock for the program")?)?;
    let mut agent = std::pin::pin!(prepared.agent.run(asked));
    let ended = tokio::select! {
        ended = child.wait() => ended?,
        result = &mut agent => {
            // the application goes on; whoever runs it must know that it is alone
            let error = result.err().map_or_else(|| anyhow::anyhow!("the agent has ended"), anyhow::Error::from);
            tracing::error!(error = %format!("{error:#}"), "THE STATE IS NO LONGER PROTECTED");
            let ended = child.wait().await?;
            return Ok(if ended.code == 0 { Exit::failed(&error) } else { Exit::with(ended.code) });
        }
    };
    let within = args.end_within.map_or_else(|| end_within(&status.borrow()), Duration::from_secs);
    commands.send(Command::End(within)).await.ok();
    let (mut told, mut interrupted) = (std::pin::pin!(tokio::time::sleep(TOLD_AFTER)), std::pin::pin!(child::interrupted()));
    loop {
        tokio::select! {
            captured = &mut agent => {
                captured.context("capture the last changes")?;
                return Ok(Exit::with(ended.code));
            }
            () = &mut told, if !told.is_elapsed() => {
                note(&format!("the program has ended; its last changes are being captured, for at most {}", took(within)));
            }
            interrupted = &mut interrupted => {
                interrupted?;
                tracing::error!("interrupted: THE LAST CHANGES ARE NOT CAPTURED; they are on the disk, and the next run goes on from there");
                return Ok(Exit::with(ended.code));
            }
        }
    }
}

/// The last capture has this long, if nobody says how long. The first of all may be long, and what it has read is worth waiting for.
fn end_within(status: &Status) -> Duration {
    let is_whole = status.checkpoint.is_some_and(|checkpoint| checkpoint.quality != Quality::Partial);
    if is_whole { Duration::from_secs(60) } else { Duration::from_secs(3600) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_capture_has_more_time() {
        assert_eq!(end_within(&Status::default()), Duration::from_secs(3600));
    }
}
