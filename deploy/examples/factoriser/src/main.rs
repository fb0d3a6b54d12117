// SPDX-License-Identifier: Apache-2.0
//! The `factoriser` program: `factoriser worker` and `factoriser master`. Its exit codes are those of
//! [`Error::exit_code`], and 0 when it stopped because it was asked to.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use holdfast_factoriser::Error;
use holdfast_factoriser::cli::Cli;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.downcast_ref::<Error>().map_or(1, Error::exit_code))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")?;
    runtime.block_on(cli.run())?;
    Ok(())
}

fn complain(error: &anyhow::Error) {
    // when nobody listens, the exit code has to do
    let _ = writeln!(io::stderr(), "factoriser: {error:#}");
}
