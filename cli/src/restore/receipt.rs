// SPDX-License-Identifier: Apache-2.0
//! What is going to be restored, and the proof that it was.

use super::aim::Aim;
use super::preview::Preview;
use crate::exit::{DAMAGED, DEVIATES};
use crate::human::{self, Here, count, entries, size, took};
use crate::output::Output;
use crate::table::{Cell, Table, Tone};
use crate::view::{CheckpointView, ProblemView, Text, moment, quality};
use holdfast_proto::v1;
use holdfast_store::restore::{Deviation, Stats};
use serde::Serialize;
use std::time::Duration;

/// A restore that has come to its end.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) root_asked: String,
    /// Of the whole target; `None` where it holds more, or less, than the checkpoint.
    pub(super) root_found: Option<String>,
    /// The files were held against the tree one by one.
    pub(super) compared: bool,
    /// Bytes of files in place.
    pub(super) file_bytes: u64,
    pub(super) stats: Stats,
    pub(super) unexplained: Vec<Deviation>,
    pub(super) unexplained_count: u64,
    pub(super) took: Duration,
    pub(super) target: String,
}

#[derive(Debug, Serialize)]
struct PlanDocument {
    dry_run: bool,
    checkpoint: CheckpointView,
    targets: Vec<TargetView>,
    paths: Vec<Text>,
    occupied: bool,
    /// What would become of what the targets hold; left out where they hold nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    would: Option<PreviewView>,
}

#[derive(Debug, Serialize)]
struct PreviewView {
    make: u64,
    change: u64,
    remove: u64,
    /// At most 100, without what lies beneath them.
    remove_paths: Vec<Text>,
}

impl From<&Preview> for PreviewView {
    fn from(preview: &Preview) -> Self {
        let remove_paths = preview.removed_paths.iter().map(|path| Text::from(&path[..])).collect();
        Self { make: preview.made, change: preview.changed, remove: preview.removed, remove_paths }
    }
}

#[derive(Debug, Serialize)]
struct TargetView {
    label: String,
    directory: Text,
}

#[derive(Debug, Serialize)]
struct ReceiptDocument {
    checkpoint: CheckpointView,
    target: String,
    proven: bool,
    /// `root` or `files`.
    proven_by: &'static str,
    root_asked: String,
    root_found: Option<String>,
    entries: u64,
    bytes: u64,
    written_bytes: u64,
    kept_bytes: u64,
    fetched_bytes: u64,
    kept_files: u64,
    removed: u64,
    took_ms: u64,
    deviations: Vec<ProblemView>,
    deviation_count: u64,
    differences: Vec<ProblemView>,
    difference_count: u64,
}

impl Done {
    /// Every file is what was asked for, but for what the deviations say.
    const fn is_proven(&self) -> bool {
        self.unexplained_count == 0
    }

    /// The program's exit code.
    pub(super) const fn code(&self) -> u8 {
        match (self.is_proven(), self.stats.deviation_count) {
            (true, 0) => 0,
            (true, _) => DEVIATES,
            (false, _) => DAMAGED,
        }
    }

    fn kept_bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(self.stats.written_bytes)
    }

    /// For the coordinator: the receipt, or why there is none.
    pub(super) fn wire(&self) -> (Option<v1::Receipt>, String) {
        if let Some(first) = self.unexplained.first() {
            return (None, format!("what was restored is not what was asked for: {}: {}", human::path(&first.path), first.what));
        }
        let problem = |one: &Deviation| v1::Problem { path: one.path.clone().into(), what: one.what.clone() };
        let receipt = v1::Receipt {
            root_asked: self.root_asked.clone(),
            root_found: self.root_found.clone().unwrap_or_default(),
            partial: self.compared,
            entries: self.stats.entries,
            bytes: self.file_bytes,
            fetched_bytes: self.stats.fetched_bytes,
            kept_bytes: self.kept_bytes(),
            took: prost_types::Duration::try_from(self.took).ok(),
            deviations: self.stats.deviations.iter().map(problem).collect(),
        };
        (Some(receipt), String::new())
    }
}

/// What is going to be restored.
pub(super) fn plan(checkpoint: &v1::Checkpoint, aim: &Aim, here: &Here) -> Table {
    let mut facts = Table::new(&[]);
    let lineage = checkpoint.lineage.clone().unwrap_or_default();
    facts.fact("restore", format!("{} #{}, {}", lineage.lineage, checkpoint.sequence, quality(checkpoint.quality())));
    if let Some(at) = &checkpoint.last_close {
        facts.fact("as of", here.when(moment(at)));
    }
    if let Some(totals) = &checkpoint.totals {
        facts.fact("holds", format!("{}, {}", count(totals.files + totals.links, "file"), size(totals.bytes)));
    }
    for path in aim.paths() {
        facts.fact("only", human::path(&path));
    }
    for (label, directory) in &aim.directories {
        facts.fact("into", format!("{} ({label})", directory.display()));
    }
    facts
}

/// The plan as the result of a dry run.
pub(super) fn planned(
    checkpoint: &v1::Checkpoint,
    aim: &Aim,
    preview: Option<&Preview>,
    here: &Here,
    out: &mut Output,
) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    if !out.is_json() {
        let mut facts = plan(checkpoint, aim, here);
        if let Some(preview) = preview {
            facts.fact("would make", entries(preview.made));
            facts.fact("would change", entries(preview.changed));
            facts.fact("would remove", entries(preview.removed));
        }
        out.table(&facts)?;
        for path in preview.into_iter().flat_map(|preview| &preview.removed_paths) {
            out.line(&format!("  would remove {}", human::path(path)))?;
        }
        return Ok(out.flush()?);
    }
    let target = |(label, directory): (&String, &std::path::PathBuf)| TargetView {
        label: label.clone(),
        directory: Text::from(directory.as_os_str().as_bytes()),
    };
    Ok(out.document(&PlanDocument {
        dry_run: true,
        checkpoint: checkpoint.into(),
        targets: aim.directories.iter().map(target).collect(),
        paths: aim.paths().iter().map(|path| Text::from(&path[..])).collect(),
        occupied: aim.occupied,
        would: preview.map(PreviewView::from),
    })?)
}

/// The receipt.
pub(super) fn print(checkpoint: &v1::Checkpoint, done: &Done, here: &Here, out: &mut Output) -> anyhow::Result<()> {
    if out.is_json() {
        return Ok(out.document(&document(checkpoint, done))?);
    }
    let lineage = checkpoint.lineage.clone().unwrap_or_default();
    let mut facts = Table::new(&[]);
    let when = checkpoint.last_close.as_ref().map(|at| here.when(moment(at))).unwrap_or_default();
    facts.fact("restored", format!("{} #{} as of {when}", lineage.lineage, checkpoint.sequence));
    facts.fact("into", &done.target);
    facts.fact("root asked", &done.root_asked);
    let found = match (&done.root_found, done.compared) {
        (Some(found), _) if *found == done.root_asked => Cell::toned(format!("{found}, equal"), Tone::Good),
        (Some(found), _) => Cell::toned(format!("{found}, another"), Tone::Bad),
        (None, _) => "not computed: the target is not just this state; the files were compared one by one".into(),
    };
    facts.row(["root found".into(), found]);
    facts.fact("in place", format!("{}, {}", entries(done.stats.entries), size(done.file_bytes)));
    facts.fact("fetched", size(done.stats.fetched_bytes));
    facts.fact("kept", format!("{}, {}", count(done.stats.kept_files, "file"), size(done.kept_bytes())));
    if done.stats.removed > 0 {
        facts.fact("removed", entries(done.stats.removed));
    }
    facts.fact("took", took(done.took));
    out.table(&facts)?;
    list(out, "not restored as it was", &done.stats.deviations, done.stats.deviation_count)?;
    list(out, "DIFFERENT FROM WHAT WAS ASKED FOR", &done.unexplained, done.unexplained_count)?;
    Ok(out.flush()?)
}

fn list(out: &mut Output, heading: &str, deviations: &[Deviation], all: u64) -> anyhow::Result<()> {
    if all == 0 {
        return Ok(());
    }
    out.line(&format!("{heading}: {all}"))?;
    for one in deviations {
        out.line(&format!("  {}: {}", human::path(&one.path), one.what))?;
    }
    if all > deviations.len() as u64 {
        out.line(&format!("  … and {} more", all - deviations.len() as u64))?;
    }
    Ok(())
}

fn document(checkpoint: &v1::Checkpoint, done: &Done) -> ReceiptDocument {
    let problem = |one: &Deviation| ProblemView { path: Text::from(&one.path[..]), what: one.what.clone() };
    ReceiptDocument {
        checkpoint: checkpoint.into(),
        target: done.target.clone(),
        proven: done.is_proven(),
        proven_by: if done.compared { "files" } else { "root" },
        root_asked: done.root_asked.clone(),
        root_found: done.root_found.clone(),
        entries: done.stats.entries,
        bytes: done.file_bytes,
        written_bytes: done.stats.written_bytes,
        kept_bytes: done.kept_bytes(),
        fetched_bytes: done.stats.fetched_bytes,
        kept_files: done.stats.kept_files,
        removed: done.stats.removed,
        took_ms: u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX),
        deviations: done.stats.deviations.iter().map(problem).collect(),
        deviation_count: done.stats.deviation_count,
        differences: done.unexplained.iter().map(problem).collect(),
        difference_count: done.unexplained_count,
    }
}
