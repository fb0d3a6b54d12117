// SPDX-License-Identifier: Apache-2.0
//! The `holdfast` program.

mod allocator;
mod cat;
mod check;
mod cluster;
mod completions;
mod connection;
mod demo;
mod diff;
mod exit;
mod forget;
mod human;
mod lineages;
mod ls;
mod output;
mod point;
mod policy;
mod repo;
mod repository;
mod restore;
mod run;
mod serve;
mod snapshot;
mod table;
mod thread;
mod timeline;
mod view;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use exit::Exit;
use output::{Format, Output};
use std::process::ExitCode;

/// Protects the state of any program: streams what changes to S3, and gives back any second of it.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, max_term_width = 110, after_help = exit::HELP)]
struct Cli {
    /// Say more: -v what is done, -vv how (RUST_LOG decides in detail)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// The form of results
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t, global = true)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work on this machine alone, in about a minute
    Demo(demo::DemoArgs),
    /// Run a program and protect its state while it runs
    Run(run::RunArgs),
    /// List what is protected
    Lineages(lineages::LineagesArgs),
    /// List the checkpoints of a lineage, newest first
    Timeline(timeline::TimelineArgs),
    /// List the files of a lineage as they were
    Ls(ls::LsArgs),
    /// Write a file of a lineage, as it was, to standard output
    Cat(cat::CatArgs),
    /// Show what differs between two points in time
    Diff(diff::DiffArgs),
    /// Bring a lineage's files back as they were
    Restore(restore::RestoreArgs),
    /// Take, list and delete named sets of checkpoints
    Snapshot(snapshot::SnapshotArgs),
    /// Check that everything that can be restored is there and undamaged
    Check(check::CheckArgs),
    /// Delete checkpoints that are no longer wanted, and what only they needed
    Forget(forget::ForgetArgs),
    /// Create repositories, look at them, change their passphrases, collect what nothing reaches
    Repo(repository::RepositoryArgs),
    /// Serve a repository to agents and to this program
    Coordinator(serve::CoordinatorArgs),
    /// Bring workloads of a Kubernetes cluster back, and take snapshots of them, by their names there
    Kube(cluster::KubeArgs),
    /// Say what is wrong with policies, and what they mean, without a cluster
    Policy(policy::PolicyArgs),
    /// Write completions for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual page
    Man(completions::ManArgs),
    /// Let the program go on when its rest is over or the agent is gone: `run` starts this
    #[command(hide = true)]
    Keeper,
    /// A worker of the demo
    #[command(hide = true)]
    FactoriserWorker(holdfast_factoriser::cli::WorkerArgs),
    /// The master of the demo
    #[command(hide = true)]
    FactoriserMaster(holdfast_factoriser::cli::MasterArgs),
}

fn main() -> ExitCode {
    let mut words = without_empty(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches_mut(&mut words).unwrap_or_else(|error| error.exit());
    if matches!(cli.command, Command::Keeper) {
        // it must do without anything that could hold it up
        let kept = holdfast_agent::quiesce::keep();
        return exit::finish(kept.map_or_else(|error| Exit::failed(&error.into()), |()| Exit::ok()));
    }
    start_logging(cli.verbose);
    if matches!(cli.command, Command::Run(_) | Command::Restore(_)) {
        allocator::settle();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(command(cli.command, cli.verbose, &mut Output::new(cli.output)))),
        Err(error) => Err(anyhow::Error::from(error).context("start the runtime")),
    };
    exit::finish(result.unwrap_or_else(|error| Exit::failed(&error)))
}

/// A variable that is empty says nothing, as one that is not set.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let plain = command.mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(None) } else { arg });
    plain.mut_subcommands(without_empty)
}

async fn command(command: Command, verbose: u8, out: &mut Output) -> anyhow::Result<Exit> {
    match command {
        Command::Demo(args) => Box::pin(demo::run(args, verbose, out)).await,
        Command::FactoriserWorker(args) => Box::pin(demo::worker(args)).await,
        Command::FactoriserMaster(args) => Box::pin(demo::master(args)).await,
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Lineages(args) => Box::pin(lineages::run(args, out)).await,
        Command::Timeline(args) => Box::pin(timeline::run(args, out)).await,
        Command::Ls(args) => Box::pin(ls::run(args, out)).await,
        Command::Cat(args) => Box::pin(cat::run(args, out)).await,
        Command::Diff(args) => Box::pin(diff::run(args, out)).await,
        Command::Restore(args) => Box::pin(restore::run(args, out)).await,
        Command::Snapshot(args) => Box::pin(snapshot::run(args, out)).await,
        Command::Check(args) => Box::pin(check::run(args, out)).await,
        Command::Forget(args) => Box::pin(forget::run(args, out)).await,
        Command::Repo(args) => Box::pin(repository::run(args, out)).await,
        Command::Coordinator(args) => Box::pin(serve::run(args, out)).await,
        Command::Kube(args) => Box::pin(cluster::run(args, out)).await,
        Command::Policy(args) => policy::run(args, out),
        Command::Completions(args) => completions::completions::<Cli>(&args, out),
        Command::Keeper => Ok(Exit::ok()),
        Command::Man(args) => completions::man::<Cli>(&args, out),
    }
}

fn start_logging(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        // s3s, the demo's S3 server, calls every refusal an error, also those that creations go by; what the AWS SDK tried comes with its error
        0 => "warn,aws=error,s3s=off",
        1 => "info,aws=warn,hyper=warn,s3s=off",
        _ => "debug,aws=info,hyper=info,h2=info,s3s=off",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::shows_progress())
        .with_target(false)
        .init();
}
