// SPDX-License-Identifier: Apache-2.0
//! `holdfast kube restore`: a workload's replicas go back in place, or their files go into a claim. First the plan, which changes nothing; then, agreed to, the restore.

use super::follow::{self, Stand};
use super::workload::{self, Meant};
use super::{Cluster, ClusterArgs, refused};
use crate::exit::{self, Exit, Undecided, Usage};
use crate::human::Here;
use crate::output::{Output, note};
use crate::table::Table;
use clap::Args;
use holdfast_api::restore::{AcceptSpec, ClaimSpec, ElsewhereSpec, ReceiptStatus, SourceSpec, WOULD_BE_REFUSED};
use holdfast_api::{StateLineage, StateRestore, StateRestoreSpec};
use holdfast_core::time::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde::Serialize;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;

/// A plan is made within this, unless something is in its way.
const PLANNED_WITHIN: Duration = Duration::from_secs(30);
/// Longest beginning of an object's name.
const NAME_MAX: usize = 200;

/// Bring a workload's replicas back in place, or only their files into a PersistentVolumeClaim.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("moment").required(true))]
pub(crate) struct RestoreArgs {
    /// The workload: web, deployment/web, statefulset/web
    #[arg(required_unless_present = "undo")]
    workload: Option<String>,
    /// With --into-claim: only these files and directories, as in data/etc/app.conf [default: all]
    #[arg(value_name = "PATH", requires = "into_claim")]
    paths: Vec<String>,
    /// Write the files into this PersistentVolumeClaim, and touch no workload
    #[arg(long, value_name = "CLAIM")]
    into_claim: Option<String>,
    /// As it was then: '10 minutes ago', '14:03:07'
    #[arg(long, value_name = "TIME", group = "moment")]
    at: Option<String>,
    /// As it is in this snapshot: a StateSnapshot of the namespace, or a name or id in its repository
    #[arg(long, value_name = "SNAPSHOT", group = "moment")]
    snapshot: Option<String>,
    /// As it was before this StateRestore
    #[arg(long, value_name = "RESTORE", group = "moment")]
    undo: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    /// Other workloads under the same policy go back, too
    #[arg(long)]
    with_others: bool,
    /// All pods end together, whatever a PodDisruptionBudget says
    #[arg(long)]
    accept_disruption: bool,
    /// The workload runs another image than the state was captured with
    #[arg(long)]
    accept_different_image: bool,
    /// Also checkpoints during whose capture something changed
    #[arg(long)]
    accept_fuzzy: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Document<'a> {
    namespace: &'a str,
    /// The StateRestore; none of a plan.
    restore: Option<&'a str>,
    dry_run: bool,
    succeeded: Option<bool>,
    reason: &'a str,
    message: &'a str,
    plan: &'a [String],
    receipts: &'a [ReceiptStatus],
}

/// Does it.
pub(crate) async fn run(args: RestoreArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let here = Here::system();
    let cluster = args.cluster.connect().await?;
    let meant = meant(&args, &cluster).await?;
    let spec = spec(&args, meant.as_ref(), &here)?;
    let api: Api<StateRestore> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = name(meant.as_ref().map(|meant| meant.workload.as_str()), args.undo.as_deref(), here.now);
    let plan = planned(&api, &name, &spec).await?;
    let refused = plan.message.starts_with(WOULD_BE_REFUSED);
    if args.dry_run || refused || plan.succeeded != Some(true) {
        tell(&plan, &cluster.namespace, None, out)?;
        return Ok(Exit::with(match (refused, plan.succeeded) {
            (true, _) => exit::DECIDE,
            (false, Some(true)) => 0,
            (false, _) => follow::code(&plan.reason),
        }));
    }
    agreed(&args, &plan)?;
    create(&api, &name, spec).await?;
    note(&format!(
        "StateRestore {name} of {} goes on by itself, should you leave; deleting it {}",
        cluster.namespace,
        if args.into_claim.is_some() { "ends the pod that writes the files" } else { "opens the gates" }
    ));
    let stand = follow::settled(&api, &name, conditions, None).await?;
    tell(&stand, &cluster.namespace, Some(&name), out)?;
    let succeeded = stand.succeeded == Some(true);
    if succeeded && args.into_claim.is_none() {
        note(&format!("to take it back: holdfast kube restore -n {} --undo {name}", cluster.namespace));
    }
    Ok(Exit::with(if succeeded { 0 } else { follow::code(&stand.reason) }))
}

/// The workload that is meant; of an undo there may be none, which is all that the other restore has brought back.
async fn meant(args: &RestoreArgs, cluster: &Cluster) -> anyhow::Result<Option<Meant>> {
    let Some(word) = &args.workload else { return Ok(None) };
    let api: Api<StateLineage> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let lineages = api.list(&ListParams::default()).await.map_err(refused)?.items;
    let meant = workload::find(word, &cluster.namespace, &lineages)?;
    let others = workload::others(&meant, &lineages);
    if !others.is_empty() && !args.with_others {
        let message = format!(
            "{} goes back by its policy, and so would {}: add --with-others to bring them back, too, or give {} a policy of its own",
            meant.workload,
            others.join(", "),
            meant.workload
        );
        return Err(Undecided(message).into());
    }
    Ok(Some(meant))
}

fn spec(args: &RestoreArgs, meant: Option<&Meant>, here: &Here) -> Result<StateRestoreSpec, Usage> {
    let time = args.at.as_ref().map(|at| here.parse(at).map_err(|error| Usage(error.to_string()))).transpose()?;
    Ok(StateRestoreSpec {
        source: SourceSpec {
            snapshot: args.snapshot.clone(),
            time: time.map(|time| Time(time.to_jiff())),
            checkpoint: None,
            undo: args.undo.clone(),
            policies: meant.map(|meant| meant.policies.iter().cloned().collect()).unwrap_or_default(),
        },
        elsewhere: args
            .into_claim
            .clone()
            .map(|name| ElsewhereSpec { claim: Some(ClaimSpec { name }), ..ElsewhereSpec::default() }),
        paths: args.paths.clone(),
        accept: AcceptSpec {
            different_image: args.accept_different_image,
            disruption: args.accept_disruption,
            fuzzy: args.accept_fuzzy,
        },
        dry_run: false,
    })
}

/// What the objects are called: after the workload and the second.
fn name(workload: Option<&str>, undo: Option<&str>, now: Timestamp) -> String {
    let of = match (workload, undo) {
        (_, Some(undo)) => format!("undo-{undo}"),
        (Some(workload), None) => workload.rsplit('/').next().unwrap_or_default().to_owned(),
        (None, None) => String::new(),
    };
    let head = of[..of.floor_char_boundary(NAME_MAX)].trim_end_matches(['-', '.']);
    format!("{head}-{}", now.to_jiff().strftime("%Y%m%d-%H%M%S"))
}

fn conditions(object: &StateRestore) -> &[Condition] {
    object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

async fn create(api: &Api<StateRestore>, name: &str, spec: StateRestoreSpec) -> anyhow::Result<()> {
    let object = StateRestore::new(name, spec);
    api.create(&PostParams::default(), &object).await.map_err(refused)?;
    Ok(())
}

/// What would be done. Its object is there for as long as that takes.
async fn planned(api: &Api<StateRestore>, name: &str, spec: &StateRestoreSpec) -> anyhow::Result<Stand<StateRestore>> {
    let name = format!("{name}-plan");
    create(api, &name, StateRestoreSpec { dry_run: true, ..spec.clone() }).await?;
    let stand = tokio::select! {
        stand = follow::settled(api, &name, conditions, Some(PLANNED_WITHIN)) => stand,
        interrupted = tokio::signal::ctrl_c() => Err(interrupted.map_or_else(Into::into, |()| anyhow::anyhow!("interrupted: nothing was done"))),
    };
    match api.delete(&name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => note(&format!("the plan stays as StateRestore {name}: {error}")),
        Ok(_) => {}
    }
    stand
}

/// Shows the plan, and asks.
fn agreed(args: &RestoreArgs, plan: &Stand<StateRestore>) -> Result<(), Undecided> {
    plan_of(plan).iter().for_each(|sentence| note(sentence));
    if args.yes {
        return Ok(());
    }
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Undecided("nobody can be asked here: add --yes to do it, or --dry-run to see the plan alone".to_owned()));
    }
    note(if args.into_claim.is_some() { "write them? Write yes:" } else { "bring them back? Write yes:" });
    let mut answer = String::new();
    match input.lock().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim(), "y" | "yes") => Ok(()),
        _ => Err(Undecided("it was not agreed to: nothing was done".to_owned())),
    }
}

fn plan_of(stand: &Stand<StateRestore>) -> &[String] {
    stand.object.status.as_ref().map(|status| status.plan.as_slice()).unwrap_or_default()
}

/// What came of it.
fn tell(stand: &Stand<StateRestore>, namespace: &str, restore: Option<&str>, out: &mut Output) -> anyhow::Result<()> {
    let receipts = stand.object.status.as_ref().map(|status| status.receipts.as_slice()).unwrap_or_default();
    if out.is_json() {
        let document = Document {
            namespace,
            restore,
            dry_run: restore.is_none(),
            succeeded: stand.succeeded,
            reason: &stand.reason,
            message: &stand.message,
            plan: plan_of(stand),
            receipts,
        };
        return Ok(out.document(&document)?);
    }
    if restore.is_none() {
        for sentence in plan_of(stand) {
            out.line(sentence)?;
        }
    }
    out.line(&format!("{}: {}", stand.reason, stand.message))?;
    if !receipts.is_empty() {
        out.table(&table(receipts))?;
    }
    Ok(out.flush()?)
}

fn table(receipts: &[ReceiptStatus]) -> Table {
    let mut table = Table::new(&["LINEAGE", "CHECKPOINT", "BEFORE", "ROOT", "DEVIATIONS"]);
    for receipt in receipts {
        let before = receipt.before.map(|before| format!("#{before}")).unwrap_or_default();
        table.row([
            receipt.lineage.clone().into(),
            format!("#{}", receipt.sequence).into(),
            before.into(),
            match receipt.root_found.as_str() {
                // of chosen paths there is none: the files were compared
                "" => "compared".into(),
                found if found == receipt.root_asked => "proven".into(),
                _ => "differs".into(),
            },
            receipt.deviations.to_string().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_called_after_the_workload_and_the_second() {
        let now = Timestamp::from_nanos(1_700_000_000_123_456_789);
        assert_eq!(name(Some("statefulset/web"), None, now), "web-20231114-221320");
        assert_eq!(name(None, Some("web-1"), now), "undo-web-1-20231114-221320");
        assert!(name(Some(&"x".repeat(300)), None, now).len() < 253 - "-plan".len());
    }
}
