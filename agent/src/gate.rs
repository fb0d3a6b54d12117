// SPDX-License-Identifier: Apache-2.0
//! The gate: whose disk is this, and what must be restored before the application may start.

use crate::agent::{Agent, Parts, last_of};
use crate::capture::{Job, Root, Setting};
use crate::clock::SystemClock;
use crate::config::AgentConfig;
use crate::scratch::{LineageScratch, Memory};
use crate::status::{LastCheckpoint, Phase, Restored, Status};
use crate::watch::{Ear, Watch};
use crate::{AgentError, capture, marker, thread};
use holdfast_core::checkpoint::Quality;
use holdfast_core::disk::{Decision, Found, Marker, MarkerState, Stored, decide};
use holdfast_core::id::{HolderKey, LineageId, RootId, VolumeId};
use holdfast_store::StoreError;
use holdfast_store::capture::{Clock, Dirt};
use holdfast_store::log::{Entry, Log, Selector};
use holdfast_store::reader::Reader;
use holdfast_store::record::Checkpoint;
use holdfast_store::restore::{Extra, Options, Progress, Restore, Stats, Target, compare, restore};
use holdfast_store::seal::Domain;
use holdfast_store::transport::Transport;
use holdfast_store::write::{Opening, Session, Takeover};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::sync::watch;

/// An agent whose application may start.
#[derive(Debug)]
pub struct Prepared {
    /// The agent; it captures as long as it runs.
    pub agent: Agent,
    /// What was restored, if anything was.
    pub restored: Option<Restored>,
}

/// A lineage that is ours, and how to make it so again.
struct Claimed {
    session: Session,
    opening: Opening,
    /// The checkpoint that it goes on from.
    last: Option<LastCheckpoint>,
}

/// What preparing works with.
struct Gate {
    config: AgentConfig,
    lineage: LineageId,
    log: Log,
    scratch: LineageScratch,
    roots: Arc<Vec<Root>>,
    status: watch::Sender<Status>,
    cancel: Arc<AtomicBool>,
}

/// Looks at the disk and the store, claims the lineage, restores if it must be. When this returns, the application may start.
///
/// # Errors
/// If a person must decide, the lineage may not be taken, or restoring failed: then the application must not start.
pub async fn prepare(
    config: AgentConfig,
    transport: Arc<dyn Transport>,
    domain: Arc<Domain>,
    status: watch::Sender<Status>,
    progress: Arc<Progress>,
) -> Result<Prepared, AgentError> {
    let lineage = domain.keys.identity.lineage_id(&config.lineage);
    let scratch = LineageScratch::open(&config.scratch, lineage, &config.lineage, config.scratch_bytes)?;
    let roots = Arc::new(config.paths.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?);
    let log = Log::new(Arc::clone(&transport), Arc::clone(&domain), lineage);
    let gate = Gate { config, lineage, log, scratch, roots, status, cancel: Arc::default() };
    // nothing is claimed for a disk that a person must decide about
    let (found, _) = gate.look().await?;
    let reader = Reader::new(transport, domain, tokio::runtime::Handle::current(), Some(Arc::clone(gate.scratch.packs())));
    let (session, opening) = gate.claim(Arc::new(reader)).await?;
    let last = gate.last(&session).await?;
    let claimed = Claimed { session, opening, last };
    // the log may have moved until it was claimed; now it can't any more
    let (_, decision) = gate.look().await?;
    let volume = volume_of(&found)?;
    let (watch, ear) = Watch::new(&gate.config.paths, gate.config.watches_max);
    let setting = Setting {
        roots: Arc::clone(&gate.roots),
        volume,
        watch,
        cancel: Arc::clone(&gate.cancel),
        scratch: gate.scratch.directory().to_owned(),
        encoders: gate.config.tuning.encoders,
        clones: gate.config.reflink.then(Arc::default),
        partial_after: gate.config.partial_after,
    };
    match decision {
        Decision::Restore(sequence) => gate.restore(claimed, setting, ear, sequence, progress).await,
        Decision::Begin | Decision::Continue => {
            gate.mark(claimed.session.generation(), volume, MarkerState::Ready)?;
            Ok(Prepared { agent: gate.agent(claimed, setting, ear, false), restored: None })
        }
    }
}

/// The volume that the first marked state root names, or a new one.
fn volume_of(found: &[Found]) -> Result<VolumeId, AgentError> {
    match found.iter().find_map(|root| root.marker.as_ref()) {
        Some(marker) => Ok(marker.volume),
        None => Ok(VolumeId::new(random()?)),
    }
}

pub(crate) fn random() -> Result<[u8; 16], AgentError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| AgentError::Thread(format!("the system has no random numbers: {error}")))?;
    Ok(bytes)
}

impl Gate {
    /// What is on disk, and what to do about it.
    async fn look(&self) -> Result<(Vec<Found>, Decision), AgentError> {
        let find = |root: &Root| {
            marker::find(&root.path.label, &root.dir)
                .map_err(|source| AgentError::StatePath { path: root.path.path.clone(), source })
        };
        let found = self.roots.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let stored = self.stored().await?;
        let decision = decide(self.lineage, &found, stored, self.config.choices)?;
        tracing::debug!(?found, ?stored, choices = ?self.config.choices, ?decision, "looked at the disk");
        Ok((found, decision))
    }

    /// The newest state that the store could give back.
    async fn stored(&self) -> Result<Option<Stored>, AgentError> {
        let mark = match self.log.find(Selector::Newest, self.config.clean_only).await? {
            Some(mark) => mark,
            // better a fuzzy one than none
            None => match self.log.find(Selector::Newest, false).await? {
                Some(mark) => mark,
                None => return Ok(None),
            },
        };
        let record = self.log.read_body(mark.sequence).await?;
        let volume = record.checkpoint().and_then(|checkpoint| checkpoint.volume);
        Ok(Some(Stored { sequence: mark.sequence, generation: record.generation, volume }))
    }

    /// Claims the lineage; also returns how to claim it again.
    async fn claim(&self, reader: Arc<Reader>) -> Result<(Session, Opening), AgentError> {
        let memory = self.scratch.recall();
        let holder_key = HolderKey::new(random()?);
        // this place's last holder is gone: its lock is ours
        let takeover = match self.config.takeover {
            Takeover::Polite(None) => Takeover::Polite(memory.map(|memory| memory.holder_key)),
            other => other,
        };
        let opening = Opening {
            reader,
            name: self.config.lineage.clone(),
            owner: self.config.owner,
            holder: self.config.holder.clone(),
            holder_key,
            takeover,
            watermark: memory.map(|memory| memory.watermark),
            tuning: self.config.tuning.clone(),
            now: SystemClock.now(),
        };
        let session = Session::open(opening.clone()).await?;
        if let Some(head) = session.head() {
            self.scratch.remember(Memory { watermark: (head.sequence, head.hash), holder_key });
        }
        Ok((session, Opening { takeover: Takeover::Polite(Some(holder_key)), ..opening }))
    }

    /// The checkpoint that a session goes on from: the newest durable state, until there is another.
    async fn last(&self, session: &Session) -> Result<Option<LastCheckpoint>, AgentError> {
        if session.base() == 0 {
            return Ok(None);
        }
        let record = self.log.read_body(session.base()).await?;
        let whole = record.checkpoint().filter(|checkpoint| checkpoint.quality != Quality::Partial);
        Ok(whole.map(|checkpoint| LastCheckpoint {
            sequence: record.sequence,
            last_close: checkpoint.interval.last_close,
            quality: checkpoint.quality,
            root: checkpoint.root,
        }))
    }

    fn mark(&self, generation: u64, volume: VolumeId, state: MarkerState) -> Result<(), AgentError> {
        let marker = Marker { lineage: self.lineage, generation, volume, state };
        for root in self.roots.iter() {
            let failed = |source| AgentError::StatePath { path: root.path.path.clone(), source };
            marker::write(&root.dir, &marker).map_err(failed)?;
        }
        Ok(())
    }

    fn agent(self, Claimed { session, opening, last }: Claimed, setting: Setting, ear: Ear, restored: bool) -> Agent {
        let Self { config, scratch, status, .. } = self;
        Agent::new(Parts { config, opening, scratch, session, setting, ear, status, last }, restored)
    }

    async fn restore(
        self,
        claimed: Claimed,
        setting: Setting,
        ear: Ear,
        sequence: u64,
        progress: Arc<Progress>,
    ) -> Result<Prepared, AgentError> {
        let Claimed { session, opening, .. } = claimed;
        let began = Instant::now();
        self.status.send_modify(|status| status.phase = Phase::Restoring);
        self.mark(session.generation(), setting.volume, MarkerState::Restoring(sequence))?;
        let entry = self.log.read(sequence).await?;
        let checkpoint = entry.record.checkpoint().ok_or_else(|| no_checkpoint(sequence))?.clone();
        tracing::info!(lineage = %self.config.lineage, sequence, entries = checkpoint.totals.entries(), bytes = checkpoint.totals.bytes, "restoring");
        let work = RestoreWork {
            targets: self.roots.iter().map(target).collect(),
            options: Options { extra: Extra::Remove, special: self.config.special, ..Options::default() },
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
        let (session, setting, proof, last) = proven?;
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
            deviations: stats.deviations,
        };
        Ok(Prepared { agent: self.agent(Claimed { session, opening, last }, setting, ear, true), restored: Some(restored) })
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
    fn restore(&self, entry: &Entry) -> Result<Stats, AgentError> {
        let object = holdfast_store::tree::Object::Record { lineage: entry.record.lineage, sequence: entry.record.sequence };
        self.reader.know_record(object, Arc::clone(&entry.document));
        let stats = restore(&Restore {
            reader: &self.reader,
            roots: &self.checkpoint.roots,
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

/// Computes the root of what is on disk, as the first capture of what was restored: one pass over the files serves for both. The checkpoint that
/// comes of it holds the new inodes' stamps, so that no later start has to read the files again.
async fn prove(
    mut session: Session,
    setting: Setting,
    work: RestoreWork,
    sequence: u64,
    stats: &Stats,
) -> Result<(Session, Setting, RootId, Option<LastCheckpoint>), AgentError> {
    let dirt = setting.roots.iter().map(|root| (root.path.label.clone(), Dirt::all())).collect();
    let job = Job { dirt, foreign: true, always: true };
    let (session, setting, done) = thread::run("prove", move || {
        let done = capture::run(&mut session, &setting, &job);
        (session, setting, done)
    })
    .await?;
    // the state that was restored is the newest durable one, as a checkpoint of this generation
    let last = done?.checkpoint.as_ref().map(last_of);
    let asked = work.checkpoint.root;
    let found = session.root().ok_or_else(|| no_checkpoint(sequence))?;
    if found == asked {
        return Ok((session, setting, found, last));
    }
    // what could not be restored as it was is known; anything else is a failure
    let comparison = thread::run("compare", move || compare(&work.reader, &work.checkpoint.roots, &work.targets)).await??;
    let known = |path: &[u8]| stats.deviations.iter().any(|deviation| deviation.path == path);
    match comparison.deviations.iter().find(|deviation| !known(&deviation.path)) {
        None if stats.deviation_count > 0 => Ok((session, setting, found, last)),
        first => Err(AgentError::NotProven {
            sequence,
            asked: asked.to_string(),
            found: found.to_string(),
            first: first.map_or_else(
                || "none that could be told".to_owned(),
                |first| format!("{}: {}", holdfast_store::disk::display(&first.path), first.what),
            ),
        }),
    }
}
