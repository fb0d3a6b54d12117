// SPDX-License-Identifier: Apache-2.0
//! `holdfast snapshot watch`.

use super::row;
use crate::connection::{ConnectArgs, remote};
use crate::exit::Exit;
use crate::human::Here;
use crate::output::Output;
use crate::view::SnapshotView;
use clap::Args;
use holdfast_proto::v1;
use holdfast_proto::v1::watch_snapshots_response::Kind;
use serde::Serialize;

/// Tell of snapshots as they are made and deleted.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Event {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<SnapshotView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// A snapshot that is being taken.
#[derive(Debug, Serialize)]
struct Progress {
    id: String,
    name: String,
    phase: String,
    members: u32,
}

impl From<v1::SnapshotProgress> for Progress {
    fn from(progress: v1::SnapshotProgress) -> Self {
        let v1::SnapshotProgress { id, name, phase, members } = progress;
        Self { id, name, phase, members }
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "unknown",
        Kind::Exists => "exists",
        Kind::Synced => "synced",
        Kind::Created => "created",
        Kind::Deleted => "deleted",
        Kind::Progress => "progress",
    }
}

/// Tells until it is interrupted, or the coordinator goes.
pub(super) async fn run(args: WatchArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let connection = args.connect.connect().await?;
    let mut stream = connection.snapshots().watch_snapshots(v1::WatchSnapshotsRequest {}).await.map_err(remote)?.into_inner();
    loop {
        let event = tokio::select! {
            message = stream.message() => match message.map_err(remote)? {
                Some(event) => event,
                None => return Ok(Exit::ok()),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::ok()),
        };
        let kind = word(event.kind());
        if out.is_json() {
            let snapshot = event.snapshot.as_ref().map(SnapshotView::from);
            out.item(&Event { event: kind, snapshot, progress: event.progress.map(Progress::from) }, true)?;
        } else if let Some(snapshot) = &event.snapshot {
            let [name, created, members, ..] = row(snapshot, &Here::system());
            out.line(&format!("{kind:8} {name}  {created}  members: {members}"))?;
            out.flush()?;
        } else if let Some(v1::SnapshotProgress { id, name, phase, members }) = &event.progress {
            let name = if name.is_empty() { id.get(..8).unwrap_or(id) } else { name };
            out.line(&format!("{kind:8} {name}  {phase}  members: {members}"))?;
            out.flush()?;
        }
    }
}
