// SPDX-License-Identifier: Apache-2.0
//! Restores that are carried out somewhere: how far each is, and when one has failed for want of news. Plain state.

use holdfast_core::time::Monotonic;
use holdfast_proto::v1::{Receipt, RestorePhase, RestoreProgress};
use std::time::Duration;

mod ledger;

pub(crate) use ledger::{Ledger, Opening};

/// A restore that says nothing for so long has failed.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(120);

/// What whoever carries a restore out says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) progress: Option<RestoreProgress>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) error: String,
}

/// How far one restore is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    pub(crate) progress: RestoreProgress,
    pub(crate) end: Option<End>,
    root: String,
    heard: Monotonic,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    Succeeded(Receipt),
    Failed(String),
}

/// The restore has ended, and otherwise than the report says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended;

impl Course {
    /// A restore to a state with this root begins.
    pub(crate) fn new(now: Monotonic, root: String) -> Self {
        Self { progress: RestoreProgress::default(), end: None, root, heard: now }
    }

    /// Takes a report; a last one may be repeated.
    pub(crate) fn report(&mut self, now: Monotonic, report: Report) -> Result<(), Ended> {
        let end = self.end_of(&report);
        if let Some(ended) = &self.end {
            return if end.as_ref() == Some(ended) { Ok(()) } else { Err(Ended) };
        }
        self.heard = now;
        if let Some(progress) = report.progress {
            self.progress = progress;
        }
        self.end = end;
        Ok(())
    }

    /// Only a receipt whose proof holds is a success.
    fn end_of(&self, report: &Report) -> Option<End> {
        if !report.error.is_empty() {
            return Some(End::Failed(report.error.clone()));
        }
        let receipt = report.receipt.clone()?;
        let proven = receipt.root_asked == self.root && (receipt.partial || receipt.root_found == receipt.root_asked);
        Some(match proven {
            true => End::Succeeded(receipt),
            false => End::Failed(format!(
                "the receipt proves another state: {} was asked for, {} was found on the disk",
                self.root, receipt.root_found
            )),
        })
    }

    /// When it will have been silent for too long; `None` if it has ended.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.end.is_none().then(|| self.heard.plus(SILENCE_MAX))
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Monotonic) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.end = Some(End::Failed(format!("nothing was heard of it for {} s", SILENCE_MAX.as_secs())));
        }
    }

    /// It is called off.
    pub(crate) fn abandon(&mut self, why: &str) {
        if self.end.is_none() {
            self.end = Some(End::Failed(why.to_owned()));
        }
    }

    /// Its phase.
    pub(crate) const fn phase(&self) -> RestorePhase {
        match self.end {
            None => RestorePhase::Running,
            Some(End::Succeeded(_)) => RestorePhase::Succeeded,
            Some(End::Failed(_)) => RestorePhase::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn report(done: u64, receipt: Option<(&str, &str, bool)>, error: &str) -> Report {
        let receipt = receipt.map(|(asked, found, partial)| Receipt {
            root_asked: asked.to_owned(),
            root_found: found.to_owned(),
            partial,
            ..Receipt::default()
        });
        Report {
            progress: Some(RestoreProgress { entries_done: done, ..RestoreProgress::default() }),
            receipt,
            error: error.to_owned(),
        }
    }

    #[test]
    fn silence_fails_a_restore_and_reports_keep_it() {
        let mut course = Course::new(at(0), "aa".to_owned());
        course.report(at(100), report(5, None, "")).expect("it runs");
        course.tick(at(219));
        assert_eq!((course.phase(), course.progress.entries_done), (RestorePhase::Running, 5));
        assert_eq!(course.deadline(), Some(at(220)));
        course.tick(at(220));
        assert_eq!((course.phase(), course.deadline()), (RestorePhase::Failed, None));
        assert_eq!(course.report(at(221), report(9, Some(("aa", "aa", false)), "")), Err(Ended));
    }

    #[test]
    fn only_a_proof_is_a_success() {
        let table = [
            (Some(("aa", "aa", false)), "", RestorePhase::Succeeded),
            (Some(("aa", "", true)), "", RestorePhase::Succeeded),
            (Some(("aa", "bb", false)), "", RestorePhase::Failed),
            (Some(("bb", "bb", false)), "", RestorePhase::Failed),
            (Some(("aa", "aa", false)), "but", RestorePhase::Failed),
            (None, "no space left", RestorePhase::Failed),
            (None, "", RestorePhase::Running),
        ];
        for (receipt, error, phase) in table {
            let mut course = Course::new(at(0), "aa".to_owned());
            course.report(at(1), report(1, receipt, error)).expect("the first");
            assert_eq!(course.phase(), phase, "{receipt:?} {error}");
            course.report(at(1), report(1, receipt, error)).expect("the same again");
            course.abandon("the coordinator ended");
            course.tick(at(1000));
            assert!(course.deadline().is_none());
        }
    }
}
