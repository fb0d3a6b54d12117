// SPDX-License-Identifier: Apache-2.0
//! The start: from the files of the directory to the index.

use std::collections::BTreeMap;
use std::fs::{DirEntry, File};
use std::path::PathBuf;
use std::time::SystemTime;

use super::index::Entry;
use super::layout::{self, Layout};
use super::record::{Damage, Meta};
use crate::error::Error;

/// A file of the store that is no object, or no longer. It is left where it is; a PUT of its key replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A bucket as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) created: SystemTime,
    pub(crate) objects: BTreeMap<String, Entry>,
}

/// Every bucket with its objects, and what could not be understood.
pub(crate) fn scan(layout: &Layout) -> Result<(Vec<Found>, Vec<Damaged>), Error> {
    let mut buckets = Vec::new();
    let mut damaged = Vec::new();
    for entry in layout::list(&layout.buckets())? {
        let path = entry.path();
        match entry.file_name().into_string() {
            Ok(name) if path.is_dir() && s3s::path::check_bucket_name(&name) => {
                let created = created(&entry).map_err(|source| Error::Directory { path, source })?;
                let objects = scan_bucket(layout, &name, &mut damaged)?;
                buckets.push(Found { name, created, objects });
            }
            _ => damaged.push(Damaged { path, reason: "it is not a bucket".to_owned() }),
        }
    }
    for Damaged { path, reason } in &damaged {
        tracing::warn!(?path, %reason, "left out");
    }
    Ok((buckets, damaged))
}

fn scan_bucket(layout: &Layout, bucket: &str, damaged: &mut Vec<Damaged>) -> Result<BTreeMap<String, Entry>, Error> {
    let mut objects = BTreeMap::new();
    for entry in layout::list(&layout.bucket(bucket))? {
        match read(&entry) {
            Ok(meta) => {
                let known = Entry::from(&meta);
                objects.insert(meta.key, known);
            }
            Err(damage) => damaged.push(Damaged { path: entry.path(), reason: damage.to_string() }),
        }
    }
    Ok(objects)
}

fn read(entry: &DirEntry) -> Result<Meta, Damage> {
    let meta = Meta::read(&File::open(entry.path())?)?;
    if entry.file_name().to_str() == Some(&layout::file_name(&meta.key)) { Ok(meta) } else { Err(Damage::Name) }
}

/// When a bucket was created; on file systems that don't tell, when it was changed.
fn created(entry: &DirEntry) -> std::io::Result<SystemTime> {
    let metadata = entry.metadata()?;
    metadata.created().or_else(|_| metadata.modified())
}
