// SPDX-License-Identifier: Apache-2.0
//! What a restore over something would do to it: said before anything is touched.

use super::RestoreArgs;
use super::aim::Aim;
use super::work;
use crate::connection::Connection;
use crate::thread;
use anyhow::Context;
use holdfast_agent::grant::Granted;
use holdfast_proto::v1;
use holdfast_store::disk::{Dir, FileKind, is_own};
use holdfast_store::reader::Reader;
use holdfast_store::restore::{Chosen, Extra, RestoreError, Target, verify};
use holdfast_store::tree::{Body, Cursor, Directory, Entry, MapRef, Name};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most names that are listed.
const LISTED_MAX: usize = 100;

/// What would become of a target that holds something.
#[derive(Debug, Default)]
pub(super) struct Preview {
    /// Entries that aren't there and would be made.
    pub(super) made: u64,
    /// Entries that are others and would become what they were.
    pub(super) changed: u64,
    /// Entries that would be removed, those beneath removed directories included.
    pub(super) removed: u64,
    /// The first hundred of them, without what lies beneath: each from its label on.
    pub(super) removed_paths: Vec<Vec<u8>>,
}

/// Compares the target with the checkpoint, byte for byte. Changes nothing.
pub(super) async fn preview(
    args: &RestoreArgs,
    connection: &Connection,
    granted: &Granted,
    asked: &v1::Checkpoint,
    aim: &Aim,
) -> anyhow::Result<Preview> {
    let (entry, reader) = work::open(connection, granted, asked).await?;
    let roots = entry.record.checkpoint().context("the record that was granted is no checkpoint")?.roots.clone();
    let (targets, select) = (aim.open_existing()?, aim.select.clone());
    let (owners, removes) = (!args.no_owners, aim.extra == Extra::Remove);
    let cancel = Arc::new(AtomicBool::new(false));
    let called_off = Arc::clone(&cancel);
    let mut looking = thread::start("preview", move || {
        let request = Chosen { reader: &reader, roots: &roots, targets: &targets, select: &select, owners, cancel: &called_off };
        let found = verify(&request)?;
        let mut preview = Preview { made: found.missing, changed: found.changed, ..Preview::default() };
        let chosen: Vec<_> = roots.iter().flat_map(|root| targets.iter().map(move |target| (root, target))).collect();
        for (root, target) in chosen.into_iter().filter(|(root, target)| removes && root.label == target.label) {
            let mut search =
                Search { reader: &reader, target, select: &select, path: Vec::new(), names: Vec::new(), preview: &mut preview };
            search.directory(&target.dir, &root.entries())?;
        }
        Ok::<_, RestoreError>(preview)
    })?;
    let looked = tokio::select! {
        looked = looking.ended() => looked?,
        _ = tokio::signal::ctrl_c() => {
            cancel.store(true, Ordering::Relaxed);
            looking.ended().await?
        }
    };
    looking.join();
    Ok(looked?)
}

/// Looks for what the checkpoint doesn't have.
struct Search<'a> {
    reader: &'a Arc<Reader>,
    target: &'a Target,
    select: &'a [(String, Vec<Name>)],
    path: Vec<u8>,
    names: Vec<Name>,
    preview: &'a mut Preview,
}

impl Search<'_> {
    /// Whether all of the directory at hand is restored: else nothing is removed from it.
    fn is_chosen(&self) -> bool {
        let chosen = |(label, path): &(String, Vec<Name>)| *label == self.target.label && self.names.starts_with(path);
        self.select.is_empty() || self.select.iter().any(chosen)
    }

    fn directory(&mut self, dir: &Dir, map: &MapRef<Directory>) -> Result<(), RestoreError> {
        let mut extra = names_of(dir).map_err(|source| RestoreError::Target { path: self.path.clone(), source })?;
        let mut entries = Cursor::new(&**self.reader, map)?;
        while let Some((name, entry)) = entries.next(&**self.reader)? {
            extra.remove(&name);
            let Entry::Inode(inode) = &entry else { continue };
            let Body::Directory { map, .. } = &inode.body else { continue };
            let Ok(sub) = dir.open_dir(&name) else { continue };
            let parent = self.enter(&name);
            self.directory(&sub, map)?;
            self.leave(parent);
        }
        if self.is_chosen() {
            for name in extra {
                let parent = self.enter(&name);
                self.extra(dir, &name);
                self.leave(parent);
            }
        }
        Ok(())
    }

    /// By the same rule as removing: only what is state.
    fn extra(&mut self, dir: &Dir, name: &Name) {
        let is_directory = dir.info(name).is_ok_and(|info| info.kind == FileKind::Directory);
        if !self.target.filter.keeps(&self.path, is_directory) || is_own(&self.path) {
            return;
        }
        self.preview.removed += count(dir, name, is_directory);
        if self.preview.removed_paths.len() < LISTED_MAX {
            let end: &[u8] = if is_directory { b"/" } else { b"" };
            self.preview.removed_paths.push([self.target.label.as_bytes(), b"/", &self.path, end].concat());
        }
    }

    fn enter(&mut self, name: &Name) -> usize {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        self.names.push(name.clone());
        parent
    }

    fn leave(&mut self, parent: usize) {
        self.path.truncate(parent);
        self.names.pop();
    }
}

fn names_of(dir: &Dir) -> std::io::Result<BTreeSet<Name>> {
    let mut names = BTreeSet::new();
    dir.names(|name| {
        names.extend(Name::new(name));
        Ok(())
    })?;
    Ok(names)
}

/// A name, and all that lies beneath it as far as it can be read.
fn count(dir: &Dir, name: &Name, is_directory: bool) -> u64 {
    let Some(sub) = is_directory.then(|| dir.open_dir(name).ok()).flatten() else { return 1 };
    let beneath = |inner: &Name| count(&sub, inner, sub.info(inner).is_ok_and(|info| info.kind == FileKind::Directory));
    1 + names_of(&sub).unwrap_or_default().iter().map(beneath).sum::<u64>()
}
