// SPDX-License-Identifier: Apache-2.0
//! The coordinator's process in a cluster.

use clap::Parser;
use holdfast_coordinator::cluster::{Settings, run};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let filter = EnvFilter::try_new(&settings.log)?;
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    // two providers are linked by way of others: without a choice the TLS library would panic
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(settings))
}
