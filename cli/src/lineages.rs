// SPDX-License-Identifier: Apache-2.0
//! `holdfast lineages`: what is protected.

use crate::connection::{ConnectArgs, remote};
use crate::exit::Exit;
use crate::human::{Here, about, clean};
use crate::output::Output;
use crate::table::{Cell, Table, Tone};
use crate::view::{LineageView, moment, phase, quality};
use clap::Args;
use holdfast_proto::v1;
use serde::Serialize;
use std::time::Duration;

/// List what is protected.
#[derive(Debug, Args)]
pub(crate) struct LineagesArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    lineages: Vec<LineageView>,
}

const PAGE: u32 = 500;

/// Lists them.
pub(crate) async fn run(args: LineagesArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let connection = args.connect.connect().await?;
    let mut client = connection.lineages();
    let domain = connection.domain().unwrap_or_default().to_owned();
    let mut request = v1::ListLineagesRequest { domain, page_size: PAGE, page_token: String::new() };
    let mut lineages = Vec::new();
    loop {
        let page = client.list_lineages(request.clone()).await.map_err(remote)?.into_inner();
        lineages.extend(page.lineages);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let name = |lineage: &v1::Lineage| lineage.r#ref.clone().map(|names| (names.domain, names.lineage));
    lineages.sort_by_cached_key(name);
    if out.is_json() {
        out.document(&Document { lineages: lineages.iter().map(LineageView::from).collect() })?;
    } else {
        out.table(&table(&lineages, &Here::system()))?;
        out.flush()?;
    }
    Ok(Exit::ok())
}

fn table(lineages: &[v1::Lineage], here: &Here) -> Table {
    let mut table = Table::new(&["LINEAGE", "DOMAIN", "NEWEST", "QUALITY", "CHECKPOINT", "STATE", "HOLDER"]).right(&[4]);
    for lineage in lineages {
        let reference = lineage.r#ref.clone().unwrap_or_default();
        let newest = lineage.newest.as_ref();
        let when = newest.and_then(|newest| newest.last_close.as_ref()).map(|at| here.when(moment(at)));
        table.row([
            reference.lineage.into(),
            reference.domain.into(),
            when.unwrap_or_else(|| "-".to_owned()).into(),
            newest.map_or_else(|| "-".into(), |newest| quality_cell(newest.quality())),
            newest.map_or_else(|| "-".to_owned(), |newest| format!("#{}", newest.sequence)).into(),
            state(lineage),
            lineage.holder.clone().into(),
        ]);
    }
    table
}

/// A quality that stands out unless it is as it should be.
pub(crate) fn quality_cell(found: v1::Quality) -> Cell {
    let tone = match found {
        v1::Quality::Clean => Tone::Plain,
        _ => Tone::Odd,
    };
    Cell::toned(quality(found), tone)
}

fn state(lineage: &v1::Lineage) -> Cell {
    match &lineage.live {
        Some(live) if !live.trouble.is_empty() => Cell::toned(format!("trouble: {}", clean(&live.trouble)), Tone::Bad),
        Some(live) if live.lag_ms >= 1000 => {
            Cell::from(format!("{}, {} behind", phase(live.phase()), about(Duration::from_millis(live.lag_ms))))
        }
        Some(live) => Cell::toned(phase(live.phase()), Tone::Good),
        None if lineage.sealed => "closed".into(),
        None => "no agent".into(),
    }
}
