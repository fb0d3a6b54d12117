// SPDX-License-Identifier: Apache-2.0
//! `holdfast kube snapshot`: one moment of workloads, of a namespace, or of the whole cluster.

use super::workload;
use super::{Cluster, ClusterArgs, SYSTEM, follow, refused};
use crate::exit::{Exit, Usage};
use crate::human::Here;
use crate::output::{Output, note};
use clap::Args;
use holdfast_api::{StateLineage, StateSnapshot, StateSnapshotSpec, StateSnapshotStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams, PostParams};
use serde::Serialize;
use std::collections::BTreeSet;

/// Take a consistent snapshot.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).multiple(false).args(["workload", "everything", "all_namespaces", "namespaces"]))]
pub(crate) struct SnapshotArgs {
    /// The workloads, whose replicas are brought to one moment: web, deployment/web
    workload: Vec<String>,
    /// Everything that is protected in the namespace
    #[arg(long)]
    everything: bool,
    /// Everything that is protected in these namespaces: for those who may in Holdfast's own
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Everything that is protected in the cluster: for those who may in Holdfast's own namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Its name [default: made of the time]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    snapshot: &'a str,
    succeeded: Option<bool>,
    reason: &'a str,
    message: &'a str,
    status: Option<&'a StateSnapshotStatus>,
}

/// Does it.
pub(crate) async fn run(args: SnapshotArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let mut cluster = args.cluster.connect().await?;
    let spec = spec(&args, &cluster).await?;
    if !spec.namespaces.is_empty() && args.cluster.namespace.is_none() {
        SYSTEM.clone_into(&mut cluster.namespace);
    }
    let made = || format!("snapshot-{}", Here::system().now.to_jiff().strftime("%Y%m%d-%H%M%S"));
    let name = args.name.clone().unwrap_or_else(made);
    let api: Api<StateSnapshot> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    api.create(&PostParams::default(), &StateSnapshot::new(&name, spec)).await.map_err(refused)?;
    note(&format!("StateSnapshot {name} of {} is taken, should you stay or leave", cluster.namespace));
    let stand = follow::settled(&api, &name, conditions, None).await?;
    let succeeded = stand.succeeded == Some(true);
    if out.is_json() {
        out.document(&Document {
            namespace: &cluster.namespace,
            snapshot: &name,
            succeeded: stand.succeeded,
            reason: &stand.reason,
            message: &stand.message,
            status: stand.object.status.as_ref(),
        })?;
    } else {
        out.line(&format!("{}: {}", stand.reason, stand.message))?;
        out.flush()?;
    }
    Ok(Exit::with(if succeeded { 0 } else { follow::code(&stand.reason) }))
}

async fn spec(args: &SnapshotArgs, cluster: &Cluster) -> anyhow::Result<StateSnapshotSpec> {
    let namespaces = if args.all_namespaces { vec!["*".to_owned()] } else { args.namespaces.clone() };
    let mut policies = BTreeSet::new();
    if !args.workload.is_empty() {
        let api: Api<StateLineage> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let lineages = api.list(&ListParams::default()).await.map_err(refused)?.items;
        for word in &args.workload {
            let meant = workload::find(word, &cluster.namespace, &lineages)?;
            let others = workload::others(&meant, &lineages);
            if !others.is_empty() {
                note(&format!("{} are under the same policy, and so in the snapshot, too", others.join(", ")));
            }
            policies.extend(meant.policies);
        }
    }
    let spec = serde_json::json!({ "policies": policies, "everything": args.workload.is_empty(), "namespaces": namespaces });
    serde_json::from_value(spec).map_err(|error| Usage(error.to_string()).into())
}

fn conditions(object: &StateSnapshot) -> &[Condition] {
    object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}
