// SPDX-License-Identifier: Apache-2.0
//! What the numbers and messages of a record mean to the program.

use super::{Problem, Recent, Scope, ScopeRoot, Totals};
use holdfast_core::checkpoint as core;
use holdfast_core::time::Timestamp;

/// The quality with this code.
pub(crate) fn quality(code: i32) -> Option<core::Quality> {
    [core::Quality::Clean, core::Quality::Fuzzy, core::Quality::Partial].into_iter().find(|one| quality_code(*one) == code)
}

/// The code of a quality.
pub(crate) const fn quality_code(quality: core::Quality) -> i32 {
    match quality {
        core::Quality::Clean => 1,
        core::Quality::Fuzzy => 2,
        core::Quality::Partial => 3,
    }
}

/// The reason with this code.
pub(in crate::record) fn reason(code: i32) -> Option<core::Reason> {
    use core::Reason::{Adopt, Fork, Repair, Restore, Start, Undo};
    [Start, Restore, Undo, Fork, Adopt, Repair].into_iter().find(|one| reason_code(*one) == code)
}

/// The code of a reason.
pub(in crate::record) const fn reason_code(reason: core::Reason) -> i32 {
    match reason {
        core::Reason::Start => 1,
        core::Reason::Restore => 2,
        core::Reason::Undo => 3,
        core::Reason::Fork => 4,
        core::Reason::Adopt => 5,
        core::Reason::Repair => 6,
    }
}

impl Scope {
    pub(in crate::record) fn into_core(self) -> core::Scope {
        let root = |root: ScopeRoot| core::ScopeRoot {
            label: root.label,
            path: root.path,
            include: root.include,
            exclude: root.exclude,
        };
        core::Scope { roots: self.roots.into_iter().map(root).collect() }
    }

    pub(in crate::record) fn from_core(scope: &core::Scope) -> Self {
        let root = |root: &core::ScopeRoot| ScopeRoot {
            label: root.label.clone(),
            path: root.path.clone(),
            include: root.include.clone(),
            exclude: root.exclude.clone(),
        };
        Self { roots: scope.roots.iter().map(root).collect() }
    }
}

impl Totals {
    pub(in crate::record) fn into_core(self) -> core::Totals {
        core::Totals {
            files: self.files,
            directories: self.directories,
            others: self.others,
            links: self.links,
            bytes: self.bytes,
            problems: self.problems,
        }
    }

    pub(in crate::record) fn from_core(totals: &core::Totals) -> Self {
        Self {
            files: totals.files,
            directories: totals.directories,
            others: totals.others,
            links: totals.links,
            bytes: totals.bytes,
            problems: totals.problems,
        }
    }
}

impl Recent {
    pub(in crate::record) fn to_core(&self) -> Option<core::Recent> {
        let last_close = Timestamp::from_nanos(self.last_close_ns);
        Some(core::Recent { sequence: self.sequence, last_close, quality: quality(self.quality)? })
    }

    pub(in crate::record) fn from_core(recent: &core::Recent) -> Self {
        Self { sequence: recent.sequence, last_close_ns: recent.last_close.nanos(), quality: quality_code(recent.quality) }
    }
}

impl Problem {
    pub(in crate::record) fn from_core(problem: &core::Problem) -> Self {
        let mut what = problem.what.clone();
        what.truncate(what.floor_char_boundary(4096));
        Self { path: problem.path.iter().copied().take(4096).collect(), what }
    }
}
