// SPDX-License-Identifier: Apache-2.0
//! What a start does with the disk it finds.

use super::Page;
use holdfast_core::policy::{Divergence, Policy, RestoreMode, Take, WithoutCoordinator};

pub(super) fn explain(policy: &Policy, page: &mut Page) {
    let restore = &policy.restore;
    page.title("How a start decides, before the application runs");
    let which = match restore.take {
        Take::Clean => "the newest clean checkpoint",
        Take::Newest => "the newest checkpoint, clean or fuzzy",
    };
    match restore.mode {
        RestoreMode::IfEmpty => {
            page.line(&format!("All paths are empty and the store has a state: {which} is restored."));
            page.line("Some are empty and some are not: it waits for a person, since no state looks like that.");
            page.line("The disk is the volume of the last checkpoint: the disk wins.");
        }
        RestoreMode::Always => page.line(&format!("Whatever the disk holds: {which} is restored over it.")),
        RestoreMode::Never => {
            page.line("Nothing is restored by itself: empty paths stay empty until somebody asks for a restore.");
            page.line("The disk is the volume of the last checkpoint: the disk wins.");
        }
    }
    if restore.mode != RestoreMode::Always {
        page.line(match restore.on_divergence {
            Divergence::Wait => "The disk is another volume and the store is newer: it waits for a person (Diverged).",
            Divergence::PreferDisk => "The disk is another volume and the store is newer: the disk wins, and the store's state stays as a branch.",
            Divergence::PreferStore => "The disk is another volume and the store is newer: the disk is captured as a branch, then the store's state is restored.",
        });
    }
    page.line("The disk holds an unfinished restore: it is finished first.");
    page.line(match restore.without_coordinator {
        WithoutCoordinator::Wait => "No coordinator answers: it waits.",
        WithoutCoordinator::SameVolume => {
            "No coordinator answers: it goes on if the disk is the volume of the last checkpoint, and waits otherwise."
        }
    });
    if restore.special_files {
        page.line("Set-id bits, file capabilities and devices are restored, too.");
    }
}
