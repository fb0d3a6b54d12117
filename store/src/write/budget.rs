// SPDX-License-Identifier: Apache-2.0
//! Bytes on their way from the disk to a pack: bounded, whatever waits for what.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Plaintext bytes of frames that were filled and not yet placed. Two encoders keep about 1 MiB busy; the rest bridges a pause of the store.
const BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Default)]
struct State {
    in_use: usize,
    idle: bool,
}

/// What may be on its way.
#[derive(Debug, Default)]
pub(super) struct Budget {
    state: Mutex<State>,
    changed: Condvar,
}

/// A frame's part of the budget; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many bytes are free, or whoever frees them has nothing to do: then waiting would be for ever, since what holds the
    /// bytes has not been told of yet.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        let mut state = self.state();
        while state.in_use > 0 && state.in_use + bytes > BYTES_MAX && !state.idle {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_use += bytes;
        drop(state);
        Permit { budget: Arc::clone(self), bytes }
    }

    /// Whoever frees bytes begins, or ends, to wait for more to do.
    pub(super) fn idle(&self, idle: bool) {
        self.state().idle = idle;
        if idle {
            self.changed.notify_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.state().in_use -= self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_budget_waits_for_a_permit_to_be_given_back() {
        let budget = Arc::new(Budget::default());
        let all = budget.take(BYTES_MAX);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _more = budget.take(1);
                sender.send(()).expect("a receiver");
            });
            assert!(receiver.recv_timeout(std::time::Duration::from_millis(20)).is_err(), "it did not wait");
            drop(all);
            receiver.recv().expect("it goes on");
        });
        assert_eq!(budget.state().in_use, 0);
    }

    #[test]
    fn nobody_waits_for_somebody_who_waits() {
        let budget = Arc::new(Budget::default());
        let _all = budget.take(BYTES_MAX);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(budget.take(1)));
            budget.idle(true);
            waiting.join().expect("it went on");
        });
    }
}
