// SPDX-License-Identifier: Apache-2.0
//! `holdfast ls`: the files of any point in time.

use crate::connection::{ConnectArgs, remote};
use crate::exit::Exit;
use crate::human::{Here, path, size};
use crate::output::{Output, note};
use crate::point::{self, PointArgs};
use crate::table::{Cell, Table, Tone};
use crate::view::{CheckpointView, FileView, moment};
use clap::Args;
use holdfast_proto::v1;
use holdfast_proto::v1::point_ref::Point;
use serde::Serialize;
use std::ffi::OsString;

/// List the files of a lineage as they were.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// The lineage, and a path that begins with a label; without a lineage, the only one
    #[arg(value_name = "LINEAGE[:PATH]", default_value = "")]
    place: OsString,
    /// What lies beneath directories, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Rights, owner, size and time
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    point: PointArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    checkpoint: Option<CheckpointView>,
    files: Vec<FileView>,
}

const PAGE: u32 = 1000;

/// Lists them.
pub(crate) async fn run(args: LsArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let here = Here::system();
    let (name, directory) = point::place(&args.place)?;
    let connection = args.connect.connect().await?;
    let lineage = point::lineage(&connection, name.as_deref()).await?;
    let point = args.point.of(lineage, &here)?;
    let mut client = connection.files();
    let mut request = v1::ListFilesRequest {
        point: Some(point),
        path: directory.into(),
        recursive: args.recursive,
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut document = Document { checkpoint: None, files: Vec::new() };
    loop {
        let page = client.list_files(request.clone()).await.map_err(remote)?.into_inner();
        if document.checkpoint.is_none() && page.checkpoint.is_some() {
            document.checkpoint = page.checkpoint.as_ref().map(CheckpointView::from);
            // the newest may move while pages are read
            pin(&mut request, page.checkpoint.as_ref());
        }
        if out.is_json() {
            document.files.extend(page.files.iter().map(FileView::from));
        } else {
            print(out, &page.files, &args, &here)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if out.is_json() {
        out.document(&document)?;
    }
    out.flush()?;
    Ok(Exit::ok())
}

fn pin(request: &mut v1::ListFilesRequest, checkpoint: Option<&v1::Checkpoint>) {
    if let (Some(point), Some(checkpoint)) = (&mut request.point, checkpoint) {
        point.point = Some(Point::Checkpoint(checkpoint.sequence));
        if checkpoint.quality() == v1::Quality::Fuzzy {
            note(&format!("checkpoint #{} is fuzzy: something changed while it was captured", checkpoint.sequence));
        }
    }
}

fn print(out: &mut Output, files: &[v1::File], args: &LsArgs, here: &Here) -> anyhow::Result<()> {
    let mut table = Table::new(&[]).right(&[2]);
    for file in files {
        let name = named(file, args.recursive);
        if args.long {
            table.row(long(file, name, here));
        } else {
            out.line(&name)?;
        }
    }
    Ok(out.table(&table)?)
}

/// Its name, or for recursive listings its path; directories end with a slash.
fn named(file: &v1::File, whole: bool) -> String {
    let shown = if whole { &file.path[..] } else { file.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default() };
    let slash = if file.kind() == v1::FileKind::Directory { "/" } else { "" };
    format!("{}{slash}", path(shown))
}

fn long(file: &v1::File, mut name: String, here: &Here) -> [Cell; 5] {
    if !file.target.is_empty() {
        name.push_str(&format!(" -> {}", path(&file.target)));
    }
    let sized = match file.kind() {
        v1::FileKind::Regular => size(file.size),
        _ => "-".to_owned(),
    };
    let when = file.modified.as_ref().map(|at| here.when(moment(at))).unwrap_or_default();
    let tone = if file.mode & 0o6000 != 0 { Tone::Odd } else { Tone::Plain };
    [Cell::toned(mode(file), tone), format!("{}:{}", file.uid, file.gid).into(), sized.into(), when.into(), name.into()]
}

/// As `ls` shows it: `drwxr-xr-x`.
pub(crate) fn mode(file: &v1::File) -> String {
    let mut text = String::with_capacity(10);
    text.push(match file.kind() {
        v1::FileKind::Directory => 'd',
        v1::FileKind::Symlink => 'l',
        v1::FileKind::Fifo => 'p',
        v1::FileKind::Socket => 's',
        v1::FileKind::CharacterDevice => 'c',
        v1::FileKind::BlockDevice => 'b',
        v1::FileKind::Regular | v1::FileKind::Unspecified => '-',
    });
    for (shift, special, with, without) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = file.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (file.mode & special != 0, bits & 1 != 0) {
            (false, true) => 'x',
            (false, false) => '-',
            (true, true) => with,
            (true, false) => without,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_everywhere() {
        let shown = |kind: v1::FileKind, bits: u32| mode(&v1::File { kind: kind.into(), mode: bits, ..Default::default() });
        assert_eq!(shown(v1::FileKind::Regular, 0o644), "-rw-r--r--");
        assert_eq!(shown(v1::FileKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(shown(v1::FileKind::Regular, 0o4755), "-rwsr-xr-x");
        assert_eq!(shown(v1::FileKind::Regular, 0o6000), "---S--S---");
    }
}
