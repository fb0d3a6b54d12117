// SPDX-License-Identifier: Apache-2.0
//! `holdfast demo`: everything on one machine, in a minute: protect, lose, recover, prove.

use crate::exit::Exit;
use crate::output::{Output, note};
use anyhow::Context;
use clap::Args;
use holdfast_factoriser::cli::{MasterArgs, WorkerArgs};
use holdfast_factoriser::space::{DEFAULT_NUMBER, MAX_NUMBER};
use std::path::PathBuf;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod crew;
mod earlier;
mod meter;
mod narrator;
mod report;
mod stage;
mod story;

use narrator::Narrator;
use stage::Stage;
use story::Story;

/// See it work: a distributed program loses a node, and goes on where it was. Needs nothing but this program.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Workers of the example, a factoriser
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    workers: u32,
    /// The number that is factorised
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_NUMBER, value_parser = clap::value_parser!(u64).range(1000..=MAX_NUMBER))]
    number: u64,
    /// Candidates per second for each worker [default: the whole search takes about 40 seconds]
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// At the end leave everything running, to look around
    #[arg(long)]
    keep: bool,
    /// At the end leave the data where it is
    #[arg(long)]
    keep_data: bool,
    /// Where the data goes [default: a new directory for temporary files]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// How long the whole search takes, unless told otherwise.
const SEARCH_SECONDS: u64 = 40;

impl DemoArgs {
    fn rate(&self) -> u64 {
        let share = (self.number / u64::from(self.workers) / SEARCH_SECONDS).max(1);
        self.rate.unwrap_or(share)
    }
}

/// What asks the demo to stop.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Cancel-safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Shows it.
pub(crate) async fn run(args: DemoArgs, verbose: u8, out: &mut Output) -> anyhow::Result<Exit> {
    let mut interrupts = Interrupts::listen()?;
    let narrator = Narrator::new(out.is_json());
    let stage = tokio::select! {
        stage = Stage::build(args.directory.clone(), verbose) => stage?,
        () = interrupts.next() => return Ok(Exit::with(130)),
    };
    let mut story = Story::new(&args, &stage, narrator);
    let told = tokio::select! {
        told = story.tell() => Some(told),
        () = interrupts.next() => None,
    };
    let exit = match &told {
        None => {
            note("interrupted: the processes of the demo are being ended");
            Exit::with(130)
        }
        Some(Err(error)) => {
            story.show_logs();
            Exit::failed(&anyhow::anyhow!("the demo did not prove what it should: {error:#}"))
        }
        Some(Ok(())) => Exit::ok(),
    };
    if args.keep && matches!(told, Some(Ok(()))) {
        story.invite(&stage);
        interrupts.next().await;
    }
    story.end().await;
    if let Some(Ok(())) = told {
        story.report(&stage, out)?;
    }
    drop(story);
    if let Some(kept) = stage.strike(args.keep_data).await {
        note(&format!("the data is in {}", kept.display()));
    }
    Ok(exit)
}

/// One worker of the example; ends when whoever started it does.
pub(crate) async fn worker(args: WorkerArgs) -> anyhow::Result<Exit> {
    crew::die_with_parent()?;
    finished(args.run().await)
}

/// The master of the example; ends when whoever started it does.
pub(crate) async fn master(args: MasterArgs) -> anyhow::Result<Exit> {
    crew::die_with_parent()?;
    finished(args.run().await)
}

fn finished(result: Result<(), holdfast_factoriser::Error>) -> anyhow::Result<Exit> {
    match result {
        Ok(()) => Ok(Exit::ok()),
        Err(error) => {
            note(&error.to_string());
            Ok(Exit::with(error.exit_code()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn the_search_takes_about_as_long_whatever_is_searched() {
        for (line, seconds) in
            [(&["x"][..], 40.0), (&["x", "--workers", "1"], 40.0), (&["x", "--number", "1000003", "--workers", "2"], 40.0)]
        {
            let args = Line::parse_from(line).demo;
            let takes = args.number as f64 / (args.rate() * u64::from(args.workers)) as f64;
            assert!((takes - seconds).abs() < 1.0, "{line:?}: {takes}");
        }
        assert_eq!(Line::parse_from(["x", "--rate", "7"]).demo.rate(), 7);
    }
}
