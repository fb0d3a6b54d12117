// SPDX-License-Identifier: Apache-2.0
//! The agent's process in a pod, and the two small ones beside it.

use clap::{Parser, Subcommand};
use holdfast_agent::pod;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Keeps a pod's state: it is told everything by its environment.
#[derive(Debug, Parser)]
#[command(name = "holdfast-agent", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Restore the pod's state, let its application start, and protect it until told to end
    Serve,
    /// Write states into a volume, and end
    Deliver,
    /// Wait until the application may start
    Gate,
    /// Tell the agent that the pod is being ended
    Stopping,
    /// Let the application go on when its rest is over or the agent is gone: the agent starts this
    #[command(hide = true)]
    Keeper,
}

/// Work that blocks has threads of its own; these are for opening a lineage and for looking names up.
const BLOCKING_THREADS: usize = 2;

fn main() {
    let line = Line::parse();
    if matches!(line.command, Command::Keeper) {
        return kept(holdfast_agent::quiesce::keep());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let ended = match &runtime {
        Ok(runtime) => runtime.block_on(run(line.command)),
        Err(error) => Err(anyhow::anyhow!("start: {error}")),
    };
    let code = match ended {
        Ok(()) => 0,
        Err(error) => {
            use std::io::Write;
            // nobody may be reading
            let _ = writeln!(std::io::stderr(), "holdfast-agent: {error:#}");
            1
        }
    };
    // what could not be ended in time may wait for the store still: it is left, and must not see the runtime go
    std::process::exit(code)
}

fn kept(kept: std::io::Result<()>) {
    use std::io::Write;
    if let Err(error) = kept {
        // nobody may be reading
        let _ = writeln!(std::io::stderr(), "holdfast-agent keeper: {error}");
        std::process::exit(1)
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve => {
            log();
            pod::serve().await
        }
        Command::Deliver => {
            log();
            Ok(holdfast_agent::delivery::deliver().await?)
        }
        // it has no runtime
        Command::Keeper => Ok(()),
        Command::Gate => pod::gate().await,
        Command::Stopping => {
            pod::stopping().await;
            Ok(())
        }
    }
}

/// To standard error, one line each; `HOLDFAST_LOG` says what, as in `holdfast_agent=debug`.
fn log() {
    let usual = || Targets::new().with_default(tracing::Level::INFO);
    let filter = std::env::var("HOLDFAST_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or_else(usual);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
}
