// SPDX-License-Identifier: Apache-2.0
//! Runs barriers: the shell around [`Barrier`], which decides.
//!
//! One task owns a barrier from its beginning to its end. If that task is lost, so is the barrier: each member goes on by its own clock, and nothing was
//! made visible.

use crate::catalog::Key;
use crate::clock::Clock;
use crate::session::{Enlisted, Told};
use holdfast_core::barrier::{Action, Barrier, BarrierId, Event, Limits, Outcome, Reached, Why};
use holdfast_core::id::SnapshotId;
use holdfast_proto::v1::SnapshotProgress;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// From the first member's rest to the last's at most; a member's own policy may allow it less.
pub(crate) const PAUSE: Duration = Duration::from_secs(20);
/// Kept of the time there is, to make durable what was cut.
const SEAL_SHARE: u32 = 2;

/// Snapshots that are being taken, by id.
pub(crate) type Underway = Arc<BTreeMap<SnapshotId, SnapshotProgress>>;

/// Barriers of one coordinator.
#[derive(Debug)]
pub(crate) struct Barriers {
    clock: Clock,
    /// The last that its members were told of. Its epoch is greater than that of any coordinator before this one, as far as clocks tell: a member
    /// follows the greatest.
    last: std::sync::Mutex<BarrierId>,
    /// A member can be in one at a time.
    pub(crate) turn: Mutex<()>,
    progress: watch::Sender<Underway>,
}

/// How long a barrier may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Within {
    /// All of it ends here.
    pub(crate) until: Instant,
    /// Members are at rest for so long at most.
    pub(crate) pause: Duration,
}

/// What became of a barrier.
#[derive(Debug)]
pub(crate) enum Ended<C> {
    /// All were brought to one moment; and what became of committing that.
    Reached(C),
    /// It was called off, and everybody goes on.
    Broken(Why<Key>),
}

/// Everybody is brought to one moment, and this is what they gave.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) checkpoints: BTreeMap<Key, u64>,
    pub(crate) reached: Reached<Key>,
}

impl Barriers {
    pub(crate) fn new(clock: Clock) -> Self {
        let epoch = u64::try_from(clock.now().nanos()).unwrap_or(0).max(1); // agents' own rests have none
        let last = std::sync::Mutex::new(BarrierId { epoch, number: 0 });
        Self { clock, last, turn: Mutex::default(), progress: watch::Sender::default() }
    }

    fn last(&self) -> MutexGuard<'_, BarrierId> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next barrier of members of several coordinators, each of whose turns the caller has: later than all of them know.
    pub(crate) fn next<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> BarrierId {
        let last = all.clone().map(|barriers| *barriers.last()).max().unwrap_or_default();
        let id = BarrierId { epoch: last.epoch, number: last.number + 1 };
        all.for_each(|barriers| *barriers.last() = id);
        id
    }

    /// What is under way, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Underway> {
        self.progress.subscribe()
    }

    /// Says how far a snapshot is, until it is dropped.
    pub(crate) fn show(&self, id: SnapshotId, name: &str) -> Shown<'_> {
        let progress = SnapshotProgress { id: id.to_string(), name: name.to_owned(), ..SnapshotProgress::default() };
        Shown { barriers: self, id, progress }
    }

    /// Brings those who are enlisted to one moment, as the barrier of that id, and has `commit` make it visible.
    ///
    /// Not cancel-safe: dropped, it leaves each member to its own clock.
    pub(crate) async fn run<C, F: Future<Output = Result<C, C>>>(
        &self,
        id: BarrierId,
        mut enlisted: Enlisted,
        within: Within,
        stop: &CancellationToken,
        shown: &mut Shown<'_>,
        commit: impl FnOnce(Cut) -> F,
    ) -> Ended<C> {
        let until = within.until;
        let left = until.saturating_duration_since(Instant::now());
        let limits = Limits { prepare: left / SEAL_SHARE, pause: within.pause.min(PAUSE), seal: left / SEAL_SHARE };
        let members = enlisted.members().clone();
        shown.progress.members = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let (mut barrier, mut actions) = Barrier::begin(self.clock.monotonic(), id, members, limits);
        let (mut commit, mut committed, mut cancelled) = (Some(commit), None, false);
        loop {
            // the end is told by the snapshot's being there
            if !barrier.is_over() {
                shown.phase(barrier.phase());
            }
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Tell(member, id, order) => enlisted.tell(member, id, order),
                    Action::Commit(checkpoints) => {
                        let Some(commit) = commit.take() else { continue };
                        let cut = Cut { checkpoints, reached: barrier.reached() };
                        let made = commit(cut).await;
                        actions.extend(barrier.step(self.clock.monotonic(), Event::Committed(made.is_ok())));
                        committed = Some(made.unwrap_or_else(|why| why));
                    }
                    Action::End(outcome) => {
                        tracing::debug!(barrier = %id, ?outcome, "a barrier has ended");
                        return match (committed, outcome) {
                            (Some(committed), _) => Ended::Reached(committed),
                            (None, Outcome::Aborted(why)) => Ended::Broken(why),
                            (None, Outcome::Taken { .. }) => Ended::Broken(Why::NotCommitted),
                        };
                    }
                }
            }
            if !actions.is_empty() {
                continue;
            }
            let deadline = barrier.deadline().map_or(until, |deadline| self.clock.instant(deadline));
            let event = tokio::select! {
                (member, told) = enlisted.hear() => match told {
                    Told::Answer(id, answer) => Event::Heard(member, id, answer),
                    Told::Back => Event::Back(member),
                    Told::Gone => Event::Gone(member),
                    Told::Another => Event::Changed(member),
                },
                () = tokio::time::sleep_until(deadline) => Event::Tick,
                () = tokio::time::sleep_until(until), if !cancelled => {
                    cancelled = true;
                    Event::Cancelled
                }
                () = stop.cancelled(), if !cancelled => {
                    cancelled = true;
                    Event::Cancelled
                }
            };
            actions = barrier.step(self.clock.monotonic(), event);
        }
    }
}

/// A snapshot that is being taken, as watchers see it; dropped, it isn't any more.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    barriers: &'a Barriers,
    id: SnapshotId,
    progress: SnapshotProgress,
}

impl Shown<'_> {
    fn phase(&mut self, phase: &str) {
        if self.progress.phase == phase {
            return;
        }
        phase.clone_into(&mut self.progress.phase);
        self.barriers.progress.send_modify(|all| drop(Arc::make_mut(all).insert(self.id, self.progress.clone())));
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.barriers
            .progress
            .send_if_modified(|all| all.contains_key(&self.id) && Arc::make_mut(all).remove(&self.id).is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_of_several_coordinators_is_later_than_each_ones_and_so_is_what_follows() {
        let clock = Clock::new();
        let (one, two) = (Barriers::new(clock), Barriers::new(clock));
        let of = |some: &[&Barriers]| Barriers::next(some.iter().copied());
        let own = [of(&[&one]), of(&[&two]), of(&[&two])];
        assert!(own.iter().all(|id| !id.is_own()), "an agent's own rests are smaller than any: {own:?}");
        let both = of(&[&one, &two]);
        assert!(own.iter().all(|id| *id < both), "{own:?} {both}");
        let (after, later) = (of(&[&one]), of(&[&two]));
        assert!(both < after && both < later, "members of it follow them: {both} {after} {later}");
    }
}
