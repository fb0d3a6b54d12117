// SPDX-License-Identifier: Apache-2.0
//! The `holdfast` program.

mod exit;
mod repo;
mod run;

use clap::{Parser, Subcommand};
use exit::Exit;
use std::process::ExitCode;

/// Protects the state of any program: streams what changes to S3, and gives back any second of it.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    /// Say more: -v what is done, -vv how (RUST_LOG decides in detail)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a program and protect its state while it runs
    Run(run::RunArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match cli.command {
                Command::Run(args) => run::run(args).await,
            }
        }),
        Err(error) => Err(anyhow::Error::from(error).context("start the runtime")),
    };
    exit::finish(result.unwrap_or_else(|error| Exit::failed(&error)))
}

fn start_logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "warn",
        1 => "info,aws=warn,hyper=warn",
        _ => "debug,aws=info,hyper=info,h2=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
