// SPDX-License-Identifier: Apache-2.0
//! The admission webhook's process.

use clap::Parser;
use holdfast_webhook::process::{Options, run};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    run(Options::parse()).await
}
