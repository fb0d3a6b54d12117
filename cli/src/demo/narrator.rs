// SPDX-License-Identifier: Apache-2.0
//! What is told while the demo goes on: numbered steps, and a bar on a terminal.

use crate::output::{Format, Output, note, shows_progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Tells the story. With results for programs on standard output, people read it on standard error.
pub(super) struct Narrator {
    /// `None`: standard output is a program's.
    out: Option<Output>,
    bar: ProgressBar,
    step: u32,
}

impl Narrator {
    pub(super) fn new(json: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("  {spinner} searching [{bar:40}] {percent:>3} %  {msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        Self { out: (!json).then(|| Output::new(Format::Table)), bar, step: 0 }
    }

    /// A line without a number.
    pub(super) fn say(&mut self, text: &str) {
        let Self { out, bar, .. } = self;
        bar.suspend(|| match out {
            // that nobody listens any more is no reason to stop: the exit code tells
            Some(out) => drop(out.line(text).and_then(|()| out.flush())),
            None => note(text),
        });
    }

    /// The next step: what it is called, and what happened.
    pub(super) fn step(&mut self, title: &str, text: &str) {
        self.step += 1;
        self.say(&format!("{:>2}. {title:<12} {text}", self.step));
    }

    /// What belongs to the last step.
    pub(super) fn detail(&mut self, text: &str) {
        self.say(&format!("{:17}{text}", ""));
    }

    /// Begins to show how far the search is.
    pub(super) fn show(&self, all: u64) {
        self.bar.set_length(all);
        if shows_progress() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
    }

    pub(super) fn progress(&self, done: u64, message: String) {
        self.bar.set_position(done);
        self.bar.set_message(message);
    }

    pub(super) fn hide(&self) {
        self.bar.finish_and_clear();
    }
}
