// SPDX-License-Identifier: Apache-2.0
//! `holdfast kube`: workloads of a cluster, by what kubectl calls them. It writes StateRestores and StateSnapshots and follows them; the coordinator does
//! the work, and whether one may is said by the API server.

use crate::exit::{Exit, NotFound, Undecided, Usage};
use crate::output::Output;
use clap::{Args, Subcommand};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

mod follow;
mod restore;
mod snapshot;
mod workload;

/// Holdfast's own namespace, where it was not told otherwise.
const SYSTEM: &str = "holdfast-system";

/// Workloads of a Kubernetes cluster, by their names there.
#[derive(Debug, Args)]
pub(crate) struct KubeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a workload's replicas back in place, all together, to another moment
    Restore(restore::RestoreArgs),
    /// Take a consistent snapshot of workloads, of a namespace or of the whole cluster
    Snapshot(snapshot::SnapshotArgs),
}

/// Which cluster, and which namespace of it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
struct ClusterArgs {
    /// The namespace [default: the kubeconfig's]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// A cluster, and a namespace of it.
struct Cluster {
    client: Client,
    namespace: String,
}

impl ClusterArgs {
    /// Finds the cluster as kubectl does: by KUBECONFIG or ~/.kube/config, and inside of a pod by what the pod was given.
    async fn connect(&self) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let found = match Kubeconfig::read() {
            Ok(read) => Config::from_custom_kubeconfig(read, &options).await.map_err(|error| error.to_string()),
            Err(error) if self.context.is_some() => Err(error.to_string()),
            Err(_) => Config::incluster().map_err(|error| error.to_string()),
        };
        let config =
            found.map_err(|why| Usage(format!("there is no cluster to speak to: {why}; set KUBECONFIG, or give --context")))?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config)?, namespace })
    }
}

/// Does it.
pub(crate) async fn run(args: KubeArgs, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        Command::Restore(args) => restore::run(args, out).await,
        Command::Snapshot(args) => snapshot::run(args, out).await,
    }
}

/// What an answer of the API server means for whoever called: what may not be done, or is not there, is no failure of the program.
fn refused(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.is_not_found() => NotFound(status.message.clone()).into(),
        kube::Error::Api(status) if status.is_forbidden() => Undecided(format!("you may not do that: {}", status.message)).into(),
        kube::Error::Api(status) if status.code == 422 => Usage(status.message.clone()).into(),
        other => anyhow::Error::from(other).context("ask the API server"),
    }
}
