// SPDX-License-Identifier: Apache-2.0
//! `holdfast check`: whether everything that can be restored is there, and is what it should be.

use crate::connection::{ConnectArgs, Connection, remote};
use crate::exit::{DAMAGED, Exit, NotFound};
use crate::human::{count, size};
use crate::output::{Output, note, shows_progress};
use crate::thread;
use crate::view::Text;
use clap::Args;
use holdfast_agent::grant::Granted;
use holdfast_proto::v1;
use holdfast_store::check::{Finding, Options, Progress, Report, Request, check};
use holdfast_store::log::Log;
use holdfast_store::reader::Reader;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Check that everything that can be restored is there and undamaged.
///
/// Reads every record of the log and every node of the trees. Places of data must exist and be long enough; with
/// --read-data all data is fetched, decrypted and hashed, too.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Lineages [default: all]
    lineages: Vec<String>,
    /// Fetch, decrypt and hash all data, too
    #[arg(long)]
    read_data: bool,
    /// All checkpoints instead of the newest
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    sound: bool,
    lineages: Vec<LineageReport>,
}

#[derive(Debug, Serialize)]
struct LineageReport {
    domain: String,
    lineage: String,
    sound: bool,
    head: u64,
    newest: Option<u64>,
    records: u64,
    checkpoints: u64,
    nodes: u64,
    chunks: u64,
    packs: u64,
    data_bytes: u64,
    findings: Vec<FindingView>,
    finding_count: u64,
}

#[derive(Debug, Serialize)]
struct FindingView {
    kind: String,
    object: String,
    what: String,
    checkpoints: Vec<u64>,
    checkpoint_count: u64,
    paths: Vec<Text>,
    path_count: u64,
}

const TICK: Duration = Duration::from_millis(100);
const PAGE: u32 = 500;

/// Checks them one after the other.
pub(crate) async fn run(args: CheckArgs, out: &mut Output) -> anyhow::Result<Exit> {
    let connection = args.connect.connect().await?;
    let lineages = chosen(&connection, &args.lineages).await?;
    let options = Options { all: args.all, read_data: args.read_data };
    let mut reports = Vec::new();
    for lineage in lineages {
        let report = check_one(&connection, &lineage, options).await?;
        if !out.is_json() {
            print(&lineage, &report, out)?;
        }
        reports.push(view(lineage, report));
    }
    let sound = reports.iter().all(|report| report.sound);
    if out.is_json() {
        out.document(&Document { sound, lineages: reports })?;
    }
    out.flush()?;
    Ok(if sound { Exit::ok() } else { Exit::with(DAMAGED) })
}

/// Those that were named, or all.
async fn chosen(connection: &Connection, names: &[String]) -> anyhow::Result<Vec<v1::LineageRef>> {
    let mut lineages = Vec::new();
    for name in names {
        let reference = v1::LineageRef { domain: connection.domain().unwrap_or("default").to_owned(), lineage: name.clone() };
        lineages.push(reference);
    }
    if !lineages.is_empty() {
        return Ok(lineages);
    }
    let domain = connection.domain().unwrap_or_default().to_owned();
    let mut request = v1::ListLineagesRequest { domain, page_size: PAGE, page_token: String::new() };
    loop {
        let page = connection.lineages().list_lineages(request.clone()).await.map_err(remote)?.into_inner();
        lineages.extend(page.lineages.into_iter().filter_map(|lineage| lineage.r#ref));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if lineages.is_empty() {
        note("there is no lineage to check");
    }
    Ok(lineages)
}

/// What is read, and with which keys.
struct Source {
    log: Log,
    reader: Arc<Reader>,
    /// The restore that the coordinator granted it for; there is nothing else that grants a right to read.
    restore: Option<String>,
}

async fn source(connection: &Connection, lineage: &v1::LineageRef) -> anyhow::Result<Source> {
    let runtime = tokio::runtime::Handle::current();
    if let Some(repository) = connection.repository() {
        let missing = || NotFound(format!("there is no domain {:?} in this repository", lineage.domain));
        let domain = Arc::new(repository.existing_domain(&lineage.domain).await?.ok_or_else(missing)?);
        let id = domain.keys.identity.lineage_id(&lineage.lineage);
        let log = Log::new(Arc::clone(repository.transport()), Arc::clone(&domain), id);
        let reader = Arc::new(Reader::new(Arc::clone(repository.transport()), domain, runtime, None));
        return Ok(Source { log, reader, restore: None });
    }
    let point = v1::PointRef { lineage: Some(lineage.clone()), point: None, accept_fuzzy: true };
    let request =
        v1::CreateRestoreRequest { point: Some(point), target: "a check; nothing is restored".to_owned(), paths: vec![] };
    let created = connection.restores().create_restore(request).await.map_err(remote)?.into_inner();
    let grant = created.grant.ok_or_else(|| anyhow::anyhow!("the coordinator grants no right to read the lineage"))?;
    let granted = Granted::try_from(grant)?;
    let transport = connection.transport(&granted);
    let log = Log::new(Arc::clone(&transport), Arc::clone(&granted.domain), granted.lineage);
    let reader = Arc::new(Reader::new(transport, Arc::clone(&granted.domain), runtime, None));
    Ok(Source { log, reader, restore: created.restore.map(|restore| restore.id) })
}

async fn check_one(connection: &Connection, lineage: &v1::LineageRef, options: Options) -> anyhow::Result<Report> {
    let source = source(connection, lineage).await?;
    let (progress, cancel) = (Arc::<Progress>::default(), Arc::<AtomicBool>::default());
    let work = {
        let (log, reader) = (source.log.clone(), Arc::clone(&source.reader));
        let (progress, cancel) = (Arc::clone(&progress), Arc::clone(&cancel));
        move || check(&Request { log: &log, reader: &reader, options, cancel: &cancel, progress: &progress })
    };
    let mut working = thread::start("check", work)?;
    let bar = bar(&lineage.lineage);
    let mut tick = tokio::time::interval(TICK);
    let mut silent = 0;
    let report = loop {
        tokio::select! {
            report = working.ended() => break report?,
            _ = tick.tick() => {
                bar.set_message(message(&progress));
                silent += 1;
                if silent % 300 == 0 {
                    keep(connection, source.restore.as_deref(), "").await;
                }
            }
            _ = tokio::signal::ctrl_c() => cancel.store(true, Ordering::Relaxed),
        }
    };
    working.join();
    bar.finish_and_clear();
    keep(connection, source.restore.as_deref(), "it was a check: nothing was to be restored").await;
    let report = report?;
    if report.head == 0 {
        return Err(NotFound(format!("there is no lineage {:?} in domain {:?}", lineage.lineage, lineage.domain)).into());
    }
    Ok(report)
}

/// Keeps the right to read, or gives it up with a reason.
async fn keep(connection: &Connection, restore: Option<&str>, end: &str) {
    let Some(id) = restore else { return };
    let request = v1::ReportRestoreRequest { id: id.to_owned(), error: end.to_owned(), ..Default::default() };
    if let Err(status) = connection.restores().report_restore(request).await {
        tracing::debug!(error = %remote(status), "the coordinator could not be told about the check");
    }
}

fn bar(lineage: &str) -> ProgressBar {
    if !shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {prefix}: {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style).with_prefix(crate::human::clean(lineage))
}

fn message(progress: &Progress) -> String {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (records, nodes, chunks) = (read(&progress.records), read(&progress.nodes), read(&progress.chunks));
    format!("{records} records, {nodes} nodes, {chunks} chunks, {} read", size(read(&progress.bytes)))
}

fn view(lineage: v1::LineageRef, report: Report) -> LineageReport {
    let finding = |finding: &Finding| FindingView {
        kind: finding.kind.to_string(),
        object: finding.object.clone(),
        what: finding.what.clone(),
        checkpoints: finding.checkpoints.clone(),
        checkpoint_count: finding.checkpoint_count,
        paths: finding.paths.iter().map(|path| Text::from(&path[..])).collect(),
        path_count: finding.path_count,
    };
    LineageReport {
        domain: lineage.domain,
        lineage: lineage.lineage,
        sound: report.finding_count == 0,
        head: report.head,
        newest: report.newest,
        records: report.records,
        checkpoints: report.checkpoints,
        nodes: report.nodes,
        chunks: report.chunks,
        packs: report.packs,
        data_bytes: report.data_bytes,
        findings: report.findings.iter().map(finding).collect(),
        finding_count: report.finding_count,
    }
}

fn print(lineage: &v1::LineageRef, report: &Report, out: &mut Output) -> anyhow::Result<()> {
    let verdict = if report.finding_count == 0 { "sound".to_owned() } else { count(report.finding_count, "finding") };
    let data = match report.data_bytes {
        0 => format!("{} in {}", count(report.chunks, "chunk"), count(report.packs, "pack")),
        bytes => format!("{} in {}, {} read", count(report.chunks, "chunk"), count(report.packs, "pack"), size(bytes)),
    };
    let looked = format!(
        "{}, {}, {}",
        count(report.records, "record"),
        count(report.checkpoints, "checkpoint"),
        count(report.nodes, "node")
    );
    out.line(&format!("{}: {verdict} ({looked}, {data})", lineage.lineage))?;
    for finding in &report.findings {
        out.line(&format!("  {}: {}: {}", finding.kind, finding.object, finding.what))?;
        if !finding.checkpoints.is_empty() {
            let numbers: Vec<_> = finding.checkpoints.iter().map(|number| format!("#{number}")).collect();
            out.line(&format!("    spoils {}{}", numbers.join(", "), more(finding.checkpoint_count, numbers.len())))?;
        }
        for path in &finding.paths {
            out.line(&format!("    {}", crate::human::path(path)))?;
        }
        if finding.path_count > finding.paths.len() as u64 && finding.paths.len() >= holdfast_store::check::LISTED {
            out.line("    … and more")?;
        }
    }
    if report.finding_count > report.findings.len() as u64 {
        out.line(&format!("  … and {} more", report.finding_count - report.findings.len() as u64))?;
    }
    Ok(())
}

fn more(all: u64, listed: usize) -> String {
    match all.saturating_sub(listed as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}
