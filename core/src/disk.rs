// SPDX-License-Identifier: Apache-2.0
//! Whose disk is this: what a starting agent does with the state roots it finds.

use crate::id::{LineageId, VolumeId};

/// What a state root says about itself. It is written on its directory, and never captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The lineage whose state it is.
    pub lineage: LineageId,
    /// The generation that last held it.
    pub generation: u64,
    /// The volume it lies on: drawn when it was marked first.
    pub volume: VolumeId,
    /// Whether it is whole.
    pub state: MarkerState,
}

/// Whether a state root is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerState {
    /// It is.
    Ready,
    /// A restore of this checkpoint has begun and not ended.
    Restoring(u64),
}

/// A state root as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its label.
    pub label: String,
    /// Its marker, if it has one.
    pub marker: Option<Marker>,
    /// Whether it holds anything (a fresh file system's `lost+found` is nothing).
    pub is_empty: bool,
}

/// What the store knows of the lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The newest complete checkpoint.
    pub sequence: u64,
    /// The generation that captured it.
    pub generation: u64,
    /// The volume it was captured from.
    pub volume: Option<VolumeId>,
}

/// What was decided beforehand, by a policy or a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choices {
    /// Whatever the disk holds is the state from now on.
    pub adopt_disk: bool,
    /// A restore that was interrupted may be finished.
    pub resume: bool,
    /// Empty state roots stay empty.
    pub never_restore: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// There is no state anywhere, or only on the disk: begin.
    Begin,
    /// The disk holds the state: go on.
    Continue,
    /// Restore this checkpoint first.
    Restore(u64),
}

/// Why the application must not start on this disk, and nothing of it be captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A restore was interrupted.
    #[error(
        "state path {label} holds an unfinished restore of checkpoint {sequence}: finish it with --resume, or empty the directory"
    )]
    HalfRestored {
        /// Which.
        label: String,
        /// The checkpoint.
        sequence: u64,
    },
    /// It belongs to another lineage.
    #[error("state path {label} belongs to another lineage ({lineage}): use that one's name, or another directory")]
    OtherLineage {
        /// Which.
        label: String,
        /// Whose it is.
        lineage: LineageId,
    },
    /// It has a state that nobody marked, and the store has one, too.
    #[error(
        "state path {label} holds files that were never protected, and the repository holds a state of this lineage (checkpoint {sequence}): keep the disk's with --adopt-disk, or start with an empty directory to restore the repository's"
    )]
    Unmarked {
        /// Which.
        label: String,
        /// The stored state.
        sequence: u64,
    },
    /// The store is newer than the disk.
    #[error(
        "state path {label} is older than the repository: checkpoint {sequence} was captured from another volume or after this disk was last used; keep the disk's state with --adopt-disk, or empty the directory to restore the repository's"
    )]
    Diverged {
        /// Which.
        label: String,
        /// The stored state.
        sequence: u64,
    },
    /// Some state roots are empty and some are not.
    #[error(
        "state path {empty} is empty and {full} is not: one of them may not be mounted; if that is as it should be, use --adopt-disk"
    )]
    Mixed {
        /// One that is empty.
        empty: String,
        /// One that is not.
        full: String,
    },
}

/// Decides what a starting agent does.
///
/// # Errors
/// With what a person must decide.
pub fn decide(lineage: LineageId, found: &[Found], stored: Option<Stored>, choices: Choices) -> Result<Decision, Refusal> {
    for root in found {
        refuse_foreign(lineage, root, choices)?;
    }
    if choices.adopt_disk {
        return Ok(if stored.is_some() { Decision::Continue } else { Decision::Begin });
    }
    let resumed = found.iter().any(|root| matches!(&root.marker, Some(Marker { state: MarkerState::Restoring(_), .. })));
    let all_empty = found.iter().all(|root| root.is_empty);
    let Some(stored) = stored else { return Ok(Decision::Begin) };
    if resumed || (all_empty && !choices.never_restore) {
        return Ok(Decision::Restore(stored.sequence));
    }
    if all_empty {
        return Ok(Decision::Continue);
    }
    if let (Some(empty), Some(full)) = (found.iter().find(|root| root.is_empty), found.iter().find(|root| !root.is_empty)) {
        // a root that was marked may well be empty: its application emptied it
        if empty.marker.is_none() {
            return Err(Refusal::Mixed { empty: empty.label.clone(), full: full.label.clone() });
        }
    }
    for root in found {
        match &root.marker {
            None => return Err(Refusal::Unmarked { label: root.label.clone(), sequence: stored.sequence }),
            Some(marker) => {
                let same_volume =
                    stored.volume.is_none() || found.iter().any(|root| root.marker.as_ref().map(|m| m.volume) == stored.volume);
                if !same_volume || stored.generation > marker.generation {
                    return Err(Refusal::Diverged { label: root.label.clone(), sequence: stored.sequence });
                }
            }
        }
    }
    Ok(Decision::Continue)
}

fn refuse_foreign(lineage: LineageId, root: &Found, choices: Choices) -> Result<(), Refusal> {
    let label = root.label.clone();
    match &root.marker {
        Some(marker) if marker.lineage != lineage => Err(Refusal::OtherLineage { label, lineage: marker.lineage }),
        Some(Marker { state: MarkerState::Restoring(sequence), .. }) if !choices.resume && !root.is_empty => {
            Err(Refusal::HalfRestored { label, sequence: *sequence })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: LineageId = LineageId::new([1; 16]);
    const DISK: VolumeId = VolumeId::new([2; 16]);
    const OTHER: VolumeId = VolumeId::new([3; 16]);

    fn marker(generation: u64, state: MarkerState) -> Option<Marker> {
        Some(Marker { lineage: OURS, generation, volume: DISK, state })
    }

    fn root(marker: Option<Marker>, is_empty: bool) -> Found {
        Found { label: "data".to_owned(), marker, is_empty }
    }

    fn stored(generation: u64, volume: VolumeId) -> Option<Stored> {
        Some(Stored { sequence: 9, generation, volume: Some(volume) })
    }

    fn check(found: Found, stored: Option<Stored>, choices: Choices, expected: &str) {
        let text = match decide(OURS, std::slice::from_ref(&found), stored, choices) {
            Ok(decision) => format!("{decision:?}"),
            Err(refusal) => format!("{refusal:?}").split(' ').next().unwrap_or_default().to_owned(),
        };
        assert_eq!(text, expected, "{found:?} {stored:?} {choices:?}");
    }

    #[test]
    fn every_disk_has_its_answer() {
        let ready = || marker(4, MarkerState::Ready);
        let none = Choices::default();
        check(root(None, true), None, none, "Begin");
        check(root(None, false), None, none, "Begin");
        check(root(ready(), false), None, none, "Begin");
        check(root(None, true), stored(4, DISK), none, "Restore(9)");
        check(root(ready(), true), stored(4, DISK), none, "Restore(9)");
        check(root(None, true), stored(4, DISK), Choices { never_restore: true, ..none }, "Continue");
        check(root(ready(), false), stored(4, DISK), none, "Continue");
        check(root(marker(5, MarkerState::Ready), false), stored(4, DISK), none, "Continue");
        check(root(None, false), stored(4, DISK), none, "Unmarked");
        check(root(None, false), stored(4, DISK), Choices { adopt_disk: true, ..none }, "Continue");
        check(root(ready(), false), stored(5, DISK), none, "Diverged");
        check(root(ready(), false), stored(4, OTHER), none, "Diverged");
        check(root(ready(), false), stored(4, OTHER), Choices { adopt_disk: true, ..none }, "Continue");
        check(root(marker(4, MarkerState::Restoring(7)), false), stored(4, DISK), none, "HalfRestored");
        check(root(marker(4, MarkerState::Restoring(7)), false), stored(4, DISK), Choices { resume: true, ..none }, "Restore(9)");
        check(
            root(marker(4, MarkerState::Restoring(7)), false),
            stored(4, DISK),
            Choices { adopt_disk: true, ..none },
            "HalfRestored",
        );
        check(root(marker(4, MarkerState::Restoring(7)), true), stored(4, DISK), none, "Restore(9)");
        let foreign = Some(Marker { lineage: LineageId::new([8; 16]), generation: 1, volume: DISK, state: MarkerState::Ready });
        check(root(foreign.clone(), true), stored(4, DISK), none, "OtherLineage");
        check(root(foreign, false), None, Choices { adopt_disk: true, ..none }, "OtherLineage");
    }

    #[test]
    fn several_state_paths_are_one_state() {
        let two = |one: Found, other: Found| {
            decide(OURS, &[one, Found { label: "logs".to_owned(), ..other }], stored(4, DISK), Choices::default())
        };
        let ready = || marker(4, MarkerState::Ready);
        assert_eq!(two(root(None, true), root(None, true)), Ok(Decision::Restore(9)));
        assert_eq!(two(root(ready(), false), root(ready(), true)), Ok(Decision::Continue));
        assert!(matches!(two(root(ready(), false), root(None, true)), Err(Refusal::Mixed { .. })));
    }
}
