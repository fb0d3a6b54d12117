// SPDX-License-Identifier: Apache-2.0
//! Hearing of changes. The only file that names notify.
//!
//! What is heard is a hint: events are lost, some writers (mmap, other nodes) make none, and a new directory may be filled before it is watched.
//! So directories are watched by whoever is about to list them, and lost events make everything be compared.

use crate::config::StatePath;
use holdfast_store::capture::{Filter, Observer};
use holdfast_store::tree::Name;
use notify::event::ModifyKind;
use notify::{Config, ErrorKind, Event, EventKind, EventKindMask, INotifyWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Events in the queue; more are "something was lost".
const QUEUE: usize = 8192;

/// The directory of the echoes, in scratch space.
const ECHOES: &str = "echoes";
/// What takes longer to be heard of is not waited for.
const ECHO_WITHIN: std::time::Duration = std::time::Duration::from_millis(200);

/// Something that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Index of the state path.
    pub(crate) root: usize,
    /// The path below it.
    pub(crate) path: Vec<Name>,
    /// Everything beneath it may have changed.
    pub(crate) rescan: bool,
    /// What has that name may be another directory than before.
    pub(crate) moved: bool,
}

/// What the watcher's thread shares with the agent.
#[derive(Debug)]
struct Shared {
    /// The state paths, as they are watched, and what of each is state.
    roots: Vec<(PathBuf, Filter)>,
    sender: Sender<Heard>,
    /// Events were lost, or there is no room for them.
    lost: AtomicBool,
    /// Counts what was heard, so that a capture can tell whether anything happened during it.
    heard: AtomicU64,
    wake: tokio::sync::Notify,
    /// Where files are made to find out what was heard before them; and the last of them.
    echoes: (PathBuf, tokio::sync::watch::Sender<u64>),
}

impl Shared {
    fn handle(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => self.lose(),
            Ok(event) => {
                let moved = moves(&event.kind);
                event.paths.iter().for_each(|path| {
                    if !self.is_echo(path) {
                        self.hear(path, moved);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "watching failed; everything will be compared");
                self.lose();
            }
        }
    }

    /// Whether this is none of the state's, but what everything before is told apart by.
    fn is_echo(&self, path: &Path) -> bool {
        let Ok(name) = path.strip_prefix(&self.echoes.0) else { return false };
        if let Some(number) = name.to_str().and_then(|name| name.parse::<u64>().ok()) {
            self.echoes.1.send_modify(|seen| *seen = number.max(*seen));
        }
        true
    }

    fn hear(&self, path: &Path, moved: bool) {
        let Some((root, rest)) =
            self.roots.iter().enumerate().find_map(|(i, (root, _))| Some((i, path.strip_prefix(root).ok()?)))
        else {
            return;
        };
        let names: Option<Vec<_>> = rest.iter().map(|part| Name::new(part.as_bytes())).collect();
        let Some(names) = names else { return };
        if !moved && has_no_name(path) {
            return;
        }
        let path = names;
        if path.first().is_some_and(|first| holdfast_store::disk::is_own(first.as_bytes())) {
            return;
        }
        if !moved && self.is_left_out(root, rest.as_os_str().as_bytes()) {
            return; // a log that is written all the time and is no state must not keep the state from being at rest
        }
        self.heard.fetch_add(1, Ordering::SeqCst);
        if self.sender.try_send(Heard { root, path, rescan: moved, moved }).is_err() {
            self.lose();
        }
    }

    /// Whether a name is no state, whatever it stands for.
    fn is_left_out(&self, root: usize, path: &[u8]) -> bool {
        let filter = &self.roots[root].1;
        !path.is_empty() && !filter.is_everything() && !filter.keeps(path, false) && !filter.keeps(path, true)
    }

    fn lose(&self) {
        self.heard.fetch_add(1, Ordering::SeqCst);
        self.lost.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

/// Whether a name may stand for something else than before.
fn moves(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

/// Files without a name are heard of where they were made, by their number: clones are such files. Nothing that could be captured has changed.
fn has_no_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let number = name.strip_prefix(b"#").filter(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit));
    number.is_some() && std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Watches directories of state paths; shared by the agent and its captures.
#[derive(Clone)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    labels: Arc<Vec<String>>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    watcher: Option<INotifyWatcher>,
    watched: BTreeSet<PathBuf>,
    limit: usize,
    /// Echoes so far.
    echoes: u64,
    /// Some directories are not watched: only scans will tell.
    incomplete: bool,
}

/// Where what is heard arrives.
#[derive(Debug)]
pub(crate) struct Ear {
    watch: Watch,
    receiver: Receiver<Heard>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Watch({} directories)", self.watched())
    }
}

impl Watch {
    /// A watch of these state paths that watches nothing yet: directories are added as they are listed.
    /// `scratch` is the agent's own.
    pub(crate) fn new(paths: &[StatePath], limit: usize, scratch: &Path) -> (Self, Ear) {
        let (sender, receiver) = channel(QUEUE);
        let roots = paths.iter().map(|path| (path.path.clone(), path.filter.clone())).collect();
        let (lost, heard, wake) = (AtomicBool::new(false), AtomicU64::new(0), tokio::sync::Notify::new());
        let echoes = (scratch.join(ECHOES), tokio::sync::watch::Sender::new(0));
        let shared = Arc::new(Shared { roots, sender, lost, heard, wake, echoes });
        let config =
            Config::default().with_event_kinds(EventKindMask::CORE | EventKindMask::ACCESS_CLOSE).with_follow_symlinks(false);
        let hearing = Arc::clone(&shared);
        let watcher = INotifyWatcher::new(move |event| hearing.handle(event), config);
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "changes can't be watched; they will be found by scans")).ok();
        let incomplete = watcher.is_none();
        let inner = Arc::new(Mutex::new(Inner { watcher, watched: BTreeSet::new(), limit, echoes: 0, incomplete }));
        let labels = Arc::new(paths.iter().map(|path| path.label.clone()).collect());
        let watch = Self { shared, labels, inner };
        (watch.clone(), Ear { watch, receiver })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something was heard.
    pub(crate) fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::SeqCst)
    }

    /// Directories that are watched.
    pub(crate) fn watched(&self) -> u64 {
        self.inner().watched.len() as u64
    }

    /// Whether some directories can only be scanned.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.inner().incomplete
    }

    /// Waits until everything that has happened so far is heard of; `false`: that can't be told. What is heard comes in order, so a file is made and
    /// heard of. Cancel-safe.
    pub(crate) async fn echo(&self) -> bool {
        let mut seen = self.shared.echoes.1.subscribe();
        let Some(number) = self.call() else { return false };
        tokio::time::timeout(ECHO_WITHIN, seen.wait_for(|seen| *seen >= number)).await.is_ok_and(|seen| seen.is_ok())
    }

    fn call(&self) -> Option<u64> {
        let directory = &self.shared.echoes.0;
        let mut inner = self.inner();
        if inner.echoes == 0 {
            std::fs::create_dir_all(directory).ok()?;
            inner.watcher.as_mut()?.watch(directory, RecursiveMode::NonRecursive).ok()?;
        }
        inner.echoes += 1;
        let file = directory.join(inner.echoes.to_string());
        std::fs::write(&file, b"").ok()?;
        // what was heard of it is in the queue already
        let _ = std::fs::remove_file(&file);
        Some(inner.echoes)
    }

    fn add(&self, label: &str, path: &[u8]) {
        let Some(root) = self.labels.iter().position(|known| known == label) else { return };
        let path = self.shared.roots[root].0.join(OsStr::from_bytes(path));
        let mut inner = self.inner();
        if inner.watched.contains(&path) {
            return;
        }
        if inner.watched.len() >= inner.limit {
            inner.incomplete = true;
            return;
        }
        let Some(watcher) = &mut inner.watcher else { return };
        match watcher.watch(&path, RecursiveMode::NonRecursive) {
            Ok(()) => drop(inner.watched.insert(path)),
            Err(error) if matches!(error.kind, ErrorKind::PathNotFound) => {}
            Err(error) => {
                if !inner.incomplete {
                    tracing::warn!(%error, watched = inner.watched.len(), "not all directories can be watched; the rest will be scanned");
                }
                inner.incomplete = true;
            }
        }
    }

    /// Events were lost: any directory may have become another one. The scan that follows watches them anew.
    fn forget_all(&self) {
        let mut inner = self.inner();
        let known = std::mem::take(&mut inner.watched);
        if let Some(watcher) = &mut inner.watcher {
            known.iter().for_each(|path| drop(watcher.unwatch(path)));
        }
    }

    /// A name moved, was made or is gone: what was watched at it and beneath may be another directory now, or none.
    fn forget(&self, heard: &Heard) {
        if heard.path.is_empty() {
            return;
        }
        let mut path = self.shared.roots[heard.root].0.clone();
        heard.path.iter().for_each(|name| path.push(OsStr::from_bytes(name.as_bytes())));
        let mut inner = self.inner();
        let stale: Vec<_> = inner.watched.range(path.clone()..).take_while(|known| known.starts_with(&path)).cloned().collect();
        for known in stale {
            if let Some(watcher) = &mut inner.watcher {
                let _ = watcher.unwatch(&known); // the kernel has dropped it already, most of the time
            }
            inner.watched.remove(&known);
        }
    }
}

impl Observer for Watch {
    fn entering(&self, label: &str, path: &[u8]) {
        self.add(label, path);
    }
}

impl Ear {
    /// The next thing that was heard; `None`: something was lost, and everything may have changed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        let shared = Arc::clone(&self.watch.shared);
        while !self.lost() {
            tokio::select! {
                heard = self.receiver.recv() => {
                    heard.iter().for_each(|heard| self.note(heard));
                    return heard;
                }
                () = shared.wake.notified() => {} // perhaps for a loss that was told already
            }
        }
        None
    }

    /// Whether something was lost since this was asked last.
    fn lost(&self) -> bool {
        let lost = self.watch.shared.lost.swap(false, Ordering::SeqCst);
        if lost {
            self.watch.forget_all();
        }
        lost
    }

    fn note(&self, heard: &Heard) {
        if heard.moved {
            self.watch.forget(heard);
        }
    }

    /// What was heard and not taken yet; `true` if something was lost.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Heard)) -> bool {
        while let Ok(heard) = self.receiver.try_recv() {
            self.note(&heard);
            each(heard);
        }
        self.lost()
    }
}

#[cfg(test)]
mod tests;
