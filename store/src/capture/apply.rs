// SPDX-License-Identifier: Apache-2.0
//! Edits the old trees as the walker says.

use super::clones::Version;
use super::links::size_of;
use super::op::{Bytes, ChunkRef, Op, Preview, Target, Witness};
use super::walker::{Tally, Walker};
use super::{CaptureError, CaptureSink, Old, Outcome, Progress, Request};
use crate::error::{Result, StoreError};
use crate::tree::inode::{Body, Content, Inode, Xattrs};
use crate::tree::kind::content_of;
use crate::tree::{ContentMap, Directory, Editor, Entry, Extent, LinkItem, Links, MapRef, Name, RootItem};
use crate::write::{Batch, Batcher, Encoders};
use holdfast_core::checkpoint::{Problem, Totals};
use holdfast_core::time::{Interval, Timestamp};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Steps in the queue between walker and applier.
const QUEUE: usize = 4096;
/// Directories may nest deeply; both sides recurse.
const STACK_BYTES: usize = 64 << 20;
/// Problems that are listed.
const PROBLEMS_MAX: usize = crate::record::PROBLEMS_MAX;

/// A directory whose entries are being edited.
#[derive(Debug, Clone)]
struct Open {
    /// Its name; `None` for the state path itself.
    name: Option<Name>,
    inode: Inode,
    editor: Editor<Directory>,
    sums: Totals,
    was: Totals,
}

/// A state path that is being edited.
#[derive(Debug, Clone)]
struct OpenRoot {
    index: usize,
    directory: Option<Inode>,
    links: Editor<Links>,
}

struct Applier<'a, S> {
    request: &'a Request<'a>,
    old: &'a Old<'a>,
    sink: &'a mut S,
    encoders: &'a Encoders,
    done: Vec<RootItem>,
    root: Option<OpenRoot>,
    open: Vec<Open>,
    content: Option<(Editor<ContentMap>, Option<Preview>)>,
    /// Bytes of inodes with several names.
    link_bytes: u64,
    problems: Vec<(String, Problem)>,
    problem_count: u64,
    began: Timestamp,
}

pub(super) fn run<S: CaptureSink>(request: &Request<'_>, old: &Old<'_>, sink: &mut S) -> Result<Outcome, CaptureError> {
    let began = request.clock.now();
    let encoders = Encoders::new(sink.identity().clone(), request.encoders);
    let (sender, receiver) = sync_channel(QUEUE);
    let in_trees: u64 = old.roots.iter().map(|root| sums_of(&root.directory).bytes).sum();
    let mut applier = Applier {
        request,
        old,
        sink,
        encoders: &encoders,
        done: Vec::new(),
        root: None,
        open: Vec::new(),
        content: None,
        link_bytes: old.totals.bytes.saturating_sub(in_trees),
        problems: Vec::new(),
        problem_count: 0,
        began,
    };
    let tally = std::thread::scope(|scope| {
        let walk = || Walker::run(request, old.roots, old.reader, sender, Batcher::new(&encoders));
        let named = std::thread::Builder::new().name("capture-walk".to_owned()).stack_size(STACK_BYTES);
        let walker = named.spawn_scoped(scope, walk).map_err(CaptureError::Scratch)?;
        let applied = applier.apply_all(receiver);
        // an applier that failed has dropped its end of the queue, so the walker ends, too
        let walked = walker.join().map_err(|_| CaptureError::Cancelled)?;
        applied?;
        walked
    })?;
    Ok(applier.outcome(&tally))
}

fn sums_of(inode: &Inode) -> Totals {
    match &inode.body {
        Body::Directory { sums, .. } => *sums,
        _ => Totals::default(),
    }
}

/// `sums` with `was` taken off and `is` put on.
fn adjust(sums: &mut Totals, was: &Totals, is: &Totals) {
    let change = |sum: &mut u64, was: u64, is: u64| *sum = sum.saturating_sub(was).saturating_add(is);
    change(&mut sums.files, was.files, is.files);
    change(&mut sums.directories, was.directories, is.directories);
    change(&mut sums.others, was.others, is.others);
    change(&mut sums.links, was.links, is.links);
    change(&mut sums.bytes, was.bytes, is.bytes);
}

fn misplaced() -> StoreError {
    StoreError::damaged("capture", "its steps are out of order")
}

impl<S: CaptureSink> Applier<'_, S> {
    fn apply_all(&mut self, receiver: Receiver<Op>) -> Result<()> {
        loop {
            let op = match receiver.try_recv() {
                Ok(op) => op,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    self.encoders.waiting(true);
                    let Ok(op) = receiver.recv() else { return Ok(()) };
                    self.encoders.waiting(false);
                    op
                }
            };
            self.apply(op)?;
        }
    }

    fn apply(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Root { index, directory, xattrs } => self.begin_root(index, *directory, xattrs),
            Op::KeepRoot { index } => {
                let label = &self.request.sources[index].label;
                self.done.extend(self.old.roots.iter().find(|root| root.label == *label).cloned());
                Ok(())
            }
            Op::Enter { name, directory, old, sums, was, xattrs } => {
                let mut inode = *directory;
                self.settle_xattrs(&mut inode, xattrs)?;
                self.open.push(Open { name: Some(name), inode, editor: Editor::new(old), sums, was });
                Ok(())
            }
            Op::Leave => self.leave(),
            Op::Put { target, inode, bytes, xattrs } => self.put(target, *inode, bytes, xattrs),
            Op::PutLink { name, group, was } => {
                let is = Totals { links: 1, ..Totals::default() };
                self.put_entry(name, Entry::Link(group), &was, &is)
            }
            Op::Remove { name, was } => {
                let open = self.open.last_mut().ok_or_else(misplaced)?;
                adjust(&mut open.sums, &was, &Totals::default());
                open.editor.remove(self.sink, name.as_bytes())
            }
            Op::Content { map, preview } => {
                self.content = Some((Editor::new(map), preview));
                Ok(())
            }
            Op::Abandon => {
                self.content = None;
                Ok(())
            }
            Op::Replace { after, to } => {
                let (content, _) = self.content.as_mut().ok_or_else(misplaced)?;
                let (from, to) = (after.saturating_add(1).to_be_bytes(), to.saturating_add(1).to_be_bytes());
                content.remove_range(self.sink, &from, &to)
            }
            Op::Extent { start, chunk } => self.extent(start, chunk),
            Op::RemoveLink { group, was_bytes } => {
                self.link_bytes = self.link_bytes.saturating_sub(was_bytes);
                let root = self.root.as_mut().ok_or_else(misplaced)?;
                root.links.remove(self.sink, &group.to_be_bytes())
            }
            Op::EndRoot => {
                let root = self.root.take().ok_or_else(misplaced)?;
                let item = self.finish_root(root)?;
                self.done.push(item);
                Ok(())
            }
            Op::Barrier(answer) => self.barrier(&answer),
            Op::Problem { label, problem } => {
                self.problem_count += 1;
                if self.problems.len() < PROBLEMS_MAX {
                    self.problems.push((label, problem));
                }
                Ok(())
            }
        }
    }

    fn begin_root(&mut self, index: usize, mut inode: Inode, xattrs: Option<(Arc<Batch>, usize)>) -> Result<()> {
        self.settle_xattrs(&mut inode, xattrs)?;
        let label = &self.request.sources[index].label;
        let old = self.old.roots.iter().find(|root| root.label == *label);
        let entries = old.map_or(MapRef::Empty, RootItem::entries);
        let sums = old.map_or_else(Totals::default, |root| sums_of(&root.directory));
        let links = Editor::new(old.map_or(MapRef::Empty, |root| root.links.clone()));
        self.root = Some(OpenRoot { index, directory: None, links });
        self.open.push(Open { name: None, inode, editor: Editor::new(entries), sums, was: Totals::default() });
        Ok(())
    }

    fn finish_root(&mut self, root: OpenRoot) -> Result<RootItem> {
        let links = root.links.finish(self.sink)?;
        let directory = root.directory.ok_or_else(misplaced)?;
        Ok(RootItem { label: self.request.sources[root.index].label.clone(), directory, links })
    }

    fn leave(&mut self) -> Result<()> {
        let Open { name, mut inode, editor, sums, was } = self.open.pop().ok_or_else(misplaced)?;
        let map = editor.finish(self.sink)?;
        inode.body = Body::Directory { map, sums };
        match name {
            None => {
                self.root.as_mut().ok_or_else(misplaced)?.directory = Some(inode);
                Ok(())
            }
            Some(name) => {
                let is = Totals { directories: sums.directories.saturating_add(1), ..sums };
                self.put_entry(name, Entry::Inode(Box::new(inode)), &was, &is)
            }
        }
    }

    fn put_entry(&mut self, name: Name, entry: Entry, was: &Totals, is: &Totals) -> Result<()> {
        let open = self.open.last_mut().ok_or_else(misplaced)?;
        adjust(&mut open.sums, was, is);
        open.editor.put(self.sink, (name, entry))
    }

    fn settle_xattrs(&mut self, inode: &mut Inode, pending: Option<(Arc<Batch>, usize)>) -> Result<()> {
        if let Some((batch, index)) = pending {
            let stored = self.sink.stored(self.encoders, &batch, index)?;
            inode.xattrs = Xattrs::Chunk { len: stored.len, id: stored.id, place: stored.place };
        }
        Ok(())
    }

    fn put(&mut self, target: Target, mut inode: Inode, bytes: Bytes, xattrs: Option<(Arc<Batch>, usize)>) -> Result<()> {
        self.settle_xattrs(&mut inode, xattrs)?;
        if let Body::File { size, content } = &mut inode.body {
            match bytes {
                Bytes::Complete => {}
                Bytes::Chunk(batch, index) => {
                    let stored = self.sink.stored(self.encoders, &batch, index)?;
                    *content = Content::Chunk { id: stored.id, place: stored.place };
                }
                Bytes::Extents { block, witness } => {
                    let (editor, _) = self.content.take().ok_or_else(misplaced)?;
                    *content = content_of(*size, editor.finish(self.sink)?, block);
                    let version = Version::of(self.sink.identity(), *size, content);
                    if let (Some(witness), Some(version)) = (witness, version) {
                        self.keep(*witness, version);
                    }
                }
            }
        }
        match target {
            Target::Entry { name, was } => {
                let is = match &inode.body {
                    Body::File { size, .. } => Totals { files: 1, bytes: *size, ..Totals::default() },
                    _ => Totals { others: 1, ..Totals::default() },
                };
                self.put_entry(name, Entry::Inode(Box::new(inode)), &was, &is)
            }
            Target::Link { group, names, path, was_bytes } => {
                self.link_bytes = self.link_bytes.saturating_sub(was_bytes).saturating_add(size_of(&inode));
                let root = self.root.as_mut().ok_or_else(misplaced)?;
                root.links.put(self.sink, LinkItem { group, inode, names, path })
            }
        }
    }

    /// Keeps what will tell how this version of a file differs from the next.
    fn keep(&self, witness: Witness, version: Version) {
        match (witness, self.request.clones) {
            (Witness::Clone(clone), Some(clones)) => clones.keep(clone, version),
            (Witness::Clone(_), None) => {}
            (Witness::Prints(prints), _) => prints.keep(&version),
        }
    }

    fn extent(&mut self, start: u64, chunk: ChunkRef) -> Result<()> {
        let extent = match chunk {
            ChunkRef::Known(extent) => extent,
            ChunkRef::New(batch, index) => {
                let stored = self.sink.stored(self.encoders, &batch, index)?;
                Extent { start, len: stored.len, id: stored.id, place: stored.place }
            }
        };
        let (content, _) = self.content.as_mut().ok_or_else(misplaced)?;
        content.put(self.sink, extent)
    }

    fn barrier(&mut self, answer: &SyncSender<MapRef<Links>>) -> Result<()> {
        let mut links = MapRef::Empty;
        if let Some(root) = &mut self.root {
            let editor = std::mem::replace(&mut root.links, Editor::new(MapRef::Empty));
            links = editor.finish(self.sink)?;
            root.links = Editor::new(links.clone());
        }
        self.partial()?;
        let _ = answer.send(links); // a walker that has ended doesn't need it
        Ok(())
    }

    /// Hands over what there is: every open map ends where the walk is, and goes on with what it was.
    fn partial(&mut self) -> Result<()> {
        let mut roots = self.done.clone();
        if let Some(mut root) = self.root.clone() {
            let mut entry = self.unfinished_file()?;
            for mut dir in self.open.clone().into_iter().rev() {
                if let Some((name, inode, was, is)) = entry.take() {
                    adjust(&mut dir.sums, &was, &is);
                    dir.editor.put(self.sink, (name, Entry::Inode(Box::new(inode))))?;
                }
                dir.inode.body = Body::Directory { map: dir.editor.finish(self.sink)?, sums: dir.sums };
                match dir.name {
                    None => root.directory = Some(dir.inode),
                    Some(name) => {
                        let is = Totals { directories: dir.sums.directories.saturating_add(1), ..dir.sums };
                        entry = Some((name, dir.inode, dir.was, is));
                    }
                }
            }
            roots.push(self.finish_root(root)?);
        }
        for source in self.request.sources.iter().skip(roots.len()) {
            roots.extend(self.old.roots.iter().find(|root| root.label == source.label).cloned());
        }
        let totals = self.totals(&roots);
        let interval = self.interval();
        self.sink.partial(Progress { roots, totals, interval })
    }

    /// The large file that is being read, as far as it was.
    fn unfinished_file(&mut self) -> Result<Option<(Name, Inode, Totals, Totals)>> {
        let Some((editor, Some(preview))) = self.content.clone() else { return Ok(None) };
        let mut inode = *preview.inode;
        let mut is = Totals { files: 1, ..Totals::default() };
        if let Body::File { size, content } = &mut inode.body {
            *content = content_of(*size, editor.finish(self.sink)?, preview.block);
            is.bytes = *size;
        }
        Ok(Some((preview.name, inode, preview.was, is)))
    }

    fn totals(&self, roots: &[RootItem]) -> Totals {
        let mut totals = Totals { bytes: self.link_bytes, problems: self.problem_count, ..Totals::default() };
        for root in roots {
            adjust(&mut totals, &Totals::default(), &sums_of(&root.directory));
        }
        totals
    }

    fn interval(&self) -> Interval {
        let now = self.request.clock.now();
        Interval { first_open: self.began.min(now), last_close: now, clock_error: self.request.clock.error() }
    }

    fn outcome(self, tally: &Tally) -> Outcome {
        Outcome {
            totals: self.totals(&self.done),
            interval: self.interval(),
            roots: self.done,
            problems: self.problems,
            unstable: tally.unstable,
            compared: tally.compared,
            read_files: tally.read_files,
            read_bytes: tally.read_bytes,
            hashed_bytes: tally.hashed_bytes,
        }
    }
}
