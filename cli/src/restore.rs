// SPDX-License-Identifier: Apache-2.0
//! `holdfast restore`: any point in time, back on a disk, proven.

use crate::connection::{ConnectArgs, Connection, remote};
use crate::exit::{Exit, Usage};
use crate::human::Here;
use crate::output::{Output, note, notes};
use crate::point::{self, PointArgs};
use clap::Args;
use holdfast_agent::grant::Granted;
use holdfast_proto::v1;
use holdfast_proto::v1::point_ref::Point;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

mod aim;
mod marks;
mod preview;
mod receipt;
mod report;
mod work;

use aim::Aim;
use preview::Preview;
use report::Reporter;

/// Bring a lineage's files back as they were.
///
/// With one state path, its files go into TARGET; with several, into TARGET/LABEL each, or where --to says.
/// Paths begin with a label: data/journal/0001.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The directory to restore into, then paths to restore [default: everything]; with --to, paths only
    #[arg(value_name = "TARGET [PATH…]")]
    words: Vec<OsString>,
    /// The lineage [default: the only one]
    #[arg(long, value_name = "NAME")]
    lineage: Option<String>,
    #[command(flatten)]
    point: PointArgs,
    /// Where the files of a state path go; several times for several
    #[arg(long, value_name = "LABEL=DIR")]
    to: Vec<OsString>,
    /// Restore over what the target holds; what the checkpoint doesn't have stays
    #[arg(long, group = "extra")]
    keep_extra: bool,
    /// Make the target just what the checkpoint was; what it doesn't have is deleted
    #[arg(long, group = "extra")]
    remove_extra: bool,
    /// Restore set-id bits, file capabilities and devices, too
    #[arg(long)]
    special: bool,
    /// Leave all files to whoever runs this
    #[arg(long)]
    no_owners: bool,
    /// Say what would be restored, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Restores.
pub(crate) async fn run(args: RestoreArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let here = Here::system();
    let paths = selected(&args)?;
    let connection = args.connect.connect().await?;
    let lineage = point::lineage(&connection, args.lineage.as_deref()).await?;
    let request = v1::GetCheckpointRequest { point: Some(args.point.of(lineage.clone(), &here)?) };
    let checkpoint = connection.lineages().get_checkpoint(request).await.map_err(remote)?.into_inner();
    let aim = Aim::new(&args, &checkpoint, &paths)?;
    if args.dry_run {
        let preview = if aim.occupied { Some(look(&args, &connection, &checkpoint, lineage, &aim, paths).await?) } else { None };
        connection.end().await;
        receipt::planned(&checkpoint, &aim, preview.as_ref(), &here, out)?;
        return Ok(Exit::ok());
    }
    notes(&receipt::plan(&checkpoint, &aim, &here));
    if checkpoint.quality() == v1::Quality::Fuzzy {
        note("this checkpoint is fuzzy: something changed while it was captured");
    }
    let (restore, granted) = create(&connection, &checkpoint, lineage, &aim, paths).await?;
    let mut reporter = Reporter::new(&connection, restore.id);
    let done = work::restore(&args, &connection, &granted, &checkpoint, aim, &mut reporter).await;
    match &done {
        Ok(done) => reporter.ended(done).await,
        Err(error) => reporter.failed(&format!("{error:#}")).await,
    }
    drop(reporter);
    connection.end().await;
    let done = done?;
    receipt::print(&checkpoint, &done, &here, out)?;
    Ok(Exit::with(done.code()))
}

/// What would become of a target that holds something.
async fn look(
    args: &RestoreArgs,
    connection: &Connection,
    checkpoint: &v1::Checkpoint,
    lineage: v1::LineageRef,
    aim: &Aim,
    paths: Vec<Vec<u8>>,
) -> anyhow::Result<Preview> {
    let (restore, granted) = create(connection, checkpoint, lineage, aim, paths).await?;
    let preview = preview::preview(args, connection, &granted, checkpoint, aim).await;
    // whoever lists restores is told that this was none
    Reporter::new(connection, restore.id).failed("a dry run: nothing was restored").await;
    preview
}

/// The paths that were asked for, each from its label on.
fn selected(args: &RestoreArgs) -> Result<Vec<Vec<u8>>, Usage> {
    let words = match (&args.words[..], args.to.is_empty()) {
        ([], true) => {
            return Err(Usage("where to? Name a directory: holdfast restore TARGET, or give --to LABEL=DIR".to_owned()));
        }
        ([_, rest @ ..], true) => rest,
        (all, false) => all,
    };
    let paths = words.iter().map(|word| point::path(word.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    match paths.iter().any(Vec::is_empty) {
        true => Err(Usage("a path to restore is empty: leave it out to restore everything".to_owned())),
        false => Ok(paths),
    }
}

/// Has the checkpoint pinned, and gets the right to read it.
async fn create(
    connection: &Connection,
    checkpoint: &v1::Checkpoint,
    lineage: v1::LineageRef,
    aim: &Aim,
    paths: Vec<Vec<u8>>,
) -> anyhow::Result<(v1::Restore, Granted)> {
    // just what was looked at, also if a newer one has come meanwhile
    let point = v1::PointRef {
        lineage: Some(checkpoint.lineage.clone().unwrap_or(lineage)),
        point: Some(Point::Checkpoint(checkpoint.sequence)),
        accept_fuzzy: true,
    };
    let paths = paths.into_iter().map(Into::into).collect();
    let request = v1::CreateRestoreRequest { point: Some(point), target: aim.describe(), paths };
    let created = connection.restores().create_restore(request).await.map_err(remote)?.into_inner();
    let grant = created.grant.ok_or_else(|| anyhow::anyhow!("the coordinator grants no right to read the checkpoint"))?;
    Ok((created.restore.unwrap_or_default(), Granted::try_from(grant)?))
}
