// SPDX-License-Identifier: Apache-2.0
//! The restores that this coordinator knows since it started, and what each holds while it runs.

use super::{Course, End, Report};
use crate::clock::Clock;
use crate::grant::{GrantId, Grants};
use crate::{convert, status};
use holdfast_core::time::{Monotonic, Timestamp};
use holdfast_proto::problem::Reason;
use holdfast_proto::v1;
use holdfast_store::log::Log;
use holdfast_store::snapshot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

/// Restores that are remembered; the oldest that have ended are forgotten first.
const RESTORES_MAX: usize = 1000;

/// A restore that begins.
pub(crate) struct Opening {
    pub(crate) id: String,
    pub(crate) checkpoint: v1::Checkpoint,
    pub(crate) target: String,
    pub(crate) created: Timestamp,
    pub(crate) grant: GrantId,
    /// What keeps its checkpoint: the log and the pin's number.
    pub(crate) pin: (Log, u64),
}

#[derive(Debug)]
struct Line {
    id: String,
    course: Course,
    told: watch::Sender<v1::Restore>,
    grant: GrantId,
}

impl Line {
    /// What is told of it.
    fn tell(&self) {
        self.told.send_modify(|restore| {
            restore.phase = self.course.phase().into();
            restore.progress = Some(self.course.progress);
            match &self.course.end {
                Some(End::Succeeded(receipt)) => restore.receipt = Some(receipt.clone()),
                Some(End::Failed(error)) => restore.error.clone_from(error),
                None => {}
            }
        });
    }
}

/// The restores, oldest first.
#[derive(Debug)]
pub(crate) struct Ledger {
    clock: Clock,
    lines: Mutex<VecDeque<Line>>,
    grants: Arc<Mutex<Grants>>,
}

impl Ledger {
    pub(crate) fn new(clock: Clock, grants: Arc<Mutex<Grants>>) -> Self {
        Self { clock, lines: Mutex::default(), grants }
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a restore down and watches over it until it ends.
    pub(crate) fn open(
        self: &Arc<Self>,
        opening: Box<Opening>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<v1::Restore, Box<Opening>> {
        let mut lines = self.lines();
        if lines.len() >= RESTORES_MAX {
            match lines.iter().position(|line| line.course.end.is_some()) {
                Some(ended) => drop(lines.remove(ended)),
                None => return Err(opening),
            }
        }
        let opening = *opening;
        let course = Course::new(self.clock.monotonic(), opening.checkpoint.root.clone());
        let restore = v1::Restore {
            id: opening.id.clone(),
            phase: course.phase().into(),
            checkpoint: Some(opening.checkpoint),
            target: opening.target,
            created: Some(convert::time(opening.created)),
            progress: Some(course.progress),
            receipt: None,
            error: String::new(),
        };
        let (told, heard) = watch::channel(restore.clone());
        lines.push_back(Line { id: opening.id.clone(), course, told, grant: opening.grant });
        tasks.spawn(Arc::clone(self).watch_over(opening.id, opening.pin, heard, stop));
        Ok(restore)
    }

    /// Waits until a restore ends, in whatever way, and lets go of what it held.
    async fn watch_over(
        self: Arc<Self>,
        id: String,
        (log, pin): (Log, u64),
        mut heard: watch::Receiver<v1::Restore>,
        stop: CancellationToken,
    ) {
        while let Some(deadline) = self.deadline(&id) {
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.instant(deadline)) => self.change(&id, |course, now| course.tick(now)),
                changed = heard.changed() => if changed.is_err() { break },
                () = stop.cancelled() => self.change(&id, |course, _| course.abandon("the coordinator has ended")),
            }
        }
        if let Some(line) = self.lines().iter().find(|line| line.id == id) {
            self.grants.lock().unwrap_or_else(PoisonError::into_inner).revoke(line.grant);
        }
        if let Err(error) = snapshot::unpin(&log, pin).await {
            tracing::warn!(restore = %id, pin, %error, "the pin of a restore that has ended stays");
        }
    }

    fn deadline(&self, id: &str) -> Option<Monotonic> {
        self.lines().iter().find(|line| line.id == id).and_then(|line| line.course.deadline())
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Course, Monotonic)) {
        if let Some(line) = self.lines().iter_mut().find(|line| line.id == id) {
            change(&mut line.course, self.clock.monotonic());
            line.tell();
        }
    }

    /// Takes a report.
    pub(crate) fn report(&self, id: &str, report: Report) -> Result<v1::Restore, Status> {
        let now = self.clock.monotonic();
        let mut lines = self.lines();
        let line = lines.iter_mut().find(|line| line.id == id).ok_or_else(|| status::not_found("restore", id))?;
        if line.course.report(now, report).is_err() {
            let end = line.told.borrow().error.clone();
            let message = if end.is_empty() {
                "the restore has succeeded already".to_owned()
            } else {
                format!("the restore has failed: {end}")
            };
            return Err(status::about(Reason::RestoreEnded, message, "restore", id));
        }
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).renew(now, line.grant);
        line.tell();
        let told = line.told.borrow().clone();
        Ok(told)
    }

    /// One restore, and each of its changes.
    pub(crate) fn watch(&self, id: &str) -> Result<watch::Receiver<v1::Restore>, Status> {
        let lines = self.lines();
        let line = lines.iter().find(|line| line.id == id).ok_or_else(|| status::not_found("restore", id))?;
        Ok(line.told.subscribe())
    }

    /// So many, newest first, after one.
    pub(crate) fn page(&self, after: Option<&str>, count: usize) -> Vec<v1::Restore> {
        let lines = self.lines();
        let start = after.and_then(|after| lines.iter().rev().position(|line| line.id == after)).map_or(0, |index| index + 1);
        lines.iter().rev().skip(start).take(count).map(|line| line.told.borrow().clone()).collect()
    }
}
