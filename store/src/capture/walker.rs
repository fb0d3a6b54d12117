// SPDX-License-Identifier: Apache-2.0
//! Goes through what may have changed and tells the applier what did.

use super::inode::{counts, differs, directory_of, unchanged};
use super::links::Spool;
use super::look::{self, Look, Lookout};
use super::op::{Ended, Op, Ops, Target};
use super::prints::Prints;
use super::{CaptureError, Dirt, Request, Source};
use crate::disk::{Dir, FileInfo, FileKind, is_own};
use crate::error::StoreError;
use crate::reader::Reader;
use crate::tree::{Entry, Links, MapRef, Name, NodeStore, RootItem};
use crate::write::Batcher;
use holdfast_core::checkpoint::{Problem, Totals};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

/// Vanished entries remembered, to recognise what was renamed.
pub(super) const VANISHED_MAX: usize = 10_000;
/// Directories inside one another.
const DEPTH_MAX: usize = crate::tree::hints::DEPTH_MAX as usize;
/// Why the walk ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Ended,
    Failed(CaptureError),
}

impl From<Ended> for Stop {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) type Walk<T> = Result<T, Stop>;

/// What the walk counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) unstable: u64,
    pub(super) compared: u64,
    pub(super) read_files: u64,
    pub(super) read_bytes: u64,
    pub(super) hashed_bytes: u64,
}

pub(super) struct Walker<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) reader: &'a Reader,
    pub(super) ops: Ops<'a>,
    pub(super) source: &'a Source,
    pub(super) old_links: MapRef<Links>,
    /// The path of the open directory, relative to the state path.
    pub(super) path: Vec<u8>,
    /// Open directories; those that were not announced to the applier hold the step that will.
    open: Vec<Option<Op>>,
    /// Old entries whose names are gone, by inode.
    pub(super) vanished: HashMap<u64, Entry>,
    pub(super) spool: Spool,
    pub(super) tally: Tally,
    /// Captured files with what was seen of them: path, information, and whether it was one moment.
    pub(super) recheck: Vec<(Vec<u8>, FileInfo, bool)>,
    pub(super) buffer: Vec<u8>,
    last_barrier: Instant,
    pub(super) lookout: Lookout,
    /// Fingerprints of large files, if there is room for them.
    pub(super) prints: Option<Prints>,
}

impl<'a> Walker<'a> {
    pub(super) fn run(
        request: &'a Request<'a>,
        old: &'a [RootItem],
        reader: &'a Reader,
        sender: SyncSender<Op>,
        batcher: Batcher<'a>,
    ) -> Result<Tally, CaptureError> {
        let (lookout, helper) = look::pair();
        std::thread::scope(|scope| {
            // without the thread it is only slower
            let _ = std::thread::Builder::new().name("capture-look".to_owned()).spawn_scoped(scope, || helper.serve());
            Self::walk(request, old, reader, sender, batcher, lookout)
        })
    }

    fn walk(
        request: &'a Request<'a>,
        old: &'a [RootItem],
        reader: &'a Reader,
        sender: SyncSender<Op>,
        batcher: Batcher<'a>,
        lookout: Lookout,
    ) -> Result<Tally, CaptureError> {
        let Some(first) = request.sources.first() else { return Ok(Tally::default()) };
        let mut walker = Self {
            request,
            reader,
            ops: Ops::new(sender, batcher),
            source: first,
            old_links: MapRef::Empty,
            path: Vec::new(),
            open: Vec::new(),
            vanished: HashMap::new(),
            spool: Spool::new(request.scratch.clone()),
            tally: Tally::default(),
            recheck: Vec::new(),
            buffer: Vec::new(),
            last_barrier: Instant::now(),
            lookout,
            prints: request.scratch.as_ref().and_then(|scratch| Prints::open(scratch, reader.identity())),
        };
        for (index, source) in request.sources.iter().enumerate() {
            let old = old.iter().find(|root| root.label == source.label);
            match walker.root(index, source, old) {
                Ok(()) => {}
                Err(Stop::Ended) => return Ok(walker.tally), // the applier knows why
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        walker.ops.batcher.flush();
        Ok(walker.tally)
    }

    fn root(&mut self, index: usize, source: &'a Source, old: Option<&RootItem>) -> Walk<()> {
        let everything = Dirt::all();
        let dirt = match (self.request.dirt.get(&source.label), old) {
            (_, None) => &everything,
            (None, Some(_)) => return Ok(self.ops.send(Op::KeepRoot { index })?),
            (Some(dirt), Some(_)) => dirt,
        };
        self.source = source;
        self.old_links = old.map_or(MapRef::Empty, |root| root.links.clone());
        let failed = |source: io::Error| Stop::Failed(CaptureError::Source { label: self.source.label.clone(), source });
        let info = source.dir.own_info().map_err(failed)?;
        let old_directory = old.map(|root| &root.directory);
        let (directory, xattrs) = self.directory_inode(&source.dir, &info, old_directory)?;
        let changed = old_directory.is_none_or(|old| differs(old, &info, &directory));
        let entries = old.map_or(MapRef::Empty, RootItem::entries);
        self.open.push(Some(Op::Root { index, directory: Box::new(directory), xattrs }));
        if dirt.rescan {
            self.scan(&source.dir, &entries)?;
        } else {
            self.check(&source.dir, &entries, dirt)?;
        }
        if let Some(clones) = self.request.clones {
            clones.sweep(&source.label, |path| self.look(path));
        }
        let announced = self.open.last().is_some_and(Option::is_none);
        if announced || changed || !self.spool.is_empty() {
            self.emit(Op::Leave)?;
            self.open.pop();
            self.links()?;
            self.recheck()?;
            self.ops.send(Op::EndRoot)?;
        } else {
            self.open.pop();
            self.ops.send(Op::KeepRoot { index })?;
        }
        self.vanished.clear();
        Ok(())
    }

    /// Sends a step that happens in the open directory: the applier hears of the directory only now, if nothing in it had changed before.
    pub(super) fn emit(&mut self, op: Op) -> Walk<()> {
        for level in &mut self.open {
            if let Some(announcement) = level.take() {
                self.ops.send(announcement)?;
            }
        }
        self.ops.send(op)?;
        Ok(())
    }

    pub(super) fn check_cancelled(&self) -> Walk<()> {
        match self.request.cancel.load(Ordering::Relaxed) {
            true => Err(Stop::Failed(CaptureError::Cancelled)),
            false => Ok(()),
        }
    }

    pub(super) fn maybe_barrier(&mut self) -> Walk<()> {
        self.check_cancelled()?;
        if self.last_barrier.elapsed() >= self.request.partial_after {
            self.barrier()?;
            self.last_barrier = Instant::now();
        }
        Ok(())
    }

    /// Lets what was captured so far be made durable, and waits for it.
    fn barrier(&mut self) -> Walk<()> {
        self.links()?; // names must not refer to inodes that are still to come
        self.ops.batcher.barrier();
        let (answer, answered) = sync_channel(1);
        self.ops.send(Op::Barrier(answer))?;
        self.old_links = answered.recv().map_err(|_| Stop::Ended)?;
        Ok(())
    }

    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    fn kept(&self, name: &Name, is_directory: bool) -> bool {
        if self.path.is_empty() && is_own(name.as_bytes()) {
            return false;
        }
        self.source.filter.is_everything() || self.source.filter.keeps(&self.path_of(name.as_bytes()), is_directory)
    }

    /// Compares one name with what the tree had for it.
    pub(super) fn visit(&mut self, dir: &Dir, look: Look, old: Option<&Entry>, dirt: &Dirt) -> Walk<()> {
        let Look { name, info, early } = look;
        let name = &name;
        self.tally.compared += 1;
        let info = match info {
            Ok(info) => info,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.remove_if(name, old),
            Err(error) => return self.problem(Some(name), &error),
        };
        if !self.kept(name, info.kind == FileKind::Directory) {
            return self.remove_if(name, old);
        }
        let vanished = if old.is_none() { self.vanished.get(&info.inode).cloned() } else { None };
        let known = old.or(vanished.as_ref());
        match info.kind {
            FileKind::Directory => self.visit_dir(dir, name, old, known, dirt),
            _ if info.links > 1 => self.visit_link(name, &info, old),
            _ => {
                let was = counts(old);
                let inode = known.and_then(Entry::as_inode);
                if old.is_some() && !self.request.foreign && inode.is_some_and(|inode| unchanged(inode, &info)) {
                    return Ok(());
                }
                if let Some(Entry::Link(group)) = old {
                    self.spool_gone(*group)?;
                }
                self.capture(dir, name, &info, early, inode, Target::Entry { name: name.clone(), was })
            }
        }
    }

    pub(super) fn remove_if(&mut self, name: &Name, old: Option<&Entry>) -> Walk<()> {
        old.map_or(Ok(()), |entry| self.remove(name, entry))
    }

    pub(super) fn remove(&mut self, name: &Name, entry: &Entry) -> Walk<()> {
        self.forget_links(entry)?;
        self.emit(Op::Remove { name: name.clone(), was: counts(Some(entry)) })
    }

    fn visit_dir(&mut self, dir: &Dir, name: &Name, old: Option<&Entry>, known: Option<&Entry>, dirt: &Dirt) -> Walk<()> {
        let opened = dir.open_dir(name).and_then(|sub| Ok((sub.own_info()?, Arc::new(sub))));
        let (info, sub) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.unopened(name, old, &error),
        };
        if self.open.len() >= DEPTH_MAX {
            return self.problem(Some(name), &io::Error::other("it is nested too deeply"));
        }
        let before = known.and_then(Entry::as_inode).filter(|inode| inode.is_directory());
        let (map, sums) = before.map_or((MapRef::Empty, Totals::default()), directory_of);
        let (directory, xattrs) = self.directory_inode(&sub, &info, before)?;
        let same = matches!(old, Some(Entry::Inode(old)) if old.is_directory() && !differs(old, &info, &directory));
        if let Some(entry) = old.filter(|_| before.is_none()) {
            self.forget_links(entry)?; // it was something else
        }
        if old.is_none() && sums.links > 0 {
            self.found_links(&map)?; // it was renamed: its names are forgotten where it was
        }
        let was = counts(old);
        let enter = Op::Enter { name: name.clone(), directory: Box::new(directory), old: map.clone(), sums, was, xattrs };
        self.open.push(Some(enter));
        let parent = self.path.len();
        self.path = self.path_of(name.as_bytes());
        let is_new = old.is_none_or(|entry| entry.as_inode().is_none_or(|inode| !inode.is_directory()));
        if dirt.rescan || is_new {
            self.scan(&sub, &map)?;
        } else {
            self.check(&sub, &map, dirt)?;
        }
        self.path.truncate(parent);
        if !same || self.open.last().is_some_and(Option::is_none) {
            self.emit(Op::Leave)?;
        }
        self.open.pop();
        Ok(())
    }

    fn unopened(&mut self, name: &Name, old: Option<&Entry>, error: &io::Error) -> Walk<()> {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => self.remove_if(name, old),
            // replaced by something else between two looks
            Some(Errno::NOTDIR | Errno::LOOP) => {
                self.tally.unstable += 1;
                Ok(())
            }
            Some(Errno::XDEV) => {
                self.problem(Some(name), &io::Error::other("another file system is mounted there; it is not part of this state"))
            }
            _ => self.problem(Some(name), error),
        }
    }

    /// Notes that something can't be captured. Its last captured state stays.
    pub(super) fn problem(&mut self, name: Option<&Name>, error: &io::Error) -> Walk<()> {
        let path = name.map_or_else(|| self.path.clone(), |name| self.path_of(name.as_bytes()));
        self.uncaptured(path, error.to_string())
    }

    /// Notes that what is at a path of this state path can't be captured.
    pub(super) fn uncaptured(&mut self, path: Vec<u8>, what: String) -> Walk<()> {
        let label = self.source.label.clone();
        Ok(self.ops.send(Op::Problem { label, problem: Problem { path, what } })?)
    }
}
