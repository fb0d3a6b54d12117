// SPDX-License-Identifier: Apache-2.0
//! A start without a coordinator: whether the disk is what the last checkpoint was made of, as far as it can tell by itself.

use super::settings::Settings;
use crate::capture::Root;
use crate::{AgentError, marker};
use holdfast_core::disk::{Found, Marker, MarkerState, is_in_use};

/// The state paths, and what they say about themselves.
pub(super) struct Disk {
    roots: Vec<Root>,
    found: Vec<Found>,
}

impl Disk {
    pub(super) fn look(settings: &Settings) -> Result<Self, AgentError> {
        let roots = settings.paths.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?;
        let find = |root: &Root| {
            marker::find(&root.path.label, &root.dir, root.path.read_only)
                .map_err(|source| AgentError::StatePath { path: root.path.path.clone(), source })
        };
        let found = roots.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { roots, found })
    }

    /// Whether this very pod has opened its gate on it before: the application may be running.
    pub(super) fn is_in_use(&self, settings: &Settings) -> bool {
        is_in_use(&self.found, Some(settings.holder_key))
    }

    /// Whether the application may start on it though nobody can be asked: all of it is whole, and of one lineage, generation and volume.
    pub(super) fn is_whole(&self) -> bool {
        is_whole(&self.found)
    }

    /// Marks it as in use by this pod. Nothing else of the markers changes: a coordinator will compare them with what the store has.
    pub(super) fn take(&self, settings: &Settings) -> Result<(), AgentError> {
        for (root, found) in self.roots.iter().zip(&self.found) {
            let Some(marker) = &found.marker else { continue };
            let marker = Marker { holder: Some(settings.holder_key), ..marker.clone() };
            marker::write(&root.dir, &marker).map_err(|source| AgentError::StatePath { path: root.path.path.clone(), source })?;
        }
        Ok(())
    }
}

fn is_whole(found: &[Found]) -> bool {
    let mut markers = found.iter().filter(|root| !root.read_only).map(|root| root.marker.as_ref());
    let Some(Some(first)) = markers.next() else { return false };
    let same = |marker: Option<&Marker>| {
        marker.is_some_and(|marker| {
            marker.state == MarkerState::Ready
                && (marker.lineage, marker.generation, marker.volume) == (first.lineage, first.generation, first.volume)
        })
    };
    same(Some(first)) && markers.all(same) && found.iter().any(|root| !root.read_only && !root.is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::{LineageId, VolumeId};

    fn found(marker: Option<Marker>, is_empty: bool) -> Found {
        Found { label: "data".to_owned(), marker, is_empty, read_only: false }
    }

    fn ready(generation: u64) -> Option<Marker> {
        let (lineage, volume) = (LineageId::new([1; 16]), VolumeId::new([2; 16]));
        Some(Marker { lineage, generation, volume, state: MarkerState::Ready, holder: None })
    }

    #[test]
    fn nothing_but_a_whole_state_starts_alone() {
        let half = ready(1).map(|marker| Marker { state: MarkerState::Restoring(7), ..marker });
        assert!(is_whole(&[found(ready(1), false)]));
        assert!(is_whole(&[found(ready(1), false), found(ready(1), true)]));
        assert!(is_whole(&[found(ready(1), false), Found { read_only: true, ..found(None, true) }]));
        assert!(!is_whole(&[found(ready(1), false), found(ready(2), false)]), "one of them was elsewhere");
        assert!(!is_whole(&[found(ready(1), true)]), "it may have been emptied to be restored");
        assert!(!is_whole(&[found(ready(1), false), found(None, true)]), "one of them may not be mounted");
        assert!(!is_whole(&[found(half, false)]) && !is_whole(&[found(None, false)]) && !is_whole(&[]));
    }
}
