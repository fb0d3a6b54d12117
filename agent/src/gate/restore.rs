// SPDX-License-Identifier: Apache-2.0
//! Restoring, and the proof of it, before the application may start.

use super::{Claimed, Gate, Prepared};
use crate::agent::last_of;
use crate::capture::{Job, Root, Setting};
use crate::clock::SystemClock;
use crate::history::PassedOver;
use crate::status::{Brief, LastCheckpoint, Phase, Restored};
use crate::watch::Ear;
use crate::{AgentError, capture, thread};
use holdfast_core::disk::MarkerState;
use holdfast_core::id::RootId;
use holdfast_store::StoreError;
use holdfast_store::capture::{Dirt, Filter};
use holdfast_store::log::Entry;
use holdfast_store::reader::Reader;
use holdfast_store::record::Checkpoint;
use holdfast_store::restore::{DEVIATIONS_MAX, Deviation, Extra, Options, Progress, Restore, Stats, Target, compare, restore};
use holdfast_store::tree::RootItem;
use holdfast_store::write::Session;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What is to be restored.
pub(super) struct Wanted {
    pub(super) sequence: u64,
    /// Newer ones that are left out.
    pub(super) passed_over: Option<PassedOver>,
    pub(super) progress: Arc<Progress>,
}

impl Gate {
    pub(super) async fn restore(
        self,
        claimed: Claimed,
        setting: Setting,
        ear: Ear,
        wanted: Wanted,
    ) -> Result<Prepared, AgentError> {
        let Claimed { session, opening, .. } = claimed;
        let Wanted { sequence, passed_over, progress } = wanted;
        let began = Instant::now();
        self.mark(session.generation(), setting.volume, MarkerState::Restoring(sequence))?;
        let entry = self.log.read(sequence).await?;
        let checkpoint = entry.record.checkpoint().ok_or_else(|| no_checkpoint(sequence))?.clone();
        let brief = Brief { sequence, last_close: checkpoint.interval.last_close, passed_over };
        self.status.send_modify(|status| (status.phase, status.restored) = (Phase::Restoring, Some(brief)));
        self.announce(&brief, &checkpoint);
        let writers = self.config.tuning.encoders.max(2);
        let work = RestoreWork {
            targets: self.roots.iter().filter(|root| !root.path.read_only).map(target).collect(),
            options: Options { extra: Extra::Remove, special: self.config.special, writers, ..Options::default() },
            cancel: Arc::clone(&self.cancel),
            reader: Arc::clone(session.reader()),
            checkpoint: checkpoint.clone(),
            progress,
        };
        let (work, stats) = thread::run("restore", move || {
            let stats = work.restore(&entry);
            (work, stats)
        })
        .await?;
        let stats = stats?;
        // while it is proven what the files hold, the system writes them to the disk; only then is the directory marked as whole
        let synced = thread::run("sync", sync(&work.targets));
        let (proven, synced) = tokio::join!(prove(session, setting, work, sequence, &stats), synced);
        let Proven { session, setting, root: proof, last } = proven?;
        synced??;
        self.mark(session.generation(), setting.volume, MarkerState::Ready)?;
        let restored = Restored {
            sequence,
            last_close: checkpoint.interval.last_close,
            root: checkpoint.root,
            root_on_disk: proof,
            entries: stats.entries,
            written_bytes: stats.written_bytes,
            fetched_bytes: stats.fetched_bytes,
            took: began.elapsed(),
            passed_over,
            deviations: stats.deviations.into_iter().take(DEVIATIONS_MAX).collect(),
        };
        Ok(Prepared { agent: self.agent(Claimed { session, opening, last }, setting, ear, true), restored: Some(restored) })
    }

    /// An older state than there is must never come back without a word.
    fn announce(&self, brief: &Brief, checkpoint: &Checkpoint) {
        let (lineage, sequence) = (&self.config.lineage, brief.sequence);
        let (entries, bytes) = (checkpoint.totals.entries(), checkpoint.totals.bytes);
        tracing::info!(%lineage, sequence, captured = %brief.last_close, quality = %checkpoint.quality, entries, bytes, "restoring");
        if let Some(newer) = brief.passed_over {
            tracing::warn!(
                %lineage, sequence, captured = %brief.last_close, newest = newer.sequence, newest_captured = %newer.last_close,
                "newer checkpoints are left out: something changed while they were captured, and clean ones are asked for"
            );
        }
    }
}

fn no_checkpoint(sequence: u64) -> StoreError {
    StoreError::Missing { object: format!("record {sequence}"), what: "the checkpoint to restore".to_owned() }
}

fn target(root: &Root) -> Target {
    Target { label: root.path.label.clone(), dir: Arc::clone(&root.dir), filter: root.path.filter.clone() }
}

struct RestoreWork {
    targets: Vec<Target>,
    options: Options,
    cancel: Arc<AtomicBool>,
    reader: Arc<Reader>,
    checkpoint: Checkpoint,
    progress: Arc<Progress>,
}

impl RestoreWork {
    /// What of the checkpoint has a directory to go to: a state path that is only read now, or none any more, is left out.
    fn roots(&self) -> Vec<RootItem> {
        let has_target = |root: &&RootItem| self.targets.iter().any(|target| target.label == root.label);
        self.checkpoint.roots.iter().filter(has_target).cloned().collect()
    }

    /// Whether checkpoint and targets are of the same state paths.
    fn is_all(&self, setting: &Setting) -> bool {
        let roots = self.roots().len();
        (roots, roots) == (self.checkpoint.roots.len(), setting.roots.len())
    }

    fn restore(&self, entry: &Entry) -> Result<Stats, AgentError> {
        self.reader.know(entry);
        let roots = self.roots();
        let stats = restore(&Restore {
            reader: &self.reader,
            roots: &roots,
            totals: &self.checkpoint.totals,
            targets: &self.targets,
            options: &self.options,
            cancel: &self.cancel,
            progress: &self.progress,
        })?;
        Ok(stats)
    }
}

/// Has the system write what it holds of the targets' file systems.
fn sync(targets: &[Target]) -> impl FnOnce() -> Result<(), AgentError> + Send + use<> {
    let targets: Vec<_> = targets.iter().map(|target| (target.label.clone(), Arc::clone(&target.dir))).collect();
    move || {
        for (label, dir) in targets {
            rustix::fs::syncfs(dir.fd()).map_err(|error| AgentError::StatePath { path: label.into(), source: error.into() })?;
        }
        Ok(())
    }
}

/// What came of a proof.
struct Proven {
    session: Session,
    setting: Setting,
    root: RootId,
    last: Option<LastCheckpoint>,
}

/// Computes the root of what is on disk, as the first capture of what was restored: one pass over the files serves for both. The checkpoint that
/// comes of it holds the new inodes' stamps, so that no later start has to read the files again. It is made only of what is proven: what isn't must
/// never be taken for the state.
async fn prove(
    mut session: Session,
    setting: Setting,
    work: RestoreWork,
    sequence: u64,
    stats: &Stats,
) -> Result<Proven, AgentError> {
    let dirt = setting.roots.iter().map(|root| (root.path.label.clone(), Dirt::all())).collect();
    let job = Job { dirt, foreign: true, always: true, brief: false };
    let (deviations, deviation_count) = (stats.deviations.clone(), stats.deviation_count);
    thread::run("prove", move || {
        let taken = capture::take(&mut session, &setting, &job)?;
        let root = work.judge(taken.root(&session), &setting, sequence, &deviations, deviation_count)?;
        // the state that was restored is the newest durable one, as a checkpoint of this generation
        let last = capture::keep(&mut session, &setting, &job, taken)?.checkpoint.as_ref().map(last_of);
        Ok(Proven { session, setting, root, last })
    })
    .await?
}

impl RestoreWork {
    /// Whether what was found is what was asked for; returns the root that says so.
    fn judge(
        &self,
        found: RootId,
        setting: &Setting,
        sequence: u64,
        deviations: &[Deviation],
        deviation_count: u64,
    ) -> Result<RootId, AgentError> {
        let asked = self.checkpoint.root;
        if found == asked {
            return Ok(found);
        }
        // what the session goes on from may have been cut otherwise, and what is state may have been another part of it
        let whole = |target: &Target| Target { filter: Filter::default(), ..target.clone() };
        let targets: Vec<_> = self.targets.iter().map(whole).collect();
        let (roots, totals, scratch) = (self.roots(), &self.checkpoint.totals, Some(setting.scratch.clone()));
        let along = holdfast_store::restore::prove(&self.reader, &roots, totals, &targets, scratch, &SystemClock, &self.cancel)?;
        if along.root == asked {
            return Ok(asked);
        }
        // what could not be restored as it was is known; anything else is a failure
        let comparison = compare(&self.reader, &self.checkpoint.roots, &self.targets)?;
        let known: HashSet<_> = deviations.iter().map(|deviation| &deviation.path).collect();
        match comparison.deviations.iter().find(|deviation| !known.contains(&deviation.path)) {
            None if deviation_count > 0 || !self.is_all(setting) => Ok(found),
            first => Err(AgentError::NotProven {
                sequence,
                asked: asked.to_string(),
                found: along.root.to_string(),
                first: first.map_or_else(
                    || "none that could be told".to_owned(),
                    |first| format!("{}: {}", holdfast_store::disk::display(&first.path), first.what),
                ),
            }),
        }
    }
}
