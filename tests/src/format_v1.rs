// SPDX-License-Identifier: Apache-2.0
//! The frozen repository of format version 1: `tests/testdata/format-v1`. It must open and restore for ever.
//!
//! `cargo run -p holdfast-tests --example write-format-v1 -- DIRECTORY` writes one anew; the committed one is not replaced while the format is 1.

use crate::project;
use anyhow::{Context, Result};
use holdfast_store::name::Name;
use holdfast_store::transport::memory::Memory;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod scene;
mod story;
pub mod vectors;

pub use story::{extend, write};

/// The labels of the state paths of its lineages.
pub const LABELS: [&str; 2] = ["config", "data"];

/// What must come out of the repository.
#[derive(Debug, Serialize, Deserialize)]
pub struct Expected {
    /// The repository's id.
    pub repository: String,
    /// The name of its domain.
    pub domain: String,
    /// The domain's lineages, by id.
    pub lineages: Vec<Lineage>,
}

/// What must come out of a lineage.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lineage {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The sequence of its newest checkpoint that is not partial.
    pub state: u64,
    /// Its log.
    pub records: Vec<Line>,
    /// What that newest checkpoint holds.
    pub listing: Vec<String>,
}

/// A record.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// Its number.
    pub sequence: u64,
    /// `claim`, `checkpoint`, `void` or `seal`.
    pub kind: String,
    /// Its generation.
    pub generation: u64,
    /// Its base.
    pub base: u64,
    /// What it holds, if it is a checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// A checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The root id.
    pub root: String,
    /// `clean`, `fuzzy` or `partial`.
    pub quality: String,
    /// Whether nothing of it lies in its record.
    pub fold: bool,
    /// The number of lines of its listing.
    pub entries: usize,
    /// SHA-256 of its listing.
    pub listing: String,
    /// The same of a listing without owners.
    pub without_owners: String,
}

/// The directory of the frozen repository.
#[must_use]
pub fn directory() -> PathBuf {
    project::testdata().join("format-v1")
}

impl Expected {
    /// What the committed file says.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read() -> Result<Self> {
        serde_json::from_slice(&fs::read(directory().join("expected.json"))?).context("read expected.json")
    }
}

/// The committed repository, in a store that can be read.
///
/// # Errors
/// If a file can't be read, or is no object.
pub fn store() -> Result<Arc<Memory>> {
    let memory = Memory::default();
    load(&memory, &directory().join("objects"), "")?;
    Ok(Arc::new(memory))
}

fn load(memory: &Memory, directory: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            load(memory, &entry.path(), &format!("{name}/"))?;
        } else {
            let object = Name::listed(&name).with_context(|| format!("{name} is no object"))?;
            memory.tamper(&object, Some(fs::read(entry.path())?.into()));
        }
    }
    Ok(())
}

/// The passphrase of the committed repository.
///
/// # Errors
/// If its file can't be read.
pub fn passphrase() -> Result<Vec<u8>> {
    Ok(fs::read(directory().join("passphrase"))?.trim_ascii_end().to_vec())
}
