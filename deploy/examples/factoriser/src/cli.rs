// SPDX-License-Identifier: Apache-2.0
//! The command line. Every option has an environment variable too, for containers.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::Error;
use crate::master::{self, MasterConfig, worker_urls};
use crate::space::{DEFAULT_NUMBER, MAX_NUMBER, MAX_WORKERS};
use crate::worker::{self, WorkerConfig};

/// A distributed factoriser: workers search a factor of a number by trying every candidate, a master adds up.
///
/// Exit codes: 0 stopped as asked (SIGTERM, SIGINT); 1 failed; 2 called wrongly; 3 the state directory is in use or belongs
/// to another number; 4 the address can't be listened on.
#[derive(Debug, Parser)]
#[command(name = "factoriser", version)]
pub struct Cli {
    /// What to be.
    #[command(subcommand)]
    pub command: Command,
}

/// What to be.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Search a share of the candidates, with progress kept in a state directory.
    Worker(WorkerArgs),
    /// Ask the workers and answer for all of them.
    Master(MasterArgs),
}

/// The number, for both.
#[derive(Debug, Clone, Args)]
pub struct NumberArgs {
    /// The number whose factors are searched.
    #[arg(long, env = "FACTORISER_NUMBER", default_value_t = DEFAULT_NUMBER, value_parser = numbers())]
    pub number: u64,
}

/// The options of a worker.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// The number.
    #[command(flatten)]
    pub number: NumberArgs,
    /// Which worker this is, from 0; without it, the ordinal at the end of the hostname, as in factoriser-2.
    #[arg(long, env = "FACTORISER_INDEX")]
    pub index: Option<u32>,
    /// How many workers share the work.
    #[arg(long, env = "FACTORISER_WORKERS", default_value_t = 3, value_parser = workers())]
    pub workers: u32,
    /// The directory for this worker's progress, made if it isn't there.
    #[arg(long, env = "FACTORISER_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// The address to listen on; 0.0.0.0 in a container, port 0 for any free port.
    #[arg(long, env = "FACTORISER_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:7100")]
    pub listen: SocketAddr,
    /// Candidates per second at most; 0 for as many as possible.
    #[arg(long, env = "FACTORISER_RATE", default_value_t = 0)]
    pub rate: u64,
    /// Milliseconds to wait for a master to ask before beginning without its word on what others have done.
    #[arg(long, env = "FACTORISER_WAIT_MS", value_name = "MS", default_value_t = 2000, value_parser = milliseconds())]
    pub wait_ms: u64,
}

/// The options of a master.
#[derive(Debug, Clone, Args)]
pub struct MasterArgs {
    /// The number.
    #[command(flatten)]
    pub number: NumberArgs,
    /// The workers' addresses by index, separated by commas; {index} in one stands for every worker's index, as in
    /// http://factoriser-{index}.factoriser:7100.
    #[arg(long = "worker", env = "FACTORISER_WORKER_URLS", value_name = "URL", value_delimiter = ',', required = true)]
    pub urls: Vec<String>,
    /// How many workers there are; needed if {index} is used.
    #[arg(long, env = "FACTORISER_WORKERS", value_parser = workers())]
    pub workers: Option<u32>,
    /// A directory in which the master remembers the work of workers that are no more.
    #[arg(long, env = "FACTORISER_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The address to listen on; 0.0.0.0 in a container, port 0 for any free port.
    #[arg(long, env = "FACTORISER_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:7000")]
    pub listen: SocketAddr,
    /// How often to ask the workers, in milliseconds.
    #[arg(long, env = "FACTORISER_POLL_MS", value_name = "MS", default_value_t = 250, value_parser = milliseconds())]
    pub poll_ms: u64,
}

/// The numbers that can be factorised.
fn numbers() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(2..=MAX_NUMBER)
}

/// The numbers of workers that can share the work.
fn workers() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_WORKERS))
}

/// Up to an hour.
fn milliseconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=3_600_000)
}

impl Cli {
    /// Does what was asked for.
    pub async fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Worker(args) => args.run().await,
            Command::Master(args) => args.run().await,
        }
    }
}

impl WorkerArgs {
    /// The configuration asked for.
    pub fn config(&self) -> Result<WorkerConfig, Error> {
        Ok(WorkerConfig {
            number: self.number.number,
            index: self.index.map_or_else(|| ordinal(&hostname()), Ok)?,
            workers: self.workers,
            state: self.state.clone(),
            listen: self.listen,
            rate: NonZeroU64::new(self.rate),
            wait: Duration::from_millis(self.wait_ms),
            linger: WorkerConfig::LINGER,
        })
    }

    /// Runs the worker until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<(), Error> {
        let config = self.config()?;
        let (index, workers, number) = (config.index, config.workers, config.number);
        let started = move |address, report: &crate::report::Report| {
            let from = &report.started_from;
            say(&format!("worker {index} of {workers} on {number} listens on http://{address}"));
            say(&format!("resumed with {} candidates searched [{}]", from.searched, from.files.join(", ")));
            from.problems.iter().for_each(|problem| say(problem));
        };
        let run = worker::run_announced(config, started, |last| {
            say(&format!("stopped with {} candidates searched{}", last.searched, found(last.solution)));
        });
        Box::pin(run).await
    }
}

impl MasterArgs {
    /// The configuration asked for.
    pub fn config(&self) -> Result<MasterConfig, Error> {
        Ok(MasterConfig {
            number: self.number.number,
            workers: worker_urls(&self.urls, self.workers)?,
            listen: self.listen,
            state: self.state.clone(),
            poll: Duration::from_millis(self.poll_ms),
            patience: MasterConfig::PATIENCE,
        })
    }

    /// Runs the master until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<(), Error> {
        let config = self.config()?;
        let (workers, number) = (config.workers.len(), config.number);
        let started = move |address| say(&format!("master of {workers} workers on {number} listens on http://{address}"));
        let run = master::run_announced(config, started, |last| {
            let (done, all) = (last.progress_done, last.progress_all);
            say(&format!("stopped with {done} of {all} candidates searched{}", found(last.solution)));
        });
        Box::pin(run).await
    }
}

fn found(solution: Option<crate::Solution>) -> String {
    solution.map_or_else(String::new, |solution| format!(", solution {solution}"))
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The ordinal that a StatefulSet gives its pods: the digits after the last hyphen of the hostname's first label.
fn ordinal(hostname: &str) -> Result<u32, Error> {
    let label = hostname.split('.').next().unwrap_or_default();
    let digits = label.rsplit_once('-').map(|(_, digits)| digits);
    let digits = digits.filter(|digits| digits.bytes().all(|c| c.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Error::Hostname(hostname.to_owned()))
}

/// Says a line on standard output. That nobody listens any more is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ordinals_of_pods() {
        assert_eq!(ordinal("factoriser-2").ok(), Some(2));
        assert_eq!(ordinal("factoriser-worker-12.factoriser.demo.svc").ok(), Some(12));
        for hostname in ["", "laptop", "laptop2", "factoriser-", "factoriser-x2", "factoriser-+2", "a-99999999999"] {
            assert!(matches!(ordinal(hostname), Err(Error::Hostname(_))), "{hostname:?}");
        }
    }
}
