// SPDX-License-Identifier: Apache-2.0
//! Whose disk is this: what a starting agent does with the state roots it finds.

use crate::id::{HolderKey, LineageId, VolumeId};

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
    /// The holder that marked it last: where it is this very one, its application may be running already.
    pub holder: Option<HolderKey>,
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
    /// It is captured and never written: it has no marker, and nothing is restored to it.
    pub read_only: bool,
}

/// What the store knows of the lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The newest complete checkpoint: what a disk is compared with.
    pub sequence: u64,
    /// The generation that captured it.
    pub generation: u64,
    /// The volume it was captured from.
    pub volume: Option<VolumeId>,
    /// The checkpoint that an automatic restore takes: an older one, if only clean ones will do.
    pub restore: u64,
    /// Somebody asked for this very checkpoint, and it was not restored yet.
    pub pinned: bool,
}

/// What was decided beforehand, by a policy, a flag or a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Choices {
    /// Whatever the disk holds is the state from now on.
    pub adopt_disk: bool,
    /// With it: even if the disk was another lineage's.
    pub fresh: bool,
    /// A restore that was interrupted may be finished.
    pub resume: bool,
    /// Empty state roots stay empty.
    pub never_restore: bool,
    /// State roots are restored whatever they hold.
    pub always_restore: bool,
    /// Who wins when disk and store disagree.
    pub on_divergence: Prefer,
    /// The place that this is, if it keeps its key over restarts. What it marked as whole is in use: it is never restored.
    pub place: Option<HolderKey>,
}

/// Who wins when disk and store disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// Nobody: a person must decide.
    #[default]
    Nobody,
    /// What is on the disk.
    Disk,
    /// What is in the store.
    Store,
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
    /// Capture what the disk holds, so that it is not lost; then go back to this checkpoint, and restore it.
    Replace(u64),
    /// What the disk holds was captured; go back to this checkpoint, and restore it.
    GoBack(u64),
}

/// Why the application must not start on this disk, and nothing of it be captured. The messages state facts; what to do about them depends on
/// where the agent runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A restore was interrupted.
    #[error("state path {label} holds an unfinished restore of checkpoint {sequence}")]
    HalfRestored {
        /// Which.
        label: String,
        /// The checkpoint.
        sequence: u64,
    },
    /// It belongs to another lineage.
    #[error("state path {label} belongs to another lineage ({lineage})")]
    OtherLineage {
        /// Which.
        label: String,
        /// Whose it is.
        lineage: LineageId,
    },
    /// It has a state that nobody marked, and the store has one, too.
    #[error(
        "state path {label} holds files that were never protected, and the repository holds a state of this lineage (checkpoint {sequence})"
    )]
    Unmarked {
        /// Which.
        label: String,
        /// The stored state.
        sequence: u64,
    },
    /// The store is newer than the disk.
    #[error(
        "state path {label} is older than the repository: checkpoint {sequence} was captured from another volume or after this disk was last used"
    )]
    Diverged {
        /// Which.
        label: String,
        /// The stored state.
        sequence: u64,
    },
    /// Some state roots are empty and some are not.
    #[error("state path {empty} is empty and {full} is not: one of them may not be mounted")]
    Mixed {
        /// One that is empty.
        empty: String,
        /// One that is not.
        full: String,
    },
    /// The application runs on this disk, and meanwhile another holder has gone on with the lineage.
    #[error("state path {label} is in use, and another holder has gone on with its lineage (checkpoint {sequence})")]
    Overtaken {
        /// Which.
        label: String,
        /// The other's state.
        sequence: u64,
    },
    /// The state that would be restored is of other state paths: all of it would be left out.
    #[error(
        "checkpoint {sequence} holds state path {stored}, and what is named here is {named}: nothing of it would be restored"
    )]
    OtherPaths {
        /// The checkpoint.
        sequence: u64,
        /// The labels that it holds.
        stored: String,
        /// The labels that there are.
        named: String,
    },
}

/// All words of refusals.
const REASONS: [&str; 7] = ["HalfRestored", "OtherLineage", "Unmarked", "Diverged", "Mixed", "Overtaken", "OtherPaths"];

/// The word of a refusal that a sentence begins with, as in `Diverged: …`, and the rest of it; `None`: it is about something else.
#[must_use]
pub fn refusal_in(sentence: &str) -> Option<(&'static str, &str)> {
    let (word, rest) = sentence.split_once(": ")?;
    let reason = REASONS.into_iter().find(|reason| *reason == word)?;
    Some((reason, rest))
}

impl Refusal {
    /// The same for programs: one word that does not change.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::HalfRestored { .. } => "HalfRestored",
            Self::OtherLineage { .. } => "OtherLineage",
            Self::Unmarked { .. } => "Unmarked",
            Self::Diverged { .. } => "Diverged",
            Self::Mixed { .. } => "Mixed",
            Self::Overtaken { .. } => "Overtaken",
            Self::OtherPaths { .. } => "OtherPaths",
        }
    }
}

/// Which of the state paths that a checkpoint holds have no place to go to. A state path that is only read counts: nothing is restored to it, as is meant.
///
/// # Errors
/// If none has one: a mistyped path must not become an application that starts on nothing, and a history that goes on without its state.
pub fn left_out<'a>(sequence: u64, stored: &[&'a str], found: &[Found]) -> Result<Vec<&'a str>, Refusal> {
    let homeless: Vec<&str> = stored.iter().copied().filter(|label| !found.iter().any(|root| root.label == *label)).collect();
    if !stored.is_empty() && homeless.len() == stored.len() {
        let named: Vec<&str> = found.iter().map(|root| root.label.as_str()).collect();
        return Err(Refusal::OtherPaths { sequence, stored: stored.join(", "), named: named.join(", ") });
    }
    Ok(homeless)
}

/// Whether all that may be written was marked as whole by this very place: then its application may be running.
#[must_use]
pub fn is_in_use(found: &[Found], place: Option<HolderKey>) -> bool {
    let mut writable = found.iter().filter(|root| !root.read_only).peekable();
    let ours =
        |root: &Found| root.marker.as_ref().is_some_and(|marker| marker.state == MarkerState::Ready && marker.holder == place);
    place.is_some() && writable.peek().is_some() && writable.all(ours)
}

/// Decides what a starting agent does.
///
/// # Errors
/// With what a person must decide.
pub fn decide(lineage: LineageId, found: &[Found], stored: Option<Stored>, choices: Choices) -> Result<Decision, Refusal> {
    let found: Vec<&Found> = found.iter().filter(|root| !root.read_only).collect();
    if found.iter().all(|root| is_in_use(std::slice::from_ref(*root), choices.place)) {
        return go_on(lineage, &found, stored, choices);
    }
    for root in &found {
        refuse_foreign(lineage, root, stored, choices)?;
    }
    let goes_on = if stored.is_some() { Decision::Continue } else { Decision::Begin };
    let Some(stored) = stored else { return Ok(goes_on) };
    let resumed = found.iter().find_map(|root| match &root.marker {
        Some(Marker { state: MarkerState::Restoring(sequence), volume, generation, .. }) => {
            Some((*sequence, *volume, *generation))
        }
        _ => None,
    });
    match resumed {
        _ if stored.pinned && !choices.adopt_disk => return Ok(Decision::Restore(stored.sequence)),
        // whoever marked it so captured what is to be replaced, or a person asked for just this checkpoint in its place
        Some((sequence, volume, generation))
            if (stored.volume, stored.generation) == (Some(volume), generation) && stored.sequence > sequence =>
        {
            return Ok(Decision::GoBack(sequence));
        }
        Some(_) => return Ok(Decision::Restore(stored.restore)),
        None => {}
    }
    if choices.adopt_disk {
        return Ok(goes_on);
    }
    if found.iter().all(|root| root.is_empty) {
        return Ok(if choices.never_restore { Decision::Continue } else { Decision::Restore(stored.restore) });
    }
    if choices.always_restore {
        return Ok(Decision::Restore(stored.restore));
    }
    match (disagreement(&found, stored), choices.on_divergence) {
        (None, _) | (Some(Refusal::Diverged { .. } | Refusal::Unmarked { .. }), Prefer::Disk) => Ok(Decision::Continue),
        (Some(Refusal::Diverged { .. } | Refusal::Unmarked { .. }), Prefer::Store) => Ok(Decision::Replace(stored.restore)),
        (Some(refusal), _) => Err(refusal),
    }
}

/// The application is running, or has nothing to write to: nothing is restored.
fn go_on(lineage: LineageId, found: &[&Found], stored: Option<Stored>, choices: Choices) -> Result<Decision, Refusal> {
    let disk_wins = choices.adopt_disk || choices.on_divergence == Prefer::Disk;
    for root in found {
        let Some(marker) = &root.marker else { continue };
        if marker.lineage != lineage {
            return Err(Refusal::OtherLineage { label: root.label.clone(), lineage: marker.lineage });
        }
        let overtaken = |stored: &Stored| !disk_wins && (stored.generation > marker.generation || stored.pinned);
        if let Some(stored) = stored.filter(overtaken) {
            return Err(Refusal::Overtaken { label: root.label.clone(), sequence: stored.sequence });
        }
    }
    Ok(if stored.is_some() { Decision::Continue } else { Decision::Begin })
}

/// Where disk and store disagree, if they do.
fn disagreement(found: &[&Found], stored: Stored) -> Option<Refusal> {
    if let (Some(empty), Some(full)) = (found.iter().find(|root| root.is_empty), found.iter().find(|root| !root.is_empty)) {
        // a root that was marked may well be empty: its application emptied it
        if empty.marker.is_none() {
            return Some(Refusal::Mixed { empty: empty.label.clone(), full: full.label.clone() });
        }
    }
    let volume_of = |root: &Found| root.marker.as_ref().map(|marker| marker.volume);
    let same_volume = stored.volume.is_none() || found.iter().any(|root| volume_of(root) == stored.volume);
    found.iter().find_map(|root| {
        let (label, sequence) = (root.label.clone(), stored.sequence);
        match &root.marker {
            None => Some(Refusal::Unmarked { label, sequence }),
            Some(marker) if !same_volume || stored.generation > marker.generation => Some(Refusal::Diverged { label, sequence }),
            Some(_) => None,
        }
    })
}

fn refuse_foreign(lineage: LineageId, root: &Found, stored: Option<Stored>, choices: Choices) -> Result<(), Refusal> {
    let label = root.label.clone();
    let may_finish = choices.resume && stored.is_some() && !choices.fresh;
    match &root.marker {
        Some(Marker { state: MarkerState::Restoring(sequence), .. }) if !may_finish && !root.is_empty => {
            Err(Refusal::HalfRestored { label, sequence: *sequence })
        }
        Some(marker) if marker.lineage != lineage && !choices.fresh => {
            Err(Refusal::OtherLineage { label, lineage: marker.lineage })
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
    const HERE: HolderKey = HolderKey::new([4; 16]);

    fn marker(generation: u64, state: MarkerState) -> Option<Marker> {
        Some(Marker { lineage: OURS, generation, volume: DISK, state, holder: Some(HERE) })
    }

    fn root(marker: Option<Marker>, is_empty: bool) -> Found {
        Found { label: "data".to_owned(), marker, is_empty, read_only: false }
    }

    fn stored(generation: u64, volume: VolumeId) -> Option<Stored> {
        Some(Stored { sequence: 9, generation, volume: Some(volume), restore: 9, pinned: false })
    }

    fn check(found: Found, stored: Option<Stored>, choices: Choices, expected: &str) {
        let text = match decide(OURS, std::slice::from_ref(&found), stored, choices) {
            Ok(decision) => format!("{decision:?}"),
            Err(refusal) => {
                assert_eq!(refusal_in(&format!("{}: so", refusal.reason())), Some((refusal.reason(), "so")));
                format!("{refusal:?}").split(' ').next().unwrap_or_default().to_owned()
            }
        };
        assert_eq!(text, expected, "{found:?} {stored:?} {choices:?}");
    }

    #[test]
    fn a_state_of_other_paths_is_not_restored_to_these() {
        let found = [root(None, true), Found { label: "logs".to_owned(), read_only: true, ..root(None, true) }];
        assert_eq!(left_out(9, &["data"], &found), Ok(vec![]));
        assert_eq!(left_out(9, &["cache", "data"], &found), Ok(vec!["cache"]));
        assert_eq!(left_out(9, &[], &found), Ok(vec![]), "it holds nothing that could be left out");
        let refusal = left_out(9, &["cache", "notes"], &found).expect_err("none has a place");
        assert_eq!(refusal.reason(), "OtherPaths");
        assert!(refusal.to_string().contains("cache, notes") && refusal.to_string().contains("data, logs"), "{refusal}");
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
        check(root(marker(4, MarkerState::Restoring(7)), false), stored(3, DISK), Choices { resume: true, ..none }, "Restore(9)");
        check(
            root(marker(4, MarkerState::Restoring(7)), false),
            stored(4, DISK),
            Choices { adopt_disk: true, ..none },
            "HalfRestored",
        );
        check(root(marker(4, MarkerState::Restoring(7)), true), stored(3, DISK), none, "Restore(9)");
        let foreign = Some(Marker {
            lineage: LineageId::new([8; 16]),
            generation: 1,
            volume: DISK,
            state: MarkerState::Ready,
            holder: None,
        });
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

    #[test]
    fn a_policy_decides_where_it_may() {
        let ready = || marker(4, MarkerState::Ready);
        let none = Choices::default();
        let (disk, store) = (Choices { on_divergence: Prefer::Disk, ..none }, Choices { on_divergence: Prefer::Store, ..none });
        let older = stored(5, DISK);
        check(root(ready(), false), older, disk, "Continue");
        check(root(ready(), false), older, store, "Replace(9)");
        check(root(None, false), older, store, "Replace(9)");
        check(root(ready(), false), stored(4, DISK), store, "Continue");
        let always = Choices { always_restore: true, ..none };
        check(root(ready(), false), stored(4, DISK), always, "Restore(9)");
        check(root(ready(), false), None, always, "Begin");
        // what a clean restore takes is one thing, what the disk is compared with another
        let behind = |generation, volume| stored(generation, volume).map(|stored| Stored { restore: 7, ..stored });
        check(root(None, true), behind(4, DISK), none, "Restore(7)");
        check(root(ready(), false), behind(5, DISK), none, "Diverged");
        check(root(ready(), false), behind(5, DISK), store, "Replace(7)");
    }

    #[test]
    fn what_is_being_replaced_is_captured_once() {
        let resume = Choices { resume: true, ..Choices::default() };
        let restoring = || root(marker(4, MarkerState::Restoring(7)), false);
        check(restoring(), stored(4, DISK), resume, "GoBack(7)");
        check(restoring(), stored(3, DISK), resume, "Restore(9)");
        check(restoring(), stored(4, OTHER), resume, "Restore(9)");
        let pinned = stored(5, DISK).map(|stored| Stored { sequence: 7, pinned: true, ..stored });
        check(restoring(), pinned, resume, "Restore(7)");
        check(root(marker(4, MarkerState::Ready), false), pinned, resume, "Restore(7)");
        check(root(None, true), pinned, Choices { never_restore: true, ..resume }, "Restore(7)");
        check(root(None, false), pinned, Choices { adopt_disk: true, ..resume }, "Continue");
    }

    #[test]
    fn half_a_restore_is_never_captured() {
        let half = || root(marker(4, MarkerState::Restoring(7)), false);
        let resume = Choices { resume: true, ..Choices::default() };
        check(half(), None, resume, "HalfRestored");
        check(half(), stored(4, OTHER), Choices { adopt_disk: true, ..resume }, "Restore(9)");
        check(half(), stored(4, OTHER), Choices { adopt_disk: true, fresh: true, ..resume }, "HalfRestored");
        check(half(), None, Choices { adopt_disk: true, fresh: true, ..resume }, "HalfRestored");
    }

    #[test]
    fn what_is_in_use_is_never_restored() {
        let here = Choices { place: Some(HERE), resume: true, always_restore: true, ..Choices::default() };
        let used = |is_empty| root(marker(4, MarkerState::Ready), is_empty);
        check(used(false), stored(4, DISK), here, "Continue");
        check(used(true), stored(4, DISK), here, "Continue");
        check(used(false), None, here, "Begin");
        check(used(false), stored(5, DISK), here, "Overtaken");
        check(used(false), stored(5, DISK), Choices { on_divergence: Prefer::Disk, ..here }, "Continue");
        check(used(false), stored(4, DISK).map(|stored| Stored { pinned: true, ..stored }), here, "Overtaken");
        let elsewhere = Choices { place: Some(HolderKey::new([5; 16])), ..here };
        check(used(true), stored(4, DISK), elsewhere, "Restore(9)");
        check(root(marker(4, MarkerState::Restoring(7)), false), stored(4, OTHER), here, "Restore(9)");
        assert!(!is_in_use(&[used(false)], None) && is_in_use(&[used(false)], Some(HERE)) && !is_in_use(&[], Some(HERE)));
    }

    #[test]
    fn what_is_only_read_decides_nothing() {
        let logs = || Found { label: "logs".to_owned(), read_only: true, ..root(None, false) };
        let decide = |found: &[Found]| decide(OURS, found, stored(4, DISK), Choices::default());
        assert_eq!(decide(&[logs()]), Ok(Decision::Continue));
        assert_eq!(decide(&[root(None, true), logs()]), Ok(Decision::Restore(9)));
        assert_eq!(decide(&[root(marker(4, MarkerState::Ready), false), logs()]), Ok(Decision::Continue));
    }
}
