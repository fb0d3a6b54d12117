// SPDX-License-Identifier: Apache-2.0
//! Where a restore goes, and whether it may.

use super::RestoreArgs;
use crate::exit::{NotFound, Undecided, Usage};
use crate::human;
use anyhow::Context;
use holdfast_agent::marker;
use holdfast_core::disk::MarkerState;
use holdfast_proto::v1;
use holdfast_store::capture::Filter;
use holdfast_store::disk::{Dir, OWN_NAMES};
use holdfast_store::restore::{Extra, Target};
use holdfast_store::tree::Name;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a restore goes.
#[derive(Debug)]
pub(super) struct Aim {
    /// The directory of each state path that takes part.
    pub(super) directories: BTreeMap<String, PathBuf>,
    /// Only these paths, by label; empty: everything.
    pub(super) select: Vec<(String, Vec<Name>)>,
    pub(super) extra: Extra,
    /// Whether some target holds something already.
    pub(super) occupied: bool,
    filters: BTreeMap<String, Filter>,
}

impl Aim {
    /// Looks whether everything has a place, and touches nothing.
    pub(super) fn new(args: &RestoreArgs, checkpoint: &v1::Checkpoint, paths: &[Vec<u8>]) -> anyhow::Result<Self> {
        let labels: Vec<&str> = checkpoint.paths.iter().map(|path| path.label.as_str()).collect();
        let select = paths.iter().map(|path| chosen(path, &labels)).collect::<Result<Vec<_>, _>>()?;
        let takes_part = |label: &str| select.is_empty() || select.iter().any(|(chosen, _)| chosen == label);
        let given = given(&args.to, &labels)?;
        let mut directories = BTreeMap::new();
        let mut filters = BTreeMap::new();
        for path in checkpoint.paths.iter().filter(|path| takes_part(&path.label)) {
            let directory = match (given.get(&path.label), args.words.first()) {
                (Some(directory), _) => directory.clone(),
                (None, Some(target)) if args.to.is_empty() && labels.len() == 1 => PathBuf::from(target),
                (None, Some(target)) if args.to.is_empty() => Path::new(target).join(&path.label),
                _ => {
                    return Err(
                        Usage(format!("the state path {:?} has no place: add --to {}=DIR", path.label, path.label)).into()
                    );
                }
            };
            filters.insert(path.label.clone(), Filter::new(&path.include, &path.exclude)?);
            directories.insert(path.label.clone(), std::path::absolute(directory).context("find the target")?);
        }
        apart(&directories)?;
        if select.is_empty() || args.remove_extra {
            for directory in directories.values() {
                unprotected(directory)?;
            }
        }
        let mut occupied = Vec::new();
        for directory in directories.values() {
            if holds_something(directory)? {
                occupied.push(directory.clone());
            }
        }
        if let Some(directory) = occupied.first().filter(|_| !args.keep_extra && !args.remove_extra) {
            if let Some(number) = unfinished(directory) {
                let goes_on = "--remove-extra goes on with it, or with another, and fetches nothing that is right already";
                let holds = format!("{} holds an unfinished restore of checkpoint #{number}", directory.display());
                return Err(Undecided(format!("{holds}: {goes_on}")).into());
            }
            let keep = "--keep-extra restores over it and leaves what the checkpoint doesn't have";
            let remove = "--remove-extra makes it just what the checkpoint was and deletes the rest";
            return Err(Undecided(format!("{} is not empty: {keep}; {remove}", directory.display())).into());
        }
        let extra = if args.remove_extra { Extra::Remove } else { Extra::Keep };
        Ok(Self { directories, select, extra, occupied: !occupied.is_empty(), filters })
    }

    /// In a few words.
    pub(super) fn describe(&self) -> String {
        let several = self.directories.len() > 1;
        let name = |(label, path): (&String, &PathBuf)| {
            if several { format!("{label} -> {}", path.display()) } else { path.display().to_string() }
        };
        self.directories.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// Makes the directories that don't exist and opens all.
    pub(super) fn open(&self) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::new();
        for (label, path) in &self.directories {
            std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
            let dir = Arc::new(Dir::open_root(path).with_context(|| format!("open {}", path.display()))?);
            let filter = self.filters.get(label).cloned().unwrap_or_default();
            targets.push(Target { label: label.clone(), dir, filter });
        }
        Ok(targets)
    }

    /// Opens those that exist.
    pub(super) fn open_existing(&self) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::new();
        for (label, path) in &self.directories {
            let dir = match Dir::open_root(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => Arc::new(other.with_context(|| format!("open {}", path.display()))?),
            };
            let filter = self.filters.get(label).cloned().unwrap_or_default();
            targets.push(Target { label: label.clone(), dir, filter });
        }
        Ok(targets)
    }

    /// The paths as they were asked for.
    pub(super) fn paths(&self) -> Vec<Vec<u8>> {
        let join = |(label, names): &(String, Vec<Name>)| {
            let parts: Vec<&[u8]> = std::iter::once(label.as_bytes()).chain(names.iter().map(Name::as_bytes)).collect();
            parts.join(&b'/')
        };
        self.select.iter().map(join).collect()
    }
}

/// A path taken apart into its label and names.
fn chosen(path: &[u8], labels: &[&str]) -> anyhow::Result<(String, Vec<Name>)> {
    let mut parts = path.split(|byte| *byte == b'/');
    let label = parts.next().unwrap_or_default();
    let Some(label) = labels.iter().find(|known| known.as_bytes() == label) else {
        let known = labels.join(", ");
        return Err(NotFound(format!("the checkpoint has no {}: paths begin with a label ({known})", human::path(path))).into());
    };
    let names = parts.map(Name::new).collect::<Option<Vec<_>>>();
    names
        .map(|names| ((*label).to_owned(), names))
        .ok_or_else(|| Usage(format!("no file can be called {}", human::path(path))).into())
}

/// `LABEL=DIR`, each label once.
fn given(to: &[std::ffi::OsString], labels: &[&str]) -> Result<BTreeMap<String, PathBuf>, Usage> {
    let mut given = BTreeMap::new();
    for word in to {
        let bytes = word.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0 && at + 1 < bytes.len());
        let Some(equals) = equals else { return Err(Usage("write --to LABEL=DIR".to_owned())) };
        let label = String::from_utf8_lossy(&bytes[..equals]).into_owned();
        if !labels.contains(&label.as_str()) {
            return Err(Usage(format!("the checkpoint has no state path {label:?}: it has {}", labels.join(", "))));
        }
        if given.insert(label.clone(), PathBuf::from(OsStr::from_bytes(&bytes[equals + 1..]))).is_some() {
            return Err(Usage(format!("--to {label}= is given twice")));
        }
    }
    Ok(given)
}

/// One state path must not be restored into another's.
fn apart(directories: &BTreeMap<String, PathBuf>) -> Result<(), Usage> {
    for (label, path) in directories {
        if let Some((other, _)) = directories.iter().find(|(other, outer)| *other != label && path.starts_with(outer)) {
            return Err(Usage(format!("the directory of {label:?} lies inside that of {other:?}: restore them apart")));
        }
    }
    Ok(())
}

/// Refuses what a program that runs has as its state: it would go on with files that changed beneath it, and what becomes of them is captured.
fn unprotected(directory: &Path) -> Result<(), Undecided> {
    for above in directory.ancestors() {
        let lock = Dir::open_root(above).ok().and_then(|dir| holdfast_agent::lock::holder(&dir));
        if let Some(lock) = lock {
            let (above, lock) = (above.display(), lock.display());
            let program = format!("{above} is being protected, and a program works there (fuser {lock} shows which)");
            return Err(Undecided(format!("{program}: end it first, or restore into another directory")));
        }
    }
    Ok(())
}

/// The checkpoint whose restore into a directory was cut short.
fn unfinished(directory: &Path) -> Option<u64> {
    let marker = Dir::open_root(directory).and_then(|dir| marker::read(&dir)).ok().flatten()?;
    match marker.state {
        MarkerState::Restoring(sequence) => Some(sequence),
        _ => None,
    }
}

/// Whether a directory has anything that is not the file system's own.
fn holds_something(path: &Path) -> anyhow::Result<bool> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| format!("look into {}", path.display()))?,
    };
    for entry in entries {
        let name = entry.with_context(|| format!("look into {}", path.display()))?.file_name();
        if !OWN_NAMES.contains(&name.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_lie_apart() {
        let check = |one: &str, two: &str| {
            let given = [("a", one), ("b", two)].map(|(label, path)| (label.to_owned(), PathBuf::from(path)));
            apart(&BTreeMap::from(given)).is_ok()
        };
        assert!(check("/x/a", "/x/b") && check("/x/a", "/x/ab"));
        assert!(!check("/x", "/x/b") && !check("/x/a/c", "/x/a") && !check("/x", "/x"));
    }

    #[test]
    fn paths_are_taken_apart() {
        let (label, names) = chosen(b"data/journal/1", &["config", "data"]).expect("a path");
        assert_eq!((label.as_str(), names.len()), ("data", 2));
        assert!(chosen(b"journal/1", &["data"]).expect_err("no label").to_string().contains("begin with a label (data)"));
    }
}
