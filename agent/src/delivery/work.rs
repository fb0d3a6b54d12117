// SPDX-License-Identifier: Apache-2.0
//! One parcel: fetched, written, synced, proven. Everything here blocks.

use super::DeliveryError;
use super::volume::Volume;
use crate::clock::SystemClock;
use holdfast_core::delivery::{Delivered, Parcel, Reason};
use holdfast_store::capture::Filter;
use holdfast_store::disk::{self, Dir};
use holdfast_store::log::Entry;
use holdfast_store::reader::Reader;
use holdfast_store::record::Checkpoint;
use holdfast_store::restore::{Chosen, Extra, Options, Progress, Restore, Stats, Target, Verified, prove, restore, verify};
use holdfast_store::tree::{Body, Entry as Node, Name, RootItem, cursor};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What can't be as it was is told of so many files.
const TOLD: usize = 20;

/// What is to be written, and where.
#[derive(Debug)]
pub(super) struct Work {
    reader: Arc<Reader>,
    checkpoint: Checkpoint,
    select: Vec<(String, Vec<Name>)>,
    /// The directory of each state path that takes part.
    places: Vec<(String, PathBuf)>,
    owners: bool,
    /// An earlier pod has written it.
    is_written: bool,
}

impl Work {
    pub(super) fn new(
        reader: Arc<Reader>,
        entry: Entry,
        parcel: &Parcel,
        volume: &Volume,
        owners: bool,
    ) -> Result<Self, DeliveryError> {
        reader.know(&entry);
        let Some(checkpoint) = entry.record.checkpoint().cloned() else {
            let message = format!("record {} of {} is no checkpoint", parcel.sequence, parcel.lineage);
            return Err(DeliveryError::refused(Reason::Invalid, message));
        };
        let select = parcel.paths.iter().map(|path| chosen(path, &checkpoint.roots)).collect::<Result<Vec<_>, _>>()?;
        let base = if parcel.directory.is_empty() { volume.path().to_owned() } else { volume.path().join(&parcel.directory) };
        // several state paths lie beside one another, whether all of them are asked for or not
        let place = |label: &str| if checkpoint.roots.len() == 1 { base.clone() } else { base.join(label) };
        let takes_part = |label: &str| select.is_empty() || select.iter().any(|(chosen, _)| chosen == label);
        let labels = checkpoint.roots.iter().map(|root| root.label.as_str()).filter(|label| takes_part(label));
        let places = labels.map(|label| (label.to_owned(), place(label))).collect();
        Ok(Self { reader, checkpoint, select, places, owners, is_written: volume.is_written })
    }

    pub(super) fn run(self) -> Result<Delivered, DeliveryError> {
        let targets =
            self.places.iter().map(|(label, path)| target(label, path, self.is_written)).collect::<Result<Vec<_>, _>>()?;
        for path in &self.select {
            self.find(path)?;
        }
        let (progress, cancel) = (Progress::default(), AtomicBool::default());
        let roots: Vec<RootItem> = self.checkpoint.roots.clone();
        let roots: Vec<RootItem> =
            roots.into_iter().filter(|root| targets.iter().any(|target| target.label == root.label)).collect();
        if self.is_written {
            // whoever may use it by now goes on undisturbed
            let delivered = self.prove(&roots, &targets, &Stats::default(), &cancel)?;
            let bytes = if self.select.is_empty() { self.checkpoint.totals.bytes } else { 0 };
            return Ok(Delivered { bytes, ..delivered });
        }
        // the volume was empty, so that whatever else is there was left by an earlier try
        let extra = if self.select.is_empty() { Extra::Remove } else { Extra::Keep };
        let options = Options { extra, owners: self.owners, select: self.select.clone(), ..Options::default() };
        let stats = restore(&Restore {
            reader: &self.reader,
            roots: &roots,
            totals: &self.checkpoint.totals,
            targets: &targets,
            options: &options,
            cancel: &cancel,
            progress: &progress,
        })?;
        sync(&targets, &self.places)?;
        let delivered = self.prove(&roots, &targets, &stats, &cancel)?;
        Ok(Delivered { bytes: progress.bytes.load(Ordering::Relaxed), ..delivered })
    }

    /// What is chosen must be there: to write nothing is no success.
    fn find(&self, (label, names): &(String, Vec<Name>)) -> Result<(), DeliveryError> {
        let Some(root) = self.checkpoint.roots.iter().find(|root| root.label == *label) else { return Ok(()) };
        let mut map = Some(root.entries());
        for name in names {
            let entry = map.map(|map| cursor::get(&*self.reader, &map, name.as_bytes())).transpose()?.flatten();
            let Some((_, entry)) = entry else {
                let parts: Vec<_> = std::iter::once(label.as_bytes()).chain(names.iter().map(Name::as_bytes)).collect();
                return Err(missing(&disk::display(&parts.join(&b'/'))));
            };
            map = match entry {
                Node::Inode(inode) => match inode.body {
                    Body::Directory { map, .. } => Some(map),
                    _ => None,
                },
                Node::Link(_) => None,
            };
        }
        Ok(())
    }

    /// The proof by the root where the whole state is there, otherwise file by file.
    fn prove(
        &self,
        roots: &[RootItem],
        targets: &[Target],
        stats: &Stats,
        cancel: &AtomicBool,
    ) -> Result<Delivered, DeliveryError> {
        let mut delivered = Delivered { root: String::new(), deviations: 0, bytes: 0, took_ms: 0 };
        if self.select.is_empty() {
            let proof = prove(&self.reader, roots, &self.checkpoint.totals, targets, None, &SystemClock, cancel)?;
            delivered.root = proof.root.to_string();
            if proof.root == self.checkpoint.root {
                return Ok(delivered);
            }
        }
        let chosen = Chosen { reader: &self.reader, roots, targets, select: &self.select, owners: self.owners, cancel };
        let found = verify(&chosen)?;
        if found.contents > 0 {
            let first = found
                .deviations
                .first()
                .map_or_else(String::new, |first| format!("{}: {}", disk::display(&first.path), first.what));
            let message = format!("{} files are not what was asked for: {first}", found.contents);
            return Err(DeliveryError::refused(Reason::NotAsItWas, message));
        }
        for deviation in stats.deviations.iter().take(TOLD) {
            tracing::warn!(path = %disk::display(&deviation.path), what = %deviation.what, "not restored as it was");
        }
        delivered.deviations = files(stats, &found);
        Ok(delivered)
    }
}

/// How many files are not as they were, and could not be: of one, several things may be otherwise.
fn files(stats: &Stats, found: &Verified) -> u64 {
    let told = stats.deviations.iter().chain(&found.deviations);
    let paths: HashSet<&[u8]> = told.map(|deviation| deviation.path.as_slice()).collect();
    // those that are only counted
    let more = [(stats.deviation_count, stats.deviations.len()), (found.count, found.deviations.len())];
    let more = more.map(|(count, told)| count.saturating_sub(told as u64));
    paths.len() as u64 + more[0].max(more[1])
}

/// Opens where a state path goes, and makes it if need be.
fn target(label: &str, path: &Path, is_written: bool) -> Result<Target, DeliveryError> {
    let failed = |source| DeliveryError::Volume { path: path.to_owned(), source };
    if is_written && !path.exists() {
        return Err(DeliveryError::refused(Reason::NotAsItWas, format!("{} is gone from the volume", path.display())));
    }
    std::fs::create_dir_all(path).map_err(failed)?;
    let dir = Arc::new(Dir::open_root(path).map_err(failed)?);
    Ok(Target { label: label.to_owned(), dir, filter: Filter::default() })
}

/// Has the system write what it holds of the volume.
fn sync(targets: &[Target], places: &[(String, PathBuf)]) -> Result<(), DeliveryError> {
    for (target, (_, path)) in targets.iter().zip(places) {
        rustix::fs::syncfs(target.dir.fd())
            .map_err(|error| DeliveryError::Volume { path: path.clone(), source: error.into() })?;
    }
    Ok(())
}

fn missing(path: &str) -> DeliveryError {
    DeliveryError::refused(Reason::PathNotFound, format!("the checkpoint has no {path}"))
}

/// A path taken apart into its label and names.
fn chosen(path: &str, roots: &[RootItem]) -> Result<(String, Vec<Name>), DeliveryError> {
    let wrong = || missing(path);
    let mut parts = path.trim_end_matches('/').split('/');
    let label = parts.next().unwrap_or_default();
    let root = roots.iter().find(|root| root.label == label).ok_or_else(wrong)?;
    let names = parts.map(|part| Name::new(part.as_bytes())).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    Ok((root.label.clone(), names))
}
