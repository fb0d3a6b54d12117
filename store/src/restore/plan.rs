// SPDX-License-Identifier: Apache-2.0
//! Walks the tree, makes what needs no bytes, and gathers the rest into windows.

use super::fetch::fetch_all;
use super::frames::BUFFERS;
use super::window::{Finish, Window};
use super::writers::Writers;
use super::{Extra, Restore, RestoreError, Stats, Target};
use crate::disk::{Dir, FileInfo, FileKind, is_own};
use crate::error::StoreError;
use crate::pool::Pool;
use crate::tree::{Body, Cursor, Directory, Entry, Inode, MapRef, Name, RootItem};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// Trees may nest deeply, and the walk recurses.
const STACK_BYTES: usize = 64 << 20;
/// Where inodes with several names are made before they get them. Never part of a state.
const STAGING: &[u8] = b".holdfast-restore";

mod files;
mod links;

type Result<T> = std::result::Result<T, Stop>;

/// Why planning ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Whoever takes the windows has ended, and knows why.
    Ended,
    Failed(RestoreError),
}

impl From<RestoreError> for Stop {
    fn from(error: RestoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) struct Planner<'a> {
    pub(super) request: &'a Restore<'a>,
    pub(super) writers: &'a Writers<'a>,
    pub(super) window: Window,
    sender: SyncSender<Window>,
    pub(super) stats: Stats,
    target: &'a Target,
    /// The path of the open directory below the target.
    pub(super) path: Vec<u8>,
    /// The same as names, for the selection.
    names: Vec<Name>,
    label: String,
    seen: u64,
    staging: Option<Arc<Dir>>,
}

pub(super) fn run(request: &Restore<'_>) -> std::result::Result<Stats, RestoreError> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let Restore { reader, options, progress, cancel, .. } = *request;
    let writers = Writers {
        reader,
        options,
        progress,
        cancel,
        own,
        made_with: made_with(request.targets),
        openers: Mutex::default(),
        buffers: Pool::new(BUFFERS),
    };
    std::thread::scope(|scope| {
        let (windows, to_fetch) = sync_channel(0);
        let (fetched, to_write) = sync_channel(0);
        let named = std::thread::Builder::new().name("restore-plan".to_owned()).stack_size(STACK_BYTES);
        let planner = named.spawn_scoped(scope, || plan(request, &writers, windows));
        let planner = planner.map_err(RestoreError::target(b""))?;
        let fetcher = scope.spawn(move || fetch_all(reader, &to_fetch, &fetched));
        let written = writers.write_all(to_write);
        // each stage ends when the next one has, so the first error of the last stage is the one that counts
        let fetched = fetcher.join().map_err(|_| RestoreError::Cancelled)?;
        let planned = planner.join().map_err(|_| RestoreError::Cancelled)?;
        let mut stats = written?;
        fetched?;
        stats.merge(planned?);
        Ok(stats)
    })
}

/// The permission bits that files can be made with: what this process's mask leaves (asked of the system, since setting the mask to read it would
/// change it for other threads). None are trusted where that can't be had, or a default access control list overrides the mask.
fn made_with(targets: &[Target]) -> u16 {
    let inherits =
        |target: &Target| rustix::fs::fgetxattr(target.dir.fd(), "system.posix_acl_default", &mut [0_u8; 0][..]).is_ok();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|mask| u16::from_str_radix(mask.trim(), 8).ok());
    mask.filter(|_| !targets.iter().any(inherits)).map_or(0, |mask| 0o777 & !mask)
}

fn plan(request: &Restore<'_>, writers: &Writers<'_>, sender: SyncSender<Window>) -> std::result::Result<Stats, RestoreError> {
    let Some(first) = request.targets.first() else { return Ok(Stats::default()) };
    let mut planner = Planner {
        request,
        writers,
        window: Window::default(),
        sender,
        stats: Stats::default(),
        target: first,
        path: Vec::new(),
        names: Vec::new(),
        label: String::new(),
        seen: 0,
        staging: None,
    };
    match planner.all() {
        Ok(()) | Err(Stop::Ended) => Ok(planner.stats),
        Err(Stop::Failed(error)) => Err(error),
    }
}

impl<'a> Planner<'a> {
    fn all(&mut self) -> Result<()> {
        for (label, names) in &self.request.options.select {
            self.must_exist(label, names)?;
        }
        for target in self.request.targets {
            if let Some(root) = self.request.roots.iter().find(|root| root.label == target.label) {
                self.target = target;
                self.label.clone_from(&target.label);
                if self.wants(&[]) {
                    self.root(root)?;
                }
            }
        }
        self.send()
    }

    fn must_exist(&self, label: &str, names: &[Name]) -> Result<()> {
        let asked = || [&[label.as_bytes()], &names.iter().map(Name::as_bytes).collect::<Vec<_>>()[..]].concat().join(&b'/');
        let missing = || Stop::Failed(RestoreError::NoSuchPath(asked()));
        let root = self.request.roots.iter().find(|root| root.label == label).ok_or_else(missing)?;
        let mut map = root.entries();
        for (index, name) in names.iter().enumerate() {
            let found = crate::tree::cursor::get(&**self.request.reader, &map, name.as_bytes())?;
            let (_, entry) = found.ok_or_else(missing)?;
            map = match entry.as_inode().map(|inode| &inode.body) {
                Some(Body::Directory { map, .. }) => map.clone(),
                _ if index + 1 < names.len() => return Err(missing()),
                _ => MapRef::Empty,
            };
        }
        Ok(())
    }

    /// Whether a path is selected, or lies above or beneath what is.
    fn wants(&self, path: &[Name]) -> bool {
        let select = &self.request.options.select;
        let related = |chosen: &[Name]| chosen.iter().zip(path).all(|(one, two)| one == two);
        select.is_empty() || select.iter().any(|(label, chosen)| *label == self.label && related(chosen))
    }

    /// Whether a path is selected as a whole.
    fn wants_all(&self, path: &[Name]) -> bool {
        let select = &self.request.options.select;
        select.is_empty() || select.iter().any(|(label, chosen)| *label == self.label && path.starts_with(chosen))
    }

    fn root(&mut self, root: &'a RootItem) -> Result<()> {
        let target = self.target;
        let staging = Name::new(STAGING).ok_or(Stop::Ended)?;
        remove_tree(&target.dir, &staging).map_err(|error| self.failed(error))?; // of a restore that was interrupted
        if root.links != MapRef::Empty {
            rustix::fs::mkdirat(target.dir.fd(), STAGING, Mode::RWXU).map_err(|error| self.failed(error.into()))?;
            let dir = Arc::new(target.dir.open_dir(&staging).map_err(|error| self.failed(error))?);
            self.stage_links(&dir, &root.links)?;
            self.staging = Some(dir);
        }
        self.directory(&target.dir, &root.entries(), true)?;
        if self.staging.take().is_some() {
            self.window.finishes.push(Finish::Unstage { dir: Arc::clone(&target.dir), staging });
        }
        if self.wants_all(&[]) {
            let inode = Box::new(root.directory.clone());
            self.window.finishes.push(Finish::Directory { dir: Arc::clone(&target.dir), path: Vec::new(), inode });
        }
        Ok(())
    }

    /// The path of the entry at hand.
    pub(super) fn here(&self) -> Vec<u8> {
        self.path.clone()
    }

    pub(super) fn failed(&self, error: io::Error) -> Stop {
        Stop::Failed(RestoreError::target(&self.path)(error))
    }

    fn send(&mut self) -> Result<()> {
        if self.window.is_empty() {
            return Ok(());
        }
        self.sender.send(std::mem::take(&mut self.window)).map_err(|_| Stop::Ended)
    }

    pub(super) fn send_if_full(&mut self) -> Result<()> {
        if self.request.cancel.load(Ordering::Relaxed) {
            return Err(Stop::Failed(RestoreError::Cancelled));
        }
        if self.window.is_full() { self.send() } else { Ok(()) }
    }

    /// Restores the entries of a directory.
    fn directory(&mut self, dir: &Arc<Dir>, map: &MapRef<Directory>, existed: bool) -> Result<()> {
        let mut cursor = Cursor::new(&**self.request.reader, map)?;
        let remove_extra = existed && self.request.options.extra == Extra::Remove && self.wants_all(&self.names);
        let mut on_disk = if remove_extra { self.names_of(dir)? } else { BTreeSet::new() };
        while let Some((name, entry)) = cursor.next(&**self.request.reader)? {
            self.seen += 1;
            if self.seen > self.request.totals.entries() {
                let what = "it has more entries than it says: damaged, or made to be endless";
                return Err(StoreError::damaged("tree", what).into());
            }
            on_disk.remove(&name);
            self.names.push(name.clone());
            if self.wants(&self.names) {
                let parent = self.path.len();
                self.push_path(&name);
                self.entry(dir, &name, &entry, existed)?;
                self.path.truncate(parent);
            }
            self.names.pop();
        }
        for extra in on_disk {
            let parent = self.path.len();
            self.push_path(&extra);
            let is_directory = dir.info(&extra).is_ok_and(|info| info.kind == FileKind::Directory);
            if self.target.filter.keeps(&self.path, is_directory) && !is_own(&self.path) {
                self.remove(dir, &extra)?;
            }
            self.path.truncate(parent);
        }
        Ok(())
    }

    fn push_path(&mut self, name: &Name) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
    }

    fn names_of(&self, dir: &Dir) -> Result<BTreeSet<Name>> {
        let mut names = BTreeSet::new();
        dir.names(|name| {
            names.extend(Name::new(name));
            Ok(())
        })
        .map_err(|error| self.failed(error))?;
        Ok(names)
    }

    fn entry(&mut self, dir: &Arc<Dir>, name: &Name, entry: &Entry, existed: bool) -> Result<()> {
        let found = match if existed { dir.info(name) } else { Err(Errno::NOENT.into()) } {
            Ok(info) => Some(info),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed(error)),
        };
        match entry {
            Entry::Link(group) => self.link(dir, name, *group, found.is_some()),
            Entry::Inode(inode) => match &inode.body {
                Body::Directory { map, .. } => self.subdirectory(dir, name, inode, map, found),
                Body::File { .. } => self.file(dir, name, inode, found),
                _ => {
                    if found.is_some() {
                        self.replace(dir, name)?;
                    }
                    self.writers.make_special(dir, name, &self.path, inode, &mut self.stats)?;
                    self.window.entries += 1;
                    self.send_if_full()
                }
            },
        }
    }

    fn subdirectory(
        &mut self,
        dir: &Arc<Dir>,
        name: &Name,
        inode: &Inode,
        map: &MapRef<Directory>,
        found: Option<FileInfo>,
    ) -> Result<()> {
        let exists = found.is_some_and(|info| info.kind == FileKind::Directory);
        if !exists {
            if found.is_some() {
                self.replace(dir, name)?;
            }
            rustix::fs::mkdirat(dir.fd(), name.as_bytes(), Mode::RWXU).map_err(|error| self.failed(error.into()))?;
        }
        let sub = Arc::new(dir.open_dir(name).map_err(|error| self.failed(error))?);
        self.window.hold();
        self.directory(&sub, map, exists)?;
        if !exists || self.wants_all(&self.names) {
            let inode = Box::new(inode.clone());
            self.window.finishes.push(Finish::Directory { dir: sub, path: self.path.clone(), inode });
        }
        self.window.entries += 1;
        self.send_if_full()
    }

    /// Removes a name and whatever lies beneath it. Never leaves the target: links are removed, not followed, and mounts are refused.
    pub(super) fn remove(&mut self, dir: &Dir, name: &Name) -> Result<()> {
        self.stats.removed += remove_tree(dir, name).map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Makes room for another entry of that name: the name stays, what lies beneath goes.
    pub(super) fn replace(&mut self, dir: &Dir, name: &Name) -> Result<()> {
        let removed = remove_tree(dir, name).map_err(|error| self.failed(error))?;
        self.stats.removed += removed.saturating_sub(1);
        Ok(())
    }
}

/// Removes a name and what lies beneath; returns how many names that were. That there is none is no error.
pub(super) fn remove_tree(dir: &Dir, name: &Name) -> io::Result<u64> {
    use rustix::fs::AtFlags;
    match rustix::fs::unlinkat(dir.fd(), name.as_bytes(), AtFlags::empty()) {
        Ok(()) => return Ok(1),
        Err(Errno::NOENT) => return Ok(0),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let sub = dir.open_dir(name)?;
    let mut names = Vec::new();
    sub.names(|name| {
        names.extend(Name::new(name));
        Ok(())
    })?;
    let mut removed = 1;
    for inner in names {
        removed += remove_tree(&sub, &inner)?;
    }
    rustix::fs::unlinkat(dir.fd(), name.as_bytes(), AtFlags::REMOVEDIR)?;
    Ok(removed)
}
