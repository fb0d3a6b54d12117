// SPDX-License-Identifier: Apache-2.0
//! `holdfast timeline`: which moments can be gone back to.

use crate::connection::{ConnectArgs, Connection, remote};
use crate::exit::{Exit, Usage};
use crate::human::{Here, size};
use crate::lineages::quality_cell;
use crate::output::Output;
use crate::point;
use crate::table::{Cell, Table};
use crate::view::{CheckpointView, moment, stamp};
use clap::Args;
use holdfast_proto::v1;
use serde::Serialize;

/// List the checkpoints of a lineage, newest first.
#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// The lineage [default: the only one]
    lineage: Option<String>,
    /// From then on: '1 hour ago', 'yesterday'
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// With what each one holds; costs a read for each
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    checkpoints: Vec<CheckpointView>,
    /// Whether there are more than were asked for.
    more: bool,
}

const PAGE: u32 = 500;

/// Lists them.
pub(crate) async fn run(args: TimelineArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let here = Here::system();
    let parsed = |text: &Option<String>| {
        let parsed = text.as_ref().map(|text| here.parse(text).map(stamp)).transpose();
        parsed.map_err(|error| Usage(error.to_string()))
    };
    let (not_before, not_after) = (parsed(&args.since)?, parsed(&args.until)?);
    if let (Some(since), Some(until)) = (not_before, not_after)
        && moment(&since) > moment(&until)
    {
        let [since, until] = [since, until].map(|at| here.when(moment(&at)));
        return Err(Usage(format!("--since ({since}) is later than --until ({until})")).into());
    }
    let connection = args.connect.connect().await?;
    let lineage = Some(point::lineage(&connection, args.lineage.as_deref()).await?);
    let request =
        v1::ListCheckpointsRequest { lineage, not_before, not_after, page_size: 0, page_token: String::new(), full: args.full };
    let (checkpoints, more) = list(&connection, request, args.limit as usize).await?;
    if out.is_json() {
        out.document(&Document { checkpoints: checkpoints.iter().map(CheckpointView::from).collect(), more })?;
        return Ok(Exit::ok());
    }
    out.table(&table(&checkpoints, args.full, &here))?;
    if more {
        out.line(&format!("… and older ones: --limit shows more than {}", args.limit))?;
    }
    out.flush()?;
    Ok(Exit::ok())
}

async fn list(
    connection: &Connection,
    mut request: v1::ListCheckpointsRequest,
    limit: usize,
) -> anyhow::Result<(Vec<v1::Checkpoint>, bool)> {
    let mut client = connection.lineages();
    let mut found = Vec::new();
    loop {
        // one more than is shown, to know whether there is one
        let wanted = u32::try_from(limit + 1 - found.len()).unwrap_or(PAGE);
        request.page_size = wanted.min(PAGE);
        let page = client.list_checkpoints(request.clone()).await.map_err(remote)?.into_inner();
        found.extend(page.checkpoints);
        if found.len() > limit {
            found.truncate(limit);
            return Ok((found, true));
        }
        if page.next_page_token.is_empty() {
            return Ok((found, false));
        }
        request.page_token = page.next_page_token;
    }
}

fn table(checkpoints: &[v1::Checkpoint], full: bool, here: &Here) -> Table {
    let headings = ["CHECKPOINT", "TIME", "QUALITY", "FILES", "SIZE", "PROBLEMS"];
    let mut table = Table::new(if full { &headings } else { &headings[..3] }).right(&[0, 3, 4, 5]);
    for checkpoint in checkpoints {
        let when = checkpoint.last_close.as_ref().map(|at| here.when(moment(at))).unwrap_or_default();
        let (number, quality): (Cell, Cell) = (format!("#{}", checkpoint.sequence).into(), quality_cell(checkpoint.quality()));
        if !full {
            table.row([number, when.into(), quality]);
            continue;
        }
        let totals = checkpoint.totals.unwrap_or_default();
        let files = totals.files + totals.links;
        let facts = [files.to_string(), size(totals.bytes), totals.problems.to_string()].map(Cell::from);
        let [files, bytes, problems] = facts;
        table.row([number, when.into(), quality, files, bytes, problems]);
    }
    table
}
