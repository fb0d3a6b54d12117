// SPDX-License-Identifier: Apache-2.0
//! When to capture: soon after a change, not in the middle of a burst if it can be helped, and never too late.

use crate::time::Monotonic;
use std::time::Duration;

/// The paces of capturing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paces {
    /// After a rest, the first change is captured this soon.
    pub settle: Duration,
    /// While changes go on, a capture waits until there was none for this long …
    pub quiet: Duration,
    /// … but no longer than this after the first change that is not captured.
    pub limit: Duration,
    /// Everything is compared with the disk this often, whatever was heard: for what makes no noise.
    pub scan: Duration,
}

impl Default for Paces {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { settle: Duration::from_millis(200), quiet: seconds(1), limit: seconds(10), scan: seconds(60) }
    }
}

/// What is known of changes and captures.
#[derive(Debug, Clone)]
pub struct Cadence {
    paces: Paces,
    /// The first and the last change that is not captured.
    pending: Option<(Monotonic, Monotonic)>,
    /// The first change that the capture under way was asked for.
    capturing: Option<Option<Monotonic>>,
    /// When the last capture ended.
    rested: Option<Monotonic>,
    scan_at: Monotonic,
    /// How long the last scan took.
    scan_took: Duration,
    /// The next one must not come earlier, unless events were lost: scans must not take more than a fiftieth of the time.
    scan_again: Monotonic,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Capture what has changed.
    Capture,
    /// Compare everything.
    Scan,
    /// Nothing before this.
    Wait(Monotonic),
    /// Nothing until the capture under way has ended.
    Busy,
}

impl Cadence {
    /// A cadence that begins now, with everything to be compared.
    #[must_use]
    pub const fn new(paces: Paces, now: Monotonic) -> Self {
        Self { paces, pending: None, capturing: None, rested: None, scan_at: now, scan_took: Duration::ZERO, scan_again: now }
    }

    /// Something changed.
    pub fn changed(&mut self, now: Monotonic) {
        self.pending = Some((self.pending.map_or(now, |(first, _)| first), now));
    }

    /// A capture began: it takes what has changed so far.
    pub fn began(&mut self) {
        self.capturing = Some(self.pending.take().map(|(first, _)| first));
    }

    /// The capture under way has ended and is durable. `scanned`: it compared everything.
    pub fn ended(&mut self, now: Monotonic, scanned: Option<Duration>) {
        self.capturing = None;
        self.rested = Some(now);
        if let Some(took) = scanned {
            self.scan_took = took;
            self.scan_again = now.plus(took.saturating_mul(50));
            self.scan_at = self.scan_again.max(now.plus(self.paces.scan));
        }
    }

    /// The capture under way has failed: what it took is still to be captured, and everything is to be compared.
    pub fn failed(&mut self, now: Monotonic) {
        if let Some(Some(first)) = self.capturing.take() {
            let last = self.pending.map_or(now, |(_, last)| last);
            self.pending = Some((first, last));
        }
        self.scan_at = now.plus(self.paces.quiet);
        self.rested = Some(now);
    }

    /// Something changed while it was read, and may have done so without noise: everything is compared soon, but no more often than scans may be
    /// made. What is written to without pause is heard of anyway.
    pub fn disturbed(&mut self, now: Monotonic) {
        if self.scan_again <= now.plus(self.paces.quiet) {
            self.distrust(now);
        } else {
            self.scan_at = self.scan_at.min(self.scan_again);
        }
    }

    /// Everything must be compared soon: events were lost.
    pub fn distrust(&mut self, now: Monotonic) {
        self.changed(now);
        self.scan_at = self.scan_at.min(now.plus(self.paces.quiet));
    }

    /// What to do now.
    pub fn next(&self, now: Monotonic) -> Next {
        if self.capturing.is_some() {
            return Next::Busy;
        }
        if now >= self.scan_at {
            return Next::Scan;
        }
        let due = self.pending.map(|(first, last)| self.due(first, last));
        match due {
            Some(due) if now >= due => Next::Capture,
            Some(due) => Next::Wait(due.min(self.scan_at)),
            None => Next::Wait(self.scan_at),
        }
    }

    fn due(&self, first: Monotonic, last: Monotonic) -> Monotonic {
        let was_resting = self.rested.is_none_or(|rested| first >= rested.plus(self.paces.quiet));
        if was_resting {
            return first.plus(self.paces.settle);
        }
        last.plus(self.paces.quiet).min(first.plus(self.paces.limit))
    }

    /// How long the last comparison of everything took.
    #[must_use]
    pub const fn scan_took(&self) -> Duration {
        self.scan_took
    }

    /// The first change that is not durable yet.
    #[must_use]
    pub fn oldest(&self) -> Option<Monotonic> {
        let captured = self.capturing.flatten();
        let pending = self.pending.map(|(first, _)| first);
        captured.into_iter().chain(pending).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    /// A cadence that has just scanned, at time 0.
    fn scanned() -> Cadence {
        let mut cadence = Cadence::new(Paces::default(), at(0));
        assert_eq!(cadence.next(at(0)), Next::Scan);
        cadence.began();
        assert_eq!(cadence.next(at(0)), Next::Busy);
        cadence.ended(at(0), Some(Duration::from_millis(100)));
        cadence
    }

    #[test]
    fn nothing_changes_and_nothing_happens_until_the_next_scan() {
        let cadence = scanned();
        assert_eq!(cadence.next(at(10)), Next::Wait(at(60_000)));
        assert_eq!(cadence.next(at(60_000)), Next::Scan);
        assert_eq!(cadence.oldest(), None);
    }

    #[test]
    fn a_lone_change_is_captured_at_once() {
        let mut cadence = scanned();
        cadence.changed(at(5000));
        assert_eq!(cadence.next(at(5000)), Next::Wait(at(5200)));
        assert_eq!(cadence.next(at(5200)), Next::Capture);
        assert_eq!(cadence.oldest(), Some(at(5000)));
    }

    #[test]
    fn a_burst_is_waited_out_and_an_endless_one_is_not() {
        let mut cadence = scanned();
        cadence.changed(at(5000));
        cadence.began();
        for millis in (5300..9000).step_by(100) {
            cadence.changed(at(millis));
        }
        assert_eq!(cadence.oldest(), Some(at(5000)), "what is being captured is not durable yet");
        cadence.ended(at(5600), None);
        assert_eq!(cadence.next(at(8900)), Next::Wait(at(9900)), "a second after the last");
        for millis in (8900..20_000).step_by(100) {
            cadence.changed(at(millis));
        }
        assert_eq!(cadence.next(at(15_299)), Next::Wait(at(15_300)));
        assert_eq!(cadence.next(at(15_300)), Next::Capture, "ten seconds after the first");
    }

    #[test]
    fn what_is_always_busy_costs_no_more_than_a_fiftieth_of_the_time() {
        let mut small = scanned();
        small.disturbed(at(5000));
        assert_eq!(small.next(at(6000)), Next::Scan, "a small tree is looked through at once");
        let mut large = scanned();
        large.began();
        large.ended(at(10_000), Some(Duration::from_secs(4)));
        for millis in (11_000..209_000).step_by(2000) {
            large.changed(at(millis));
            large.began();
            large.ended(at(millis + 500), None);
            large.disturbed(at(millis + 500));
            assert_ne!(large.next(at(millis + 1500)), Next::Scan, "at {millis}");
        }
        assert_eq!(large.next(at(210_000)), Next::Scan);
        large.distrust(at(100_000));
        assert_eq!(large.next(at(101_000)), Next::Scan, "lost events wait for nothing");
    }

    #[test]
    fn a_failed_capture_is_made_up_for() {
        let mut cadence = scanned();
        cadence.changed(at(5000));
        cadence.began();
        cadence.failed(at(6000));
        assert_eq!(cadence.oldest(), Some(at(5000)));
        assert_eq!(cadence.next(at(7000)), Next::Scan);
    }

    #[test]
    fn long_scans_are_rare() {
        let mut cadence = scanned();
        cadence.began();
        cadence.ended(at(100_000), Some(Duration::from_secs(10)));
        assert_eq!(cadence.next(at(100_000)), Next::Wait(at(600_000)));
        cadence.distrust(at(200_000));
        assert_eq!(cadence.next(at(201_000)), Next::Scan);
    }
}
