// SPDX-License-Identifier: Apache-2.0
//! Carrying a restore out: fetch, write, sync, prove.

use super::aim::Aim;
use super::marks::{Marks, Restoring};
use super::report::Reporter;
use super::{RestoreArgs, receipt::Done};
use crate::connection::Connection;
use crate::thread;
use anyhow::{Context, anyhow, bail};
use holdfast_agent::clock::SystemClock;
use holdfast_agent::grant::Granted;
use holdfast_proto::v1;
use holdfast_store::log::{Entry, Log};
use holdfast_store::reader::Reader;
use holdfast_store::record::Checkpoint;
use holdfast_store::restore::{
    Chosen, Deviation, Extra, Options, Progress, Restore, Stats, Target, compare, prove, restore as write, verify,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often what is shown is brought up to date.
const TICK: Duration = Duration::from_millis(100);

struct Job {
    reader: Arc<Reader>,
    checkpoint: Checkpoint,
    targets: Vec<Target>,
    restoring: Restoring,
    options: Options,
    occupied: bool,
    progress: Arc<Progress>,
    cancel: Arc<AtomicBool>,
}

/// What came of a job.
struct Outcome {
    stats: Stats,
    root_found: Option<String>,
    /// What is not as it was, though nothing was said to have gone wrong.
    unexplained: Vec<Deviation>,
    unexplained_count: u64,
    compared: bool,
}

/// Restores a granted checkpoint.
pub(super) async fn restore(
    args: &RestoreArgs,
    connection: &Connection,
    granted: &Granted,
    asked: &v1::Checkpoint,
    aim: Aim,
    reporter: &mut Reporter<'_>,
) -> anyhow::Result<Done> {
    let began = Instant::now();
    let (entry, reader) = open(connection, granted, asked).await?;
    let checkpoint = entry.record.checkpoint().context("the record that was granted is no checkpoint")?.clone();
    let root_asked = checkpoint.root.to_string();
    let (progress, cancel) = (Arc::<Progress>::default(), Arc::<AtomicBool>::default());
    let options = Options {
        extra: aim.extra,
        special: args.special,
        owners: !args.no_owners,
        select: aim.select.clone(),
        ..Options::default()
    };
    let restoring = Restoring {
        lineage: granted.lineage,
        generation: entry.record.generation,
        sequence: entry.record.sequence,
        whole: aim.select.is_empty(),
    };
    let totals = checkpoint.totals;
    let job = Job {
        reader,
        checkpoint,
        targets: aim.open()?,
        restoring,
        options,
        occupied: aim.occupied,
        progress: Arc::clone(&progress),
        cancel: Arc::clone(&cancel),
    };
    reporter.expect(&totals, !aim.select.is_empty());
    let mut working = thread::start("restore", move || job.run())?;
    let mut tick = tokio::time::interval(TICK);
    let outcome = loop {
        tokio::select! {
            outcome = working.ended() => break outcome?,
            _ = tick.tick() => reporter.show(&progress).await,
            // files are left as they are: the next try goes on from them
            _ = tokio::signal::ctrl_c() => cancel.store(true, Ordering::Relaxed),
        }
    };
    working.join();
    reporter.clear();
    let outcome = outcome?;
    Ok(Done {
        root_asked,
        root_found: outcome.root_found,
        compared: outcome.compared,
        file_bytes: progress.bytes.load(Ordering::Relaxed),
        stats: outcome.stats,
        unexplained: outcome.unexplained,
        unexplained_count: outcome.unexplained_count,
        took: began.elapsed(),
        target: aim.describe(),
    })
}

/// The record of a checkpoint that was granted, and what reads its files.
pub(super) async fn open(
    connection: &Connection,
    granted: &Granted,
    asked: &v1::Checkpoint,
) -> anyhow::Result<(Entry, Arc<Reader>)> {
    let transport = connection.transport(granted);
    let log = Log::new(Arc::clone(&transport), Arc::clone(&granted.domain), granted.lineage);
    let entry = log.read(asked.sequence).await?;
    if !asked.record.is_empty() && entry.hash.to_string() != asked.record {
        bail!("record {} is another than the coordinator says", asked.sequence);
    }
    let reader = Reader::new(transport, Arc::clone(&granted.domain), tokio::runtime::Handle::current(), None);
    reader.know(&entry);
    Ok((entry, Arc::new(reader)))
}

/// Has the system write what it holds of the targets' file systems.
fn sync(targets: &[Target]) -> anyhow::Result<()> {
    for target in targets {
        rustix::fs::syncfs(target.dir.fd()).with_context(|| format!("sync the directory of {}", target.label))?;
    }
    Ok(())
}

impl Job {
    /// Everything that blocks.
    fn run(self) -> anyhow::Result<Outcome> {
        let marks = Marks::set(self.restoring, &self.targets)?;
        let stats = write(&Restore {
            reader: &self.reader,
            roots: &self.checkpoint.roots,
            totals: &self.checkpoint.totals,
            targets: &self.targets,
            options: &self.options,
            cancel: &self.cancel,
            progress: &self.progress,
        })?;
        let targets = self.targets.clone();
        // while it is proven what the files hold, the system writes them to the disk; only what is both is done
        let (outcome, synced) = std::thread::scope(|scope| {
            let syncing = scope.spawn(|| sync(&targets));
            (self.prove(stats), syncing.join())
        });
        let outcome = outcome?;
        synced.map_err(|_| anyhow!("the thread that syncs ended by itself"))??;
        if outcome.unexplained_count == 0 {
            marks.done()?;
        }
        Ok(outcome)
    }

    /// The proof by the root where the whole state is there and nothing else, otherwise file by file.
    fn prove(self, stats: Stats) -> anyhow::Result<Outcome> {
        let whole = self.options.select.is_empty();
        let mut root_found = None;
        if whole {
            let (roots, totals) = (&self.checkpoint.roots, &self.checkpoint.totals);
            let proof = prove(&self.reader, roots, totals, &self.targets, None, &SystemClock, &self.cancel)?;
            root_found = Some(proof.root.to_string());
            if proof.root == self.checkpoint.root {
                return Ok(Outcome { stats, root_found, unexplained: vec![], unexplained_count: 0, compared: false });
            }
        }
        let keeps_others = self.occupied && self.options.extra == Extra::Keep;
        let (found, count) = if whole && !keeps_others && self.options.owners {
            let found = compare(&self.reader, &self.checkpoint.roots, &self.targets)?;
            (found.deviations, found.count)
        } else {
            let request = Chosen {
                reader: &self.reader,
                roots: &self.checkpoint.roots,
                targets: &self.targets,
                select: &self.options.select,
                owners: self.options.owners,
                cancel: &self.cancel,
            };
            let found = verify(&request)?;
            (found.deviations, found.count)
        };
        let known = |deviation: &Deviation| stats.deviations.iter().any(|known| known.path == deviation.path);
        let listed = found.len() as u64;
        let unexplained: Vec<_> = found.into_iter().filter(|one| !known(one)).collect();
        let unexplained_count = unexplained.len() as u64 + (count - listed);
        // the root differs, and nothing that could be compared does
        let silent = whole && !keeps_others && unexplained.is_empty() && stats.deviation_count == 0 && self.options.owners;
        if silent {
            bail!(
                "the restored state has another root than was asked for, and no file that could be told differs: it is not proven"
            );
        }
        Ok(Outcome { stats, root_found: root_found.filter(|_| !keeps_others), unexplained, unexplained_count, compared: true })
    }
}
