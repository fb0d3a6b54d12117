// SPDX-License-Identifier: Apache-2.0
//! Telling the coordinator, and whoever watches the terminal, how far a restore is.

use super::receipt::Done;
use crate::connection::{Connection, remote};
use crate::human::size;
use crate::output::shows_progress;
use holdfast_core::checkpoint::Totals;
use holdfast_proto::v1;
use holdfast_store::restore::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A restore that is silent for two minutes has failed.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Reports a restore.
pub(super) struct Reporter<'a> {
    connection: &'a Connection,
    id: String,
    all: v1::RestoreProgress,
    bar: ProgressBar,
    reported: Instant,
}

impl<'a> Reporter<'a> {
    /// Of the restore with this id.
    pub(super) fn new(connection: &'a Connection, id: String) -> Self {
        let all = v1::RestoreProgress::default();
        Self { connection, id, all, bar: ProgressBar::hidden(), reported: Instant::now() }
    }

    /// What is to be done; of a selection, nobody knows before.
    pub(super) fn expect(&mut self, totals: &Totals, partial: bool) {
        if !partial {
            self.all = v1::RestoreProgress { entries_all: totals.entries(), bytes_all: totals.bytes, ..Default::default() };
        }
        if !shows_progress() {
            return;
        }
        let template = if partial { "{spinner} {msg}" } else { "{bar:30} {percent:>3} %  {msg}" };
        let length = if partial { None } else { Some(totals.bytes.max(1)) };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style);
    }

    /// Brings what is shown up to date, and now and then tells the coordinator.
    pub(super) async fn show(&mut self, progress: &Progress) {
        self.all.entries_done = progress.entries.load(Ordering::Relaxed);
        self.all.bytes_done = progress.bytes.load(Ordering::Relaxed);
        let done = self.all.bytes_done;
        self.bar.set_position(done);
        let fetched = size(progress.fetched_bytes.load(Ordering::Relaxed));
        let finished = self.all.bytes_all > 0 && done >= self.all.bytes_all;
        let message = if finished { ", proving".to_owned() } else { String::new() };
        self.bar.set_message(format!("{} in place, {fetched} fetched{message}", size(done)));
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            self.tell(v1::ReportRestoreRequest { progress: Some(self.all), ..Default::default() }).await;
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// It has come to its end.
    pub(super) async fn ended(&mut self, done: &Done) {
        let (receipt, error) = done.wire();
        self.tell(v1::ReportRestoreRequest { progress: Some(self.all), receipt, error, ..Default::default() }).await;
    }

    /// It could not be done.
    pub(super) async fn failed(&mut self, error: &str) {
        self.bar.finish_and_clear();
        self.tell(v1::ReportRestoreRequest { error: error.to_owned(), ..Default::default() }).await;
    }

    /// The files are what counts: that a report is lost fails no restore.
    async fn tell(&self, request: v1::ReportRestoreRequest) {
        let request = v1::ReportRestoreRequest { id: self.id.clone(), ..request };
        if let Err(status) = self.connection.restores().report_restore(request).await {
            tracing::warn!(error = %remote(status), "the coordinator could not be told how far the restore is");
        }
    }
}
