// SPDX-License-Identifier: Apache-2.0
//! An earlier second, in a fresh directory: granted by the coordinator, fetched through its relay, proven by the root computed from disk.

use super::story::DOMAIN;
use anyhow::Context;
use holdfast_agent::clock::SystemClock;
use holdfast_agent::grant::Granted;
use holdfast_agent::{Connection, RemoteTransport};
use holdfast_proto::v1;
use holdfast_proto::v1::restore_service_client::RestoreServiceClient;
use holdfast_store::capture::Filter;
use holdfast_store::disk::Dir;
use holdfast_store::log::{Entry, Log};
use holdfast_store::reader::Reader;
use holdfast_store::restore::{Options, Progress, Restore, Stats, Target, prove, restore};
use holdfast_store::transport::{Retries, Retrying, Transport};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// What came of it.
pub(super) struct Earlier {
    pub(super) checkpoint: v1::Checkpoint,
    pub(super) root_found: String,
    pub(super) took: Duration,
}

/// Restores a lineage as it was at a moment.
pub(super) async fn bring_back(
    connection: &Connection,
    lineage: &str,
    at: prost_types::Timestamp,
    label: &str,
    into: &Path,
) -> anyhow::Result<Earlier> {
    let began = Instant::now();
    let mut restores = RestoreServiceClient::new(connection.channel());
    let point = v1::PointRef {
        lineage: Some(v1::LineageRef { domain: DOMAIN.to_owned(), lineage: lineage.to_owned() }),
        point: Some(v1::point_ref::Point::At(at)),
        accept_fuzzy: true,
    };
    let target = into.display().to_string();
    let request = v1::CreateRestoreRequest { point: Some(point), target, paths: Vec::new() };
    let created = restores.create_restore(connection.request(request)).await.context("ask for a restore")?.into_inner();
    let wanted = created.restore.context("the coordinator granted no restore")?;
    let checkpoint = wanted.checkpoint.context("the coordinator named no checkpoint")?;
    let granted = Granted::try_from(created.grant.context("the coordinator gave no grant")?)?;
    let job = Job::open(connection, granted, checkpoint.sequence, label, into).await?;
    let mut working = crate::thread::start("restore", move || job.run())?;
    let done = working.ended().await?;
    working.join();
    let (ended, outcome) = match done {
        Ok((root_found, stats)) => (
            v1::ReportRestoreRequest {
                receipt: Some(receipt(&checkpoint, &root_found, &stats, began)),
                ..request_of(&wanted.id)
            },
            Ok(root_found),
        ),
        Err(error) => (v1::ReportRestoreRequest { error: format!("{error:#}"), ..request_of(&wanted.id) }, Err(error)),
    };
    restores.report_restore(connection.request(ended)).await.context("report the restore")?;
    Ok(Earlier { checkpoint, root_found: outcome?, took: began.elapsed() })
}

fn request_of(id: &str) -> v1::ReportRestoreRequest {
    v1::ReportRestoreRequest { id: id.to_owned(), ..v1::ReportRestoreRequest::default() }
}

fn receipt(checkpoint: &v1::Checkpoint, root_found: &str, stats: &Stats, began: Instant) -> v1::Receipt {
    let problem = |deviation: &holdfast_store::restore::Deviation| v1::Problem {
        path: deviation.path.clone().into(),
        what: deviation.what.clone(),
    };
    v1::Receipt {
        root_asked: checkpoint.root.clone(),
        root_found: root_found.to_owned(),
        partial: false,
        entries: stats.entries,
        bytes: stats.written_bytes,
        fetched_bytes: stats.fetched_bytes,
        kept_bytes: 0,
        took: prost_types::Duration::try_from(began.elapsed()).ok(),
        deviations: stats.deviations.iter().map(problem).collect(),
    }
}

struct Job {
    reader: Arc<Reader>,
    entry: Entry,
    target: Target,
}

impl Job {
    async fn open(connection: &Connection, granted: Granted, sequence: u64, label: &str, into: &Path) -> anyhow::Result<Self> {
        let remote = RemoteTransport::new(connection.channel(), granted.token.clone()).authorized(connection.tokens().clone());
        let transport: Arc<dyn Transport> = Arc::new(Retrying::new(Arc::new(remote), Retries::default()));
        let log = Log::new(Arc::clone(&transport), Arc::clone(&granted.domain), granted.lineage);
        let entry = log.read(sequence).await.context("read the checkpoint")?;
        let reader = Arc::new(Reader::new(transport, granted.domain, tokio::runtime::Handle::current(), None));
        std::fs::create_dir_all(into).with_context(|| format!("make {}", into.display()))?;
        let dir = Arc::new(Dir::open_root(into).with_context(|| format!("open {}", into.display()))?);
        Ok(Self { reader, entry, target: Target { label: label.to_owned(), dir, filter: Filter::default() } })
    }

    /// The root of what is on disk afterwards. Blocks.
    fn run(self) -> anyhow::Result<(String, Stats)> {
        let checkpoint = self.entry.record.checkpoint().context("it is no checkpoint")?;
        self.reader.know(&self.entry);
        let (cancel, targets) = (AtomicBool::new(false), [self.target]);
        let stats = restore(&Restore {
            reader: &self.reader,
            roots: &checkpoint.roots,
            totals: &checkpoint.totals,
            targets: &targets,
            options: &Options::default(),
            cancel: &cancel,
            progress: &Progress::default(),
        })?;
        let proof = prove(&self.reader, &checkpoint.roots, &checkpoint.totals, &targets, None, &SystemClock, &cancel)?;
        Ok((proof.root.to_string(), stats))
    }
}
