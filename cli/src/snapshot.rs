// SPDX-License-Identifier: Apache-2.0
//! `holdfast snapshot`: named sets of checkpoints.

use crate::connection::{ConnectArgs, Connection, remote};
use crate::exit::{Exit, Usage};
use crate::human::{Here, about, count};
use crate::output::{Output, note};
use crate::table::Table;
use crate::view::{Labels, SnapshotView, consistency, moment, quality};
use clap::{Args, Subcommand};
use holdfast_proto::v1;
use serde::Serialize;
use std::time::Duration;

mod watch;

/// Take, list and delete named sets of checkpoints.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give one moment a name: a coordinator brings its agents to it; without one, the newest checkpoints are taken as they are
    Create(CreateArgs),
    /// List snapshots, newest first
    List(ListArgs),
    /// Show one: by its name, its id, or the id's beginning
    Show(OneArgs),
    /// Delete one; its checkpoints live on as long as retention keeps them
    Delete(OneArgs),
    /// Tell of those that exist, then of each that is made or deleted
    Watch(watch::WatchArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name [default: made of the time]
    name: Option<String>,
    /// This lineage; several times for several [default: all of the domain, or of all domains]
    #[arg(long, value_name = "NAME")]
    lineage: Vec<String>,
    /// Something to find it by
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Members may be checkpoints during whose capture something changed
    #[arg(long)]
    accept_fuzzy: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those with this label; several: with all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// Its name, id, or the id's beginning
    snapshot: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    snapshots: Vec<SnapshotView>,
}

#[derive(Debug, Serialize)]
struct Deleted<'a> {
    deleted: &'a str,
}

const PAGE: u32 = 200;
/// What a snapshot is of which no agent was told.
const ALONE: &str = "no coordinator was asked, so no running program was told: these are the newest checkpoints that there are. \
                     For one moment of running programs, let them and this command use a coordinator (--coordinator)";

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Does it.
pub(crate) async fn run(args: SnapshotArgs, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        Command::Create(args) => create(args, out).await,
        Command::List(args) => list(args, out).await,
        Command::Show(args) => show(args, out).await,
        Command::Delete(args) => delete(args, out).await,
        Command::Watch(args) => watch::run(args, out).await,
    }
}

async fn create(args: CreateArgs, out: &mut Output) -> anyhow::Result<Exit> {
    if args.name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(Usage("the name of the snapshot is empty: leave it out to have one made".to_owned()).into());
    }
    let connection = args.connect.connect().await?;
    let domain = connection.domain().unwrap_or("default");
    let reference = |lineage: &String| v1::LineageRef { domain: domain.to_owned(), lineage: lineage.clone() };
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
    let request = v1::CreateSnapshotRequest {
        name: args.name.unwrap_or_default(),
        lineages: args.lineage.iter().map(reference).collect(),
        domain: connection.domain().unwrap_or_default().to_owned(),
        labels: args.labels.into_iter().collect(),
        request_id: hex::encode(id),
        accept_fuzzy: args.accept_fuzzy,
    };
    let snapshot = connection.snapshots().create_snapshot(request).await.map_err(remote)?.into_inner();
    if connection.is_in_process() {
        note(ALONE);
    }
    print_one(&snapshot, out)?;
    Ok(Exit::ok())
}

async fn list(args: ListArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let connection = args.connect.connect().await?;
    let snapshots = all(&connection, args.labels.into_iter().collect()).await?;
    if out.is_json() {
        out.document(&Document { snapshots: snapshots.iter().map(SnapshotView::from).collect() })?;
        return Ok(Exit::ok());
    }
    let here = Here::system();
    let mut table = Table::new(&["NAME", "CREATED", "MEMBERS", "CONSISTENCY", "ID", "LABELS"]).right(&[2]);
    for snapshot in &snapshots {
        table.row(row(snapshot, &here).map(Into::into));
    }
    out.table(&table)?;
    out.flush()?;
    Ok(Exit::ok())
}

/// What a list says of a snapshot.
fn row(snapshot: &v1::Snapshot, here: &Here) -> [String; 6] {
    let labels: Vec<_> = snapshot.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    [
        snapshot.name.clone(),
        snapshot.created.as_ref().map(|at| here.when(moment(at))).unwrap_or_default(),
        snapshot.members.len().to_string(),
        consistency(snapshot.consistency()).to_owned(),
        snapshot.id.chars().take(12).collect(),
        labels.join(" "),
    ]
}

async fn all(connection: &Connection, labels: Labels) -> anyhow::Result<Vec<v1::Snapshot>> {
    let mut client = connection.snapshots();
    let mut request = v1::ListSnapshotsRequest { page_size: PAGE, page_token: String::new(), labels };
    let mut snapshots = Vec::new();
    loop {
        let page = client.list_snapshots(request.clone()).await.map_err(remote)?.into_inner();
        snapshots.extend(page.snapshots);
        if page.next_page_token.is_empty() {
            return Ok(snapshots);
        }
        request.page_token = page.next_page_token;
    }
}

async fn show(args: OneArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let connection = args.connect.connect().await?;
    let request = v1::GetSnapshotRequest { snapshot: args.snapshot };
    let snapshot = connection.snapshots().get_snapshot(request).await.map_err(remote)?.into_inner();
    print_one(&snapshot, out)?;
    Ok(Exit::ok())
}

async fn delete(args: OneArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let connection = args.connect.connect().await?;
    let request = v1::DeleteSnapshotRequest { snapshot: args.snapshot.clone() };
    connection.snapshots().delete_snapshot(request).await.map_err(remote)?;
    if out.is_json() {
        out.document(&Deleted { deleted: &args.snapshot })?;
    } else {
        out.line(&format!("deleted {}", args.snapshot))?;
        out.flush()?;
    }
    Ok(Exit::ok())
}

fn print_one(snapshot: &v1::Snapshot, out: &mut Output) -> anyhow::Result<()> {
    if out.is_json() {
        return Ok(out.document(&SnapshotView::from(snapshot))?);
    }
    let here = Here::system();
    let mut facts = Table::new(&[]);
    facts.fact("name", &snapshot.name);
    facts.fact("id", &snapshot.id);
    facts.fact("created", snapshot.created.as_ref().map(|at| here.when(moment(at))).unwrap_or_default());
    facts.fact("consistency", consistency(snapshot.consistency()));
    let skew = Duration::from_nanos(snapshot.skew_ns);
    let skew = match skew {
        _ if skew < Duration::from_millis(1) => "less than a millisecond".to_owned(),
        _ if skew < Duration::from_secs(1) => format!("{} ms", skew.as_millis()),
        _ => about(skew),
    };
    facts.fact("members", format!("{}, {skew} apart", count(snapshot.members.len() as u64, "lineage")));
    for (key, value) in &snapshot.labels {
        facts.fact("label", format!("{key}={value}"));
    }
    out.table(&facts)?;
    let mut members = Table::new(&["LINEAGE", "DOMAIN", "CHECKPOINT", "TIME", "QUALITY", "FLUSHED", "PAUSE"]).right(&[2, 6]);
    for member in &snapshot.members {
        let checkpoint = member.checkpoint.clone().unwrap_or_default();
        let lineage = checkpoint.lineage.clone().unwrap_or_default();
        let when = checkpoint.last_close.as_ref().map(|at| here.when(moment(at))).unwrap_or_default();
        let flushed = if member.flushed { "yes" } else { "no" };
        let number = format!("#{}", checkpoint.sequence);
        members.row([
            lineage.lineage.into(),
            lineage.domain.into(),
            number.into(),
            when.into(),
            quality(checkpoint.quality()).into(),
            flushed.into(),
            pause(member.pause_ns).into(),
        ]);
    }
    out.line("")?;
    out.table(&members)?;
    Ok(out.flush()?)
}

/// How long a member rested; nothing, where it did not.
fn pause(pause_ns: Option<u64>) -> String {
    pause_ns.map(|ns| format!("{:.1} ms", Duration::from_nanos(ns).as_secs_f64() * 1e3)).unwrap_or_default()
}
