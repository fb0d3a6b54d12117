// SPDX-License-Identifier: Apache-2.0
//! The gate: whose disk is this, and what must be restored before the application may start.

use crate::agent::{Agent, Parts, Rests, last_of};
use crate::capture::{Job, Root, Setting};
use crate::clock::SystemClock;
use crate::config::AgentConfig;
use crate::governor::Governor;
use crate::history::{self, Newest, PassedOver};
use crate::scratch::{LineageScratch, Memory, apart};
use crate::status::{LastCheckpoint, Restored, Status};
use crate::watch::{Ear, Watch};
use crate::{AgentError, capture, lock, marker, thread};
use holdfast_core::checkpoint::Quality;
use holdfast_core::disk::{self, Decision, Found, Marker, MarkerState, decide};
use holdfast_core::id::{HolderKey, LineageId, VolumeId};
use holdfast_store::capture::{Clock, Dirt};
use holdfast_store::log::Log;
use holdfast_store::reader::Reader;
use holdfast_store::restore::Progress;
use holdfast_store::seal::Domain;
use holdfast_store::snapshot::{self, Purpose};
use holdfast_store::transport::Transport;
use holdfast_store::write::{Opening, Session, Takeover};
use restore::Wanted;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::watch;

mod restore;

/// An agent whose application may start.
#[derive(Debug)]
pub struct Prepared {
    /// The agent; it captures as long as it runs.
    pub agent: Agent,
    /// What was restored, if anything was.
    pub restored: Option<Restored>,
}

impl Prepared {
    /// Has the application brought to rest at every checkpoint, if there are rests to be had.
    #[must_use]
    pub fn resting(self, rests: Option<Rests>) -> Self {
        Self { agent: self.agent.resting(rests), ..self }
    }
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
    apart(&config.scratch, &config.paths)?;
    let scratch = LineageScratch::open(&config.scratch, lineage, &config.lineage, config.scratch_bytes)?;
    let roots = Arc::new(config.paths.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?);
    let log = Log::new(Arc::clone(&transport), Arc::clone(&domain), lineage);
    let gate = Gate { config, lineage, log, scratch, roots, status, cancel: Arc::default() };
    // nothing is claimed for a disk that a person must decide about
    let seen = gate.look().await?;
    for root in gate.roots.iter().filter(|root| !root.path.read_only) {
        lock::announce(&root.dir, gate.scratch.lock());
    }
    let reader = Reader::new(transport, domain, tokio::runtime::Handle::current(), Some(Arc::clone(gate.scratch.packs())));
    let (session, opening) = gate.claim(Arc::new(reader), None).await?;
    // the log may have moved until it was claimed; now it can't any more
    let Seen { decision, passed_over, state, .. } = gate.look().await?;
    if session.base() != 0 && !state {
        return Err(AgentError::Vanished { lineage: gate.config.lineage.clone(), sequence: session.base() });
    }
    let volume = volume_of(&seen.found)?;
    let (watch, ear) = Watch::new(&gate.config.paths, gate.config.watches_max, gate.scratch.directory());
    let setting = Setting {
        roots: Arc::clone(&gate.roots),
        volume,
        watch,
        governor: Governor::new(gate.config.budget),
        cancel: Arc::clone(&gate.cancel),
        scratch: gate.scratch.directory().to_owned(),
        encoders: gate.config.tuning.encoders,
        clones: gate.config.reflink.then(Arc::default),
        partial_after: gate.config.partial_after,
    };
    let last = gate.last(&session).await?;
    let claimed = Claimed { session, opening, last };
    let wanted = |sequence, passed_over| Wanted { sequence, passed_over, progress };
    match decision {
        Decision::Restore(sequence) => gate.restore(claimed, setting, ear, wanted(sequence, passed_over)).await,
        Decision::Replace(sequence) => {
            let claimed = Box::pin(gate.branch_off(claimed, &setting, sequence)).await?;
            gate.restore(claimed, setting, ear, wanted(sequence, None)).await
        }
        Decision::GoBack(sequence) => {
            let claimed = gate.go_back(claimed, sequence).await?;
            gate.restore(claimed, setting, ear, wanted(sequence, None)).await
        }
        Decision::Begin | Decision::Continue => {
            gate.mark(claimed.session.generation(), volume, MarkerState::Ready)?;
            Ok(Prepared { agent: gate.agent(claimed, setting, ear, false), restored: None })
        }
    }
}

/// What is on disk and in the store, and what to do about it.
struct Seen {
    found: Vec<Found>,
    decision: Decision,
    passed_over: Option<PassedOver>,
    /// Whether the store has a state at all.
    state: bool,
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
    async fn look(&self) -> Result<Seen, AgentError> {
        let find = |root: &Root| {
            marker::find(&root.path.label, &root.dir, root.path.read_only)
                .map_err(|source| AgentError::StatePath { path: root.path.path.clone(), source })
        };
        let found = self.roots.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let newest = history::newest(&self.log, self.config.clean_only).await?;
        let stored = newest.map(|newest: Newest| newest.stored);
        let decision = decide(self.lineage, &found, stored, self.config.choices)?;
        tracing::debug!(?found, ?newest, choices = ?self.config.choices, ?decision, "looked at the disk");
        if let Decision::Restore(sequence) | Decision::Replace(sequence) | Decision::GoBack(sequence) = decision {
            self.same_paths(sequence, &found).await?;
        }
        let passed_over = newest.and_then(|newest| newest.passed_over);
        Ok(Seen { found, decision, passed_over, state: stored.is_some() })
    }

    /// Refuses a state of which nothing has a place here, and tells of what has none.
    async fn same_paths(&self, sequence: u64, found: &[Found]) -> Result<(), AgentError> {
        let record = self.log.read_body(sequence).await?;
        let stored: Vec<&str> =
            record.checkpoint().into_iter().flat_map(|checkpoint| &checkpoint.roots).map(|root| root.label.as_str()).collect();
        let left_out = disk::left_out(sequence, &stored, found)?;
        if !left_out.is_empty() {
            tracing::warn!(
                lineage = %self.config.lineage, sequence, left_out = left_out.join(", "),
                "state paths of the checkpoint are not named here: they are not restored, and later checkpoints don't hold them"
            );
        }
        Ok(())
    }

    /// Captures what the disk holds, which stays as a branch, and goes back to a checkpoint. The disk is marked before: if this is cut short, it is
    /// gone on with.
    async fn branch_off(&self, claimed: Claimed, setting: &Setting, sequence: u64) -> Result<Claimed, AgentError> {
        let Claimed { mut session, opening, .. } = claimed;
        // once there is a newer one, retention could take it
        Box::pin(snapshot::hold(&self.log, sequence, Purpose::Restore, SystemClock.now())).await?;
        self.mark(session.generation(), setting.volume, MarkerState::Restoring(sequence))?;
        let dirt = setting.roots.iter().map(|root| (root.path.label.clone(), Dirt::all())).collect();
        let job = Job { dirt, foreign: true, always: true, brief: false };
        let setting = setting.clone();
        let (session, done) = thread::run("branch", move || {
            let done = capture::run(&mut session, &setting, &job, false);
            (session, done)
        })
        .await?;
        let branch = done?.checkpoint.as_ref().map(last_of);
        tracing::warn!(
            lineage = %self.config.lineage, branch = ?branch.map(|branch| branch.sequence), sequence,
            "what the disk holds was captured as a branch; the repository's state takes its place, as the policy says"
        );
        self.go_back(Claimed { session, opening, last: None }, sequence).await
    }

    /// Claims the lineage once more, with an older checkpoint as its state.
    async fn go_back(&self, claimed: Claimed, sequence: u64) -> Result<Claimed, AgentError> {
        let reader = Arc::clone(claimed.session.reader());
        drop(claimed);
        let (session, opening) = self.claim(reader, Some(sequence)).await?;
        // from here on the claim holds it
        if let Err(error) = Box::pin(snapshot::let_go(&self.log, sequence, Purpose::Restore)).await {
            tracing::warn!(lineage = %self.config.lineage, sequence, %error, "what was restored stays pinned");
        }
        let last = self.last(&session).await?;
        Ok(Claimed { session, opening, last })
    }

    /// Claims the lineage; also returns how to claim it again.
    async fn claim(&self, reader: Arc<Reader>, back_to: Option<u64>) -> Result<(Session, Opening), AgentError> {
        let memory = self.scratch.recall();
        let holder_key = self.config.holder_key.map_or_else(|| random().map(HolderKey::new), Ok)?;
        // this place's last holder is gone: its lock is ours
        let takeover = match self.config.takeover {
            Takeover::Polite(None) => Takeover::Polite(self.config.holder_key.or(memory.map(|memory| memory.holder_key))),
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
            back_to,
            tuning: self.config.tuning.clone(),
            now: SystemClock.now(),
        };
        let session = Session::open(opening.clone()).await?;
        if let Some(head) = session.head() {
            self.scratch.remember(Memory { watermark: (head.sequence, head.hash), holder_key });
        }
        Ok((session, Opening { takeover: Takeover::Polite(Some(holder_key)), back_to: None, ..opening }))
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
        let marker = Marker { lineage: self.lineage, generation, volume, state, holder: self.config.holder_key };
        for root in self.roots.iter().filter(|root| !root.path.read_only) {
            let failed = |source| AgentError::StatePath { path: root.path.path.clone(), source };
            marker::write(&root.dir, &marker).map_err(failed)?;
        }
        Ok(())
    }

    fn agent(self, Claimed { session, opening, last }: Claimed, setting: Setting, ear: Ear, restored: bool) -> Agent {
        let Self { config, scratch, status, .. } = self;
        Agent::new(Parts { config, opening, scratch, session, setting, ear, status, last }, restored)
    }
}
