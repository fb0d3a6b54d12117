// SPDX-License-Identifier: Apache-2.0
//! A restore that is cut short leaves half a state. Its directories say so while it runs: no agent takes them for whole.

use anyhow::Context;
use holdfast_agent::marker;
use holdfast_core::disk::{Marker, MarkerState};
use holdfast_core::id::{LineageId, VolumeId};
use holdfast_store::disk::Dir;
use holdfast_store::restore::Target;
use std::sync::Arc;

/// What is restored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restoring {
    pub(super) lineage: LineageId,
    pub(super) generation: u64,
    pub(super) sequence: u64,
    /// All of it, and not only chosen paths.
    pub(super) whole: bool,
}

impl Restoring {
    fn is_all_of(&self, marker: &Marker) -> bool {
        self.whole && marker.lineage == self.lineage
    }
}

/// Directories that are marked as unfinished, each with the marker that it had.
#[derive(Debug)]
pub(super) struct Marks {
    restoring: Restoring,
    directories: Vec<(Arc<Dir>, Option<Marker>)>,
}

impl Marks {
    /// Marks the targets. A directory that is nobody's gets chosen files without a marker: it claims to be no state.
    pub(super) fn set(restoring: Restoring, targets: &[Target]) -> anyhow::Result<Self> {
        let mut directories = Vec::new();
        for target in targets {
            let before = marker::read(&target.dir).with_context(|| format!("read the marker of {}", target.label))?;
            if before.is_some() || restoring.whole {
                let unfinished = unfinished(restoring, before.as_ref())?;
                marker::write(&target.dir, &unfinished).with_context(|| format!("mark the directory of {}", target.label))?;
                directories.push((Arc::clone(&target.dir), before));
            }
        }
        Ok(Self { restoring, directories })
    }

    /// Everything is there, and proven.
    pub(super) fn done(self) -> anyhow::Result<()> {
        for (dir, before) in self.directories {
            let after = before.map(|before| finished(self.restoring, before));
            match after {
                Some(after) => marker::write(&dir, &after),
                None => marker::remove(&dir),
            }
            .context("mark the restored directory as whole")?;
        }
        Ok(())
    }
}

/// The directory stays whose it is. Where all of its own lineage's state is on the way, whoever finds it half done goes on to that very checkpoint;
/// otherwise a volume of its own says that it holds nothing that was captured, and the store alone decides.
fn unfinished(restoring: Restoring, before: Option<&Marker>) -> anyhow::Result<Marker> {
    let state = MarkerState::Restoring(restoring.sequence);
    if let Some(before) = before.filter(|before| restoring.is_all_of(before)) {
        return Ok(Marker { state, holder: None, ..before.clone() });
    }
    let mut volume = [0; 16];
    getrandom::fill(&mut volume).context("the system has no random numbers")?;
    let lineage = before.map_or(restoring.lineage, |before| before.lineage);
    let generation = before.map_or(restoring.generation, |before| before.generation);
    Ok(Marker { lineage, generation, volume: VolumeId::new(volume), state, holder: None })
}

/// What was whole is whole again; what was half restored is whole if all of its own lineage's state came.
fn finished(restoring: Restoring, before: Marker) -> Marker {
    let state = if restoring.is_all_of(&before) { MarkerState::Ready } else { before.state };
    Marker { state, ..before }
}
