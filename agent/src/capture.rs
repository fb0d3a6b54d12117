// SPDX-License-Identifier: Apache-2.0
//! One capture, from what is dirty to what is durable. Runs on a thread of its own.

use crate::AgentError;
use crate::clock::SystemClock;
use crate::config::StatePath;
use crate::governor::Governor;
use crate::watch::Watch;
use holdfast_core::checkpoint::{Problem, Quality, Scope, ScopeRoot, Totals};
use holdfast_core::id::{RootId, VolumeId};
use holdfast_store::capture::{
    CaptureError, Checkpointing, Clock, Clones, Dirt, Observer, Old, Outcome, Request, Source, capture,
};
use holdfast_store::disk::Dir;
use holdfast_store::write::{Acknowledged, CheckpointMeta, Session};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A state path, held open.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) path: StatePath,
    pub(crate) dir: Arc<Dir>,
}

impl Root {
    /// Opens a state path, making the directory if there is none.
    pub(crate) fn open(path: &StatePath) -> Result<Self, AgentError> {
        let failed = |source| AgentError::StatePath { path: path.path.clone(), source };
        if !path.read_only {
            std::fs::create_dir_all(&path.path).map_err(failed)?;
        }
        let dir = Arc::new(Dir::open_root(&path.path).map_err(failed)?);
        Ok(Self { path: path.clone(), dir })
    }

    fn source(&self) -> Source {
        Source { label: self.path.label.clone(), dir: Arc::clone(&self.dir), filter: self.path.filter.clone() }
    }

    /// Whether the path still leads to the directory that was opened: an empty mount point must never be taken for an empty state.
    pub(crate) fn check(&self) -> Result<(), AgentError> {
        let replaced = || AgentError::Replaced { path: self.path.path.clone() };
        let now = std::fs::metadata(&self.path.path).map_err(|_| replaced())?;
        let held = self.dir.own_info().map_err(|_| replaced())?;
        if (now.ino(), now.dev()) == (held.inode, held.device) { Ok(()) } else { Err(replaced()) }
    }
}

/// What captures have in common.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) roots: Arc<Vec<Root>>,
    pub(crate) volume: VolumeId,
    pub(crate) watch: Watch,
    pub(crate) governor: Governor,
    pub(crate) cancel: Arc<AtomicBool>,
    pub(crate) scratch: PathBuf,
    pub(crate) encoders: usize,
    /// `None`: large files are read, never cloned.
    pub(crate) clones: Option<Arc<Clones>>,
    pub(crate) partial_after: Duration,
}

impl Setting {
    fn scope(&self) -> Scope {
        let root = |root: &Root| ScopeRoot {
            label: root.path.label.clone(),
            path: root.path.path.display().to_string(),
            include: root.path.include.clone(),
            exclude: root.path.exclude.clone(),
        };
        Scope { roots: self.roots.iter().map(root).collect() }
    }
}

/// What is to be captured.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) dirt: BTreeMap<String, Dirt>,
    /// The old tree's stamps are of another file system.
    pub(crate) foreign: bool,
    /// Make a checkpoint even if the state is the same.
    pub(crate) always: bool,
    /// The application stands still while it is read.
    pub(crate) brief: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Done {
    /// The checkpoint; `None` if nothing had changed.
    pub(crate) checkpoint: Option<Acknowledged>,
    pub(crate) totals: Totals,
    /// What could not be captured, by labels; `totals` counts those that are not named, too.
    pub(crate) problems: Vec<(String, Problem)>,
    /// Files that must be looked at again.
    pub(crate) unstable: u64,
    pub(crate) took: Duration,
    /// Of that, until the state was taken hold of.
    pub(crate) reading: Duration,
}

/// A state that was read and is not durable yet.
#[derive(Debug)]
pub(crate) struct Taken {
    outcome: Outcome,
    quality: Quality,
    began: Instant,
    reading: Duration,
}

impl Taken {
    /// Something may have changed while it was read, whatever was heard.
    pub(crate) fn doubt(&mut self) {
        self.quality = self.quality.min(Quality::Fuzzy);
    }

    /// What it would be as a checkpoint of this session.
    pub(crate) fn root(&self, session: &Session) -> RootId {
        session.root_of(&self.outcome.roots)
    }
}

/// Captures and commits. Blocks until it is durable. `doubts`: the state is not taken for one moment, whatever was heard.
pub(crate) fn run(session: &mut Session, setting: &Setting, job: &Job, doubts: bool) -> Result<Done, AgentError> {
    let mut taken = take(session, setting, job)?;
    if doubts {
        taken.doubt();
    }
    keep(session, setting, job, taken)
}

/// Captures.
pub(crate) fn take(session: &mut Session, setting: &Setting, job: &Job) -> Result<Taken, AgentError> {
    let began = Instant::now();
    for root in setting.roots.iter() {
        root.check()?;
    }
    let heard = setting.watch.heard();
    let outcome = read(session, setting, job)?;
    // whatever happened anywhere since the first open makes the whole less than one moment; where nobody listened, nobody knows
    let quiet = outcome.unstable == 0 && setting.watch.heard() == heard && !setting.watch.is_incomplete();
    let quality = if quiet { Quality::Clean } else { Quality::Fuzzy };
    Ok(Taken { outcome, quality, began, reading: began.elapsed() })
}

/// Makes what was captured durable.
pub(crate) fn keep(session: &mut Session, setting: &Setting, job: &Job, taken: Taken) -> Result<Done, AgentError> {
    let Taken { outcome, quality, began, reading } = taken;
    let (totals, unstable, problems) = (outcome.totals, outcome.unstable, outcome.problems.clone());
    let checkpoint = commit(session, setting, job, outcome, quality)?;
    Ok(Done { checkpoint, totals, problems, unstable, took: began.elapsed(), reading })
}

/// Watches each directory before it is listed, and keeps the pace.
#[derive(Debug)]
struct Guide<'a> {
    watch: &'a Watch,
    governor: &'a Governor,
}

impl Observer for Guide<'_> {
    fn entering(&self, label: &str, path: &[u8]) {
        self.watch.entering(label, path);
        self.governor.pace(0);
    }

    fn read(&self, bytes: u64) {
        self.governor.pace(bytes);
    }
}

fn read(session: &mut Session, setting: &Setting, job: &Job) -> Result<Outcome, CaptureError> {
    let sources: Vec<_> = setting.roots.iter().map(Root::source).collect();
    let request = Request {
        sources: &sources,
        dirt: &job.dirt,
        foreign: job.foreign,
        scratch: Some(setting.scratch.clone()),
        clock: &SystemClock,
        cancel: &setting.cancel,
        observer: Some(&Guide { watch: &setting.watch, governor: &setting.governor }),
        encoders: setting.encoders,
        clones: setting.clones.as_deref(),
        brief: job.brief,
        partial_after: setting.partial_after,
    };
    let (roots, totals, reader) = (session.roots().to_vec(), *session.totals(), Arc::clone(session.reader()));
    let mut sink = Checkpointing { session, scope: setting.scope(), volume: Some(setting.volume), partials: 0 };
    capture(&request, &Old { roots: &roots, totals: &totals, reader: &reader }, &mut sink)
}

fn commit(
    session: &mut Session,
    setting: &Setting,
    job: &Job,
    outcome: Outcome,
    quality: Quality,
) -> Result<Option<Acknowledged>, AgentError> {
    let now_better = session.quality() < Some(quality);
    if session.is_standing(&outcome.roots) && !now_better && !job.always && !session.composer().is_streaming() {
        session.refresh(outcome.roots);
        return Ok(None);
    }
    let meta = CheckpointMeta {
        interval: outcome.interval,
        quality,
        scope: setting.scope(),
        totals: outcome.totals,
        volume: Some(setting.volume),
        problems: outcome.problems.into_iter().map(|(_, problem)| problem).collect(),
        now: SystemClock.now(),
    };
    Ok(Some(session.commit(&outcome.roots, meta)?))
}
