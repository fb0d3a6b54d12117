// SPDX-License-Identifier: Apache-2.0
//! `holdfast cat`: a file as it was.

use crate::connection::{ConnectArgs, remote};
use crate::exit::{Exit, Usage};
use crate::human::Here;
use crate::output::Output;
use crate::point::{self, PointArgs};
use crate::view::{CheckpointView, FileView};
use clap::Args;
use holdfast_proto::v1;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Write a file of a lineage, as it was, to standard output.
#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// The lineage, and the file's path from its label on; without a lineage, the only one
    #[arg(value_name = "LINEAGE:PATH")]
    place: OsString,
    /// From this byte on
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// So many bytes [default: to the end]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    length: Option<u64>,
    #[command(flatten)]
    point: PointArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// With `-o json`: first what it is, then its bytes in pieces.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    File { checkpoint: Option<Box<CheckpointView>>, file: Option<Box<FileView>> },
    Hex(String),
}

/// Writes it.
pub(crate) async fn run(args: CatArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let here = Here::system();
    // without a colon it can only be a path: a lineage alone is no file
    let (name, path) = match args.place.as_bytes().contains(&b':') {
        true => point::place(&args.place)?,
        false => (None, point::path(args.place.as_bytes())?),
    };
    if path.is_empty() {
        return Err(Usage("which file? Write LINEAGE:PATH, as in web:data/journal/0001".to_owned()).into());
    }
    let connection = args.connect.connect().await?;
    let lineage = point::lineage(&connection, name.as_deref()).await?;
    let point = args.point.of(lineage, &here)?;
    let request =
        v1::ReadFileRequest { point: Some(point), path: path.into(), offset: args.offset, length: args.length.unwrap_or(0) };
    let mut stream = connection.files().read_file(request).await.map_err(remote)?.into_inner();
    while let Some(message) = stream.message().await.map_err(remote)? {
        if !out.is_json() {
            out.bytes(&message.data)?;
            continue;
        }
        if message.file.is_some() {
            let checkpoint = message.checkpoint.as_ref().map(CheckpointView::from);
            out.item(
                &Item::File {
                    checkpoint: checkpoint.map(Box::new),
                    file: message.file.as_ref().map(FileView::from).map(Box::new),
                },
                false,
            )?;
        }
        if !message.data.is_empty() {
            out.item(&Item::Hex(hex::encode(&message.data)), false)?;
        }
    }
    out.flush()?;
    Ok(Exit::ok())
}
