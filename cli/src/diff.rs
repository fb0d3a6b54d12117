// SPDX-License-Identifier: Apache-2.0
//! `holdfast diff`: what differs between two points of a lineage's history.

use crate::connection::{ConnectArgs, remote};
use crate::exit::{Exit, Usage};
use crate::human::{Here, path, size};
use crate::output::Output;
use crate::point;
use crate::table::{Cell, Table, Tone};
use crate::view::{FileView, Text};
use clap::Args;
use holdfast_proto::v1;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Show what differs between two points in time.
///
/// A and B are times ('10 minutes ago'), checkpoints ('#12'), snapshots, or 'newest'. With nothing but A and B it is
/// the only lineage.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// LINEAGE, A and B, then paths to look at [default: everything]
    #[arg(value_name = "LINEAGE A B [PATH…]", required = true, num_args = 2..)]
    words: Vec<OsString>,
    /// Also checkpoints during whose capture something changed
    #[arg(long)]
    accept_fuzzy: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct ChangeView {
    change: &'static str,
    path: Text,
    content: bool,
    metadata: bool,
    one: Option<FileView>,
    two: Option<FileView>,
}

/// Lines that are aligned with each other.
const ROWS: usize = 500;

/// Shows it.
pub(crate) async fn run(args: DiffArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let here = Here::system();
    let text = |word: &OsStr| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| Usage("lineages and points in time are text".to_owned()))
    };
    let (name, one, two, rest) = match &args.words[..] {
        [one, two] => (None, text(one)?, text(two)?, &[][..]),
        [name, one, two, rest @ ..] => (Some(text(name)?), text(one)?, text(two)?, rest),
        _ => return Err(Usage("write LINEAGE, then two points in time".to_owned()).into()),
    };
    let paths = rest.iter().map(|word| point::path(word.as_bytes()).map(Into::into)).collect::<Result<Vec<_>, _>>()?;
    let connection = args.connect.connect().await?;
    let lineage = point::lineage(&connection, name.as_deref()).await?;
    let point = |word: &str| point::in_a_word(word, lineage.clone(), args.accept_fuzzy, &here);
    let request = v1::DiffFilesRequest { one: Some(point(&one)?), two: Some(point(&two)?), paths };
    let mut stream = connection.files().diff_files(request).await.map_err(remote)?.into_inner();
    let mut table = Table::new(&[]);
    let mut rows = 0;
    while let Some(change) = stream.message().await.map_err(remote)? {
        if out.is_json() {
            out.item(&view(&change), false)?;
            continue;
        }
        table.row(row(&change));
        rows += 1;
        if rows % ROWS == 0 {
            out.table(&std::mem::take(&mut table))?;
        }
    }
    out.table(&table)?;
    out.flush()?;
    Ok(Exit::ok())
}

fn view(change: &v1::DiffFilesResponse) -> ChangeView {
    ChangeView {
        change: match change.change() {
            v1::Change::Unspecified => "unknown",
            v1::Change::Added => "added",
            v1::Change::Removed => "removed",
            v1::Change::Modified => "modified",
        },
        path: Text::from(&*change.path),
        content: change.content,
        metadata: change.metadata,
        one: change.one.as_ref().map(FileView::from),
        two: change.two.as_ref().map(FileView::from),
    }
}

fn row(change: &v1::DiffFilesResponse) -> [Cell; 3] {
    let file = change.two.as_ref().or(change.one.as_ref());
    let is_directory = file.is_some_and(|file| file.kind() == v1::FileKind::Directory);
    let name = format!("{}{}", path(&change.path), if is_directory { "/" } else { "" });
    let sized =
        |file: &Option<v1::File>| file.as_ref().filter(|file| file.kind() == v1::FileKind::Regular).map(|file| size(file.size));
    let (mark, tone, what) = match change.change() {
        v1::Change::Added => ("+", Tone::Good, sized(&change.two)),
        v1::Change::Removed => ("-", Tone::Bad, sized(&change.one)),
        _ => ("~", Tone::Odd, Some(modified(change, sized(&change.one), sized(&change.two)))),
    };
    [Cell::toned(mark, tone), Cell::toned(name, tone), what.unwrap_or_default().into()]
}

fn modified(change: &v1::DiffFilesResponse, one: Option<String>, two: Option<String>) -> String {
    let sizes = match (one, two) {
        (Some(one), Some(two)) if one != two => format!("{one} -> {two}"),
        (_, Some(two)) => two,
        _ => String::new(),
    };
    match (change.content, change.metadata) {
        (true, _) => sizes,
        (false, true) => "metadata".to_owned(),
        (false, false) => String::new(),
    }
}
