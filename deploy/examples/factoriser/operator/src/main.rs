// SPDX-License-Identifier: Apache-2.0
//! The `factoriser-operator` program: an ordinary operator that knows nothing of Holdfast.

use clap::Parser;
use holdfast_factoriser_operator::reconcile;

/// Keeps a master and any number of workers for each RSACracker.
#[derive(Debug, Parser)]
#[command(name = "factoriser-operator", version)]
struct Arguments {
    /// The image that masters and workers run.
    #[arg(long, env = "FACTORISER_IMAGE", default_value = "holdfast/factoriser:0.1.0")]
    image: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    reconcile::run(kube::Client::try_default().await?, arguments.image).await;
    Ok(())
}
